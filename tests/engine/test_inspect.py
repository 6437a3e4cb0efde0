"""What is known of a device now: the engine's own last answer, and nothing is changed by asking."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamgauge import Record
from streamgauge.rules import spec as specs
from streamgauge.rules.plan import Pipeline

STATISTICS = ("mean", "min", "max", "sum", "count", "stddev", "last")
TOML = """
[pipeline]
name = "p"
[record]
device = "device"
time = "ts"
[delivery]
allowed_lateness = "2s"
""" + "".join(
    f"""
[[rules]]
name = "{name}"
sql = "SELECT * FROM '#' WHERE value <> 13"
measure = "value"
window = "5s"
statistic = "{name}"
threshold = 10.0
hold = "1s"
"""
    for name in STATISTICS
)
SPEC = specs.parse(TOML)
ROWS = st.lists(
    st.tuples(st.sampled_from("abc"), st.integers(0, 3), st.sampled_from([0.1, 9.5, 13, 58.54])),
    min_size=1, max_size=40,
)  # fmt: skip


def pipeline() -> Pipeline:
    return Pipeline.plan(SPEC, {("a", "mean"): 5.0})


def records(rows: list[tuple[str, int, float]]) -> list[Record]:
    time, found = 1_000_000, []
    for number, (device, seconds, value) in enumerate(rows, 1):
        time += seconds * 1000 + 1
        text = json.dumps({"device": device, "ts": time, "value": value})
        found.append(Record("s", str(number), text.encode(), "k", time))
    return found


@settings(max_examples=40)
@given(ROWS)
def test_it_is_the_last_answer_and_asking_changes_nothing(
    rows: list[tuple[str, int, float]],
) -> None:
    asked, plain = pipeline(), pipeline()
    last: dict[tuple[str, str], tuple[int, str, int]] = {}
    firing: dict[tuple[str, str], bool] = {}
    for record in records(rows):
        outcome, other = asked.push([record]), plain.push([record])
        assert outcome.alerts == other.alerts
        for part in outcome.statistics:
            for device, time, value, samples in zip(
                part.device.tolist(), part.time.tolist(), part.value.tolist(),
                part.samples.tolist(), strict=True,
            ):  # fmt: skip
                last[part.names[device], part.rule] = time, value.hex(), samples
        for alert in outcome.alerts:
            firing[alert.device, alert.rule] = alert.state == "firing"
        for device in "abcd":
            for row in asked.inspect(device):
                key = (device, row["rule"])
                assert (row["time"], row["value"].hex(), row["samples"]) == last[key]
                assert (row["state"] == "firing") == firing.get(key, False)
    assert asked.save() == plain.save()
    assert asked.firing == {
        name: sum(on for (_, rule), on in firing.items() if rule == name) for name in STATISTICS
    }


def test_limits_and_states_are_told() -> None:
    made = pipeline()
    made.push(records([("a", 1, 9.5), ("a", 1, 9.5), ("b", 1, 9.5)]))
    row = next(row for row in made.inspect("a") if row["rule"] == "mean")
    assert (row["threshold"], row["state"], row["stale"]) == (5.0, "firing", False)
    assert row["since"] == row["time"] and row["seen"] == row["time"]
    other = next(row for row in made.inspect("b") if row["rule"] == "mean")
    assert (other["threshold"], other["state"], other["since"]) == (10.0, "ok", None)
    assert made.inspect("x") == []


def test_a_restored_device_is_known_before_its_limit_is() -> None:
    before = pipeline()
    before.push(records([("a", 1, 9.5)]))
    made = pipeline()
    made.restore([before.save()])
    row = next(row for row in made.inspect("a") if row["rule"] == "mean")
    assert row["value"] == 9.5 and row["threshold"] is None
    assert row["state"] == "pending" and np.isfinite(row["since"])


def test_a_device_that_was_filtered_only_has_no_row() -> None:
    made = pipeline()
    made.push(records([("a", 1, 13)]))
    assert made.inspect("a") == []
    with pytest.raises(AttributeError):
        made.firing = {}  # type: ignore[misc]
