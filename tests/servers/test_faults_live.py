"""A run process while services throttle, fail, lose answers or are down: rows of the fault table.

Each test is one row: the oracle's alerts and rejected bytes come out in the end, and what arrives
twice is counted. That the proxy has really done it is asserted, too.
"""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path
from typing import Any

import pytest
from fault_proxy import (
    ALWAYS,
    Fault,
    Proxy,
    Rule,
    down,
    empty,
    expired,
    lost,
    partly,
    refused,
    unprocessed,
)
from live_cloud import SHARDS, Cloud
from live_run import Scene
from plain_kpl import Kinesis
from servers import Ministack

pytestmark = pytest.mark.slow

THROTTLED = refused("ProvisionedThroughputExceededException")
STATE, ERRORS = "/state/", "/errors/"
DEVICES = ("d1", "d2", "d3", "d4")


def first(proxy: Proxy, operation: str, path: str = "") -> int:
    """The number of the first call of an operation that met no fault."""
    return next(number for number, (call, rule) in enumerate(proxy.calls)
                if call.operation == operation and path in call.path and rule is None)  # fmt: skip


def readings(value: float, times: int) -> list[Kinesis]:
    """So many of each device, one millisecond apart and later than those before."""
    now = int(time.time() * 1000)
    return [
        Kinesis(SHARDS[number % 2], "", json.dumps({"device": device, "ts": now + later,
                "topic": "plant/1/pump", "temperature": value}).encode(), device)
        for later in range(times) for number, device in enumerate(DEVICES)
    ]  # fmt: skip


@pytest.mark.parametrize("fault", [unprocessed, down], ids=["throttled", "down"])
def test_s1_known_limits_stay_in_force_while_the_table_is_away(
    fault: Fault, ministack: Ministack, tmp_path: Path
) -> None:
    with Cloud(ministack.url) as cloud:
        scene = Scene(cloud, tmp_path, ministack.port)
        scene.given = []
        scene.write(refresh="1ms")
        scene.limit([{"device": "d1", "rule": "overheating", "value": 50.0, "version": 7}])
        with scene.proxy() as proxy, scene.run(proxy) as run:
            cloud.put(readings(20.0, 3))
            proxy.wait("PutObject", len(SHARDS), STATE)  # every device and its limit is known
            away = Rule("BatchGetItem", fault, ALWAYS)
            proxy.put_first(away)
            cloud.put(readings(300.0, 3))
            proxy.wait("PublishBatch", len(SHARDS))
            assert away.met > 0
            away.times = away.met  # and no more
            cloud.put(readings(-39.0, 20))
            proxy.wait("PublishBatch", 2 * len(SHARDS))
            assert run.stop() == 0, run
            assert run.count("waiting") == 0
        found = scene.judged("S1")
    assert found.repeats == 0 and found.count("firing") == found.count("resolved") == len(DEVICES)
    assert {alert["threshold"] for alert in found.alerts} == {50.0, 90.0}
    assert {alert["state"] for alert in found.alerts if alert.get("stale")} == {"firing"}
    assert found.count("firing") == sum(alert.get("stale", False) for alert in found.alerts)


def test_s2_without_a_table_at_the_start_no_limit_is_made_up(scene: Scene) -> None:
    proxy = scene.finish(
        Rule("BatchGetItem", down),
        Rule("BatchGetItem", refused("InternalServerError", 500)),
        Rule("BatchGetItem", THROTTLED),
        Rule("BatchGetItem", unprocessed, times=5),  # of one call of ours, and its repeats
    )
    answered = first(proxy, "BatchGetItem")
    for operation, path in (("PublishBatch", ""), ("PutObject", STATE), ("PutObject", ERRORS)):
        assert first(proxy, operation, path) > answered
    assert scene.judged("S2").repeats == 0


def test_s4_a_throttled_topic_delays_and_what_it_refuses_of_a_batch_comes_again(
    scene: Scene,
) -> None:
    proxy = scene.finish(
        Rule("PublishBatch", refused("Throttling"), times=2),
        Rule("PublishBatch", partly, times=3),
        Rule("PublishBatch", refused("InternalError", 500), after=1),
    )
    found = scene.judged("S4")
    assert found.repeats == 0
    taken = len(found.alerts) - entries(proxy, None)
    assert 0 < taken < entries(proxy, partly)


def entries(proxy: Proxy, fault: Fault | None) -> int:
    """How many messages the PublishBatch calls carried that met this fault."""
    met = [call for call, rule in proxy.calls
           if call.operation == "PublishBatch" and (rule and rule.fault) == fault]  # fmt: skip
    return sum(call.body.count(b".Message=") for call in met)


OUTAGES = {
    "S5 topic": ("PublishBatch", "", down),
    "S6 error stream": ("PutObject", ERRORS, refused("SlowDown", 503)),
    "state": ("PutObject", STATE, refused("InternalError", 500)),
}


@pytest.mark.parametrize("row", OUTAGES)
def test_s5_s6_an_outage_that_passes(row: str, scene: Scene) -> None:
    operation, path, fault = OUTAGES[row]
    scene.finish(Rule(operation, fault, times=4, path=path))
    assert scene.judged(f"{row} down, then up").repeats == 0


