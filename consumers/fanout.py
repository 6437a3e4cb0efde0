"""The fan-out host on this machine: chunks in any order to whoever is free, one merger.

    read -> cut into chunks -> pool -> merge -> evaluate -> deliver -> ... -> save

Order is given up for throughput; the answer is the same for every order all the same (engine/
pane_merger.py says how). One state object holds the merger's memory and how far every shard is
passed; it is written when no chunk is on its way, so what was merged is just what the positions
say, and chunks can be cut anew after a restart. The order of promises is that of every host: all
sinks have acknowledged, then the state object, which is the checkpoint.

A shard that gives no records holds the evaluation back: nothing says what may still come. The log
tells of it (`held_back`).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from ..engine.batch import NO_TIME
from ..engine.counts import Counts
from ..engine.errors import FencedError, StreamgaugeError, UnavailableError
from ..engine.pane_merger import Merger
from ..engine.panes import Partial
from ..engine.pipeline import Outcome
from ..engine.sinks.base import RETRY_SECONDS_MAX, Patience
from .backoff import Backoff, Refusal
from .fanout_objects import Objects
from .fanout_pool import Chunk, Done, Pool
from .fanout_source import Source, chunks
from .listing import Listing
from .local import Stream
from .reading import DRAIN_SECONDS_MAX, SLEEP_SECONDS_MAX
from .shard import FENCES_MAX, READ_SECONDS_MIN, TIP_SECONDS, Host

STATE = "fan_out"  # in the place of a shard id: one memory for all of them
HELD_BACK_SECONDS = 60.0  # between two log lines of one shard


class Stopped(Exception):
    """It is time to end, whatever waits."""


class FanOut:
    """Drives a stream in the fan-out mode; has the face of LocalConsumer.

    unsaved: after a run, [STATE] where something could not be delivered or saved in time.
    """

    def __init__(
        self,
        stream: Stream,
        host: Host,
        merger: Callable[[], Merger],
        pool: Pool,
        *,
        until_end: bool = False,
        sleep: Callable[[float], object] = time.sleep,
        tend: Callable[[], object] = lambda: None,
    ) -> None:
        """Do nothing yet.

        Args:
            stream: what to read. host: sinks, states and clocks; its `plan` is not used.
            merger: makes an empty one. pool: reduces chunks.
            until_end: stop once every shard is at its tip.
            sleep: waits for seconds. tend: called between two steps, to answer questions.
        """
        self.listing = Listing(stream, host.now, host.random, host.log)
        self.unsaved: list[str] = []
        self._stream, self._host, self._make, self._pool = stream, host, merger, pool
        self._until_end, self._sleep, self._tend = until_end, sleep, tend
        self._stopping: Callable[[], bool] = lambda: False
        self._give_up_at = float("inf")
        self._fences = self._epoch = 0
        self._forget()

    def _forget(self) -> None:
        """Know nothing, as at the start; chunks that are on their way are of no use any more."""
        self._merger: Merger | None = None
        self._sources: dict[str, Source] = {}
        self._objects = Objects(self._host, STATE, self._insist)
        self._unsaved = self._saving = self._owed = False
        self._save_at = self._told_at = 0.0
        self._epoch += 1

    @property
    def unread(self) -> list[str]:
        """Shards that could not be started, as a parent of theirs has not ended."""
        return self.listing.unread

    @property
    def refused(self) -> dict[str, Refusal]:
        """Shards whose reading was refused at the last try."""
        return {s.shard_id: s.refused for s in self._sources.values() if s.refused is not None}

    def inspect(self, device: str) -> list[dict[str, Any]] | None:
        """What every rule knows of a device; None while the state is not loaded."""
        if self._merger is None:
            return None
        return [{"shard": STATE, **row} for row in self._merger.inspect(device)]

    def run(self, stopping: Callable[[], bool] = lambda: False) -> None:
        """Read, reduce, merge, deliver and save until there is nothing to do or `stopping`.

        Raises:
            StreamgaugeError: nobody can go on: the stream is not there, a service was down for too
                long, another owner goes on writing the state.
        """
        self._stopping = stopping
        try:
            while not stopping() and not self._at_end():
                try:
                    self._tend()
                    self._turn()
                except FencedError as error:
                    self._reload(error)
        except Stopped:
            pass
        finally:
            self._drain()
            self._pool.close()

    def _turn(self) -> None:
        host = self._host
        host.metrics.set("last_turn_timestamp_seconds", host.wall())
        if self._merger is None:
            self._load()
        if host.now() >= self.listing.due_at:
            self._look()
        if not self._saving:
            self._saving = self._unsaved and host.now() >= self._save_at
        self._give()
        source = None if self._saving or not self._pool.has_room else self._due()
        if source is not None:
            self._read(source)
            self._give()
            self._receive(0.0)
        else:
            self._receive(self._pause() if self._pool_is_idle else SLEEP_SECONDS_MAX)
        if self._saving and self._pool_is_idle:
            self._save()

    def _give(self) -> None:
        """Give the pool what waits, as far as it has room."""
        for source in self._sources.values():
            while source.waiting and self._pool.has_room:
                self._pool.give(source.waiting.popleft())

    @property
    def _pool_is_idle(self) -> bool:
        """Whether no chunk is on its way."""
        return all(source.passed == source.cut for source in self._sources.values())

    def _at_end(self) -> bool:
        if not self._until_end or not self.listing.known or self._merger is None:
            return False
        quiet = all(source.at_tip or source.done for source in self._sources.values())
        return self._host.now() < self.listing.due_at and quiet and self._pool_is_idle

    def _load(self) -> None:
        """Start from the newest state that can be read; without one, from the oldest records."""
        host = self._host
        self._merger = merger = self._objects.load(self._make)
        self._save_at = host.now() + host.save_seconds
        self.listing.started.clear()
        self.listing.finished = set(merger.finished)
        self.listing.due_at = host.now()
        host.metrics.set("checkpoint_timestamp_seconds", host.wall(), shard=STATE)

    def _look(self) -> None:
        """List the shards; children are known before their parents end."""
        merger, host = self._merger, self._host
        assert merger is not None
        names = [shard_id for shard_id, _ in self.listing.look()]
        if self.listing.refused:
            return
        for shard in set(merger.times) - self.listing.names:  # nothing of it is kept any more
            host.log("shard_gone", shard=shard)
            self._finish(shard)
        names = [name for name in names if name not in merger.finished]
        merger.know(names)
        for name in names:
            backoff, newest = Backoff(host.now, host.random), merger.times[name]
            self._sources[name] = Source(name, backoff, shard_time=newest)
        for source in [one for one in self._sources.values() if one.done]:
            self._finish(source.shard_id)
            host.log("shard_finished", shard=source.shard_id)

    def _finish(self, shard: str) -> None:
        """Let a shard hold nothing back any more; its children are known."""
        assert self._merger is not None
        self._merger.finish(shard)
        self._host.metrics.forget(shard)
        self._sources.pop(shard, None)
        self._unsaved = True
        names = [rule.name for rule in self._merger.rules]
        self._deliver(Partial(shard, None, NO_TIME, [], [], Counts(names)))

    def _due(self) -> Source | None:
        """The shard whose reading has been due for longest."""
        now = self._host.now()
        reading = [one for one in self._sources.values() if not (one.closed or one.waiting)]
        if self._until_end:
            reading = [one for one in reading if not one.at_tip]
        ready = [one for one in reading if one.ready_at <= now]
        return min(ready, key=lambda one: one.ready_at, default=None)

    def _pause(self) -> float:
        """Until when nothing is due."""
        times = [one.ready_at for one in self._sources.values() if not one.closed]
        due = min([self.listing.due_at, *times], default=0.0) - self._host.now()
        return max(0.0, min(due, SLEEP_SECONDS_MAX))

    def _read(self, source: Source) -> None:
        """Read a shard on, and give what came to the pool."""
        host, merger = self._host, self._merger
        assert merger is not None
        position = merger.positions.get(source.shard_id)
        try:
            if source.iterator is None:
                source.iterator = self._stream.iterator(source.shard_id, position, source.inclusive)
            fetched = self._stream.read(source.shard_id, source.iterator)
            if fetched is None:  # it has expired; what was cut since is cut again
                self._restart(source)
                raise UnavailableError(f"the iterator of shard {source.shard_id} has expired")
        except UnavailableError as error:
            pause = source.backoff.pause(error)
            assert source.backoff.since is not None
            source.refused = Refusal("read", source.backoff.since, str(error))
            source.ready_at = host.now() + pause
            host.metrics.add("refused_total", shard=source.shard_id, step="read")
            host.log("waiting", shard=source.shard_id, step="read", cause=str(error))
            return
        source.backoff.clear()
        source.refused = None
        source.iterator, source.closed = fetched.iterator, fetched.iterator is None
        host.metrics.add("shard_reads_total", shard=source.shard_id)
        host.metrics.set("shard_lag_seconds", fetched.behind / 1000, shard=source.shard_id)
        source.at_tip = not (fetched.records or fetched.behind or source.closed)
        source.ready_at = host.now() + (TIP_SECONDS if source.at_tip else READ_SECONDS_MIN)
        for records in chunks(source.fresh(fetched.records)):
            source.waiting.append(Chunk(
                source.shard_id, source.cut, self._epoch, records, source.shard_time,
                position if source.inclusive else None,
            ))  # fmt: skip
            source.cut += 1
            source.inclusive = False
            for record in records:
                if record.arrival is not None:
                    source.shard_time = max(source.shard_time, record.arrival)
        if source.done:
            self._ended(source)
        elif source.at_tip:
            self._tell_held_back(source)

    def _restart(self, source: Source) -> None:
        """Read on behind what is passed, once no chunk is on its way."""
        while source.passed < source.cut:
            self._give()
            self._receive(SLEEP_SECONDS_MAX)
        source.iterator, source.inclusive, source.newest = None, True, -1

    def _ended(self, source: Source) -> None:
        """A shard is read to its end and merged: its children are looked for, then it is done."""
        self.listing.finish(source.shard_id)

    def _tell_held_back(self, source: Source) -> None:
        assert self._merger is not None
        now = self._host.now()
        holds = self._merger.times.get(source.shard_id) == self._merger.watermark
        if holds and len(self._sources) > 1 and now >= self._told_at:
            self._told_at = now + HELD_BACK_SECONDS
            self._host.log("held_back", shard=source.shard_id)

    def _receive(self, seconds: float) -> None:
        """Merge what the pool has reduced, and deliver what came of it."""
        for done in self._pool.take(seconds):
            if done.epoch == self._epoch:
                self._merge(done)

    def _merge(self, done: Done) -> None:
        merger, source = self._merger, self._sources[done.shard_id]
        assert merger is not None
        partial = done.partial
        merger.merge(partial)
        source.back[done.number] = (partial.position, partial.shard_time)
        while source.passed in source.back:
            position, shard_time = source.back.pop(source.passed)
            merger.passed(source.shard_id, position, shard_time)
            source.passed += 1
        self._unsaved = True
        self._deliver(partial)
        if source.done:
            self._ended(source)

    def _deliver(self, partial: Partial) -> None:
        """Evaluate what can be, and hand all rows to the sinks."""
        host, merger = self._host, self._merger
        assert merger is not None
        self._owed = True  # until all sinks have it nothing is saved
        alerts = self._insist(lambda: merger.evaluate(partial.counts.rules))
        outcome = Outcome(
            alerts, partial.rejected, [], partial.counts,
            {} if partial.position is None else {partial.shard_id: partial.position},
            partial.forwarded,
        )  # fmt: skip
        if outcome.forwarded:
            assert host.forward is not None, "the host of a rule that forwards has a sink"
            forward = host.forward
            self._insist(lambda: forward.deliver(outcome.forwarded))
        if outcome.alerts:
            self._insist(lambda: host.alerts.deliver(outcome.alerts))
        if outcome.rejected:
            self._insist(lambda: host.errors.deliver(outcome.rejected))
        self._owed = False
        host.observe(outcome)
        host.metrics.observe(partial.shard_id, outcome)
        for rule, devices in merger.firing.items():
            host.metrics.set("alerts_firing", devices, shard=STATE, rule=rule)
        host.metrics.set("stale_threshold_devices", merger.stale_devices, shard=STATE)

    def _save(self) -> None:
        """Write the next state object; no chunk is on its way."""
        host, merger = self._host, self._merger
        assert merger is not None and self._pool_is_idle and not self._owed
        self._insist(host.alerts.flush)
        self._insist(host.errors.flush)
        self._objects.save(merger)
        self._unsaved = self._saving = False
        self._save_at = host.now() + host.save_seconds
        host.metrics.set("checkpoint_timestamp_seconds", host.wall(), shard=STATE)

    def _reload(self, error: FencedError) -> None:
        """Give up what was not saved: the newest state object is another owner's. Go on there."""
        self._fences += 1
        self._host.metrics.add("fenced_total", shard=STATE)
        self._host.log("fenced", shard=STATE, times=self._fences, cause=str(error))
        if self._fences > FENCES_MAX:
            raise error
        self._forget()

    def _insist(self, call: Callable[[], Any]) -> Any:
        """Make a call, again where it is refused; Stopped once it is time to give up."""
        host = self._host
        patience = Patience(
            seconds_max=RETRY_SECONDS_MAX, now=host.now, sleep=self._wait, random=host.random
        )
        return patience.insist(call)

    def _wait(self, seconds: float) -> None:
        """Sleep in a pause between two tries, and tend to questions."""
        if self._stopping() and self._give_up_at == float("inf"):
            self._give_up_at = self._host.now() + DRAIN_SECONDS_MAX
        if self._host.now() >= self._give_up_at:
            raise Stopped
        self._tend()
        self._sleep(min(seconds, SLEEP_SECONDS_MAX))

    def _drain(self) -> None:
        """Merge what is on its way, deliver and save, within DRAIN_SECONDS_MAX."""
        host = self._host
        if self._give_up_at == float("inf"):
            self._give_up_at = host.now() + DRAIN_SECONDS_MAX
        try:
            while not self._pool_is_idle and host.now() < self._give_up_at:
                self._give()
                self._receive(SLEEP_SECONDS_MAX)
            if self._unsaved and self._pool_is_idle and not self._owed:
                self._save()
        except (StreamgaugeError, OSError, Stopped) as error:
            host.log("unsaved", shard=STATE, cause=str(error) or "no time was left")
        self.unsaved = [STATE] if self._unsaved else []
