"""One shard's loop: read, apply, deliver, save, one step at a time.

    load -> read -> apply -> deliver (once a sink) -> read ...
                                  \\-> save -> prune -> read ...      when a state object is due
                                  \\-> roll -> read ...               when the archive has much

The order is always: every sink has acknowledged -> the state object is written. That object is the
checkpoint; nothing comes after it. `step` does the one thing that is due and returns; a crash
between any two steps loses nothing, it makes work be done again with the same answer.

A service that is down is met by waiting: the step that was refused is due again at `ready_at`, with
the same rows, and the shard goes no further. Nothing in here sleeps, so that one process can drive
many shards.
"""

from __future__ import annotations

import random as random_module
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple, Protocol

from ..engine.batch import Alert, Forwarded, Position, Record, Rejected
from ..engine.errors import FencedError, UnavailableError
from ..engine.pipeline import Outcome, Pipeline
from ..engine.sinks.archive import Archive
from ..engine.sinks.base import Sink
from ..engine.state import StateStore
from . import inherit
from .archiving import Archiving
from .backoff import Backoff, Refusal
from .metrics import Metrics
from .recall import is_ours, oldest_kept, recall, untold, written

READ_SECONDS_MIN = 0.2  # between two reads: a shard answers five a second to all who read it
TIP_SECONDS = 0.5  # between two reads where nothing is behind
FENCES_MAX = 3  # times that another owner's state object is found in the way, until
PEACE_SAVES = 10  # saves in a row went well

Log = Callable[..., None]  # log(event, **fields): one structured line; never a payload


class Fetched(NamedTuple):
    """What one read gave; `behind` is how far it is from the tip, in ms.

    `iterator` is where to read on, None once a closed shard is read to its end.
    """

    records: list[Record]
    iterator: str | None
    behind: int


class Reader(Protocol):
    """How the records of a shard are read. Any call may raise UnavailableError and be repeated."""

    def iterator(self, shard_id: str, position: Position | None, inclusive: bool) -> str:
        """Where to read on after a position (at it, if `inclusive`); None: the oldest record."""
        ...

    def read(self, shard_id: str, iterator: str) -> Fetched | None:
        """The records from there on; None where the iterator has expired."""
        ...


@dataclass(frozen=True, kw_only=True)
class Host:
    """What all shards of one process share; tests and simulation hand in their own.

    plan: makes an empty pipeline, as often as it is called. archive: where all that is read goes;
    then the outcomes of `plan`'s pipelines hand it over. save_seconds: how often a state object
    is due. observe: is told each outcome, once it is applied; of records that are read again, as
    after another owner's state was taken over, again. metrics: counted into. forward: takes what
    rules forward; needed where one does. now: seconds that never go back, for pauses and for when a
    state object is due, never for an answer. random: 0 to 1. wall: seconds since 1970, for metrics
    only.
    """

    pipeline: str
    plan: Callable[[], Pipeline]
    reader: Reader
    alerts: Sink[Alert]
    errors: Sink[Rejected]
    states: StateStore
    save_seconds: float
    observe: Callable[[Outcome], None]
    log: Log
    metrics: Metrics
    forward: Sink[Forwarded] | None = None
    now: Callable[[], float] = time.monotonic
    random: Callable[[], float] = random_module.random
    wall: Callable[[], float] = time.time
    archive: Archive | None = None


