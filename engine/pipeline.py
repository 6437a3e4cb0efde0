"""The ONE place where the order of the steps stands: records in, outcome out.

    deaggregate -> decode -> filter -> measure -> window -> threshold -> alert

`Pipeline.push` reads a whole push first (nothing is remembered until every record is decoded and
every limit is known) and then applies it, so a push that raises has changed no answer: call it
again with the same records. What a host may checkpoint is `Outcome.positions`, and only after its
sinks have taken the outcome and the state object is written.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import numpy as np

from . import inspect, state
from .alert import AlertStates
from .batch import Alert, Batch, Forwarded, Position, Record, Rejected, Statistics, UserRecords
from .counts import Counts
from .decode import Decoder
from .errors import StateError
from .judge import Judge, Rule, joined
from .kpl import deaggregate
from .memory import Memory, RuleMemory
from .merge import delta_over
from .records import Opened, last_position, slices, without_repeats
from .threshold import Thresholds
from .window import Window

Given = Iterable[Record | Mapping[str, Any]] | UserRecords | Opened
FULL: Literal["full"] = "full"
DELTA: Literal["delta"] = "delta"


@dataclass(slots=True)
class Outcome:
    """What one push gave.

    alerts, rejected and forwarded stand in order of arrival; statistics holds one entry a rule, in
    the order of the rules; positions are the last applied ones of the shards in the push, and may
    be checkpointed once the sinks have taken the outcome and the state is saved. read: everything
    that was applied, for an archive; empty unless the pipeline was told to hand it over.
    """

    alerts: list[Alert]
    rejected: list[Rejected]
    statistics: list[Statistics]
    counts: Counts
    positions: dict[str, Position]
    forwarded: list[Forwarded] = field(default_factory=list)
    read: list[Opened] = field(default_factory=list)

    @property
    def position(self) -> Position | None:
        """The last applied position, where all records were of one shard; None before the first."""
        return next(reversed(self.positions.values()), None)

    def followed_by(self, other: Outcome) -> Outcome:
        """Both outcomes as one, `other` being the later."""
        counts = Counts()
        counts.add(self.counts)
        counts.add(other.counts)
        later = [*self.statistics, *other.statistics]
        names = dict.fromkeys(part.rule for part in later)
        return Outcome(
            self.alerts + other.alerts,
            self.rejected + other.rejected,
            [joined(name, [part for part in later if part.rule == name]) for name in names],
            counts,
            {**self.positions, **other.positions},
            self.forwarded + other.forwarded,
            self.read + other.read,
        )


class _Read(NamedTuple):
    """One slice of a push, read but not applied; `lost` are the rejected of its aggregates."""

    users: UserRecords
    batch: Batch
    lost: list[Rejected]
    unread: list[Rejected]
    repeated: int
    position: Position | None


class Pipeline:
    """Rules over the records of one shard (or one back-test), with everything they remember.

    One object, one order: records must be pushed in the order of their shard. `now` is read for
    refresh intervals only, never for an answer.
    """

    def __init__(
        self,
        name: str,
        rules: Sequence[Rule],
        decoder: Decoder,
        thresholds: Thresholds,
        *,
        allowed_lateness: int = 10_000,
        forget_after: int = 86_400_000,
        drop_duplicates: bool = True,
        one_shard: bool = False,
        keep_read: bool = False,
        now: Callable[[], float] = time.time,
    ) -> None:
        """Start with an empty memory; durations are int ms.

        `one_shard` promises that all records will be of one shard of a stream: only then does its
        clock tell which devices can be freed (see Memory.sweep). `keep_read`: outcomes hand over
        what was read, too.
        """
        self.name = name
        self.keep_read = keep_read
        self.rules = tuple(rules)
        self.now = now
        self._decoder = decoder
        self._thresholds = thresholds
        memories = {
            rule.name: RuleMemory(
                rule.fingerprint,
                Window(rule.window, allowed_lateness, rule.statistic, drop_duplicates),
                AlertStates(rule.fire_when, rule.min_samples, rule.hold),
            )
            for rule in self.rules
        }
        clock = one_shard and decoder.schema.arrival is None
        self._memory = Memory(memories, forget_after, one_clock=clock)

    @property
    def positions(self) -> dict[str, Position]:
        """The last applied position of each shard."""
        return dict(self._memory.positions)

    def push(self, records: Given) -> Outcome:
        """Take records in the order of their shard and apply every rule to them.

        Args:
            records: `Record`s, or dicts as GetRecords gives them with `ShardId` added; or user
                records of one shard that a host has opened itself, with or without those that it
                could not open.

        Raises:
            UnavailableError: a limit is not known because the thresholds' store is down. Nothing
                was applied; push the same records again.
        """
        memory = self._memory
        reads = list(self._read(records))
        for read in reads:
            self._thresholds.prepare(memory.devices.names, read.batch.device)
        outcome = Outcome([], [], [], Counts(rule.name for rule in self.rules), {})
        parts: list[list[Statistics]] = [[] for _ in self.rules]
        offset = 0
        for read in reads:
            self._apply(read, outcome, parts, offset)
            offset += len(read.users)
        for rule, part in zip(self.rules, parts, strict=True):
            outcome.statistics.append(joined(rule.name, part))
        gone = memory.sweep()
        if gone.size:
            self._thresholds.forget(gone)
        if memory.log.full:
            memory.log.prune(memory.live_records())
        outcome.counts.check()
        return outcome

    def save(
        self, full: bool = True, earlier: Sequence[int] = (), handed: Sequence[Any] = ()
    ) -> bytes:
        """The next state object: all that is remembered, or what changed since the last one.

        `earlier` are the numbers of the last full objects before it, where the host numbers them:
        whoever goes on with the shard finds them in the body, and knows what may be removed.
        `handed` is what the Lambda host notes of its mapping, for itself.
        """
        body = {"pipeline": self.name, **self._memory.save(full), "earlier": list(earlier)}
        if handed:
            body["handed"] = list(handed)
        return state.encode(FULL if full else DELTA, body)

    def restore(self, objects: Sequence[bytes]) -> list[str]:
        """Take over a full state object and the deltas after it, in order, into a new pipeline.

        Returns the names of the rules that start empty because their definition has changed.

        Raises:
            StateError: an object cannot be read, is of another pipeline, or the first is not full;
                or this pipeline has taken records already.
        """
        return self.take_over([state.decode(data) for data in objects])

    def take_over(self, objects: Sequence[state.Decoded]) -> list[str]:
        """As `restore`, of objects that are decoded already."""
        if self._memory.positions or self._memory.log.next:
            raise StateError("state can be taken over only before the first record")
        bodies = []
        for index, (kind, body) in enumerate(objects):
            if kind != (DELTA if index else FULL):
                raise StateError(f"state object {index + 1} of {len(objects)} is {kind}")
            if body.get("pipeline") != self.name:
                found = body.get("pipeline")
                raise StateError(f"state of pipeline {found!r}, not of {self.name!r}")
            bodies.append(body)
        try:
            return self._memory.restore(bodies)
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise StateError(f"a state object lacks what it should hold: {error!r}") from error

    def inherit(self, one: Pipeline, other: Pipeline) -> None:
        """Begin where the pipelines of two shards ended that were merged into this one's.

        A device that both know goes on as merge.py says; of equal arrival as in the first. Both are
        of the same pipeline file as this one, which has taken no record yet.
        """
        assert not self._memory.positions and not self._memory.log.next, "it has taken records"
        first, second = one._memory.save(full=True), other._memory.save(full=True)
        self._memory.restore([first, delta_over(first, second)])
        for parent in (one, other):
            for name, devices in parent.removed.items():
                self._memory.removed[name] = self._memory.removed.get(name, 0) + devices

    @property
    def removed(self) -> dict[str, int]:
        """Rules of the restored state that are no more: how many of their devices were firing."""
        return dict(self._memory.removed)

    def inspect(self, device: str) -> list[dict[str, Any]]:
        """What each rule knows of a device now, see `inspect.device`; changes nothing."""
        return inspect.device(device, self.rules, self._memory, self._thresholds)

    @property
    def firing(self) -> dict[str, int]:
        """How many devices are firing now, by rule."""
        rules = self._memory.rules
        return {name: int(np.count_nonzero(rule.alerts.firing)) for name, rule in rules.items()}

    @property
    def stale_devices(self) -> int:
        """How many devices are judged by limits that are too old, as the table is down."""
        return self._thresholds.stale_devices

    def _read(self, records: Given) -> Iterator[_Read]:
        positions = dict(self._memory.positions)
        opened: Iterable[tuple[UserRecords, list[Rejected]]]
        if isinstance(records, Opened):
            opened = (records,)
        elif isinstance(records, UserRecords):
            opened = ((records, []),)
        else:
            opened = map(deaggregate, slices(records))
        for users, lost in opened:
            last = positions.get(users.shard_id)
            users, lost, repeated = without_repeats(users, lost, last)
            at = last_position(users, lost, last)
            if at is not None:
                positions[users.shard_id] = at
            batch, unread = self._decoder.decode(users, self._memory.devices)
            yield _Read(users, batch, lost, unread, repeated, at)

    def _apply(
        self, read: _Read, outcome: Outcome, parts: list[list[Statistics]], offset: int
    ) -> None:
        users, counts = read.users, outcome.counts
        judge = Judge(self.name, self._memory, self._thresholds, users, read.batch)
        for index, rule in enumerate(self.rules):
            parts[index].append(judge.apply(index, rule, counts.rules[rule.name], offset))
        counts.records += len(users) + len(read.lost)
        counts.repeated += read.repeated
        counts.rejected += len(read.lost) + len(read.unread)
        judge.count(counts)
        outcome.alerts += judge.alerts_in_order()
        outcome.forwarded += judge.forwarded_in_order()
        rejected = [*read.lost, *read.unread, *judge.rejected_in_order()]
        if read.lost or read.unread:
            rejected.sort(key=lambda row: row.at.order)
        outcome.rejected += rejected
        if self.keep_read and (len(users) or read.lost):
            outcome.read.append(Opened(users, read.lost))
        if read.position is not None:
            self._memory.positions[users.shard_id] = read.position
            outcome.positions.pop(users.shard_id, None)
            outcome.positions[users.shard_id] = read.position
