"""The running sum of a window of panes for every device: added to and taken away from, exactly.

Each device has a unit, chosen at the first pane of a window that was empty. Sums in other units are
moved to it where that is exact; a device for which it is not goes over to Python integers until its
window is empty again. Integers are exact either way, so the sum does not depend on the order.
"""

from __future__ import annotations

import math

import numpy as np

from .batch import Bools, Floats, Ints
from .exact import LOW_BITS, LOW_MASK, SAMPLES_MAX, rounded
from .panes import WIDE_EXPONENT, Panes

HIGH_BITS_MAX = 41  # of the high limb of a pane, for each of its samples; see exact.py
SHIFT_MAX = 20  # bits that a sum is moved by at most


class PaneSums:
    """count: int64 (devices,), samples in the window of each device."""

    def __init__(self) -> None:
        """Start with no device."""
        self.count = np.zeros(0, np.int64)
        self._high = np.zeros(0, np.int64)
        self._low = np.zeros(0, np.int64)
        self._exponent = np.zeros(0, np.int64)  # of the unit of the high limb
        self._wide: dict[int, int] = {}  # of devices that have gone over

    def reserve(self, devices: int) -> None:
        """Make room for device numbers below `devices`."""
        more = devices - len(self.count)
        if more > 0:
            room = np.zeros(max(more, len(self.count), 64), np.int64)
            for name in ("count", "_high", "_low", "_exponent"):
                setattr(self, name, np.concatenate((getattr(self, name), room)))

    def add(self, device: Ints, panes: Panes) -> None:
        """Add panes of distinct devices; `device` is their number here, int64 (rows,)."""
        self.reserve(int(device.max(initial=-1)) + 1)
        exponent = np.frexp(panes.unit)[1].astype(np.int64)
        fresh = self.count[device] == 0
        self._exponent[device[fresh]] = exponent[fresh]
        self.count[device] += panes.samples
        self._move(device, panes, exponent, 1)

    def take_away(self, device: Ints, panes: Panes) -> None:
        """Take panes away that were added before."""
        exponent = np.frexp(panes.unit)[1].astype(np.int64)
        self.count[device] -= panes.samples
        self._move(device, panes, exponent, -1)
        if self._wide:
            for number in device[self.count[device] == 0].tolist():
                self._wide.pop(number, None)

    def _move(self, device: Ints, panes: Panes, exponent: Ints, sign: int) -> None:
        high, low, exact = moved(panes.high, panes.low, exponent - self._exponent[device])
        limit = panes.samples << HIGH_BITS_MAX
        exact &= np.abs(high) < limit
        exact &= self.count[device] < SAMPLES_MAX
        for row in panes.wide:
            exact[row] = False
        if self._wide:
            known = np.fromiter(self._wide, np.int64, len(self._wide))
            exact &= ~np.isin(device, known)
        self._high[device[exact]] += sign * high[exact]
        self._low[device[exact]] += sign * low[exact]
        for row in np.flatnonzero(~exact).tolist():
            number = int(device[row])
            if number not in self._wide:  # it goes over, with all that is in its window
                self._wide[number] = _wide(
                    int(self._high[number]), int(self._low[number]), int(self._exponent[number])
                )
                self._high[number] = self._low[number] = 0
            own = panes.wide.get(row)
            if own is None:
                own = _wide(int(panes.high[row]), int(panes.low[row]), int(exponent[row]))
            self._wide[number] += sign * own

    def values(self, device: Ints, mean: bool) -> Floats:
        """The mean or the sum of each window, float64 (rows,), rounded once; inf beyond float64."""
        count = self.count[device]
        unit = np.ldexp(1.0, self._exponent[device] - 1)
        value, proven = rounded(
            self._high[device], self._low[device], count if mean else None, unit
        )
        if self._wide:
            proven = proven & ~np.isin(device, np.fromiter(self._wide, np.int64))
        for row in np.flatnonzero(~proven).tolist():
            number = int(device[row])
            exact = self._wide.get(number)
            if exact is None:
                exact = _wide(
                    int(self._high[number]), int(self._low[number]), int(self._exponent[number])
                )
            value[row] = _ratio(exact, int(count[row]) if mean else 1)
        found: Floats = value + 0.0  # no negative zero
        return found


def moved(high: Ints, low: Ints, shift: Ints) -> tuple[Ints, Ints, Bools]:
    """Limbs in another unit, and which of them are exact there.

    Args:
        high, low: int64 (rows,). shift: int64 (rows,), exponent of the old unit less the new one's.
    """
    high = high + (low >> LOW_BITS)
    low = low & LOW_MASK
    if not shift.any():
        return high, low, np.ones(len(high), np.bool_)
    exact: Bools = np.abs(shift) <= SHIFT_MAX
    up = np.clip(shift, 0, SHIFT_MAX)
    down = np.clip(-shift, 0, SHIFT_MAX)
    exact &= np.abs(high) < np.int64(1) << (62 - up)
    exact &= (low & ((np.int64(1) << down) - 1)) == 0
    raised = low << up
    low = raised & LOW_MASK
    high = (high << up) + (raised >> LOW_BITS)
    low = (low >> down) | ((high & ((np.int64(1) << down) - 1)) << (LOW_BITS - down))
    return high >> down, low, exact


def _wide(high: int, low: int, exponent: int) -> int:
    """A sum in units of 2**WIDE_EXPONENT; `exponent` is np.frexp's of the high limb's unit."""
    shift = exponent - 1 - LOW_BITS - WIDE_EXPONENT
    whole = (high << LOW_BITS) + low
    return whole << shift if shift >= 0 else whole >> -shift


def _ratio(exact: int, count: int) -> float:
    try:
        return exact / (count << -WIDE_EXPONENT)
    except OverflowError:
        return math.inf if exact > 0 else -math.inf
