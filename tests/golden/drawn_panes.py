"""Streams for the fan-out mode: pipelines in all shapes, readings over shards, some late."""

from __future__ import annotations

import json
from typing import Any

import plain_kpl
from hypothesis import strategies as st
from plain_panes import PaneSetup, order

from streamgauge import Alert, Record

START = 1_767_600_000_000  # a whole pane
Sent = dict[str, list[tuple[bytes, int | None]]]  # of each shard, in order

TOML = """
[pipeline]
name = "panes"
[record]
device = "device"
time = "ts"
[[rules]]
name = "hot"
sql = "SELECT device, ts, v FROM '#'"
measure = "v"
window = "{window}s"
statistic = "{statistic}"
fire_when = "{fire_when}"
threshold = {threshold}
clear_margin = {margin}
min_samples = {min_samples}
hold = "{hold}s"
[delivery]
mode = "fan_out"
allowed_lateness = "{lateness}s"
max_clock_skew = "400s"
forget_after = "{forget}s"
"""

SHAPES = st.fixed_dictionaries({
    "window": st.integers(1, 8),
    "statistic": st.sampled_from(["mean", "sum", "count", "min", "max"]),
    "fire_when": st.sampled_from(["above", "below"]),
    "threshold": st.sampled_from([0.0, 2.5, 21.0]), "margin": st.sampled_from([0.0, 1.5]),
    "min_samples": st.integers(1, 3), "hold": st.integers(0, 4), "lateness": st.integers(0, 5),
    "forget": st.sampled_from([13, 86_400]),
})  # fmt: skip
VALUES = st.one_of(
    st.sampled_from([20.1, 21.7, 22.4, 0.1, -3.0, 2.5]),
    st.floats(-100, 100).map(lambda value: round(value, 2)),
    st.sampled_from([1e300, -1e300, 5e-324, 1e-20, 2.0**60, 1e15 + 0.5]),
)


@st.composite
def streams(draw: st.DrawFn) -> Sent:
    """Readings of a few devices over some seconds, spread over shards, with late ones."""
    found: Sent = {}
    for shard in range(draw(st.integers(1, 3))):
        now = START + draw(st.integers(0, 3000))
        rows: list[tuple[bytes, int | None]] = []
        for number in range(draw(st.integers(1, 25))):
            now += draw(st.sampled_from([0, 1, 300, 1000, 2500]))
            if draw(st.integers(0, 30)) == 0:
                now += 15_000
            behind = draw(st.sampled_from([0, 0, 0, 400, 3000, 9000]))
            device = f"d{draw(st.integers(0, 2))}"
            message = {"device": device, "ts": now - behind, "v": draw(VALUES), "n": number}
            rows.append((json.dumps(message).encode(), now))
        found[f"shard-{shard}"] = rows
    return found


def records_of(shard: str, rows: list[tuple[bytes, int | None]], size: int) -> list[Record]:
    """User records as Kinesis records, in aggregates of up to `size` where that is over 1.

    Records of one aggregate arrive together, so only those of one arrival time are packed.
    """
    found: list[Record] = []
    at = 0
    while at < len(rows):
        end = at + 1
        while end < len(rows) and end - at < size and rows[end][1] == rows[at][1]:
            end += 1
        users = [(b"k", data, None) for data, _ in rows[at:end]]
        data = plain_kpl.pack(users) if size > 1 else rows[at][0]
        found.append(Record(shard, str(len(found) + 1), data, "k", rows[at][1]))
        at = end
    return found


def setup_of(shape: dict[str, Any]) -> PaneSetup:
    return PaneSetup(
        window=shape["window"] * 1000, statistic=shape["statistic"],
        fire_when=shape["fire_when"], threshold=shape["threshold"], margin=shape["margin"],
        min_samples=shape["min_samples"], hold=shape["hold"] * 1000,
        lateness=shape["lateness"] * 1000, forget_after=shape["forget"] * 1000,
    )  # fmt: skip


def told(alerts: list[Alert]) -> list[Any]:
    return order([(a.device, a.time, a.state, a.value, a.samples) for a in alerts])


def reading(device: str, second: float, value: float, arrival: float) -> tuple[bytes, int]:
    message = {"device": device, "ts": START + int(second * 1000), "v": value}
    return json.dumps(message).encode(), START + int(arrival * 1000)


PLAIN = dict(window=3, statistic="mean", fire_when="above", threshold=21.0, margin=0.0,
             min_samples=1, hold=0, lateness=1, forget=86_400)  # fmt: skip
