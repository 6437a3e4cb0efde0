"""Panes: what the fan-out mode reduces a chunk of a shard to, in any order and anywhere.

    time -->   |  pane  |  pane  |  pane  |       1 s of event time each
    samples     x x   x    x        x x x         of one (rule, device)
    pane        3, sum     1, sum   3, sum        count, exact sum, least, most

A chunk is an interval of one shard's positions. It is de-aggregated, decoded and filtered as in the
ordered mode; what a rule lets through is added up by pane. Nothing here remembers anything, so
chunks can be reduced by whoever is free, again and again, with the same result.

A sample is late if its own shard's time before it was already past its pane's end and the allowed
lateness; each chunk knows the shard time at its start. It goes to the error stream with its bytes.
There is no removal of duplicates. Sums are exact: limbs as in exact.py, in a unit of the row's own,
or, where a value does not fit that, Python integers (`wide`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from .batch import (
    NO_TIME,
    Batch,
    Column,
    Floats,
    Forwarded,
    Ints,
    Kind,
    Position,
    Record,
    Rejected,
    UserRecords,
    Verdict,
)
from .counts import Counts, RuleCounts
from .decode import Decoder
from .devices import Devices
from .exact import integers, scale_for, split
from .judge import COSTLY_MESSAGE, STAGES, Rule
from .kernels import run_starts
from .kpl import deaggregate
from .records import last_position, slices, without_repeats

PANE = 1000  # ms
WIDE_EXPONENT = -1074  # of the integers that stand for sums which fit no unit


class Panes(NamedTuple):
    """One rule's panes of one chunk, all (rows,), each (device, pane) once.

    device: int64, index into the chunk's names. pane: int64 ms, where it begins. samples: int64.
    high, low: int64, the limbs of the sum, in `unit`, float64, of the high one. least, most:
    float64. wide: by row, sums that fit no unit, in units of 2**WIDE_EXPONENT; their limbs are 0.
    """

    device: Ints
    pane: Ints
    samples: Ints
    high: Ints
    low: Ints
    unit: Floats
    least: Floats
    most: Floats
    wide: dict[int, int]


@dataclass
class Partial:
    """What one chunk came to.

    position: the last one in it, None where it held nothing new. shard_time: int ms, at its end.
    panes: of each rule, in the order of the rules. names: of the devices in it.
    """

    shard_id: str
    position: Position | None
    shard_time: int
    names: list[str]
    panes: list[Panes]
    counts: Counts
    rejected: list[Rejected] = field(default_factory=list)
    forwarded: list[Forwarded] = field(default_factory=list)


class Reducer:
    """Reduces chunks under the rules of a pipeline; remembers nothing between two of them."""

    def __init__(self, rules: Sequence[Rule], decoder: Decoder, allowed_lateness: int) -> None:
        """Take what the ordered mode takes, too; `allowed_lateness` is int ms."""
        self.rules = tuple(rules)
        self._decoder, self._lateness = decoder, allowed_lateness

    def reduce(
        self, records: Sequence[Record], shard_time: int = NO_TIME, after: Position | None = None
    ) -> Partial:
        """Reduce a chunk.

        Args:
            records: of one shard, in order, at least one.
            shard_time: int ms, the newest arrival time in the shard before them.
            after: positions up to here are left out, as they were reduced before.
        """
        devices = Devices()
        partial = Partial(
            records[0].shard_id, after, shard_time, devices.names, [],
            Counts(rule.name for rule in self.rules),
        )  # fmt: skip
        parts: list[list[_Rows]] = [[] for _ in self.rules]
        for some in slices(records):
            self._slice(some, devices, partial, parts)
        partial.counts.check()
        partial.panes = [_added_up(of) for of in parts]
        return partial

    def _slice(
        self, records: list[Record], devices: Devices, partial: Partial, parts: list[list[_Rows]]
    ) -> None:
        users, lost = deaggregate(records)
        users, lost, repeated = without_repeats(users, lost, partial.position)
        partial.position = last_position(users, lost, partial.position)
        batch, unread = self._decoder.decode(users, devices)
        counts = partial.counts
        before, partial.shard_time = _times_before(records, users, partial.shard_time)
        rows = _Slice(batch, before[batch.row], self._lateness, partial)
        for index, rule in enumerate(self.rules):
            parts[index].append(rows.apply(index, rule, counts.rules[rule.name]))
        counts.records += len(users) + len(lost)
        counts.repeated += repeated
        counts.rejected += len(lost) + len(unread)
        rows.count(counts)
        rejected = [*lost, *unread, *rows.rejected_in_order()]
        if lost or unread:
            rejected.sort(key=lambda row: row.at.order)
        partial.rejected += rejected
        partial.forwarded += rows.forwarded_in_order()


class _Rows(NamedTuple):
    """Samples of one rule, all (rows,)."""

    device: Ints
    time: Ints
    value: Floats


class _Slice:
    """One slice under every rule, each row's verdicts kept side by side."""

    def __init__(self, batch: Batch, before: Ints, lateness: int, partial: Partial) -> None:
        self._batch = batch
        self._late = batch.time - batch.time % PANE + PANE + lateness < before
        self._sampled = np.zeros(len(batch), np.bool_)
        self._refused = np.zeros(len(batch), np.bool_)
        self._late_rows = np.zeros(len(batch), np.bool_)
        self._rejected: list[tuple[int, int, Rejected]] = []
        self._forwarded: list[tuple[int, int, Forwarded]] = []

    def apply(self, index: int, rule: Rule, counts: RuleCounts) -> _Rows:
        """Apply one rule; its samples."""
        batch, before = self._batch, rule.interpreted()
        codes = rule.filter(batch)
        passed = codes == Verdict.PASS
        counts.decoded += len(batch)
        if not passed.all():
            counts.count_filtered(codes)
            for row in np.flatnonzero(codes == Verdict.COSTLY).tolist():
                self._refuse(index, row, rule, "costly", COSTLY_MESSAGE, counts)
        if rule.forward is not None:
            sent, failed = rule.forward(batch, np.flatnonzero(passed))
            for row, reason, message in failed:
                passed[row] = False
                self._refuse(index, row, rule, reason, message, counts)
            rows = np.flatnonzero(passed).tolist()
            self._forwarded += ((n, index, one) for n, one in zip(rows, sent, strict=True))
        column = rule.measure(batch)
        counts.interpreted += rule.interpreted() - before
        numeric = column.kind == Kind.NUMBER
        self._refuse_measures(index, rule, np.flatnonzero(passed & ~numeric), column, counts)
        passed &= numeric
        late = np.flatnonzero(passed & self._late)
        for row in late.tolist():
            time = int(batch.time[row])
            message = f"the pane of event time {time} was closed: its shard was further on"
            self._refuse(index, row, rule, "late", message, counts)
        self._late_rows[late] = True
        counts.late += len(late)
        some = np.flatnonzero(passed & ~self._late)
        counts.samples += len(some)
        self._sampled[some] = True
        return _Rows(batch.device[some], batch.time[some], column.number[some])

    def count(self, counts: Counts) -> None:
        """Give each decoded row its one verdict: rejected > evaluated > filtered."""
        counts.rejected += int(self._refused.sum())
        counts.late += int(self._late_rows.sum())
        counts.evaluated += int((self._sampled & ~self._refused).sum())
        counts.filtered += int((~(self._sampled | self._refused)).sum())

    def rejected_in_order(self) -> list[Rejected]:
        """The rejected rows by arrival and then by rule."""
        return [row for _, _, row in sorted(self._rejected, key=lambda item: item[:2])]

    def forwarded_in_order(self) -> list[Forwarded]:
        """What goes to other streams, by arrival and then by rule."""
        return [one for _, _, one in sorted(self._forwarded, key=lambda item: item[:2])]

    def _refuse_measures(
        self, index: int, rule: Rule, rows: Ints, column: Column, counts: RuleCounts
    ) -> None:
        for row, kind in zip(rows.tolist(), column.kind[rows].tolist(), strict=True):
            absent = kind == Kind.UNDEFINED
            found = "nothing" if absent else Kind(kind).name.lower()
            message = f"measure {rule.measure_path}: expected a number, found {found}"
            reason = "measure_missing" if absent else "measure_type"
            self._refuse(index, row, rule, reason, message, counts)

    def _refuse(
        self, index: int, row: int, rule: Rule, reason: str, message: str, counts: RuleCounts
    ) -> None:
        self._refused[row] = True
        counts.rejected += 1
        stage = STAGES.get(reason, "window")
        rejected = self._batch.reject(row, stage, reason, message, rule.name)
        self._rejected.append((row, index, rejected))