class Shard:
    """The loop of one shard, as steps.

    at_tip: the last read gave nothing, nothing was behind, and more may come. closed: the shard was
    read to its end. generation: number of the newest state object known. refused: the step that was
    refused at its last try, None where it went well.
    """

    def __init__(self, shard_id: str, host: Host, parents: Sequence[str] = ()) -> None:
        """Do nothing yet: the first step loads the state."""
        self.shard_id = shard_id
        self.parents = tuple(parents)
        self._host = host
        self._finishing = False
        self._wait_until = 0.0
        self.refused: Refusal | None = None
        self._backoff = Backoff(host.now, host.random)
        self._fences = 0
        self._peace = 0
        self._forget()

    def _forget(self) -> None:
        """Know nothing of the shard, as at the start."""
        self.at_tip = False
        self.closed = False
        self.generation = 0
        self._full: list[int] = []  # the full state objects that are kept, as far as known
        self._told: Position | None = None  # up to here the sinks have all
        self._pipeline: Pipeline | None = None
        self._iterator: str | None = None
        self._inclusive = True  # of a Kinesis record another host may have applied a part
        self._records: list[Record] = []
        self._undelivered: list[Callable[[], None]] = []
        self._unsaved = False
        self._object: bytes | None = None
        self._prunable = False
        host = self._host
        self._archive = Archiving(host.archive, self.shard_id, host.now, host.metrics)
        self._read_at = self._rolled_at = 0.0
        self._save_at = 0.0

    @property
    def position(self) -> Position | None:
        """The last applied position, None before the first."""
        return None if self._pipeline is None else self._pipeline.positions.get(self.shard_id)

    @property
    def idle(self) -> bool:
        """Nothing that was read is still to be applied, delivered or saved."""
        return not (self._records or self._undelivered or self._unsaved or self._prunable)

    @property
    def finished(self) -> bool:
        """The shard is read to its end, its last state is written and its archive made."""
        return self.closed and self.idle and self.rolled

    @property
    def rolled(self) -> bool:
        """Nothing is left staged of what was archived."""
        return self._archive.rolled

    @property
    def ready_at(self) -> float:
        """When the next step is due, on the clock of the host."""
        least = {self.read: self._read_at, self.roll: self._rolled_at}.get(self.due(), 0.0)
        return max(self._wait_until, least)

    def finish(self) -> None:
        """Read nothing more: until `idle`, steps deliver and save what was applied.

        What was read and not applied is dropped; it is read again after the next start.
        """
        self._finishing = True
        self._records = []
        self._wait_until = 0.0

    def release(self) -> None:
        """Let go of the memory of a shard that is finished."""
        assert self.finished, self.shard_id
        self._pipeline = None
        self._host.metrics.forget(self.shard_id)

    @property
    def loaded(self) -> bool:
        """Whether its memory is here."""
        return self._pipeline is not None

    def inspect(self, device: str) -> list[dict[str, Any]]:
        """What every rule knows of a device; nothing where it is unknown here, or all is done."""
        return [] if self._pipeline is None else self._pipeline.inspect(device)

    def step(self) -> None:
        """Do the one thing that is due; where that is refused, wait and do it again.

        Raises:
            UnavailableError: it was refused for RETRY_SECONDS_MAX.
            FencedError: another owner goes on writing this shard's state objects.
        """
        step = self.due()
        try:
            step()
        except UnavailableError as error:
            self._wait(step.__name__, error)
        except FencedError as error:
            self._reload(error)
        else:
            self._backoff.clear()
            if self.refused is not None:
                self.refused = None
                self._host.metrics.set("shard_waiting", 0, shard=self.shard_id)

    def due(self) -> Callable[[], None]:
        """The step that is to be done next."""
        if self._pipeline is None:
            return self.load
        if self._undelivered:
            return self.deliver
        if self._records:
            return self.apply
        if self._object is not None or (self._unsaved and self._is_save_due()):
            return self.save
        if self._prunable:
            return self.prune
        return self.roll if self._archive.due(self._closing) else self.read

    @property
    def _closing(self) -> bool:
        return self.closed or self._finishing

    def _is_save_due(self) -> bool:
        return self._closing or self._host.now() >= self._save_at

    def load(self) -> None:
        """Start from the newest state that can be read; without one, from the oldest record.

        A child that has no state yet starts with that of the shards it was split or merged from.
        """
        host = self._host
        found = host.states.generations(host.pipeline, self.shard_id)
        started = recall(host.states, host.pipeline, self.shard_id, found, host.plan, host.log)
        self._pipeline = self._inherited() if started is None else started.pipeline
        self.generation = max(found, default=0)
        if started is not None:
            self._full, self._told = started.full, started.told
        oldest = oldest_kept(self._full)  # the last owner may not have come to it
        self._prunable = oldest is not None and found[0] < oldest
        self._save_at = host.now() + host.save_seconds
        host.metrics.set("checkpoint_timestamp_seconds", host.wall(), shard=self.shard_id)
        at = self.position
        host.log(
            "shard_started",
            shard=self.shard_id,
            generation=None if started is None else started.generation,
            position=None if at is None else str(at),
        )

    def _inherited(self) -> Pipeline:
        """The pipeline of the shards that this one was split or merged from; empty without any."""
        host = self._host
        found = inherit.ancestors(
            host.states,
            host.pipeline,
            self.shard_id,
            {self.shard_id: self.parents},
            host.plan,
            host.log,
        )
        self._unsaved = bool(found)  # its own children look for what it has, though no record came
        return inherit.joined([recalled.pipeline for recalled, _ in found.values()], host.plan)

    def read(self) -> None:
        """Fetch the next records."""
        assert not self.closed, self.shard_id
        host = self._host
        if self._iterator is None:
            self._iterator = host.reader.iterator(self.shard_id, self.position, self._inclusive)
        fetched = host.reader.read(self.shard_id, self._iterator)
        if fetched is None:
            self._iterator = None
            raise UnavailableError(f"the iterator of shard {self.shard_id} has expired")
        self._iterator = fetched.iterator
        self._records = fetched.records
        self.closed = fetched.iterator is None
        host.metrics.add("shard_reads_total", shard=self.shard_id)
        host.metrics.set("shard_lag_seconds", fetched.behind / 1000, shard=self.shard_id)
        self.at_tip = not (fetched.records or fetched.behind or self.closed)
        self._read_at = host.now() + (TIP_SECONDS if self.at_tip else READ_SECONDS_MIN)

    def apply(self) -> None:
        """Push what was read. Where a limit is not known, nothing of it is applied."""
        assert self._pipeline is not None
        before = self.position
        outcome = self._pipeline.push(self._records)
        self._records = []
        self._inclusive = False
        self._unsaved = self._unsaved or self.position != before
        alerts, rejected, forwarded = untold(outcome, self._told)
        if outcome.read:
            self._undelivered.append(partial(self._archive.stage, outcome.read))
        if forwarded:
            assert self._host.forward is not None, "the host of a rule that forwards has a sink"
            self._undelivered.append(partial(self._host.forward.deliver, forwarded))
        if alerts:
            self._undelivered.append(partial(self._host.alerts.deliver, alerts))
        if rejected:
            self._undelivered.append(partial(self._host.errors.deliver, rejected))
        self._host.observe(outcome)
        self._measure(outcome)

    def _measure(self, outcome: Outcome) -> None:
        pipeline, metrics = self._pipeline, self._host.metrics
        assert pipeline is not None
        metrics.observe(self.shard_id, outcome)
        for rule, devices in pipeline.firing.items():
            metrics.set("alerts_firing", devices, shard=self.shard_id, rule=rule)
        metrics.set("stale_threshold_devices", pipeline.stale_devices, shard=self.shard_id)

    def roll(self) -> None:
        """Make one step from what is staged to an object of the archive."""
        self._archive.roll(self._closing)
        self._rolled_at = self._host.now()  # other shards that are due come first

    def deliver(self) -> None:
        """Hand the rows of the outcome to the next sink that has not acknowledged them."""
        self._undelivered[0]()
        del self._undelivered[0]

    def save(self) -> None:
        """Write the next state object."""
        assert self._pipeline is not None
        host = self._host
        host.alerts.flush()
        host.errors.flush()
        if self._object is None:
            self._object = self._pipeline.save(full=True, earlier=self._full)
        generation = self.generation + 1
        try:
            host.states.create(host.pipeline, self.shard_id, generation, self._object)
        except FencedError:
            if not is_ours(host.states, host.pipeline, self.shard_id, generation, self._object):
                raise
        self.generation = generation
        self._full = written(self._full, generation)
        self._object = None
        self._unsaved = False
        self._prunable = True
        self._save_at = host.now() + host.save_seconds
        host.metrics.set("checkpoint_timestamp_seconds", host.wall(), shard=self.shard_id)
        self._peace += 1
        if self._peace >= PEACE_SAVES:
            self._fences = 0
        host.log(
            "state_saved", shard=self.shard_id, generation=generation, position=str(self.position)
        )

    def prune(self) -> None:
        """Remove the state objects before the last full ones that are kept."""
        host = self._host
        self._prunable = False
        oldest = oldest_kept(self._full)
        if oldest is None:
            return
        try:
            host.states.prune(host.pipeline, self.shard_id, oldest)
        except UnavailableError as error:
            host.log("prune_refused", shard=self.shard_id, cause=str(error))

    def _wait(self, step: str, error: UnavailableError) -> None:
        """Put the next step off."""
        pause = self._backoff.pause(error)
        assert self._backoff.since is not None
        self.refused = Refusal(step, self._backoff.since, str(error))
        self._host.metrics.add("refused_total", shard=self.shard_id, step=step)
        self._host.metrics.set("shard_waiting", 1, shard=self.shard_id)
        self._wait_until = self._host.now() + pause
        self._host.log(
            "waiting", shard=self.shard_id, step=step, seconds=round(pause, 3), cause=str(error)
        )

    def _reload(self, error: FencedError) -> None:
        """Give up what was not saved: the newest state object is another owner's. Go on there."""
        self._fences += 1
        self._peace = 0
        self._host.metrics.add("fenced_total", shard=self.shard_id)
        self._host.log("fenced", shard=self.shard_id, times=self._fences, cause=str(error))
        if self._fences > FENCES_MAX:
            raise error
        self._forget()
