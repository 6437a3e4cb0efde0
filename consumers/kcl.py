"""The KCL host: the record processor of one shard, in a process under the MultiLangDaemon.

    user records -> push -> every sink has acknowledged -> state object, when due -> checkpoint

The state object decides what was applied; the KCL's checkpoint follows it, for both may be behind
the other after a crash. Behind the state: what the daemon hands out again is known by its position.
Ahead of it, where the newest object cannot be read: the stream is read again up to the checkpoint.

The daemon hands Kinesis records over as they lie in the stream, and the engine opens aggregates:
the KCL's own way of opening them loses records (cli/kcl_whole.py). A checkpoint is thus between two
Kinesis records. What a daemon that opens them hands over is known by its sub-sequence numbers.

Whatever goes wrong leaves as an exception and ends the process: the daemon then gives up all its
shards, and what has no checkpoint is handed out again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Protocol

from ..engine.batch import Position, Record
from ..engine.errors import FencedError, UnavailableError
from ..engine.kpl import MAGIC
from ..engine.pipeline import Outcome, Pipeline
from ..engine.sinks.base import RETRY_SECONDS_MAX, Patience
from .inherit import ancestors, joined
from .kcl_protocol import LeaseLostError
from .listing import Lister
from .recall import is_ours, oldest_kept, recall, untold, written
from .reread import read_again
from .shard import Host, Reader

HAND_OVER_SECONDS_MAX = 6.0  # for saving: the daemon waits longer, who stops it does not


class Stream(Reader, Lister, Protocol):
    """A stream as this host needs it where it has to look back; `KinesisReader` is one."""


class Checkpoints(Protocol):
    """Takes checkpoints; see kcl_protocol.Daemon."""

    def checkpoint(self, position: Position | None) -> None:
        """Have a position noted, None: the end of the shard."""
        ...


class ShardProcessor:
    """Works on the one shard of its process.

    shard_id: empty before `start`. lost: another worker has the lease; nothing more is done.
    """

    def __init__(
        self,
        host: Host,
        stream: Stream,
        daemon: Checkpoints,
        *,
        sleep: Callable[[float], object] = time.sleep,
        report: Callable[[], object] = lambda: None,
    ) -> None:
        """Do nothing yet; `report` is called after each message and before each pause."""
        self.shard_id = ""
        self.lost = False
        self._host = host
        self._stream = stream
        self._daemon = daemon
        self._sleep = sleep
        self._report = report
        self._pipeline: Pipeline | None = None
        self._generation = 0
        self._full: list[int] = []
        self._told: Position | None = None  # up to here the sinks have all
        self._delivered: Position | None = None  # the last one handed out in this life
        self._noted: Position | None = None  # the checkpoint
        self._unsaved = False
        self._save_at = 0.0

    @property
    def position(self) -> Position | None:
        """The last applied position, None before the first."""
        return None if self._pipeline is None else self._pipeline.positions.get(self.shard_id)

    def inspect(self, device: str) -> list[dict[str, Any]] | None:
        """What is known of a device, one row a rule; None while the state is not loaded."""
        if self._pipeline is None:
            return [] if self.lost else None
        return [{"shard": self.shard_id, **row} for row in self._pipeline.inspect(device)]

    def start(self, shard_id: str, checkpoint: Position | None) -> None:
        """Load the newest state, and read again what lies between it and the checkpoint."""
        host, self.shard_id, self._noted = self._host, shard_id, checkpoint
        found = self._insist("load", partial(host.states.generations, host.pipeline, shard_id))
        recalled = self._insist(
            "load",
            lambda: recall(host.states, host.pipeline, shard_id, found, host.plan, host.log),
        )
        self._generation = max(found, default=0)
        if recalled is None:
            if checkpoint is not None and not found:
                host.log("state_incomplete", shard=shard_id, unreadable=[])
            self._pipeline = self._insist("load", self._inherited)
        else:
            self._pipeline, self._full = recalled.pipeline, recalled.full
            self._told = recalled.told
        if checkpoint is not None:
            self._told = max(self._told or checkpoint, checkpoint, key=lambda at: at.order)
            if self.position is None or self.position.order < checkpoint.order:
                self._read_again(checkpoint)
        self._save_at = host.now() + host.save_seconds
        host.metrics.set("checkpoint_timestamp_seconds", host.wall(), shard=shard_id)
        at = self.position
        host.log(
            "shard_started",
            shard=shard_id,
            generation=None if recalled is None else recalled.generation,
            position=None if at is None else str(at),
            checkpoint=None if checkpoint is None else str(checkpoint),
        )
        self._report()

    def process(self, records: Sequence[Record], behind: int) -> None:
        """Apply user records and hand on what comes of them; save and checkpoint where due."""
        if self.lost:
            return
        host = self._host
        host.metrics.set("shard_lag_seconds", behind / 1000, shard=self.shard_id)
        host.metrics.add("shard_reads_total", shard=self.shard_id)
        if records:
            last = records[-1]
            self._delivered = Position(
                self.shard_id, last.sequence_number, last.sub_sequence_number or 0
            )
            self._apply(to_be_opened(records))
        if self._unsaved and host.now() >= self._save_at:
            self._save()
            self._note()
        self._report()

    def end(self) -> None:
        """Save, then write the end of the shard, which lets its children start."""
        if self._unsaved or not self._generation:
            self._save()
        self._insist("checkpoint", partial(self._daemon.checkpoint, None))
        self._host.log("shard_finished", shard=self.shard_id)
        self._let_go()

    def hand_over(self) -> None:
        """Save and checkpoint, if that goes in time; what does not is done again by the next."""
        if self.lost:
            return
        try:
            if self._unsaved:
                self._save(HAND_OVER_SECONDS_MAX)
            self._note(HAND_OVER_SECONDS_MAX)
        except UnavailableError as error:
            self._host.log("unsaved", shard=self.shard_id, cause=str(error))
        self._report()

    def lose(self) -> None:
        """Write nothing more: another worker goes on from the last state object."""
        self._host.log("lease_lost", shard=self.shard_id, unsaved=self._unsaved)
        self._let_go()

    def _let_go(self) -> None:
        self.lost = True
        self._pipeline = None
        self._host.metrics.forget(self.shard_id)
        self._report()

    def _inherited(self) -> Pipeline:
        """The pipeline of the shards that this one was split or merged from; empty without any."""
        host = self._host
        listed = {one.shard_id: one.parents for one in self._stream.shards()}
        if self.shard_id not in listed:
            raise UnavailableError(f"shard {self.shard_id} is not in the list of the stream's")
        found = ancestors(host.states, host.pipeline, self.shard_id, listed, host.plan, host.log)
        for parent, (recalled, last) in found.items():
            if not last and parent in listed:
                insist = partial(self._insist, "read")
                read_again(self._stream, recalled.pipeline, parent, None, insist)
        self._unsaved = bool(found)  # its own children look for what it has, though no record came
        return joined([recalled.pipeline for recalled, _ in found.values()], host.plan)

    def _read_again(self, checkpoint: Position) -> None:
        """Apply what lies up to the checkpoint, and tell what of its record lies behind it.

        The daemon does not hand out the user records up to the checkpoint; those of the same
        Kinesis record behind it are read here already, and known when it hands them out.
        """
        assert self._pipeline is not None
        before = str(int(checkpoint.sequence_number) + 1)
        insist = partial(self._insist, "read")
        read_again(self._stream, self._pipeline, self.shard_id, before, insist, self._deliver)
        self._unsaved = True
        self._host.log("read_again", shard=self.shard_id, position=str(self.position))

    def _apply(self, records: list[Record]) -> None:
        pipeline, host = self._pipeline, self._host
        assert pipeline is not None, "the daemon initializes first"
        before = self.position
        outcome: Outcome = self._insist("apply", partial(pipeline.push, records))
        self._deliver(outcome)
        self._unsaved = self._unsaved or self.position != before
        host.observe(outcome)
        host.metrics.observe(self.shard_id, outcome)
        for rule, devices in pipeline.firing.items():
            host.metrics.set("alerts_firing", devices, shard=self.shard_id, rule=rule)
        host.metrics.set("stale_threshold_devices", pipeline.stale_devices, shard=self.shard_id)

    def _deliver(self, outcome: Outcome) -> None:
        """Hand the rows that the sinks do not have to each; return once they are safe."""
        host = self._host
        alerts, rejected, forwarded = untold(outcome, self._told)
        if forwarded:
            assert host.forward is not None, "the host of a rule that forwards has a sink"
            self._insist("deliver", partial(host.forward.deliver, forwarded))
        if alerts:
            self._insist("deliver", partial(host.alerts.deliver, alerts))
        if rejected:
            self._insist("deliver", partial(host.errors.deliver, rejected))

    def _save(self, seconds_max: float = RETRY_SECONDS_MAX) -> None:
        """Write the next state object; FencedError where another owner has written it."""
        host, pipeline = self._host, self._pipeline
        assert pipeline is not None
        host.alerts.flush()
        host.errors.flush()
        generation = self._generation + 1
        data = pipeline.save(full=True, earlier=self._full)
        place = host.pipeline, self.shard_id, generation, data

        def create() -> None:
            try:
                host.states.create(*place)
            except FencedError:
                if not is_ours(host.states, *place):
                    raise

        try:
            self._insist("save", create, seconds_max)
        except FencedError as error:
            host.metrics.add("fenced_total", shard=self.shard_id)
            host.log("fenced", shard=self.shard_id, cause=str(error))
            raise
        self._generation, self._full = generation, written(self._full, generation)
        self._unsaved = False
        self._save_at = host.now() + host.save_seconds
        host.metrics.set("checkpoint_timestamp_seconds", host.wall(), shard=self.shard_id)
        host.log(
            "state_saved", shard=self.shard_id, generation=generation, position=str(self.position)
        )
        self._prune()

    def _prune(self) -> None:
        oldest = oldest_kept(self._full)
        if oldest is None:
            return
        try:
            self._host.states.prune(self._host.pipeline, self.shard_id, oldest)
        except UnavailableError as error:
            self._host.log("prune_refused", shard=self.shard_id, cause=str(error))

    def _note(self, seconds_max: float = RETRY_SECONDS_MAX) -> None:
        """Have the daemon note the position that is saved, so far as it has handed it out."""
        at, delivered = self.position, self._delivered
        if at is None or delivered is None:
            return
        at = min(at, delivered, key=lambda one: one.order)
        if self._noted is not None and at.order <= self._noted.order:
            return
        try:
            self._insist("checkpoint", partial(self._daemon.checkpoint, at), seconds_max)
        except LeaseLostError as error:
            self._host.log("checkpoint_refused", shard=self.shard_id, cause=str(error))
            self._let_go()
        else:
            self._noted = at

    def _insist(
        self, step: str, call: Callable[[], Any], seconds_max: float = RETRY_SECONDS_MAX
    ) -> Any:
        """Make a call, again while it is refused, up to a limit."""
        host = self._host

        def tried() -> Any:
            try:
                return call()
            except UnavailableError as error:
                host.metrics.add("refused_total", shard=self.shard_id, step=step)
                host.metrics.set("shard_waiting", 1, shard=self.shard_id)
                host.log("waiting", shard=self.shard_id, step=step, cause=str(error))
                self._report()
                raise

        patience = Patience(
            seconds_max=seconds_max, now=host.now, sleep=self._sleep, random=host.random
        )
        answer = patience.insist(tried)
        if patience.counts.retries:
            host.metrics.set("shard_waiting", 0, shard=self.shard_id)
        return answer


def to_be_opened(records: Sequence[Record]) -> list[Record]:
    """The same records, of which those that may be aggregates have no sub-sequence number.

    The protocol always gives one: 0 for what came as it lies in the stream. A user record of an
    aggregate that was opened already has a higher one, or its neighbour has the same sequence
    number; such a one may look like an aggregate and is a message.
    """
    found = list(records)
    for number, record in enumerate(found):
        if record.sub_sequence_number or not record.data.startswith(MAGIC):
            continue
        follows = found[number + 1] if number + 1 < len(found) else None
        if follows is None or follows.sequence_number != record.sequence_number:
            found[number] = Record(record.shard_id, record.sequence_number, record.data,
                                   record.partition_key, record.arrival)  # fmt: skip
    return found
