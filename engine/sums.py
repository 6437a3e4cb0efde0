"""Rings whose samples carry exact prefix sums, so that the sum of a window is one subtraction."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from . import exact
from .batch import Floats, Ints
from .kernels import Rings, run_starts, spread

FLAT_SAMPLES_MAX = 1 << 20  # samples gathered at once where windows are read out one by one


class SumRings(Rings):
    """Rings with a unit, a total and a flag for each device.

    unit: float64 (devices,), of the high limb, 0.0 while all values were 0. odd: bool (devices,),
    the ring holds values that no one unit can tell, so its sums mean nothing and its windows have
    to be read out. Units never change an answer, only how many bits it takes.
    """

    def __init__(self) -> None:
        """Start with no device."""
        super().__init__()
        self.unit = np.zeros(0)
        self.odd = np.zeros(0, np.bool_)
        self._high = np.zeros(0, np.int64)
        self._low = np.zeros(0, np.int64)

    def grow(self, devices: int) -> None:
        """Make room for device numbers below `devices`; new ones own an empty ring."""
        super().grow(devices)
        for name in ("unit", "odd", "_high", "_low"):
            column = getattr(self, name)
            larger = np.zeros(devices, column.dtype)
            larger[: len(column)] = column
            setattr(self, name, larger)

    def release(self, device: Ints) -> None:
        """Empty the rings of these devices and give their blocks back."""
        super().release(device)
        for name in ("unit", "odd", "_high", "_low"):
            getattr(self, name)[device] = 0

    def write(
        self,
        device: Ints,
        time: Ints,
        value: Floats,
        serial: Ints,
        owner: Ints,
        starts: Ints,
        first: Ints,
    ) -> tuple[Ints, tuple[Ints, Ints], tuple[Ints, Ints]]:
        """Put samples into the rings from place `first` on; what lay there is replaced.

        Args:
            device, time, value, serial: (rows,), by device, then time and arrival. owner: int64
                (rows,), number of the row's group. starts: int64 (groups,), its first row. first:
                int64 (groups,), head <= first <= end. There must be room.

        Returns:
            The place of each row, its limbs, and the sums of limbs up to and including it.
        """
        groups = device[starts]
        high, low = self._limbs(value, owner, starts, groups, first)
        slot = self.slots(groups, first)
        appended = first == self.end[groups]
        base_high = np.where(appended, self._high[groups], self.high[slot])
        base_low = np.where(appended, self._low[groups], self.low[slot])
        through = (_through(high, owner, starts, base_high), _through(low, owner, starts, base_low))
        place = (first - starts)[owner] + np.arange(len(device))
        slot = self.slots(device, place)
        self.time[slot] = time
        self.value[slot] = value
        self.high[slot] = through[0] - high
        self.low[slot] = through[1] - low
        self.serial[slot] = serial
        last = np.append(starts[1:], len(device)) - 1
        self.end[groups] = place[last] + 1
        self._high[groups] = through[0][last]
        self._low[groups] = through[1][last]
        return place, (high, low), through

    def read_out(
        self, device: Ints, begin: Ints, end: Ints, serial: Ints, todo: Ints
    ) -> Iterator[tuple[Ints, Floats, Ints, Ints]]:
        """Read windows out one by one, some at a time.

        Args:
            device, begin, end, serial: int64 (rows,): the window from place `begin` to `end`, both
                in it, less what arrived after `serial`. todo: int64, the rows to read out.

        Yields:
            Some of `todo`; the values of their windows laid out flat; the number of the window of
            each value; where each window starts.
        """
        ends = np.cumsum(end[todo] - begin[todo] + 1)
        while todo.size:
            many = max(1, int(np.searchsorted(ends, FLAT_SAMPLES_MAX, "right")))
            some, todo, ends = todo[:many], todo[many:], ends[many:] - ends[many - 1]
            owner, place = spread(begin[some], end[some] - begin[some] + 1)
            slot = self.slots(device[some][owner], place)
            real = self.serial[slot] <= serial[some][owner]
            if not real.all():
                owner, slot = owner[real], slot[real]
            yield some, self.value[slot], owner, run_starts(owner)

    def _limbs(
        self, value: Floats, owner: Ints, starts: Ints, groups: Ints, first: Ints
    ) -> tuple[Ints, Ints]:
        unit = self.unit[groups]
        if not unit.all():
            largest = np.maximum.reduceat(np.abs(value), starts)
            unset = (unit == 0.0) & (largest > 0.0)
            unit[unset] = exact.scale_for(largest[unset])
            self.unit[groups] = unit
            unit[unit == 0.0] = 1.0
        high, low, fits = exact.split(value, unit[owner])
        odd = self.odd[groups]
        if fits.all() and not odd.any():
            return high, low
        odd[owner[~fits]] = True
        for group in np.flatnonzero(odd).tolist():
            rows = slice(starts[group], starts[group + 1] if group + 1 < len(starts) else None)
            self._rescale(int(groups[group]), int(first[group]), value[rows])
        unit = self.unit[groups]
        unit[unit == 0.0] = 1.0
        high, low, _ = exact.split(value, unit[owner])
        return high, low

    def _rescale(self, device: int, first: int, value: Floats) -> None:
        """Choose the unit anew for what the ring holds before `first` and for new values."""
        number = np.asarray([device])
        _, place = spread(self.head[number], self.end[number] - self.head[number])
        slot = self.slots(np.full(len(place), device), place)
        held = self.value[slot]
        every = np.concatenate((held, value))
        largest = np.abs(every).max()
        unit = exact.scale_for(np.asarray([largest]), tight=True) if largest else np.ones(1)
        high, low, fits = exact.split(held, np.repeat(unit, len(held)))
        self.odd[device] = not exact.split(every, np.repeat(unit, len(every)))[2].all()
        self.unit[device] = unit[0] if largest else 0.0
        self.high[slot] = np.cumsum(high) - high
        self.low[slot] = np.cumsum(low) - low
        self._high[device] = high.sum()
        self._low[device] = low.sum()


def _through(limb: Ints, owner: Ints, starts: Ints, base: Ints) -> Ints:
    """Sums up to and including each row within its group, from `base` on; int64, wrapping."""
    sums = np.cumsum(limb)
    return sums + (base - sums[starts] + limb[starts])[owner]
