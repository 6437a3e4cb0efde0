"""Several processes that read one stream together: each shard in one of them, parents first.

    this process: lists shards, hands them out, stops         worker.py: reads them
        Start, Ask, Stop  ------------------------------------->
        <---------------------------  Finished, Report, Answer, Ended

Shards never move between workers: what a worker does not finish is read by another one only after
it has died, from the last state object, as after any crash. The answer does not depend on how many
there are, for a shard has one order wherever it is read.
"""

from __future__ import annotations

import multiprocessing
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from typing import Any

from ..engine.counts import Counts
from ..engine.errors import StreamgaugeError
from .backoff import Refusal
from .listing import Lister, Listing
from .metrics import Metrics, Snapshot, counters
from .reading import DRAIN_SECONDS_MAX, SLEEP_SECONDS_MAX
from .totals import Totals
from .worker import Answer, Ask, Ended, FileLock, Finished, Report, Setup, Start, Stop, work

DEATHS_MAX = 10  # of workers, in a row of which each follows the last within
DEATHS_APART_SECONDS = 300.0
ASKED_BYTES_MAX = 32_768  # of questions that wait for one worker: less than a pipe takes, so that
ASKED_BYTES_MIN = 256  # one that hangs does not hold up who asks; and of each at least
END_SECONDS_MAX = DRAIN_SECONDS_MAX + 1.5  # from the wish to stop until a worker is killed


@dataclass(eq=False)
class _Member:
    """One worker: its process, what it was given, and what it last said."""

    process: Any
    connection: Connection
    shards: dict[str, tuple[str, ...]] = field(default_factory=dict)
    asked: dict[int, int] = field(default_factory=dict)  # questions it has not answered: bytes
    report: Report | None = None
    ended: Ended | None = None

    @property
    def load(self) -> int:
        return len(self.shards)

    @property
    def at_end(self) -> bool:
        """Whether all it was given is read to the tip, and it has said so."""
        report = self.report
        return report is not None and report.at_end and set(self.shards) <= report.shards


