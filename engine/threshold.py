"""The limit of each (rule, device), looked up for a whole batch, over a store handed in.

Limits are versioned in time, so that a replay decides as the first run did. An item of the table is
a handful of entries, each in force from its `effective_from` on:

    time ->      effective_from of B     effective_from of C
       A . . . . . . |  B . . . . . . . . . . | C . . . . .
    (also before A's own: older than all entries means the oldest)

The time that is looked up is the row's *decision time*: its event time, or its arrival time where
that is known and earlier. The wall clock (`now`) decides only when a limit is read again.

While the store is down the last known limits stay in force and rows say `stale`. A limit that was
never read is not guessed: `prepare` raises UnavailableError and the batch waits.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .batch import NO_TIME, Bools, Floats, Ints
from .errors import ConfigError, Problem, UnavailableError
from .kernels import run_starts
from .limits import Entry, ThresholdStore, checked

READ_KEYS_MAX = 100  # (device, rule) pairs asked for in one call of the store, as DynamoDB has it
DEVICES_MIN = 64  # the first size of the columns
ALWAYS = NO_TIME  # int64 ms: the start of an entry that was always in force
NEVER = -NO_TIME  # int64 ms: the end of an entry that no other one follows
UNREAD = -math.inf  # seconds: the expiry of a limit that was never read

Objects = NDArray[np.object_]


class Limits(NamedTuple):
    """The limits of the rows of a batch for one rule, all (rows,).

    value, margin: float64. version: object, int, str or None as the table has it. stale: bool, the
    limit was due to be read again and the store did not answer.
    """

    value: Floats
    margin: Floats
    version: Objects
    stale: Bools


class _History(NamedTuple):
    """The entries of one (rule, device) in the order of their starts, which are distinct."""

    start: Ints
    value: Floats
    margin: Floats
    version: Objects

    @classmethod
    def of(cls, entries: Sequence[Entry], default_margin: float) -> _History:
        by_start: dict[int, Entry] = {}
        for entry in entries:
            by_start[entry.effective_from or ALWAYS] = entry  # no time is before 1970
        ordered = [by_start[start] for start in sorted(by_start)]
        margins = [e.clear_margin for e in ordered]
        version = np.empty(len(ordered), np.object_)
        version[:] = [e.version for e in ordered]
        return cls(
            np.array(sorted(by_start), np.int64),
            np.array([e.value for e in ordered], np.float64),
            np.array([default_margin if m is None else m for m in margins], np.float64),
            version,
        )

    def at(self, times: Ints) -> Ints:
        """The number of the entry in force at each time; older than all means the oldest."""
        return np.maximum(np.searchsorted(self.start, times, side="right") - 1, 0)


class _Table:
    """The limits of one rule by device number: one entry each, and the time in which it holds.

    Devices with more than one entry are in `histories` too; for the others the entry always holds.
    """

    def __init__(self, rule: str, threshold: float, clear_margin: float) -> None:
        self.rule = rule
        self.threshold = threshold
        self.clear_margin = clear_margin
        self.value = np.zeros(0, np.float64)
        self.margin = np.zeros(0, np.float64)
        self.version: Objects = np.zeros(0, np.object_)
        self.since = np.zeros(0, np.int64)
        self.until = np.zeros(0, np.int64)
        self.histories: dict[int, _History] = {}

    def grow(self, more: int) -> None:
        self.value = np.concatenate((self.value, np.full(more, self.threshold)))
        self.margin = np.concatenate((self.margin, np.full(more, self.clear_margin)))
        self.version = np.concatenate((self.version, np.full(more, None, np.object_)))
        self.since = np.concatenate((self.since, np.full(more, ALWAYS)))
        self.until = np.concatenate((self.until, np.full(more, NEVER)))

    def reset(self, devices: Ints) -> None:
        """Give these devices the rule's own limit."""
        self.value[devices] = self.threshold
        self.margin[devices] = self.clear_margin
        self.version[devices] = None
        self.since[devices] = ALWAYS
        self.until[devices] = NEVER
        if self.histories:
            for number in devices.tolist():
                self.histories.pop(number, None)

    def put(self, number: int, entries: Sequence[Entry]) -> None:
        """Take what the store has for one device: at least one entry."""
        history = _History.of(entries, self.clear_margin)
        if len(history.start) == 1:
            self.histories.pop(number, None)
            self._show(number, history, 0)
            return
        # A guess, which `exact` corrects where it is wrong: the entry in which the device's last
        # rows lay, and the newest one where there was no history before.
        held = number in self.histories
        last = int(history.at(self.since[number : number + 1])[0]) if held else -1
        self.histories[number] = history
        self._show(number, history, last)

    def _show(self, number: int, history: _History, which: int) -> None:
        count = len(history.start)
        which %= count
        self.value[number] = history.value[which]
        self.margin[number] = history.margin[which]
        self.version[number] = history.version[which]
        self.since[number] = history.start[which] if which else ALWAYS
        self.until[number] = history.start[which + 1] if which + 1 < count else NEVER

    def exact(self, rows: Ints, devices: Ints, times: Ints, limits: Limits) -> None:
        """Correct `rows`, whose time lies outside the entry shown, and show where they ended."""
        rows = rows[np.argsort(devices[rows], kind="stable")]
        starts = run_starts(devices[rows])
        ends = np.append(starts[1:], len(rows))
        for begin, end in zip(starts.tolist(), ends.tolist(), strict=True):
            mine = rows[begin:end]
            number = int(devices[mine[0]])
            history = self.histories[number]
            which = history.at(times[mine])
            limits.value[mine] = history.value[which]
            limits.margin[mine] = history.margin[which]
            limits.version[mine] = history.version[which]
            self._show(number, history, int(which[-1]))