def _times_before(
    records: Sequence[Record], users: UserRecords, shard_time: int
) -> tuple[Ints, int]:
    """The shard time before each user record, int64 ms (rows,), and that at the end.

    An aggregate's arrival time counts from its second user record on: so a user record finds the
    same time however it was packed.
    """
    own = np.array([NO_TIME if r.arrival is None else r.arrival for r in records], np.int64)
    after = np.maximum.accumulate(np.maximum(own, shard_time))
    before = np.concatenate((np.array([shard_time], np.int64), after[:-1]))
    first: dict[str, int] = {}
    for number, record in enumerate(records):
        first.setdefault(record.sequence_number, number)
    place = np.array([first[name] for name in users.sequences], np.int64)[users.record]
    found = np.where(users.sub > 0, np.maximum(before[place], own[place]), before[place])
    return found, int(after[-1])


def _added_up(parts: Sequence[_Rows]) -> Panes:
    """Samples as panes, each (device, pane) once."""
    device, time, value = (np.concatenate(column) for column in zip(*parts, strict=True))
    if not len(device):
        none = np.zeros(0, np.int64)
        real = np.zeros(0, np.float64)
        return Panes(none, none, none, none, none, real, real, real, {})
    pane = time - time % PANE
    order = np.lexsort((pane, device))
    device, pane, value = device[order], pane[order], value[order]
    begins = np.zeros(len(device), np.bool_)
    begins[0] = True
    begins[1:] = (device[1:] != device[:-1]) | (pane[1:] != pane[:-1])
    starts = np.flatnonzero(begins)
    of_device = run_starts(device)
    size = np.maximum.reduceat(np.abs(value), of_device)
    unit = scale_for(np.where(size == 0.0, 1.0, size))
    units = np.repeat(unit, np.diff(of_device, append=len(device)))
    high, low, fits = split(value, units)
    wide: dict[int, int] = {}
    highs, lows = np.add.reduceat(high, starts), np.add.reduceat(low, starts)
    if not fits.all():
        ends = np.append(starts[1:], len(device))
        for row in np.flatnonzero(~np.logical_and.reduceat(fits, starts)).tolist():
            wide[row] = wide_sum(value[starts[row] : ends[row]])
            highs[row] = lows[row] = 0
    return Panes(
        device[starts], pane[starts], np.diff(starts, append=len(device)), highs, lows,
        units[starts], np.minimum.reduceat(value, starts), np.maximum.reduceat(value, starts), wide,
    )  # fmt: skip


def wide_sum(values: Floats) -> int:
    """The exact sum of float64 (samples,), in units of 2**WIDE_EXPONENT."""
    whole, exponent = integers(values)
    return sum(whole) << (exponent - WIDE_EXPONENT)
