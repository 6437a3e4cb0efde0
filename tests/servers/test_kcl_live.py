"""`streamgauge kcl` with the real MultiLangDaemon: killed, handed over, doubled, frozen.

A worker alone reads its first record after half a minute, so each test lives through several faults
with the fewest starts.
"""

from __future__ import annotations

import http.client
import json
import os
import queue
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import plain_kpl
import pytest
import torture
from fault_proxy import Hold, Proxy, Rule
from kcl_run import Worker, children, saved
from live_cloud import Cloud
from live_run import Scene
from servers import Ministack, need, need_jars

pytestmark = pytest.mark.slow


@pytest.fixture
def scene(ministack: Ministack, tmp_path: Path) -> Iterator[Scene]:
    """Half of the torture stream in a cloud of its own; the pipeline has a name of its own.

    The stream is as it was packed: aggregates that reach over shards, that have a bad key index, a
    wrong digest or no end, all of which the KCL's own way of opening them drops or ends at.
    """
    need("java")
    need_jars("kcl")
    with Cloud(ministack.url) as cloud:
        made = Scene(cloud, tmp_path, ministack.port)
        made.toml = made.toml.replace('name = "torture"', f'name = "{cloud.name}-p"')
        made.write()
        made.limit(torture.thresholds())
        made.cloud.put(made.given[: len(made.given) // 2])
        yield made


def state_of(worker: Worker, device: str) -> list[dict[str, Any]]:
    """What the worker answers about a device."""
    (port,) = (event["port"] for event in worker.events if event["event"] == "listening")
    with closing(http.client.HTTPConnection("127.0.0.1", port)) as asked:
        asked.request("GET", f"/state?device={device}")
        answer = asked.getresponse()
        rows: list[dict[str, Any]] = json.loads(answer.read())["rules"]
        assert answer.status == (200 if rows else 404)
        return rows


def leases(scene: Scene) -> dict[str, dict[str, Any]]:
    """The rows of the KCL's table, by shard."""
    items = scene.cloud.dynamodb.scan(TableName=f"{scene.cloud.name}-p")["Items"]
    return {item["leaseKey"]["S"]: item for item in items if "checkpoint" in item}


def test_killed_child_killed_daemon_and_an_orderly_end(scene: Scene, ministack: Ministack) -> None:
    """K1, L6, D10, D11, D13: a child, then the daemon are killed, with records still to come, so
    that each begins at a checkpoint behind an aggregate; then SIGTERM."""
    half, quarter = len(scene.given) // 2, len(scene.given) // 4
    with Worker(scene.folder, ministack.url, "--listen", "127.0.0.1:0") as worker:
        worker.wait_for_saves(scene.cloud)
        assert {row["shard"] for row in state_of(worker, "history")} == {torture.SHARDS[0]}
        assert state_of(worker, "nobody") == []
        os.kill(children(worker.daemon())[0], signal.SIGKILL)
        scene.cloud.put(scene.given[half : half + quarter])
        worker.wait_for_saves(scene.cloud)
        assert worker.count("daemon_died") == 1
        os.kill(worker.daemon(), signal.SIGKILL)
        killed = time.monotonic()
        scene.cloud.put(scene.given[half + quarter :])
        worker.wait_for_saves(scene.cloud)
        print(
            f"from SIGKILL of the daemon to all read and saved: {time.monotonic() - killed:.1f} s"
        )
        stopped = time.monotonic()
        assert worker.stop() == 0, worker
        print(f"from SIGTERM to the end: {time.monotonic() - stopped:.1f} s")
    rows = leases(scene)
    for shard, of in scene.cloud.records().items():
        assert rows[shard]["checkpoint"]["S"] == of[-1].sequence
    found = scene.judged("K1, L6 under the KCL: child killed, daemon killed, stopped")
    assert found.reasons >= Counter(["bad_digest", "bad_body", "key_index"])
    assert any(user.sub for of in scene.cloud.records().values() for one in of
               for user in plain_kpl.opened(one))  # fmt: skip


def test_leases_move_to_a_second_worker(scene: Scene, ministack: Ministack) -> None:
    """K3: of two workers the one that has a shard is stopped while it reads; the other goes on."""
    half = len(scene.given) // 2
    with (
        Worker(scene.folder, ministack.url) as one,
        Worker(scene.folder, ministack.url) as other,
    ):
        first, second = first_to_save(one, other)
        scene.cloud.put(scene.given[half:])
        assert first.stop() == 0, first
        second.wait_for(lambda events: last_saves(scene) <= saved(first.events + second.events))
        assert second.count("shard_started") > 0
        assert second.stop() == 0, second
    scene.judged("K3 under the KCL: leases move to a second worker")


def test_a_lease_moves_between_the_living_and_a_frozen_owner_writes_no_more(
    scene: Scene, ministack: Ministack
) -> None:
    """K2, K3: a second worker starts and is dealt a shard. It is frozen, daemon and children, while
    its state object is on the way; the first one takes the shard and goes on. Then the object
    arrives and the frozen one goes on: too late for both."""
    half, quarter, held = len(scene.given) // 2, len(scene.given) // 4, Hold("after")
    with Proxy(ministack.port) as proxy, Worker(scene.folder, ministack.url) as one:
        one.wait_for_saves(scene.cloud)
        with Worker(scene.folder, ministack.url, AWS_ENDPOINT_URL_S3=proxy.url) as other:
            other.wait_for(lambda events: of_event(other, "shard_started"))
            assert of_event(other, "shard_started") <= of_event(one, "lease_lost"), one
            proxy.put_first(Rule("PutObject", held, path="/state/"))
            scene.cloud.put(scene.given[half : half + quarter])
            held.wait()
            os.killpg(other.daemon(), signal.SIGSTOP)
            scene.cloud.put(scene.given[half + quarter :])  # so the two objects differ
            one.wait_for_saves(scene.cloud)
            rows, objects = leases(scene), scene.cloud.keys("state/")
            held.let_go()
            os.killpg(other.daemon(), signal.SIGCONT)
            other.wait_for(lambda events: of_event(other, "fenced"))
            other.wait_for(lambda events: other.count("daemon_died"))
            assert one.stop() == 0, one
    assert scene.cloud.keys("state/") == objects
    for shard, of in scene.cloud.records().items():
        now = leases(scene)[shard]
        assert now["checkpoint"]["S"] == of[-1].sequence >= rows[shard]["checkpoint"]["S"]
    scene.judged("K2, K3 under the KCL: a lease moves, its new owner freezes and wakes")


def of_event(worker: Worker, event: str) -> set[str]:
    """The shards that it told an event of."""
    return {line["shard"] for line in worker.events if line["event"] == event}


def first_to_save(*workers: Worker) -> Sequence[Worker]:
    """The same workers, one that has a shard first."""
    found: queue.Queue[int] = queue.Queue()

    def look(number: int) -> None:
        try:
            workers[number].wait_for(lambda events: not found.empty() or saved(events))
        finally:
            found.put(number)

    for number in range(len(workers)):
        threading.Thread(target=look, args=(number,), daemon=True).start()
    first = found.get()
    assert workers[first].count("state_saved"), workers[first]
    return [workers[first], *workers[:first], *workers[first + 1 :]]


def last_saves(scene: Scene) -> set[str]:
    """The last record of each shard, as a state object names it."""
    return {f"{shard}:{of[-1].sequence}" for shard, of in scene.cloud.records().items() if of}
