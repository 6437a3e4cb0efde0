"""The torture file through a whole cloud: stream, table, topic, queue and bucket, and a process.

The server stamps the arrival, so the torture file's own arrivals are gone: truth is the oracle over
the stream as it is read back. `as told` the event times are years before that; the other variants
are moved to now, where a clock can be ahead and limits go by the arrival.
"""

from __future__ import annotations

import itertools
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import plain_kpl
import pytest
import torture
from live_cloud import Cloud, Judged, cut, judged
from live_run import Run
from moto import mock_aws
from plain_kpl import MAGIC, Kinesis
from servers import Ministack

from streamgauge.consumers.hosting import host
from streamgauge.consumers.kinesis_reader import KinesisReader
from streamgauge.consumers.local import LocalConsumer
from streamgauge.consumers.metrics import Metrics
from streamgauge.rules import spec as specs
from streamgauge.rules.edges import Edges

pytestmark = pytest.mark.slow

TOML = (torture.HERE / "torture.toml").read_text()
BACK = 200_000  # ms before now at which the moved cases begin: some lie ahead of their arrival
TIMES = re.compile(rb"(?<!\d)(1699999|1700000|1700001)\d{6}(?!\d)")

Limits = list[dict[str, Any]]
Variant = tuple[list[Kinesis], Limits]


def as_told() -> Variant:
    return plain_kpl.read(torture.HERE / "torture.ndjson"), torture.thresholds()


def moved(size: int) -> Variant:
    """The cases as if they began a little before now, in aggregates of at most `size`."""
    later = int(time.time() * 1000) - BACK - torture.START

    def move(data: bytes) -> bytes:
        if data.startswith(MAGIC):  # an aggregate within one: its bytes stay as they are
            return data
        return TIMES.sub(lambda found: b"%d" % (int(found[0]) + later), data)

    users = [user._replace(data=move(user.data)) for user in torture.users()]
    records = plain_kpl.repacked(users, itertools.repeat(size))
    again = [some for batch in cut(records, 40) for some in (*batch, *batch[-7:])]
    limits = [
        item | ({"effective_from": item["effective_from"] + later} if "effective_from" in item
                else {}) for item in torture.thresholds()
    ]  # fmt: skip
    return again, limits


VARIANTS: dict[str, Callable[[], Variant]] = {
    "as told": as_told,
    "plain": lambda: moved(1),
    "aggregated": lambda: moved(1000),
}


def enough(found: Judged, limits: Limits) -> None:
    """Assert that there was something to get wrong."""
    assert found.records > 600
    assert found.count("firing") >= 15 and found.count("resolved") >= 12
    assert {alert["rule"] for alert in found.alerts} == {
        "overheating", "low_pressure", "surge", "wobble",
    }  # fmt: skip
    assert found.reasons["late"] >= 10 and sum(found.reasons.values()) >= 60
    reasons = {"bad_digest", "bad_body", "key_index", "not_utf8", "overflow", "measure_type"}
    assert reasons <= set(found.reasons)
    assert ("clock_skew" in found.reasons) == (limits != torture.thresholds())  # if moved to now
    versions = {alert["threshold_version"] for alert in found.alerts}
    assert {"summer", 3, 4, None} <= versions


@pytest.mark.parametrize(
    ("variant", "fifo"),
    [*((name, False) for name in VARIANTS), ("plain", True)],
    ids=[*VARIANTS, "fifo topic"],
)
def test_a_process_against_a_server(
    variant: str, fifo: bool, ministack: Ministack, tmp_path: Path
) -> None:
    records, limits = VARIANTS[variant]()
    with Cloud(ministack.url, fifo) as cloud:
        cloud.limit(limits)
        cloud.put(records)
        (tmp_path / "p.toml").write_text(cloud.pipeline_file(TOML))
        with Run(tmp_path, ministack.url, "--until-end") as run:
            assert run.ended() == 0, run
        found = judged(cloud, TOML, limits)
        enough(found, limits)
        assert found.repeats == 0
        if fifo:
            for _, of in itertools.groupby(sorted(cloud.received, key=whose), whose):
                times = [alert["time"] for alert in of]
                assert times == sorted(times)


def whose(alert: dict[str, Any]) -> tuple[str, str]:
    return alert["rule"], alert["device"]


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_local_consumer_in_this_process(variant: str) -> None:
    """The same file and host against moto: everything but the process."""
    records, limits = VARIANTS[variant]()
    with mock_aws(), Cloud() as cloud:
        cloud.limit(limits)
        cloud.put(records)
        consume(cloud)
        found = judged(cloud, TOML, limits)
        enough(found, limits)
        assert found.repeats == 0


def consume(cloud: Cloud) -> None:
    """Read the stream to its end."""
    spec = specs.parse(cloud.pipeline_file(TOML))
    edges = Edges(spec)
    reader = KinesisReader(edges.service("kinesis"), cloud.name)
    shared = host(
        spec, reader, edges=edges, observe=lambda outcome: None,
        log=lambda event, **fields: None, metrics=Metrics(),
    )  # fmt: skip
    LocalConsumer(reader, shared, until_end=True).run()
