"""The array loops under the window: rings of samples in one slab, searched and copied by columns.

Each device owns one ring: a block of the slab whose length is a power of two, so that a busy device
never makes the rings of the others grow. A sample is named by its place in the device's history, an
int64 that only grows; it lies in slot ``offset + (place & mask)``. All functions work on many
devices at once; none loops over rows in Python.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from .batch import Floats, Ints

RING_SLOTS_MIN = 8
_SLAB_GROWTH = 1.25
_SEARCH_STEPS_NEAR = 3  # tries around a guess before a binary search


def run_starts(key: Ints) -> Ints:
    """Where each run of equal values begins: int64 (runs,); `key` is int (rows,), rows > 0."""
    starts = np.flatnonzero(key[1:] != key[:-1]) + 1
    return np.concatenate((np.zeros(1, np.int64), starts))


def spread(starts: Ints, counts: Ints) -> tuple[Ints, Ints]:
    """Flatten ranges: for each range its number repeated, and its members one after the other.

    Args:
        starts, counts: int64 (ranges,); count 0 is allowed.

    Returns:
        owner, member: int64 (sum of counts,).
    """
    owner = np.repeat(np.arange(len(starts)), counts)
    before = np.cumsum(counts) - counts
    member = np.arange(len(owner)) + (starts - before)[owner]
    return owner, member


class Samples(NamedTuple):
    """Samples as columns, all (rows,): time int64 ms; serial int64 grows with arrival."""

    device: Ints
    time: Ints
    value: Floats
    serial: Ints

    def take(self, rows: Ints | slice) -> Samples:
        """The samples of these rows."""
        return Samples._make(column[rows] for column in self)


class Rings:
    """Samples of every device, oldest first by (event time, arrival).

    For device d the places head[d] <= place < end[d] hold samples. The columns of a slot: `time`
    int64 ms; `value` float64; `high`, `low` int64, the sum of the limbs of all samples before this
    one (exclusive prefix, wrapping); `serial` int64, which grows with arrival.
    """

    COLUMNS = ("time", "value", "high", "low", "serial")

    def __init__(self) -> None:
        """Start with no device and a small slab."""
        self.offset = np.zeros(0, np.int64)
        self.mask = np.zeros(0, np.int64)
        self.head = np.zeros(0, np.int64)
        self.end = np.zeros(0, np.int64)
        self.time = np.zeros(1024, np.int64)
        self.value = np.zeros(1024, np.float64)
        self.high = np.zeros(1024, np.int64)
        self.low = np.zeros(1024, np.int64)
        self.serial = np.zeros(1024, np.int64)
        self._used = 0
        self._free: dict[int, list[int]] = {}

    def grow(self, devices: int) -> None:
        """Make room for device numbers below `devices`; new ones own an empty ring."""
        more = devices - len(self.offset)
        self.offset = np.concatenate((self.offset, np.zeros(more, np.int64)))
        self.mask = np.concatenate((self.mask, np.full(more, -1, np.int64)))
        self.head = np.concatenate((self.head, np.zeros(more, np.int64)))
        self.end = np.concatenate((self.end, np.zeros(more, np.int64)))

    @property
    def bytes(self) -> int:
        """Bytes held by the slab and the per-device columns."""
        arrays = [getattr(self, name) for name in self.COLUMNS]
        return sum(a.nbytes for a in [*arrays, self.offset, self.mask, self.head, self.end])

    def slots(self, device: Ints, place: Ints) -> Ints:
        """The slab slot of each (device, place)."""
        slot: Ints = place & self.mask[device]
        slot += self.offset[device]
        return slot

    def room(self, device: Ints, count: Ints) -> None:
        """Give each device (unique) a ring for `count` samples; samples keep their place."""
        small = np.flatnonzero(self.mask[device] + 1 < count)
        if not small.size:
            return
        device, count = device[small], count[small]
        size = np.maximum(RING_SLOTS_MIN, 1 << np.ceil(np.log2(count)).astype(np.int64))
        owner, place = spread(self.head[device], self.end[device] - self.head[device])
        old = self.slots(device[owner], place)
        for ring in np.unique(self.mask[device]).tolist():
            if ring >= 0:
                freed = self.offset[device[self.mask[device] == ring]]
                self._free.setdefault(ring + 1, []).extend(freed.tolist())
        held = [getattr(self, name)[old] for name in self.COLUMNS]
        self.mask[device] = -1
        for ring in np.unique(size).tolist():
            which = device[size == ring]
            self.offset[which] = self._blocks(ring, len(which))
            self.mask[which] = ring - 1
        new = self.slots(device[owner], place)
        for name, column in zip(self.COLUMNS, held, strict=True):
            getattr(self, name)[new] = column

    def _blocks(self, size: int, count: int) -> Ints:
        """Offsets of `count` unused blocks of `size` slots."""
        if self._used + count * size > len(self.time) and len(self._free.get(size, ())) < count:
            self._rebuild(count * size)
        free = self._free.get(size, [])
        taken = free[len(free) - min(len(free), count) :]
        del free[len(free) - len(taken) :]
        fresh = count - len(taken)
        new = self._used + size * np.arange(fresh, dtype=np.int64)
        self._used += fresh * size
        return np.concatenate((np.asarray(taken, np.int64), new))

    def _rebuild(self, more: int) -> None:
        """Move all rings to a new slab without holes, with `more` slots and some to spare."""
        device = np.flatnonzero(self.mask >= 0)
        size = self.mask[device] + 1
        owner, place = spread(self.head[device], self.end[device] - self.head[device])
        old = self.slots(device[owner], place)
        self.offset[device] = np.cumsum(size) - size
        self._used = int(size.sum())
        self._free.clear()
        new = self.slots(device[owner], place)
        slots = int((self._used + more) * _SLAB_GROWTH) + RING_SLOTS_MIN
        for name in self.COLUMNS:
            column = getattr(self, name)
            larger = np.zeros(slots, column.dtype)
            larger[new] = column[old]
            setattr(self, name, larger)

    def release(self, device: Ints) -> None:
        """Empty the rings of these devices and give their blocks back."""
        self.head[device] = self.end[device] = 0
        for number in device[self.mask[device] >= 0].tolist():
            self._free.setdefault(int(self.mask[number]) + 1, []).append(int(self.offset[number]))
        self.mask[device] = -1

    def lower_bound(self, device: Ints, low: Ints, high: Ints, target: Ints) -> Ints:
        """The first place in [low, high) whose time is at least `target`, else `high`."""
        offset, mask = self.offset[device], self.mask[device]
        low, high = low.copy(), high.copy()
        for _ in range(int((high - low).max(initial=0)).bit_length()):
            middle = (low + high) >> 1
            open_ = low < high
            below = self.time[offset + (middle & mask)] < target
            np.copyto(low, middle + 1, where=open_ & below)
            np.copyto(high, middle, where=open_ & ~below)
        return low

    def lower_bound_near(self, device: Ints, guess: Ints, high: Ints, target: Ints) -> Ints:
        """As `lower_bound` over [head, high], quick where `guess` is right or nearly so.

        `high` is a place that holds a sample whose time is at least `target`.
        """
        head = self.head[device]
        guess = np.clip(guess, head, high)
        offset, mask = self.offset[device], self.mask[device]
        wrong = self._step(guess, head, offset, mask, target)
        todo = np.flatnonzero(wrong)
        for _ in range(_SEARCH_STEPS_NEAR):
            if not todo.size:
                return guess
            moved = np.minimum(guess[todo] + wrong[todo], high[todo])
            guess[todo] = moved
            wrong[todo] = self._step(moved, head[todo], offset[todo], mask[todo], target[todo])
            todo = todo[wrong[todo] != 0]
        if todo.size:
            guess[todo] = self.lower_bound(device[todo], head[todo], high[todo], target[todo])
        return guess

    def _step(self, guess: Ints, head: Ints, offset: Ints, mask: Ints, target: Ints) -> Ints:
        """+1 where the bound lies above the guess, -1 where below, 0 where the guess is it."""
        below = self.time[offset + (guess & mask)] < target
        before = self.time[offset + ((guess - 1) & mask)] >= target
        before &= guess > head
        return below.astype(np.int64) - before


def running_newest(time: Ints, owner: Ints, starts: Ints, carried: Ints) -> tuple[Ints, Ints]:
    """The newest time of each row's device before it, and up to it.

    Args:
        time: int64 ms (rows,), grouped by device, in arrival order. owner: int64 (rows,), number of
            the row's group. starts: int64 (groups,). carried: int64 ms (groups,), NO_TIME for none.

    Groups are laid one above the other in one int64, so groups * (span of times) must stay below
    2**62: at most 8,192 rows a call with times below 2**48.
    """
    seeded = time.copy()
    seeded[starts] = np.maximum(time[starts], carried)
    lowest = seeded.min()
    lift = owner * (seeded.max() - lowest + 1)
    upto = np.maximum.accumulate(seeded - lowest + lift) - lift + lowest
    before = np.empty_like(upto)
    before[1:] = upto[:-1]
    before[starts] = carried
    return before, upto


def repeats(tied: Ints, key: Ints, value: Floats) -> Ints:
    """Which rows repeat the (device, time, value) of an earlier arrival.

    `tied` are the rows with a neighbour of the same key; rows of one key stand in arrival order.
    """
    order = np.lexsort((tied, value[tied], key[tied]))
    tied = tied[order]
    same = (key[tied[1:]] == key[tied[:-1]]) & (value[tied[1:]] == value[tied[:-1]])
    return np.sort(tied[1:][same])
