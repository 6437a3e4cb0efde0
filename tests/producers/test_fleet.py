"""The fleet is the same for a scenario, and its truth is the engine's answer."""

from __future__ import annotations

import hashlib
import time
import tracemalloc
from typing import Any

import msgspec
import pytest

from streamgauge import Record
from streamgauge.engine.limits import Entry
from streamgauge.producers.fleet import LIMIT, RULE, Fleet
from streamgauge.producers.scenario import Faults, Lasting, Scenario
from streamgauge.producers.truth import Rule, Truth
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
            hottest = max(hottest, fleet._rooms.temperature.max())
            for message in tick:
                truth.take(message.data)
        assert {alert["state"] for alert in truth.alerts} == {"firing", "resolved"}, seed
        assert hottest < 60.0


def test_the_bytes_are_these_everywhere() -> None:
    """Of no version of numpy, and of no processor: only PCG64's bits and basic arithmetic."""
    assert digest(Fleet(40, 60, seed=7, start=START)) == (
        "ceed3d6a62d8a690776d1e7e06c06a561a5eaf6a3f7bf72e8d4eaa1080b97c76"
    )


def test_a_fault_that_is_taken_away_moves_no_other() -> None:
    usual = Faults()
    fewer = msgspec.structs.replace(usual, churn=Lasting(), drift=usual.drift.__class__())
    fleets = [Fleet.of(Scenario(devices=300, faults=faults)) for faults in (usual, fewer)]
    for name in ("stuck_relay", "stuck_sensor", "dropout", "wrong_clock", "old_data"):
        assert fleets[0].having(name) == fleets[1].having(name) != set()
    assert fleets[0].having("churn") and not fleets[1].having("churn")
    assert fleets[0].thresholds() == fleets[1].thresholds()


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
def test_every_verdict_and_state_is_there() -> None:
    truth, outcome = answers(1, 450, 300)
    states = [alert["state"] for alert in truth.alerts]
    assert states.count("firing") > 5 and states.count("resolved") > 5
    assert {alert["threshold_version"] for alert in truth.alerts} >= {None, 1, 2}
    reasons = {row.reason for row in outcome.rejected}
    assert reasons >= {"late", "clock_skew", "not_json", "not_utf8", "surrogate", "too_deep",
                       "byte_order_mark", "not_object", "number_range", "device_missing",
                       "device_type", "time_type", "time_range", "measure_type"}  # fmt: skip
    assert min(truth.counts.values()) > 10


def test_times_end_with_the_run() -> None:
    none = Faults(wrong_clock=type(Faults().wrong_clock)(), old_data=type(Faults().old_data)())
    fleet = Fleet.of(Scenario(devices=30, seconds=50, seed=3, faults=none))
    times = [m.time for tick in fleet for m in tick]
    assert max(times) == START + 50_000 and START + 1000 <= min(times) <= START + 5000
    assert times != sorted(times)


@pytest.mark.parametrize(
    ("devices", "seconds"), [(500, 20), pytest.param(100_000, 10, marks=pytest.mark.slow)]
)
def test_it_is_quick_enough(devices: int, seconds: int) -> None:
    """No time is asserted: fleets of the demo's size and of the largest are drawn and counted."""
    before = time.process_time()
    messages = sum(len(tick) for tick in Fleet(devices, seconds, seed=5, start=START))
    print(f"{messages / (time.process_time() - before):,.0f} messages a second of CPU")
    assert messages > devices * seconds / 2


@pytest.mark.slow
def test_what_is_kept_of_a_device_is_less_than_a_kilobyte() -> None:
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    fleet = Fleet(20_000, 5, seed=1, start=START)
    messages = sum(map(len, fleet))
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert messages > 40_000
    print(f"{(held - before) / 20_000:.0f} bytes a device")
    assert (held - before) / 20_000 < 1024
