"""The alert state of every device under one rule, and the alerts that its changes give.

    ok --beyond--> pending --beyond for `hold`--> firing --clear--> ok (resolved)
                   pending --not beyond--> ok, silently

*Beyond* is a value strictly above (below) the threshold with at least `min_samples` in the window;
*clear* is a value at or below threshold - margin (at or above threshold + margin). The state moves
forward in event time only: an older sample changes nothing, nor does one at the event time of the
last change. This module is the one place where the state machine stands.
"""

from __future__ import annotations

import hashlib
from typing import NamedTuple

import msgspec
import numpy as np

from .batch import NO_TIME, Floats, Ints

FIRING, RESOLVED = "firing", "resolved"


class Change(NamedTuple):
    """A row at which a device's state changed: `row` indexes the rows given to `advance`."""

    row: int
    state: str


def alert_id(pipeline: str, rule: str, device: str, state: str, time: int) -> str:
    """The id of an alert: the same on every replay; 32 hex digits of a SHA-256."""
    text = msgspec.json.encode([pipeline, rule, device, state, time])
    return hashlib.sha256(text).hexdigest()[:32]


class AlertStates:
    """The states of one rule over all devices of one shard, by device number.

    firing: bool. pending: int64 ms, since when the value is beyond, NO_TIME where it is not. moved:
    int64 ms, the newest event time that the state has seen. changed: int64 ms, the event time of
    the last firing or resolved, NO_TIME before the first.
    """

    COLUMNS = ("firing", "pending", "moved", "changed")

    def __init__(self, fire_when: str, min_samples: int, hold: int) -> None:
        """Start with every device ok; `hold` is int ms."""
        self.sign = 1.0 if fire_when == "above" else -1.0
        self.min_samples = min_samples
        self.hold = hold
        self.firing = np.zeros(0, np.bool_)
        self.pending = np.zeros(0, np.int64)
        self.moved = np.zeros(0, np.int64)
        self.changed = np.zeros(0, np.int64)

    def reserve(self, devices: int) -> None:
        """Make room for device numbers below `devices`."""
        if devices <= len(self.firing):
            return
        more = max(devices, 2 * len(self.firing), 64) - len(self.firing)
        self.firing = np.concatenate((self.firing, np.zeros(more, np.bool_)))
        for name in self.COLUMNS[1:]:
            setattr(self, name, np.concatenate((getattr(self, name), np.full(more, NO_TIME))))

    def forget(self, device: Ints) -> None:
        """Start these devices (unique) anew, but keep what fires until it is resolved."""
        device = device[device < len(self.firing)]
        self.pending[device] = NO_TIME
        kept = np.where(self.firing[device], self.changed[device], NO_TIME)
        self.moved[device] = kept
        self.changed[device] = kept

    def advance(
        self, device: Ints, time: Ints, value: Floats, samples: Ints, limit: Floats, margin: Floats
    ) -> list[Change]:
        """Take samples in arrival order, all (rows,); give the changes in arrival order.

        Most rows cannot change anything, and are passed over as columns: only devices with a row
        that might are walked one by one.
        """
        self.reserve(int(device.max(initial=-1)) + 1)
        value, limit = value * self.sign, limit * self.sign
        beyond = (value > limit) & (samples >= self.min_samples)
        firing = self.firing[device]
        with np.errstate(over="ignore"):  # beyond float64: nothing is clear, or everything
            clear = value <= limit - margin
        may = np.where(firing, clear, beyond)
        may |= (self.pending[device] != NO_TIME) & ~beyond
        if not may.any():
            np.maximum.at(self.moved, device, time)
            return []
        touched = np.zeros(len(self.firing), np.bool_)
        touched[device[may]] = True
        walk = touched[device]
        np.maximum.at(self.moved, device[~walk], time[~walk])
        rows = np.flatnonzero(walk)
        walked, local = np.unique(device[rows], return_inverse=True)
        machine = _Machine(
            self.firing[walked].tolist(),
            self.pending[walked].tolist(),
            self.moved[walked].tolist(),
            self.changed[walked].tolist(),
            self.hold,
        )
        columns = (rows, local, time[rows], beyond[rows], clear[rows])
        steps = zip(*(column.tolist() for column in columns), strict=True)
        changes = [
            Change(row, state)
            for row, number, t, is_beyond, is_clear in steps
            if (state := machine.step(number, t, is_beyond, is_clear))
        ]
        for name in self.COLUMNS:
            getattr(self, name)[walked] = getattr(machine, name)
        return changes


class _Machine(NamedTuple):
    """The states of a few devices as lists, which Python walks faster than arrays."""

    firing: list[bool]
    pending: list[int]
    moved: list[int]
    changed: list[int]
    hold: int

    def step(self, device: int, time: int, beyond: bool, clear: bool) -> str | None:
        """Take one sample; the new state if it is one to tell of."""
        if time < self.moved[device] or time == self.changed[device]:
            return None
        self.moved[device] = time
        if self.firing[device]:
            if not clear:
                return None
        elif not beyond:
            self.pending[device] = NO_TIME
            return None
        else:
            since = self.pending[device]
            if since == NO_TIME:
                since = self.pending[device] = time
            if time - since < self.hold:
                return None
            self.pending[device] = NO_TIME
        self.firing[device] = not self.firing[device]
        self.changed[device] = time
        return FIRING if self.firing[device] else RESOLVED
