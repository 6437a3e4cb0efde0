"""Sliding statistics of each device, exact, whatever the batch size, order or history.

    time ->          t - length                      t
    retained   ..x..x..[x....x..x......x...x......x..x]
                 |      \\__ the window of the sample at t, both ends included __/
                 newest - length - lateness: older samples are forgotten, older arrivals are late

A sample's window holds the retained samples with event time in [t - length, t] that arrived up to
and including it (the arrival rule): a peer with the same time that comes later is not in it, so the
answer never depends on where a batch ends.

Each device's samples lie in a ring, sorted by (event time, arrival), with prefix sums of integer
limbs (exact.py). A batch is sorted by device; rows in order are appended; a device with a row out
of order gets the tail of its ring from that time on written anew. A window is then the difference
of two prefixes, less the few rows of the same batch that lie inside it but arrived later.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from . import exact
from .batch import NO_TIME, Bytes, Floats, Ints
from .kernels import Samples, repeats, run_starts, running_newest, spread
from .sums import SumRings

ROWS_MAX = 8192  # rows a pass: bounds scratch memory and the int64 keys below
PAIRS_PER_ROW_MAX = 64  # more inversions a row than this, and the pass is halved
PASS_ROWS_MIN = 256  # but not below this
SUM_MAGNITUDE_MAX = 2.0**980  # sums of smaller values cannot leave float64
TIME_BITS = 48  # every event time in ms is below 2**48

SAMPLE, LATE, DUPLICATE, OVERFLOW = range(4)
STATISTICS = ("mean", "min", "max", "sum", "count", "stddev", "last")


class Slid(NamedTuple):
    """What one push says of each row, in the order given.

    verdict: uint8, SAMPLE, LATE, DUPLICATE or OVERFLOW. value: float64, the statistic (0.0 where no
    sample). samples: int64, samples in the window. first: int64, serial of its earliest sample.
    """

    verdict: Bytes
    value: Floats
    samples: Ints
    first: Ints

    def at(self, rows: slice) -> Slid:
        """Views of these rows, to be filled."""
        return Slid._make(column[rows] for column in self)


class _Rows(NamedTuple):
    """Rows of a pass grouped by device, with their neighbours in the ring where it is rewritten."""

    device: Ints
    owner: Ints  # number of the device's group
    time: Ints
    value: Floats
    serial: Ints
    before: Ints  # newest time of the device before the row
    upto: Ints  # and up to it
    origin: Ints  # index in the pass; -1 for a sample that lay in the ring before

    def take(self, rows: Ints) -> _Rows:
        return _Rows._make(column[rows] for column in self)

    @property
    def key(self) -> Ints:
        return (self.owner << TIME_BITS) | self.time


class Window:
    """The windows of one rule over all devices of one shard.

    `push` may be called with any cut of the rows; the answer is the same. Serials must grow from
    row to row. `length` and `lateness` are int ms; `statistic` is one of STATISTICS.
    """

    def __init__(
        self, length: int, lateness: int, statistic: str, drop_duplicates: bool = True
    ) -> None:
        """Start with no sample."""
        assert statistic in STATISTICS, statistic
        self.length = length
        self.keep = length + lateness
        self.statistic = statistic
        self.drop_duplicates = drop_duplicates
        self.rings = SumRings()
        self.newest = np.zeros(0, np.int64)
        self._count = np.zeros(0, np.int64)  # samples in the last window: a guess for the next
        self._huge: set[int] = set()  # devices whose sum might leave float64

    def reserve(self, devices: int) -> None:
        """Make room for device numbers below `devices`."""
        if devices <= len(self.newest):
            return
        more = max(devices, 2 * len(self.newest), 64) - len(self.newest)
        self.rings.grow(len(self.newest) + more)
        self.newest = np.concatenate((self.newest, np.full(more, NO_TIME)))
        self._count = np.concatenate((self._count, np.zeros(more, np.int64)))

    def push(self, given: Samples) -> Slid:
        """Take rows in arrival order (values finite, no negative zero); give each one's window."""
        rows = len(given.device)
        out = Slid(
            np.zeros(rows, np.uint8),
            np.zeros(rows),
            np.zeros(rows, np.int64),
            np.zeros(rows, np.int64),
        )
        if rows:
            self.reserve(int(given.device.max()) + 1)
        for start in range(0, rows, ROWS_MAX):
            part = slice(start, start + ROWS_MAX)
            some, slid = given.take(part), out.at(part)
            if not (self.statistic == "sum" and self._take_huge(some, slid)):
                self._slide(some, slid)
        return out

    def forget(self, device: Ints) -> None:
        """Drop the windows and newest times of these devices (unique numbers)."""
        device = device[device < len(self.newest)]
        self.rings.release(device)
        self.newest[device] = NO_TIME
        self._count[device] = 0
        self._huge.difference_update(device.tolist())

    def retained(self, device: Ints) -> Samples:
        """The retained samples of these devices (unique), by device and then time and arrival."""
        device = device[device < len(self.newest)]
        self._evict(device)
        head = self.rings.head[device]
        owner, place = spread(head, self.rings.end[device] - head)
        slot = self.rings.slots(device[owner], place)
        rings = self.rings
        return Samples(device[owner], rings.time[slot], rings.value[slot], rings.serial[slot])

    def restore(self, samples: Samples, device: Ints, newest: Ints) -> None:
        """Put saved samples into the rings of devices that hold none, and set newest times."""
        if len(device):
            self.reserve(int(device.max()) + 1)
        order = np.lexsort((samples.serial, samples.time, samples.device))
        samples = samples.take(order)
        if len(order):
            starts = run_starts(samples.device)
            sizes = np.diff(starts, append=len(order))
            owner = np.repeat(np.arange(len(starts)), sizes)
            groups = samples.device[starts]
            self.rings.room(groups, sizes)
            self.rings.write(*samples, owner, starts, self.rings.end[groups])
            if self.statistic == "sum":
                huge = np.abs(samples.value) >= SUM_MAGNITUDE_MAX
                self._huge.update(samples.device[huge].tolist())
        self.newest[device] = newest

    def _slide(self, given: Samples, out: Slid) -> None:
        numbers = given.device
        narrow = numbers.astype(np.uint16) if len(self.newest) <= 1 << 16 else numbers
        order = np.argsort(narrow, kind="stable")  # a radix sort on uint16
        device, time, value, serial = given.take(order)
        starts = run_starts(device)
        owner = np.repeat(np.arange(len(starts)), np.diff(starts, append=len(device)))
        before, upto = running_newest(time, owner, starts, self.newest[device[starts]])
        rows = _Rows(device, owner, time, value, serial, before, upto, order)
        if (time > before).all():
            self._settle(rows, starts, self._room(device, starts), None, out)
            return
        late = time < before - self.keep
        if late.any():
            out.verdict[order[late]] = LATE
            rows = rows.take(np.flatnonzero(~late))
            if not len(rows.device):
                return
            starts = run_starts(rows.device)
            sizes = np.diff(starts, append=len(rows.device))
            rows = rows._replace(owner=np.repeat(np.arange(len(starts)), sizes))
        rows, first, duplicate = self._merge(rows, self._room(rows.device, starts), starts)
        later = self._arrived_later(rows, len(numbers))
        if later is None:
            middle = len(numbers) // 2
            for part in (slice(0, middle), slice(middle, None)):
                self._slide(given.take(part), out.at(part))
            return
        out.verdict[duplicate] = DUPLICATE
        self._settle(rows, run_starts(rows.device), first, later, out)

    def _room(self, device: Ints, starts: Ints) -> Ints:
        """Make room for the rows of each group; where each group's ring ends now."""
        groups = device[starts]
        more = np.diff(starts, append=len(device))
        rings = self.rings
        full = rings.end[groups] - rings.head[groups] + more > rings.mask[groups] + 1
        if full.any():
            tight, wanted = groups[full], more[full]
            self._evict(tight)
            rings.room(tight, rings.end[tight] - rings.head[tight] + wanted)
        return rings.end[groups]

    def _evict(self, device: Ints) -> None:
        head, end = self.rings.head[device], self.rings.end[device]
        oldest = self.newest[device] - self.keep
        self.rings.head[device] = self.rings.lower_bound(device, head, end, oldest)

    def _merge(self, rows: _Rows, first: Ints, starts: Ints) -> tuple[_Rows, Ints, Ints]:
        """The rows with the samples that come to lie after them, and the passes' duplicates.

        Returns the rows by (device, time, arrival), the place of each group's first one, and the
        origins of the duplicates, which are not among the rows.
        """
        mixed = np.flatnonzero(np.logical_or.reduceat(rows.time <= rows.before, starts))
        device = rows.device[starts[mixed]]
        rings, end = self.rings, first[mixed]
        earliest = np.minimum.reduceat(rows.time, starts)[mixed]
        tail = rings.lower_bound(device, rings.head[device], end, earliest)
        first[mixed] = tail
        owner, place = spread(tail, end - tail)
        slot = rings.slots(device[owner], place)
        none = np.full(len(slot), NO_TIME)
        held = _Rows(
            device[owner],
            mixed[owner],
            rings.time[slot],
            rings.value[slot],
            rings.serial[slot],
            none,
            none,
            np.full(len(slot), -1),
        )
        rows = _Rows._make(np.concatenate(pair) for pair in zip(held, rows, strict=True))
        key = rows.key
        order = np.argsort(key, kind="stable")
        rows = rows.take(order)
        duplicate = np.zeros(0, np.int64)
        if self.drop_duplicates:
            key = key[order]
            tied = np.zeros(len(key), np.bool_)
            tied[1:] = key[1:] == key[:-1]
            if tied.any():
                tied[:-1] |= tied[1:]
                again = repeats(np.flatnonzero(tied), key, rows.value)
                duplicate = rows.origin[again]
                rows = rows.take(np.delete(np.arange(len(key)), again))
        return rows, first, duplicate

    def _arrived_later(self, rows: _Rows, given: int) -> tuple[Ints, Ints] | None:
        """Pairs (row, other): the other one lies before the row in time, but arrived later.

        None where there are so many that the pass is better halved.
        """
        other = np.flatnonzero((rows.time < rows.before) & (rows.origin >= 0))
        key = rows.key
        reach = (rows.owner[other] << TIME_BITS) | rows.before[other]
        count = np.searchsorted(key, reach, "right") - other - 1
        if given > PASS_ROWS_MIN and count.sum() > PAIRS_PER_ROW_MAX * given:
            return None
        pair, row = spread(other + 1, count)
        other = other[pair]
        real = (rows.origin[row] >= 0) & (rows.serial[row] < rows.serial[other])
        return row[real], other[real]

    def _settle(
        self, rows: _Rows, starts: Ints, first: Ints, later: tuple[Ints, Ints] | None, out: Slid
    ) -> None:
        """Write the rows into the rings and read out the window of each new one."""
        groups = rows.device[starts]
        columns = (rows.device, rows.time, rows.value, rows.serial)
        place, limbs, through = self.rings.write(*columns, rows.owner, starts, first)
        self.newest[groups] = np.maximum(
            self.newest[groups], np.maximum.reduceat(rows.upto, starts)
        )
        lowest = np.maximum(rows.time - self.length, rows.upto - self.keep)
        guess = place - self._count[rows.device] + 1
        if later is not None:
            np.copyto(lowest, rows.time, where=rows.origin < 0)
        begin = self.rings.lower_bound_near(rows.device, guess, place, lowest)
        slot = self.rings.slots(rows.device, begin)
        samples = place - begin + 1
        high = through[0] - self.rings.high[slot]
        low = through[1] - self.rings.low[slot]
        earliest = self.rings.serial[slot]
        last = np.append(starts[1:], len(place)) - 1
        self._count[groups] = samples[last]
        if later is not None:
            row, other = later
            inside = place[other] >= begin[row]
            row, other = row[inside], other[inside]
            np.subtract.at(samples, row, 1)
            np.subtract.at(high, row, limbs[0][other])
            np.subtract.at(low, row, limbs[1][other])
            self._skip_later(rows, begin, earliest)
        value = self._statistic(rows, begin, place, samples, (high, low))
        new = slice(None) if later is None else np.flatnonzero(rows.origin >= 0)
        origin = rows.origin[new]
        out.value[origin] = value[new]
        out.samples[origin] = samples[new]
        out.first[origin] = earliest[new]

    def _skip_later(self, rows: _Rows, begin: Ints, earliest: Ints) -> None:
        """Where a window begins with a sample that arrived later, find its earliest real one."""
        wrong = np.flatnonzero((earliest > rows.serial) & (rows.origin >= 0))
        place = begin[wrong]
        while wrong.size:
            place += 1
            earliest[wrong] = self.rings.serial[self.rings.slots(rows.device[wrong], place)]
            still = earliest[wrong] > rows.serial[wrong]
            wrong, place = wrong[still], place[still]

    def _statistic(
        self, rows: _Rows, begin: Ints, place: Ints, samples: Ints, sums: tuple[Ints, Ints]
    ) -> Floats:
        """The statistic of each row's window (of samples that lay there before: anything)."""
        if self.statistic == "count":
            return samples.astype(np.float64)
        if self.statistic == "last":
            return rows.value
        device = rows.device
        if self.statistic in ("mean", "sum"):
            count = samples if self.statistic == "mean" else None
            value, proven = exact.rounded(*sums, count, self.rings.unit[device])
            slow = ~proven | self.rings.odd[device] | (samples >= exact.SAMPLES_MAX)
            slow &= rows.origin >= 0
            if not slow.any():
                return value
            todo = np.flatnonzero(slow)
        else:
            value = np.zeros(len(device))
            todo = np.flatnonzero(rows.origin >= 0)
        extreme = {"min": np.minimum, "max": np.maximum}.get(self.statistic)
        for some, flat, owner, starts in self.rings.read_out(
            device, begin, place, rows.serial, todo
        ):
            if extreme is not None:
                value[some] = extreme.reduceat(flat, starts)
                continue
            slow = np.ones(len(some), np.bool_)
            if self.statistic == "stddev":
                unit = self.rings.unit[device[some]]
                unit[unit == 0.0] = 1.0
                high, low, _ = exact.split(flat, unit[owner])
                value[some], told = exact.deviations(high, low, unit, owner, starts)
                slow = ~told | self.rings.odd[device[some]]
            one = _ONE_BY_ONE[self.statistic]
            ends = np.append(starts[1:], len(flat))
            for number in np.flatnonzero(slow).tolist():
                value[some[number]] = one(flat[starts[number] : ends[number]])
        return value

    def _take_huge(self, given: Samples, out: Slid) -> bool:
        """Push devices whose sum might leave float64 row by row; False where there are none.

        A sample whose sum leaves float64 is none: it must not be in any later window.
        """
        large = np.abs(given.value) >= SUM_MAGNITUDE_MAX
        if not self._huge and not large.any():
            return False
        self._huge.update(given.device[large].tolist())
        apart = np.isin(given.device, np.fromiter(self._huge, np.int64, len(self._huge)))
        if not apart.any():
            return False
        others = np.flatnonzero(~apart)
        if others.size:
            part = self.push(given.take(others))
            out.verdict[others] = part.verdict
            out.value[others] = part.value
            out.samples[others] = part.samples
            out.first[others] = part.first
        for row in np.flatnonzero(apart).tolist():
            one = slice(row, row + 1)
            sample = given.take(one)
            if self._overflows(sample):
                out.verdict[one] = OVERFLOW
            else:
                self._slide(sample, out.at(one))
        return True

    def _overflows(self, sample: Samples) -> bool:
        device, time = sample.device, sample.time
        newest = np.maximum(self.newest[device], time)
        if time[0] < newest[0] - self.keep:
            return False
        lowest = np.maximum(time - self.length, newest - self.keep)
        head, end = self.rings.head[device], self.rings.end[device]
        begin = self.rings.lower_bound(device, head, end, lowest)
        after = self.rings.lower_bound(device, head, end, time + 1)
        _, place = spread(begin, after - begin)
        slot = self.rings.slots(np.repeat(device, len(place)), place)
        values = self.rings.value[slot]
        same = (values == sample.value[0]) & (self.rings.time[slot] == time[0])
        if self.drop_duplicates and same.any():
            return False
        return bool(np.isinf(exact.total(np.append(values, sample.value))))


_ONE_BY_ONE = {"mean": exact.mean, "sum": exact.total, "stddev": exact.deviation}
