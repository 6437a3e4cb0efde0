"""What a pipeline does while its table of limits is slow, down, or changed: faults S1, S2, S3, S9.

The real store and the real pipeline over a table in memory, with a clock handed in: reading and
table go by the same one.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest
from memory_table import MemoryTable

from streamgauge import Alert, Pipeline, Record
from streamgauge.cli.threshold_lines import row_of
from streamgauge.engine.aws import Service
from streamgauge.engine.errors import ConfigError, UnavailableError
from streamgauge.engine.limits import Entry
from streamgauge.engine.stores.dynamodb import TableThresholds
from streamgauge.engine.stores.threshold_items import ThresholdItems
from streamgauge.rules import spec as specs

START = 1_767_600_000  # seconds
REFRESH = 10.0  # seconds
TOML = """
[pipeline]
name = "p"
[record]
time = "ts"
[[rules]]
name = "hot"
sql = "SELECT * FROM '#'"
measure = "t"
statistic = "last"
threshold = 90.0
clear_margin = 1.0
[thresholds]
table = "thresholds"
refresh = "10s"
"""
OWN = Entry(90.0, 1.0, 0, None)


class Scene:
    """A table, a clock, and the records that have come in so far."""

    def __init__(self) -> None:
        self.clock = float(START)
        self.table = MemoryTable(now=self.now, random=random.Random(3))
        self.records: list[Record] = []
        self.service = Service("dynamodb", make=self.table.client)

    def now(self) -> float:
        return self.clock

    def pipeline(self) -> Pipeline:
        store = TableThresholds("thresholds", self.service, sleep=lambda seconds: None)
        return Pipeline.plan(specs.parse(TOML), store, now=self.now)

    def arrive(self, device: str, value: float, behind: float = 0.0) -> Record:
        """A reading of now, or of `behind` seconds ago, that arrives now."""
        now = round(self.clock * 1000)
        message = {"device": device, "ts": now - round(behind * 1000), "t": value}
        number = str(len(self.records) + 1)
        self.records.append(Record("s", number, json.dumps(message).encode(), device, now))
        return self.records[-1]

    def items(self) -> ThresholdItems:
        return ThresholdItems("thresholds", self.service)

    def set(self, device: str, value: float) -> None:
        """As `thresholds set` does: in force in two refresh intervals."""
        start = round((self.clock + 2 * REFRESH) * 1000)
        self.items().set(device, "hot", Entry(value, None, None, start), OWN)


def told(alerts: Iterable[Alert]) -> list[tuple[str, str, float, Any, bool]]:
    return [(a.device, a.state, a.threshold, a.threshold_version, bool(a.stale)) for a in alerts]


def test_a_throttled_table_leaves_the_last_limits_in_force_as_stale() -> None:
    scene = Scene()
    scene.table.put("d", "hot", value=75, version=4)
    pipeline = scene.pipeline()
    assert pipeline.push([scene.arrive("d", 70.0)]).alerts == []
    scene.table.throttle_next = 10**6
    scene.table.put("d", "hot", value=200, version=5)  # nobody can read it
    scene.clock += REFRESH - 1
    assert told(pipeline.push([scene.arrive("d", 80.0)]).alerts) == [("d", "firing", 75, 4, False)]
    scene.clock += 1
    assert told(pipeline.push([scene.arrive("d", 70.0)]).alerts) == [("d", "resolved", 75, 4, True)]
    assert pipeline.stale_devices == 1
    asked = len(scene.table.calls)
    scene.clock += 1
    assert told(pipeline.push([scene.arrive("d", 80.0)]).alerts) == [("d", "firing", 75, 4, True)]
    assert len(scene.table.calls) == asked, "a busy table is not asked at every batch"
    scene.table.throttle_next = 0
    scene.clock += REFRESH
    assert told(pipeline.push([scene.arrive("d", 80.5)]).alerts) == [
        ("d", "resolved", 200, 5, False)
    ]
    assert pipeline.stale_devices == 0


def test_a_table_that_leaves_keys_over_is_slow_but_no_outage() -> None:
    scene = Scene()
    for number in range(300):
        scene.table.put(f"d{number}", "hot", value=number, version=number)
    scene.table.unprocessed = 0.4
    pipeline = scene.pipeline()
    records = [scene.arrive(f"d{number}", number + 0.5) for number in range(300)]
    alerts = pipeline.push(records).alerts
    assert told(alerts) == [(f"d{n}", "firing", n, n, False) for n in range(300)]


@pytest.mark.parametrize("minutes", [1, 5])
def test_cold_start_without_the_table_waits_and_guesses_nothing(minutes: int) -> None:
    scene = Scene()
    for number in range(250):
        scene.table.put(f"d{number}", "hot", value=50, version=1)
    records = [scene.arrive(f"d{number}", 80.0) for number in range(251)]
    truth = scene.pipeline().push(records)
    assert len(truth.alerts) == 250
    scene.table.down_until = scene.clock + 60 * minutes
    pipeline = scene.pipeline()
    tries = 0
    while True:
        try:
            outcome = pipeline.push(records)
            break
        except UnavailableError as error:
            assert "the limits of 251 devices are not known" in str(error)
            assert pipeline.positions == {} and pipeline.firing == {"hot": 0}
            scene.clock += 5
            tries += 1
    assert tries == 12 * minutes
    assert outcome.alerts == truth.alerts
    assert outcome.counts.as_dict() == truth.counts.as_dict()


def test_an_outage_in_the_middle_stops_unknown_devices_only() -> None:
    scene = Scene()
    scene.table.put("old", "hot", value=50, version=1)
    scene.table.put("new", "hot", value=60, version=2)
    pipeline = scene.pipeline()
    pipeline.push([scene.arrive("old", 40.0)])
    scene.table.down_until = scene.clock + 300
    scene.clock += 60
    first = [scene.arrive("old", 55.0)]
    assert told(pipeline.push(first).alerts) == [("old", "firing", 50, 1, True)]
    scene.clock += 1
    mixed = [scene.arrive("old", 40.0), scene.arrive("new", 65.0)]
    for _ in range(3):
        scene.clock += 60
        with pytest.raises(UnavailableError, match="the limits of 1 devices are not known"):
            pipeline.push(mixed)
        assert pipeline.firing == {"hot": 1}, "nothing of the batch is applied"
    scene.clock += 60
    assert told(pipeline.push(mixed).alerts) == [
        ("old", "resolved", 50, 1, False), ("new", "firing", 60, 2, False)
    ]  # fmt: skip


def test_expired_credentials_are_an_outage_that_ends_with_new_ones() -> None:
    scene = Scene()
    scene.table.put("d", "hot", value=75, version=1)
    pipeline = scene.pipeline()
    scene.table.expire()
    records = [scene.arrive("d", 80.0)]
    for _ in range(3):
        with pytest.raises(UnavailableError, match="renew the credentials"):
            pipeline.push(records)
    scene.table.renew()
    assert told(pipeline.push(records).alerts) == [("d", "firing", 75, 1, False)]


def test_a_batch_with_an_item_that_is_no_limit_is_not_applied_and_comes_again() -> None:
    scene = Scene()
    scene.table.put("d", "hot", value="75")
    pipeline = scene.pipeline()
    records = [scene.arrive("e", 95.0), scene.arrive("d", 80.0)]
    with pytest.raises(ConfigError, match="device 'd', rule 'hot': error: value: expected a numb"):
        pipeline.push(records)
    assert pipeline.positions == {}
    scene.items().set("d", "hot", Entry(75.0))
    assert told(pipeline.push(records).alerts) == [
        ("e", "firing", 90.0, None, False), ("d", "firing", 75.0, 1, False)
    ]  # fmt: skip


def drive(scene: Scene, pushes: Sequence[int], lag: float) -> tuple[list[Alert], int]:
    """A live run of 90 s in which the limit goes from 90 to 75 and back; where it switched first.

    A reading a second, pushed in batches of these sizes, of a device that swings about 80.
    """
    scene.table.lag_seconds = lag
    pipeline, alerts, waiting = scene.pipeline(), list[Alert](), list[Record]()
    sizes = iter(pushes)
    size, switch = next(sizes), 0
    for second in range(90):
        scene.clock = START + second + 0.25
        if second == 20:
            scene.set("d", 75.0)
            switch = round((scene.clock + 2 * REFRESH) * 1000)
        if second == 50:
            scene.set("d", 90.0)
        waiting.append(
            scene.arrive("d", [80.0, 70.0][second % 2], behind=0.25 if second % 3 else 0)
        )
        if len(waiting) >= size:
            alerts += pipeline.push(waiting).alerts
            waiting, size = [], next(sizes, 1)
    alerts += pipeline.push(waiting).alerts
    return alerts, switch


@pytest.mark.parametrize("lag", [0.0, 3.0, 8.0])
@pytest.mark.parametrize("seed", range(3))
def test_a_change_in_the_stream_is_exact_and_a_replay_gives_the_same_ids(
    seed: int, lag: float, tmp_path: Path
) -> None:
    scene, rng = Scene(), random.Random(seed)
    alerts, switch = drive(scene, [rng.choice([1, 2, 3]) for _ in range(100)], lag)
    assert {a.threshold_version for a in alerts} == {1, 2}
    assert min(a.time for a in alerts) >= switch
    firing = [a for a in alerts if a.state == "firing"]
    assert min(a.time for a in firing) < switch + 2000 + 250, "the first reading of 80 after it"
    assert max(a.time for a in firing) < switch + 30_000
    # A day later, from nothing, in one batch: limits are read once, and give the same.
    scene.clock += 86_400
    assert scene.pipeline().push(scene.records).alerts == alerts
    lines = tmp_path / "limits.ndjson"
    entries = scene.items().entries(scene.items().get("d", "hot"))
    rows = [row_of("d", "hot", entry) for entry in entries]
    lines.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert Pipeline.plan(specs.parse(TOML), lines).push(scene.records).alerts == alerts
