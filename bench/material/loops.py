"""The baselines: what one writes by hand, row by row, with running float sums.

A reading is decoded whole, filtered by two comparisons and put into its device's deque; the mean is
the running sum over the count; a change of state is noted. Nothing is looked up twice that need not
be. What it leaves out: exact sums, rows out of order, repeats, late rows, malformed payloads,
positions, state that can be saved, thresholds that change.
"""

from __future__ import annotations

import base64
import json
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import orjson
from aws_kinesis_agg.deaggregator import iter_deaggregate_records

from streamgauge.engine.batch import Record
from streamgauge.engine.kpl import deaggregate

from .telemetry import LENGTH, LIMIT, MARGIN, MIN_SAMPLES

Loads = Callable[[bytes], Any]
Change = tuple[str, int, str]  # device, time, state


class Loop:
    """Windows and states in plain Python; `take` may be called batch by batch."""

    def __init__(self, loads: Loads) -> None:
        """Start empty, with a JSON decoder."""
        self.loads = loads
        self.windows: dict[str, tuple[deque[tuple[int, float]], list[float]]] = {}
        self.firing: set[str] = set()
        self.changes: list[Change] = []

    def take(self, payloads: Iterable[bytes]) -> None:
        """Take messages in order of arrival."""
        loads, windows, firing, changes = self.loads, self.windows, self.firing, self.changes
        for payload in payloads:
            message = loads(payload)
            value = message["temperature"]
            if not (value > -40 and value < 200):
                continue
            device, time = message["device"], message["ts"]
            held = windows.get(device)
            if held is None:
                held = windows[device] = (deque(), [0.0])
            window, total = held
            window.append((time, value))
            running = total[0] + value
            oldest = time - LENGTH
            while window[0][0] < oldest:
                running -= window.popleft()[1]
            total[0] = running
            mean = running / len(window)
            if device in firing:
                if mean <= LIMIT - MARGIN:
                    firing.discard(device)
                    changes.append((device, time, "resolved"))
            elif mean > LIMIT and len(window) >= MIN_SAMPLES:
                firing.add(device)
                changes.append((device, time, "firing"))


def by_library(records: Sequence[Mapping[str, Any]]) -> Iterator[bytes]:
    """Payloads by aws_kinesis_agg, in the form it has for boto3, the cheaper one."""
    for user in iter_deaggregate_records(records, "Boto3"):
        yield base64.b64decode(user["kinesis"]["data"])


def by_streamgauge(records: Sequence[Mapping[str, Any]]) -> list[bytes]:
    """Payloads by streamgauge's own de-aggregation: the best one there is for a loop."""
    return deaggregate(
        [Record(r["ShardId"], r["SequenceNumber"], r["Data"], r["PartitionKey"]) for r in records]
    )[0].data


def as_they_are(records: Sequence[Mapping[str, Any]]) -> list[bytes]:
    """Payloads of records that are known not to be aggregated."""
    return [record["Data"] for record in records]


LOADERS: dict[str, Loads] = {"json": json.loads, "orjson": orjson.loads}
OPENERS: dict[str, Callable[[Sequence[Mapping[str, Any]]], Iterable[bytes]]] = {
    "aws_kinesis_agg": by_library,
    "streamgauge.kpl": by_streamgauge,
    "none": as_they_are,
}