class Workers:
    """Drives a stream with several processes; has the face of LocalConsumer.

    unsaved: after a run, shards of which something could not be delivered or saved in time.
    """

    def __init__(
        self,
        stream: Lister,
        setup: Setup,
        count: int,
        *,
        metrics: Metrics,
        tend: Callable[[], object] = lambda: None,
        now: Callable[[], float] = time.monotonic,
        random: Callable[[], float],
    ) -> None:
        """Start no process yet; `tend` is called between two turns, to answer questions."""
        self.listing = Listing(stream, now, random, setup.log)
        self.unsaved: list[str] = []
        self._past = Totals(Counts(rule.name for rule in setup.spec.rules))  # of the dead
        self._past_metrics: list[Snapshot] = []
        self._setup = setup
        self._count = count
        self._metrics = metrics
        self._tend = tend
        self._now = now
        self._members: list[_Member] = []
        self._died: list[float] = []
        self._asked: dict[int, tuple[set[int], list[dict[str, Any]], Any]] = {}
        self._number = 0
        self._replacing = threading.Lock()
        context = multiprocessing.get_context("spawn")  # no thread or client is taken along
        self._context = context
        self._locked = tempfile.NamedTemporaryFile(prefix="streamgauge-")
        self._lock = FileLock(self._locked.name)

    @property
    def unread(self) -> list[str]:
        """Shards that could not be started, as a parent of theirs has not ended."""
        return self.listing.unread

    @property
    def totals(self) -> Totals:
        """What became of the records so far, by what the workers have reported."""
        totals = Totals(Counts(rule.name for rule in self._setup.spec.rules))
        for part in (self._past, *(m.report.totals for m in self._members if m.report)):
            totals.merge(part)
        return totals

    @property
    def snapshots(self) -> list[Snapshot]:
        """The metrics of this process and of all workers; any thread may ask."""
        with self._replacing:
            found = [m.report.metrics for m in self._members if m.report]
            return [self._metrics.snapshot(), *self._past_metrics, *found]

    @property
    def refused(self) -> dict[str, Refusal]:
        """Shards whose step was refused at the last try."""
        return {
            shard: refusal
            for member in self._members
            if member.report is not None
            for shard, refusal in member.report.refused.items()
        }

    def run(self, stopping: Callable[[], bool] = lambda: False) -> None:
        """Read, apply, deliver and save until there is nothing to do or `stopping` says so.

        Raises:
            StreamgaugeError: nobody can go on; what was applied is delivered and saved before.
        """
        self._members = [self._start() for _ in range(self._count)]
        try:
            while not stopping() and not self._at_end():
                self._metrics.set("last_turn_timestamp_seconds", time.time())
                self._tend()
                if self._now() >= self.listing.due_at:
                    self._assign()
                self._receive()
                self._replace_dead()
        finally:
            self._end()

    def ask(self, question: Any) -> None:
        """Pass a question about a device on; it is answered when all workers have said."""
        living = [member for member in self._members if member.ended is None]
        size = len(question.device.encode()) + ASKED_BYTES_MIN
        busy = any(sum(one.asked.values()) + size > ASKED_BYTES_MAX for one in living)
        if busy or not self.listing.known:
            question.reply(None)
            return
        self._number += 1
        self._asked[self._number] = ({id(member) for member in living}, [], question)
        for member in living:
            member.asked[self._number] = size
            self._tell(member, Ask(self._number, question.device))

    def _start(self) -> _Member:
        here, there = self._context.Pipe()
        process = self._context.Process(
            target=work, args=(there, self._setup, self._lock), daemon=True
        )
        process.start()
        there.close()
        return _Member(process, here)

    def _at_end(self) -> bool:
        if not self._setup.until_end or not self.listing.known:
            return False
        known = self._now() < self.listing.due_at
        return known and all(member.at_end for member in self._members)

    def _assign(self) -> None:
        """Give each shard that can be started to the worker that has fewest."""
        for shard_id, parents in self.listing.look():
            self._give(min(self._members, key=lambda member: member.load), shard_id, parents)

    def _give(self, member: _Member, shard_id: str, parents: tuple[str, ...]) -> None:
        member.shards[shard_id] = parents
        self._tell(member, Start(shard_id, parents))

    def _tell(self, member: _Member, message: object) -> None:
        try:
            member.connection.send(message)
        except OSError:  # it is dead, which is seen by its sentinel
            return

    def _receive(self, seconds: float = SLEEP_SECONDS_MAX) -> None:
        """Take what workers say, waiting for the first word no longer than this."""
        open_ = [member.connection for member in self._members if member.ended is None]
        ready = set(map(id, wait(open_, seconds)))
        for member in [one for one in self._members if id(one.connection) in ready]:
            try:
                while member.connection.poll():
                    self._take(member, member.connection.recv())
            except (EOFError, OSError):
                if member.ended is None:
                    member.process.join(1.0)
                    member.ended = Ended(list(member.shards), None)

    def _take(self, member: _Member, message: object) -> None:
        if isinstance(message, Report):
            member.report = message
        elif isinstance(message, Finished):
            member.shards.pop(message.shard_id, None)
            self.listing.finish(message.shard_id)
        elif isinstance(message, Answer):
            self._answered(member, message)
        elif isinstance(message, Ended):
            member.ended = message

    def _answered(self, member: _Member, answer: Answer) -> None:
        member.asked.pop(answer.number, None)
        if answer.number not in self._asked:
            return
        waiting, rows, question = self._asked[answer.number]
        waiting.discard(id(member))
        rows += answer.rows or []
        if answer.rows is None or not waiting:
            del self._asked[answer.number]
            question.reply(None if answer.rows is None else rows)

    def _drop_questions(self, member: _Member) -> None:
        """Who died does not answer, and nobody else knows what it knew."""
        for number, (waiting, _, question) in list(self._asked.items()):
            if id(member) in waiting:
                del self._asked[number]
                question.reply(None)

    def _replace_dead(self) -> None:
        """Start a worker in place of one that has died; its shards are read again from the last
        state objects."""
        for place, member in enumerate(self._members):
            if member.ended is None:
                continue
            if member.ended.cause is not None:
                raise StreamgaugeError(member.ended.cause)
            code = member.process.exitcode
            self._setup.log("worker_died", exit_status=code, shards=sorted(member.shards))
            self._note_death(code)
            self._drop_questions(member)
            member.connection.close()
            started = self._start()
            with self._replacing:
                self._members[place] = started
                if member.report is not None:
                    self._past.merge(member.report.totals)
                    self._past_metrics.append(counters(member.report.metrics))
            for shard_id, parents in member.shards.items():
                self._give(self._members[place], shard_id, parents)

    def _note_death(self, code: int | None) -> None:
        self._metrics.add("worker_deaths_total")
        now = self._now()
        if self._died and now - self._died[-1] > DEATHS_APART_SECONDS:
            self._died.clear()
        self._died.append(now)
        if len(self._died) > DEATHS_MAX:
            raise StreamgaugeError(f"{DEATHS_MAX} workers died one after the other (status {code})")

    def _end(self) -> None:
        """Tell all workers to deliver and save; kill those that are not through in time."""
        until = time.monotonic() + END_SECONDS_MAX
        for member in self._members:
            self._tell(member, Stop())
        while any(member.ended is None for member in self._members):
            left = until - time.monotonic()
            if left <= 0:
                break
            self._receive(min(left, SLEEP_SECONDS_MAX))
        for member in self._members:
            member.process.join(max(0.0, until - time.monotonic()))
            if member.process.is_alive():
                member.process.kill()
                member.process.join()
            self.unsaved += list(member.shards) if member.ended is None else member.ended.unsaved
        self._locked.close()