class Thresholds:
    """The limits of all rules by device number, read from a store in batches and kept.

    Call `prepare` with the devices of one or several batches, then `limits` for each rule and
    batch. Both may be called again. Not safe for several threads: each shard owns one. While the
    store answers, a batch is decided by limits read at most `refresh_seconds` before it was
    prepared.
    """

    def __init__(
        self,
        store: ThresholdStore | None,
        defaults: Sequence[tuple[str, float, float]],
        refresh_seconds: float = 10.0,
        now: Callable[[], float] = time.time,
    ) -> None:
        """Start with nothing read.

        Args:
            store: the table; None means that every device has the rule's own limit.
            defaults: (rule, threshold, clear_margin) of each rule; `limits` takes its index.
            refresh_seconds: age at which a limit is read again; math.inf for a store that never
                changes.
            now: seconds, any clock that tells intervals.
        """
        assert all(math.isfinite(t) and math.isfinite(m) and m >= 0 for _, t, m in defaults)
        self.refresh_seconds = refresh_seconds
        self.cause = ""  # why the last read failed, empty once one has succeeded
        self._store = store
        self._tables = [_Table(*default) for default in defaults]
        self._now = now
        self._checked = 0.0  # seconds: `now` at the last prepare
        self._pause_from = UNREAD  # seconds: when the last refresh failed
        self._expires = np.zeros(0, np.float64)
        self._stale = np.zeros(0, np.bool_)

    @property
    def stale_devices(self) -> int:
        """The number of devices that are served with limits too old, for metrics."""
        return int(self._stale.sum())

    def prepare(self, names: Sequence[str], devices: Ints) -> None:
        """Make sure that every limit of these devices is known, and read again what is too old.

        Args:
            names: name of each device number. devices: int64 (rows,), need not be unique.

        Raises:
            UnavailableError: a limit was never read and the store does not answer; what could be
                read is kept, so a repeat asks only for the rest.
            ConfigError: the store holds what is no limit; names every such device and rule.
        """
        if self._store is None or not len(devices):
            return
        self._grow(len(names))
        self._checked = self._now()
        due = np.unique(devices[self._due(devices)])
        if not due.size:
            return
        unread = self._expires[due] == UNREAD
        if unread.any() or not 0 <= self._checked - self._pause_from < self.refresh_seconds:
            order = np.concatenate((due[unread], due[~unread]))
            self._read(self._store, names, order, int(unread.sum()))
        self._stale[due] = self._due(due)

    def limits(self, rule_index: int, devices: Ints, times: Ints) -> Limits:
        """The limit in force for each row, for one rule.

        Args:
            rule_index: place of the rule in `defaults`. devices: int64 (rows,), all of them
                prepared. times: int64 ms (rows,), event time or the earlier known arrival time.
        """
        table = self._tables[rule_index]
        rows = len(devices)
        if self._store is None:
            value, margin = np.full(rows, table.threshold), np.full(rows, table.clear_margin)
            return Limits(value, margin, np.full(rows, None, np.object_), np.zeros(rows, np.bool_))
        assert (self._expires[devices] != UNREAD).all(), "limits of devices not prepared"
        value, margin = table.value[devices], table.margin[devices]
        limits = Limits(value, margin, table.version[devices], self._stale[devices])
        if table.histories:
            outside = (times < table.since[devices]) | (times >= table.until[devices])
            wrong = np.flatnonzero(outside)
            if wrong.size:
                table.exact(wrong, devices, times, limits)
        return limits

    def known(self, device: int) -> bool:
        """Whether the limits of a device have been read, or need not be."""
        if self._store is None:
            return True
        return device < len(self._expires) and bool(self._expires[device] != UNREAD)

    def forget(self, devices: Ints) -> None:
        """Drop what is known of these device numbers, before they are handed out again."""
        devices = devices[devices < len(self._expires)]
        self._expires[devices] = UNREAD
        self._stale[devices] = False
        for table in self._tables:
            table.reset(devices)

    def _due(self, devices: Ints) -> Bools:
        """Which devices were never read or not for too long (also by a clock that went back)."""
        expires = self._expires[devices]
        due: Bools = (expires <= self._checked) | (expires > self._checked + self.refresh_seconds)
        return due

    def _grow(self, devices: int) -> None:
        held = len(self._expires)
        if devices <= held:
            return
        more = max(devices, 2 * held, DEVICES_MIN) - held
        self._expires = np.concatenate((self._expires, np.full(more, UNREAD)))
        self._stale = np.concatenate((self._stale, np.zeros(more, np.bool_)))
        for table in self._tables:
            table.grow(more)

    def _read(
        self, store: ThresholdStore, names: Sequence[str], devices: Ints, unread: int
    ) -> None:
        """Read the limits of `devices` (unique), the first `unread` of which have none yet."""
        rules = [table.rule for table in self._tables]
        step = max(1, READ_KEYS_MAX // max(1, len(rules)))
        for start in range(0, len(devices), step):
            part = devices[start : start + step]
            keys = [(names[number], rule) for number in part.tolist() for rule in rules]
            try:
                found = store.read(keys)
            except UnavailableError as error:
                self._pause_from = self._checked
                self.cause = str(error)
                if start < unread:
                    raise UnavailableError(
                        f"the limits of {unread - start} devices are not known"
                        f" and cannot be read: {error}"
                    ) from error
                return
            self._take(names, part, found)
            self._expires[part] = self._checked + self.refresh_seconds
        self._pause_from = UNREAD
        self.cause = ""

    def _take(
        self,
        names: Sequence[str],
        devices: Ints,
        found: Mapping[tuple[str, str], Sequence[Entry]],
    ) -> None:
        problems: list[Problem] = []
        for table in self._tables:
            absent: list[int] = []
            for number in devices.tolist():
                entries = found.get((names[number], table.rule))
                if not entries:
                    absent.append(number)
                    continue
                try:
                    table.put(number, [checked(entry) for entry in entries])
                except ValueError as error:
                    where = f"threshold of device {names[number]!r}, rule {table.rule!r}"
                    problems.append(Problem(where, str(error)))
            if absent:
                table.reset(np.array(absent, np.int64))
        if problems:
            raise ConfigError(problems)
