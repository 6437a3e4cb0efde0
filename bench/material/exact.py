"""The answer once more for a few devices: slow and obvious, with integers and fractions.

It shares no code with the engine. Semantics: a window holds the retained samples in
[time - length, time] that have arrived; retained are those not older than the newest by more than
length and lateness; older arrivals are late; the same (time, value) twice is one sample; the state
moves forward in event time only.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Sequence
from decimal import Context, Decimal
from fractions import Fraction
from typing import NamedTuple

import numpy as np

from .telemetry import LATENESS, LENGTH, LIMIT, MARGIN, MIN_SAMPLES, Rows, name

ROWS_MAX = 20_000  # readings computed again
_UNIT = 1 << 60  # every value of the telemetry is a whole multiple of 1 / _UNIT
_DIGITS = Context(prec=80)


class Change(NamedTuple):
    """One change of state; value is the mean."""

    device: str
    time: int
    state: str
    value: float


def sample_of(rows: Rows, devices: int, rows_max: int = ROWS_MAX) -> list[int]:
    """The devices to compute again: spread over the fleet, with about `rows_max` readings."""
    many = max(1, min(devices, rows_max * devices // max(1, len(rows.device))))
    return np.unique(np.linspace(0, devices - 1, many).astype(np.int64)).tolist()


def changes_of(rows: Rows, devices: Sequence[int]) -> set[Change]:
    """All changes of state of these devices."""
    tracks = {device: _Track(name(device)) for device in devices}
    for _, device, time, value in _readings(rows, devices):
        window = tracks[device].take(time, value)
        if window:
            tracks[device].step(time, statistic("mean", window), len(window))
    return {change for track in tracks.values() for change in track.changes}


def values_of(rows: Rows, devices: Sequence[int], which: str) -> dict[int, float]:
    """A statistic of these devices' windows, by the number of the row."""
    tracks = {device: _Track(name(device)) for device in devices}
    found = {}
    for row, device, time, value in _readings(rows, devices):
        window = tracks[device].take(time, value)
        if window:
            found[row] = statistic(which, window)
    return found


def statistic(which: str, window: Sequence[float]) -> float:
    """Of values by time and then arrival, rounded once."""
    count = len(window)
    if which in ("min", "max", "last", "count"):
        return {"min": min(window), "max": max(window), "last": window[-1], "count": float(count)}[
            which
        ]
    steps = [int(value * _UNIT) for value in window]
    total = sum(steps)
    if which == "sum":
        return float(Fraction(total, _UNIT))
    if which == "mean":
        return float(Fraction(total, count * _UNIT))
    square = count * sum(step * step for step in steps) - total * total
    return float(_DIGITS.divide(_DIGITS.sqrt(Decimal(square)), Decimal(count * _UNIT)))


def _readings(rows: Rows, devices: Sequence[int]) -> list[tuple[int, int, int, float]]:
    """(row, device, time, value) of the readings of these devices that pass the filter."""
    mine = np.flatnonzero(np.isin(rows.device, devices))
    columns = (mine, rows.device[mine], rows.time[mine], rows.temperature[mine] / 100)
    every = zip(*(column.tolist() for column in columns), strict=True)
    return [reading for reading in every if -40 < reading[3] < 200]


class _Track:
    """One device: its retained samples by time, and its state."""

    def __init__(self, device: str) -> None:
        self.device = device
        self.held: list[tuple[int, int, float]] = []  # time, order of arrival, value
        self.arrived = 0
        self.newest = self.moved = self.changed = -1
        self.firing = False
        self.changes: list[Change] = []

    def take(self, time: int, value: float) -> list[float]:
        """The window of a new sample; nothing where it is late or a duplicate."""
        if time < self.newest - LENGTH - LATENESS:
            return []
        if any(then == time and was == value for then, _, was in self.held):
            return []
        self.newest = max(self.newest, time)
        self.arrived += 1
        insort(self.held, (time, self.arrived, value))
        oldest = self.newest - LENGTH - LATENESS
        self.held = [sample for sample in self.held if sample[0] >= oldest]
        return [was for then, _, was in self.held if time - LENGTH <= then <= time]

    def step(self, time: int, mean: float, samples: int) -> None:
        if time < self.moved or time == self.changed:
            return
        self.moved = time
        if self.firing:
            moves = mean <= LIMIT - MARGIN
        else:
            moves = mean > LIMIT and samples >= MIN_SAMPLES
        if moves:
            self.firing, self.changed = not self.firing, time
            state = "firing" if self.firing else "resolved"
            self.changes.append(Change(self.device, time, state, mean))
