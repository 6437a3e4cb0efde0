"""The fleet is the same for a seed, has every fault, and its truth is the engine's answer."""

from __future__ import annotations

import hashlib
import time
from typing import Any

import msgspec
import pytest

from streamgauge import Record
from streamgauge.engine.limits import Entry
from streamgauge.producers.fleet import LIMIT, RULE, Fleet
from streamgauge.producers.truth import Rule, Truth, mean, parsed, whole
from streamgauge.rules import spec as specs
from streamgauge.rules.plan import Pipeline

START = 1_767_600_000_000
TOML = f"""
[pipeline]
name = "thermostats"
[record]
device = "device"
time = "ts"
topic = "topic"
[[rules]]
name = "{RULE}"
sql = '''
SELECT device, ts, temperature FROM 'home/+/thermostat'
WHERE temperature > -40 AND temperature < 200
'''
measure = "temperature"
threshold = {LIMIT}
clear_margin = 1.0
min_samples = 5
"""
TRUE_RULE = Rule("thermostats", RULE, LIMIT, 1.0, 5, "warning")


def digest(fleet: Fleet) -> str:
    text = b"\n".join(message.data for tick in fleet for message in tick)
    return hashlib.sha256(text).hexdigest()


def test_a_seed_gives_the_same_bytes() -> None:
    same = [digest(Fleet(40, 60, seed=7, start=START)) for _ in range(2)]
    assert same[0] == same[1] != digest(Fleet(40, 60, seed=8, start=START))


@pytest.mark.parametrize("seconds", [100, 130, 200, 299, 300])
@pytest.mark.parametrize("hour", [4, 16])
def test_a_short_run_has_alerts_that_fire_and_are_resolved(seconds: int, hour: int) -> None:
    """Rooms take longer than that to overheat and to cool: relays were stuck before the start."""
    for seed in range(4):
        fleet = Fleet(20, seconds, seed=seed, start=START + hour * 3_600_000)
        truth = Truth(TRUE_RULE, fleet.thresholds())
        hottest = 0.0
        for tick in fleet:
            hottest = max(hottest, fleet._room.max())
            for message in tick:
                truth.take(message.data)
        assert {alert["state"] for alert in truth.alerts} == {"firing", "resolved"}, seed
        assert hottest < 60.0


def answers(seed: int, devices: int, seconds: int) -> tuple[Truth, Any]:
    fleet = Fleet(devices, seconds, seed=seed, start=START)
    lines = fleet.thresholds()
    table: dict[tuple[str, str], list[Entry]] = {}
    for line in lines:
        names = ("value", "clear_margin", "version", "effective_from")
        entry = Entry(**{name: line[name] for name in names if name in line})
        table.setdefault((line["device"], line["rule"]), []).append(entry)
    truth = Truth(TRUE_RULE, lines)
    pipeline = Pipeline.plan(specs.parse(TOML), table)
    records, number = [], 0
    arrival = START + seconds * 1000
    for tick in fleet:
        for message in tick:
            number += 1
            truth.take(message.data, arrival)
            records.append(Record("s", str(number), message.data, message.key, arrival, 0))
    return truth, pipeline.push(records)


@pytest.mark.parametrize(
    ("seed", "devices", "seconds"),
    [(1, 60, 200), pytest.param(2, 450, 120, marks=pytest.mark.slow)],
)
def test_the_truth_is_the_engine_s_answer(seed: int, devices: int, seconds: int) -> None:
    truth, outcome = answers(seed, devices, seconds)
    left_out = ("id", "first_position", "last_position")
    rows = [msgspec.to_builtins(alert) for alert in outcome.alerts]
    found = [{k: v for k, v in row.items() if k not in left_out} for row in rows]
    assert found == truth.alerts
    counts = outcome.counts
    assert dict(truth.counts) == {
        "evaluated": counts.evaluated, "filtered": counts.filtered,
        "duplicates": counts.duplicates, "rejected": counts.rejected,
    }  # fmt: skip
    assert sorted(truth.rejected.elements()) == sorted(row.data for row in outcome.rejected)


@pytest.mark.slow
def test_every_fault_is_there() -> None:
    truth, outcome = answers(1, 450, 300)
    states = [alert["state"] for alert in truth.alerts]
    assert states.count("firing") > 5 and states.count("resolved") > 5
    assert {alert["threshold_version"] for alert in truth.alerts} >= {None, 1, 2}
    reasons = {row.reason for row in outcome.rejected}
    assert reasons >= {"late", "clock_skew", "not_json"}
    assert min(truth.counts.values()) > 10


def test_times_end_with_the_run() -> None:
    times = [m.time for tick in Fleet(30, 50, seed=3, start=START) for m in tick]
    assert max(times) == START + 50_000 and START + 1000 <= min(times) <= START + 5000
    assert times != sorted(times)


def test_a_link_comes_back_with_what_it_held() -> None:
    fleet = Fleet(200, 100, seed=4, start=START)
    bursts = 0
    for tick in fleet:
        per_device: dict[str, int] = {}
        for message in tick:
            per_device[message.device] = per_device.get(message.device, 0) + 1
        bursts += max(per_device.values()) > 2
    assert bursts


@pytest.mark.parametrize(
    "data",
    [b"", b"[1]", b'{"a":NaN}', b'{"ts":1e999}', b'{"a":"\\ud800"}', b"\xef\xbb\xbf{}", b"\xff"],
)
def test_what_is_no_payload(data: bytes) -> None:
    assert parsed(data) is None


def test_a_mean_is_rounded_once() -> None:
    assert mean([whole(58.54)] * 11) == 58.54
    assert mean(list(map(whole, [1e300, -1e300, 3.0]))) == 1.0


def test_it_is_quick_enough_for_a_demo() -> None:
    """No time is asserted: a fleet of the demo's size is drawn and counted."""
    before = time.process_time()
    messages = sum(len(tick) for tick in Fleet(500, 20, seed=5, start=START))
    print(f"{messages / (time.process_time() - before):,.0f} messages a second of CPU")
    assert messages > 3_000
