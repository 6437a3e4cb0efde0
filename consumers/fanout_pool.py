"""Who reduces the chunks of the fan-out mode: this process, or several others.

    fanout.py                              a process each, which remembers nothing
        Chunk  ------------------------------->  reduce
        <-------------------------------------  Done

A process that dies is replaced, and what it had is reduced by another: a chunk comes to the same
panes wherever that is. It has one at a time: a slow one holds up no more than that, and nobody
writes into a pipe while the other end does.
"""

from __future__ import annotations

import multiprocessing
import signal
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any, NamedTuple, Protocol

from ..engine.batch import Position, Record
from ..engine.errors import StreamgaugeError
from ..engine.panes import Partial, Reducer
from ..rules.plan_fan_out import plan_reducer
from ..rules.spec import Spec

DEATHS_MAX = 10  # of processes, without a chunk that came back in between
JOIN_SECONDS = 2.0


class Chunk(NamedTuple):
    """An interval of one shard's positions.

    number: of the chunk in its shard, from 0. epoch: chunks of an earlier one are of no use any
    more. shard_time: int ms, before its first record. after: positions up to here are left out.
    """

    shard_id: str
    number: int
    epoch: int
    records: list[Record]
    shard_time: int
    after: Position | None


class Done(NamedTuple):
    """What a chunk came to."""

    shard_id: str
    number: int
    epoch: int
    partial: Partial


class Pool(Protocol):
    """Reduces chunks in any order."""

    @property
    def has_room(self) -> bool:
        """Whether it takes one more."""
        ...

    def give(self, chunk: Chunk) -> None:
        """Take a chunk."""

    def take(self, seconds: float) -> list[Done]:
        """What is reduced, waiting for the first no longer than this.

        Raises:
            StreamgaugeError: nobody can reduce it; says why.
        """
        ...

    def close(self) -> None:
        """End; chunks that are not reduced are dropped."""


class Here:
    """A Pool of this process alone."""

    def __init__(self, spec: Spec, sleep: Callable[[float], object]) -> None:
        """Compile the rules."""
        self._reducer, self._sleep = plan_reducer(spec), sleep
        self._given: deque[Chunk] = deque()

    @property
    def has_room(self) -> bool:
        """One at a time."""
        return not self._given

    def give(self, chunk: Chunk) -> None:
        """Keep it until it is asked for."""
        self._given.append(chunk)

    def take(self, seconds: float) -> list[Done]:
        """Reduce what was given; without anything wait."""
        if not self._given:
            self._sleep(seconds)
        return [_reduced(self._reducer, self._given.popleft()) for _ in range(len(self._given))]

    def close(self) -> None:
        """Do nothing."""


@dataclass(eq=False)
class _Worker:
    process: Any
    connection: Connection
    chunk: Chunk | None = None


class Processes:
    """A Pool of several processes."""

    def __init__(self, spec: Spec, count: int, log: Callable[..., None]) -> None:
        """Start them."""
        self._spec, self._log = spec, log
        self._context = multiprocessing.get_context("spawn")  # no thread or client is taken along
        self._deaths = 0
        self._again: list[Chunk] = []  # of processes that died
        self._workers = [self._start() for _ in range(count)]

    @property
    def has_room(self) -> bool:
        """Whether one of them has nothing to do."""
        return not self._again and any(worker.chunk is None for worker in self._workers)

    def give(self, chunk: Chunk) -> None:
        """Hand a chunk to one that has nothing to do."""
        worker = next(one for one in self._workers if one.chunk is None)
        worker.chunk = chunk
        try:
            worker.connection.send(chunk)
        except OSError:  # it is dead, which is seen when it is listened to
            return

    def take(self, seconds: float) -> list[Done]:
        """What has come back; who has died is replaced."""
        while self._again and any(worker.chunk is None for worker in self._workers):
            self.give(self._again.pop(0))
        found: list[Done] = []
        ready = set(map(id, wait([one.connection for one in self._workers], seconds)))
        for place, worker in enumerate(self._workers):
            if id(worker.connection) not in ready:
                continue
            try:
                while worker.connection.poll():
                    found.append(self._received(worker, worker.connection.recv()))
            except (EOFError, OSError):
                self._replace(place, worker)
        return found

    def close(self) -> None:
        """End the processes."""
        for worker in self._workers:
            worker.connection.close()  # which they see
        for worker in self._workers:
            worker.process.join(JOIN_SECONDS)
            if worker.process.is_alive():
                worker.process.kill()
                worker.process.join()

    def _received(self, worker: _Worker, message: Done | str) -> Done:
        if isinstance(message, str):
            raise StreamgaugeError(message)
        self._deaths = 0
        worker.chunk = None
        return message

    def _replace(self, place: int, worker: _Worker) -> None:
        worker.process.join(JOIN_SECONDS)
        code = worker.process.exitcode
        self._log("worker_died", exit_status=code)
        self._deaths += 1
        if self._deaths > DEATHS_MAX:
            what = f"{DEATHS_MAX} workers died one after the other (status {code})"
            raise StreamgaugeError(what)
        worker.connection.close()
        self._again += [] if worker.chunk is None else [worker.chunk]
        self._workers[place] = self._start()

    def _start(self) -> _Worker:
        here, there = self._context.Pipe()
        process = self._context.Process(target=_work, args=(there, self._spec), daemon=True)
        process.start()
        there.close()
        return _Worker(process, here)


def _reduced(reducer: Reducer, chunk: Chunk) -> Done:
    partial = reducer.reduce(chunk.records, chunk.shard_time, chunk.after)
    return Done(chunk.shard_id, chunk.number, chunk.epoch, partial)


def _work(connection: Connection, spec: Spec) -> None:
    """Reduce what comes, until nobody is there any more; the body of a process."""
    for number in (signal.SIGINT, signal.SIGTERM):  # they reach every process of a group
        signal.signal(number, signal.SIG_IGN)
    try:
        reducer = plan_reducer(spec)
        while True:
            connection.send(_reduced(reducer, connection.recv()))
    except (EOFError, OSError):
        return
    except StreamgaugeError as error:
        connection.send(str(error))