@pytest.mark.parametrize(
    ("row", "number"),
    [*((row, signal.SIGKILL) for row in OUTAGES), ("S5 topic", signal.SIGTERM)],
    ids=[*OUTAGES, "S5 topic, TERM"],
)
def test_s5_s6_ended_in_the_outage(row: str, number: signal.Signals, scene: Scene) -> None:
    """No state object may pass what is undelivered: another life delivers it."""
    operation, path, fault = OUTAGES[row]
    rule = Rule(operation, fault, ALWAYS, path=path)
    with scene.proxy(rule) as proxy, scene.run(proxy) as run:
        proxy.wait(operation, 3, path)
        if number == signal.SIGKILL:
            run.kill()
        else:
            assert run.stop() == 1, run  # in time, and it says that something is left over
            assert "not saved" in run.text
        assert rule.met == proxy.count(operation, path)
    scene.finish()
    repeats = scene.judged(f"{row} down, ended by {number.name}").repeats
    assert repeats <= entries(proxy, None)  # what that life had published; its topic down: nothing


CODES: dict[str, tuple[str, str]] = {  # of each operation: credentials run out, clock or signature
    "ListShards": ("ExpiredTokenException", "InvalidSignatureException"),
    "GetShardIterator": ("ExpiredTokenException", "InvalidSignatureException"),
    "GetRecords": ("ExpiredTokenException", "InvalidSignatureException"),
    "BatchGetItem": ("ExpiredTokenException", "InvalidSignatureException"),
    "PublishBatch": ("ExpiredToken", "SignatureDoesNotMatch"),
    "PutObject": ("ExpiredToken", "RequestTimeTooSkewed"),
    "ListObjectsV2": ("ExpiredToken", "SignatureDoesNotMatch"),
    "DeleteObjects": ("ExpiredToken", "RequestTimeTooSkewed"),
}


def test_s9_every_call_is_refused_for_its_token_and_its_signature_once(scene: Scene) -> None:
    scene.finish(
        *(Rule(operation, refused(code, 403))
          for operation, codes in CODES.items() for code in codes)
    )  # fmt: skip
    assert scene.judged("S9").repeats == 0


def test_s9_credentials_run_out_and_renewed_ones_are_found(scene: Scene) -> None:
    file = scene.folder / "credentials"
    settings = {"AWS_ACCESS_KEY_ID": "", "AWS_SHARED_CREDENTIALS_FILE": str(file)}
    file.write_text("[default]\naws_access_key_id = OLD\naws_secret_access_key = x\n")
    with scene.proxy() as proxy, scene.run(proxy, "--until-end", **settings) as run:
        proxy.wait("PublishBatch", 1)
        rule = Rule("", expired("OLD"), ALWAYS)
        proxy.put_first(rule)
        run.wait_for(lambda told: any(line["event"] == "waiting" for line in told))
        file.write_text("[default]\naws_access_key_id = NEW\naws_secret_access_key = x\n")
        assert run.ended() == 0, run
    signers = [call.signer for call, _ in proxy.calls]
    assert set(signers) == {"OLD", "NEW"} and signers[-1] == "NEW"
    assert scene.judged("S9 renewed").repeats == 0


@pytest.mark.parametrize("fifo", [False, True], ids=["standard", "fifo"])
def test_s10_what_was_done_with_its_answer_lost_comes_again_under_the_same_id(
    fifo: bool, ministack: Ministack, tmp_path: Path
) -> None:
    with Cloud(ministack.url, fifo) as cloud:
        scene = Scene(cloud, tmp_path, ministack.port)
        scene.write()
        scene.fill()
        proxy = scene.finish(
            *(Rule("PublishBatch", lost, after=number) for number in (0, 1, 2)),
            *(Rule("PutObject", lost, after=number, path=path)
              for number in (0, 2) for path in (STATE, ERRORS)),
            Rule("BatchGetItem", lost),
            Rule("GetRecords", lost, after=2),
            Rule("DeleteObjects", lost),
        )  # fmt: skip
        found = scene.judged("S10")
    assert not any(line["event"] == "fenced" for line in scene.events)  # it knows its own objects
    assert entries(proxy, lost) > 0
    assert found.repeats == (0 if fifo else entries(proxy, lost))  # a FIFO topic drops repeats


def test_k8_an_iterator_that_has_expired_is_asked_for_anew(scene: Scene) -> None:
    code = refused("ExpiredIteratorException")
    proxy = scene.finish(*(Rule("GetRecords", code, after=number) for number in (0, 3, 3)))
    assert proxy.count("GetShardIterator") == len(SHARDS) + 3
    assert scene.judged("K8").repeats == 0


def test_k9_a_stream_that_is_busy_broken_or_gives_nothing(scene: Scene) -> None:
    faults: list[Any] = [
        THROTTLED, refused("InternalFailure", 500), down, empty, empty,
        refused("KMSThrottlingException"), empty, refused("ServiceUnavailable", 503),
    ]  # fmt: skip
    scene.finish(
        *(Rule("GetRecords", fault, after=number) for number, fault in enumerate(faults)),
        Rule("ListShards", refused("LimitExceededException")),
        Rule("GetShardIterator", THROTTLED),
    )
    assert scene.judged("K9").repeats == 0
