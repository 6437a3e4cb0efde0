"""One slice under every rule: what is sampled, and what becomes an alert or a rejected record."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from .alert import Change, alert_id
from .batch import (
    NO_TIME,
    SUB_BITS,
    Alert,
    Batch,
    Bools,
    Column,
    Filter,
    Forward,
    Forwarded,
    Ints,
    Kind,
    Measure,
    Rejected,
    Statistics,
    UserRecords,
    Verdict,
)
from .counts import Counts, RuleCounts
from .kernels import Samples
from .memory import Memory
from .threshold import Limits, Thresholds
from .window import DUPLICATE, LATE, OVERFLOW, SAMPLE, Slid


@dataclass(frozen=True)
class Rule:
    """A rule as the engine needs it: plain functions and numbers; durations int ms.

    `fingerprint` names everything that its windows depend on: saved windows of another fingerprint
    are not taken over. `measure_path` is for messages. `forward` makes what is sent on to another
    stream; None: nothing is. `interpreted` tells how many rows filter and measure have taken one by
    one since they were made.
    """

    name: str
    filter: Filter
    measure: Measure
    measure_path: str
    window: int
    statistic: str
    fire_when: str
    threshold: float
    clear_margin: float
    min_samples: int
    hold: int
    severity: str
    fingerprint: str
    forward: Forward | None = None
    interpreted: Callable[[], int] = int


COSTLY_MESSAGE = "WHERE takes more steps, or makes larger values, than one message may"
STAGES = {
    "costly": "filter",
    "measure_missing": "measure",
    "measure_type": "measure",
    "partition_key": "forward",
    "record": "forward",
}


class Judge:
    """Applies rules to one slice of a shard, each row's verdicts kept side by side."""

    def __init__(
        self,
        pipeline: str,
        memory: Memory,
        thresholds: Thresholds,
        users: UserRecords,
        batch: Batch,
    ) -> None:
        """Note the slice's records in `memory`; rules are applied by `apply`."""
        self._pipeline = pipeline
        self._memory = memory
        self._thresholds = thresholds
        self._batch = batch
        first = memory.log.add(users.shard_id, users.sequences)
        self._serial = ((first + users.record[batch.row]) << SUB_BITS) | users.sub[batch.row]
        rows = len(batch)
        self._rounds: Ints | None = None
        if rows:
            self._rounds = memory.meet(batch.device, batch.arrival, self._serial, users.shard_id)
        self._decided = np.where(
            batch.arrival == NO_TIME, batch.time, np.minimum(batch.time, batch.arrival)
        )
        self._sampled = np.zeros(rows, np.bool_)
        self._duplicate = np.zeros(rows, np.bool_)
        self._refused = np.zeros(rows, np.bool_)
        self._late = np.zeros(rows, np.bool_)
        self._rejected: list[tuple[int, int, Rejected]] = []
        self._alerts: list[tuple[int, int, Alert]] = []
        self._forwarded: list[tuple[int, int, Forwarded]] = []

    def apply(self, index: int, rule: Rule, counts: RuleCounts, offset: int) -> Statistics:
        """Apply one rule (number `index` of the pipeline); its statistics with rows from
        `offset`."""
        batch, before = self._batch, rule.interpreted()
        codes = rule.filter(batch)
        passed = codes == Verdict.PASS
        column = rule.measure(batch)
        counts.interpreted += rule.interpreted() - before
        numeric = column.kind == Kind.NUMBER
        counts.decoded += len(batch)
        if not passed.all():
            counts.count_filtered(codes)
            self._refuse_costly(index, rule, np.flatnonzero(codes == Verdict.COSTLY), counts)
        if rule.forward is not None:
            passed &= self._send_on(index, rule, rule.forward, passed, counts)
        if not numeric.all():
            self._refuse_measures(index, rule, np.flatnonzero(passed & ~numeric), column, counts)
        rows = np.flatnonzero(passed & numeric)
        parts = []
        for turn, some in self._turns(rows):
            if turn:
                gone = np.unique(batch.device[self._rounds == turn])
                self._memory.rules[rule.name].forget(gone)
            parts.append(self._slide(index, rule, some, column, counts))
        return self._statistics(rule.name, parts, offset)

    def count(self, counts: Counts) -> None:
        """Give each decoded row its one verdict: rejected > evaluated > duplicate > filtered."""
        sampled = self._sampled & ~self._refused
        duplicate = self._duplicate & ~sampled & ~self._refused
        counts.rejected += int(self._refused.sum())
        counts.late += int(self._late.sum())
        counts.evaluated += int(sampled.sum())
        counts.duplicates += int(duplicate.sum())
        counts.filtered += int((~(sampled | duplicate | self._refused)).sum())

    def alerts_in_order(self) -> list[Alert]:
        """The alerts by arrival and then by rule."""
        return [alert for _, _, alert in sorted(self._alerts, key=lambda item: item[:2])]

    def rejected_in_order(self) -> list[Rejected]:
        """The rejected rows by arrival and then by rule."""
        return [row for _, _, row in sorted(self._rejected, key=lambda item: item[:2])]

    def forwarded_in_order(self) -> list[Forwarded]:
        """What goes to other streams, by arrival and then by rule."""
        return [one for _, _, one in sorted(self._forwarded, key=lambda item: item[:2])]

    def _send_on(
        self, index: int, rule: Rule, forward: Forward, passed: Bools, counts: RuleCounts
    ) -> Bools:
        """Make what SELECT puts out of the rows that passed; which rows it did not fail on."""
        sent, failed = forward(self._batch, np.flatnonzero(passed))
        good = np.ones(len(passed), np.bool_)
        for row, reason, message in failed:
            good[row] = False
            self._refuse(index, np.asarray([row]), rule.name, reason, [message])
        counts.rejected += len(failed)
        rows = np.flatnonzero(passed & good).tolist()
        for number, one in zip(rows, sent, strict=True):
            self._forwarded.append((number, index, one))
        return good

    def _turns(self, rows: Ints) -> Iterator[tuple[int, Ints]]:
        """Cut rows where devices are forgotten: turn 0 comes before, turn n after the n-th time."""
        if self._rounds is None:
            yield 0, rows
            return
        for turn in range(int(self._rounds.max()) + 1):
            yield turn, rows[self._rounds[rows] == turn]

    def _refuse(
        self, index: int, rows: Ints, rule: str, reason: str, messages: Sequence[str]
    ) -> None:
        stage = STAGES.get(reason, "window")
        self._refused[rows] = True
        for row, message in zip(rows.tolist(), messages, strict=True):
            rejected = self._batch.reject(row, stage, reason, message, rule)
            self._rejected.append((row, index, rejected))

    def _refuse_costly(self, index: int, rule: Rule, rows: Ints, counts: RuleCounts) -> None:
        counts.rejected += len(rows)
        self._refuse(index, rows, rule.name, "costly", [COSTLY_MESSAGE] * len(rows))

    def _refuse_measures(
        self, index: int, rule: Rule, rows: Ints, column: Column, counts: RuleCounts
    ) -> None:
        counts.rejected += len(rows)
        kinds = column.kind[rows]
        absent = rows[kinds == Kind.UNDEFINED]
        message = f"measure {rule.measure_path}: expected a number, found nothing"
        self._refuse(index, absent, rule.name, "measure_missing", [message] * len(absent))
        mistyped = rows[kinds != Kind.UNDEFINED]
        messages = [
            f"measure {rule.measure_path}: expected a number, found {Kind(kind).name.lower()}"
            for kind in column.kind[mistyped].tolist()
        ]
        self._refuse(index, mistyped, rule.name, "measure_type", messages)

    def _slide(
        self, index: int, rule: Rule, rows: Ints, column: Column, counts: RuleCounts
    ) -> tuple[Ints, Slid]:
        batch, remembered = self._batch, self._memory.rules[rule.name]
        given = Samples(
            batch.device[rows], batch.time[rows], column.number[rows], self._serial[rows]
        )
        slid = remembered.window.push(given)
        if slid.verdict.any():
            self._refuse_samples(index, rule, rows, slid, counts)
            some = np.flatnonzero(slid.verdict == SAMPLE)
            rows, slid, given = rows[some], Slid._make(c[some] for c in slid), given.take(some)
        counts.samples += len(rows)
        self._sampled[rows] = True
        limits = self._thresholds.limits(index, given.device, self._decided[rows])
        changes = remembered.alerts.advance(
            given.device, given.time, slid.value, slid.samples, limits.value, limits.margin
        )
        counts.alerts += len(changes)
        if changes:
            self._tell(index, rule, rows, changes, slid, limits)
        return rows, slid

    def _refuse_samples(
        self, index: int, rule: Rule, rows: Ints, slid: Slid, counts: RuleCounts
    ) -> None:
        duplicate = rows[slid.verdict == DUPLICATE]
        self._duplicate[duplicate] = True
        counts.duplicates += len(duplicate)
        late = rows[slid.verdict == LATE]
        self._late[late] = True
        window = self._memory.rules[rule.name].window
        messages = [
            f"event time {time} is older than the device's newest sample by more than the"
            f" {window.keep} ms of window and allowed lateness"
            for time in self._batch.time[late].tolist()
        ]
        self._refuse(index, late, rule.name, "late", messages)
        counts.late += len(late)
        over = rows[slid.verdict == OVERFLOW]
        message = "the sum of the window is beyond the range of float64"
        self._refuse(index, over, rule.name, "overflow", [message] * len(over))
        counts.rejected += len(late) + len(over)

    def _tell(
        self,
        index: int,
        rule: Rule,
        rows: Ints,
        changes: Sequence[Change],
        slid: Slid,
        limits: Limits,
    ) -> None:
        """Make the alerts of some changes; columns are read at once, for there may be many."""
        batch, users, log = self._batch, self._batch.users, self._memory.log
        at = np.asarray([change.row for change in changes])
        row = rows[at]
        source = batch.row[row]
        columns = (
            row,
            batch.device[row],
            batch.time[row],
            slid.value[at],
            slid.samples[at],
            slid.first[at],
            limits.value[at],
            limits.version[at],
            limits.stale[at],
            users.record[source],
            users.sub[source],
        )
        names, shard = self._memory.devices.names, users.shard_id
        for change, *values in zip(changes, *(c.tolist() for c in columns), strict=True):
            number, device, time, value, samples, first, limit, version, stale, record, sub = values
            alert = Alert(
                id=alert_id(self._pipeline, rule.name, names[device], change.state, time),
                pipeline=self._pipeline,
                rule=rule.name,
                device=names[device],
                state=change.state,
                time=time,
                value=value,
                samples=samples,
                threshold=limit,
                threshold_version=version,
                window_start=time - rule.window,
                window_end=time,
                first_position=str(log.position(first)),
                last_position=f"{shard}:{users.sequences[record]}:{sub}",
                severity=rule.severity,
                stale=stale,
            )
            self._alerts.append((number, index, alert))

    def _statistics(self, rule: str, parts: list[tuple[Ints, Slid]], offset: int) -> Statistics:
        rows = np.concatenate([rows for rows, _ in parts])
        value = np.concatenate([slid.value for _, slid in parts])
        samples = np.concatenate([slid.samples for _, slid in parts])
        if len(parts) > 1:
            order = np.argsort(rows, kind="stable")
            rows, value, samples = rows[order], value[order], samples[order]
        batch = self._batch
        return Statistics(
            rule=rule,
            index=batch.row[rows] + offset,
            device=batch.device[rows],
            time=batch.time[rows],
            value=value,
            samples=samples,
            names=batch.devices.names,
        )


def joined(rule: str, parts: Sequence[Statistics]) -> Statistics:
    """The statistics of several slices or pushes as one, in order."""
    if len(parts) == 1:
        return parts[0]
    none = np.zeros(0, np.int64)
    columns = ("index", "device", "time", "value", "samples")
    whole = [np.concatenate([none, *(getattr(part, name) for part in parts)]) for name in columns]
    index, device, time, value, samples = whole
    names = parts[0].names if parts else []
    return Statistics(rule, index, device, time, value.astype(np.float64), samples, names)
