"""One process of several that read a stream together: it reads the shards that it is told to.

What goes over the pipe between it and workers.py stands here, too. A worker ignores Ctrl-C and
SIGTERM, which reach every process of a group: it ends when it is told to, or when the pipe says
that nobody is there any more to tell it. Then it delivers and saves, as far as that goes.
"""

from __future__ import annotations

import fcntl
import signal
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import IO, Any, NamedTuple

from ..engine.batch import Alert
from ..engine.counts import Counts
from ..engine.errors import StreamgaugeError
from ..engine.sinks.base import Sink
from ..engine.sinks.local import FileSink, StdoutSink
from ..engine.stores.thresholds import FileThresholds
from ..rules.edges import Edges
from ..rules.spec import Spec
from .backoff import Refusal
from .hosting import host
from .kinesis_reader import KinesisReader
from .metrics import Metrics, Snapshot
from .reading import SLEEP_SECONDS_MAX, Reading
from .shard import Log
from .totals import Totals

REPORT_SECONDS = 0.5  # between two reports

Lock = AbstractContextManager[Any]


class Setup(NamedTuple):
    """What every worker is told at its start; all of it can be handed to another process."""

    spec: Spec
    until_end: bool
    alerts: Path | None  # None: where the spec says
    thresholds: Path | None
    log: Log


# To a worker.
class Start(NamedTuple):
    """Read this shard, whose parents are finished or gone."""

    shard_id: str
    parents: tuple[str, ...]


class Ask(NamedTuple):
    """Tell what is known of a device."""

    number: int
    device: str


class Stop(NamedTuple):
    """Deliver and save what was applied, and end."""


# From a worker.
class Finished(NamedTuple):
    """A shard is read to its end and its last state is written."""

    shard_id: str


class Report(NamedTuple):
    """How it stands: of these shards, the totals since the start of the process, its metrics."""

    shards: frozenset[str]
    at_end: bool
    totals: Totals
    metrics: Snapshot
    refused: dict[str, Refusal]


class Answer(NamedTuple):
    """What is known of the device of a question."""

    number: int
    rows: list[dict[str, Any]] | None  # None: a state is not loaded yet


class Ended(NamedTuple):
    """The last word: shards of which something is left over, and why it ended, if not told to."""

    unsaved: list[str]
    cause: str | None


class FileLock:
    """A lock of several processes that one which dies lets go: the system holds it, by a file."""

    def __init__(self, path: str) -> None:
        """Name the file, which is there; each process opens it for itself."""
        self._path = path
        self._file: IO[bytes] | None = None

    def __enter__(self) -> None:
        """Wait until nobody else has it."""
        if self._file is None:
            self._file = open(self._path, "rb")
        fcntl.flock(self._file, fcntl.LOCK_EX)

    def __exit__(self, *_: object) -> None:
        """Let it go."""
        assert self._file is not None
        fcntl.flock(self._file, fcntl.LOCK_UN)

    def __getstate__(self) -> dict[str, Any]:
        """What goes to another process: the name alone."""
        return {"_path": self._path, "_file": None}


class LockedSink:
    """A sink that several processes have, each its own, and only one may use at a time."""

    def __init__(self, make: Callable[[], Sink[Alert]], lock: Lock) -> None:
        """Make the sink when its turn has come."""
        self._lock = lock
        with lock:
            self._sink = make()

    def deliver(self, rows: Sequence[Alert]) -> None:
        """Deliver when its turn has come."""
        with self._lock:
            self._sink.deliver(rows)

    def flush(self) -> None:
        """Flush the sink."""
        self._sink.flush()

    def close(self) -> None:
        """Close the sink."""
        self._sink.close()


def alert_sink(setup: Setup, lock: Lock) -> Sink[Alert] | None:
    """The sink of alerts where it is a file or standard output; None: the topic of the spec."""
    if setup.alerts is not None:
        path = setup.alerts
        return LockedSink(lambda: FileSink(path), lock)
    return None if setup.spec.alerts.sns_topic else LockedSink(StdoutSink, lock)


def work(connection: Connection, setup: Setup, lock: Lock) -> None:
    """Be a worker, until told to stop; the body of the process."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    try:
        Worker(connection, setup, lock).run()
    except (StreamgaugeError, OSError) as error:  # before the first shard
        tell(connection, Ended([], str(error)))


def tell(connection: Connection, message: NamedTuple) -> None:
    """Send a message; that nobody is there to take it is seen when the next one is read."""
    try:
        connection.send(message)
    except OSError:
        return


class Worker:
    """The loop of one worker."""

    def __init__(self, connection: Connection, setup: Setup, lock: Lock) -> None:
        """Make what its shards share; read nothing yet."""
        spec = setup.spec
        stream = spec.source.stream
        assert stream is not None, "a pipeline without a stream is not run"
        edges = Edges(spec)
        self._connection = connection
        self._stopped = False
        self._report_at = 0.0
        self.metrics = Metrics()
        self.totals = Totals(Counts(rule.name for rule in spec.rules))
        self._host = host(
            spec,
            KinesisReader(edges.service("kinesis"), stream),
            edges=edges,
            alerts=alert_sink(setup, lock),
            thresholds=None if setup.thresholds is None else FileThresholds(setup.thresholds),
            observe=self.totals.add,
            log=setup.log,
            metrics=self.metrics,
        )
        self.reading = Reading(self._host, until_end=setup.until_end)

    def run(self) -> None:
        """Read until told to stop, or until nobody can go on."""
        cause = None
        try:
            while not self._stopped:
                self._turn()
        except (StreamgaugeError, OSError) as error:
            cause = str(error)
        self.reading.drain(time.sleep)
        self._host.alerts.close()
        self._report()
        tell(self._connection, Ended(self.reading.unsaved, cause))

    def _turn(self) -> None:
        now = self._host.now()
        shard = self.reading.next()
        pause = SLEEP_SECONDS_MAX if shard is None else shard.ready_at - now
        self._receive(max(0.0, min(pause, SLEEP_SECONDS_MAX)))
        if shard is not None and pause <= 0 and not self._stopped:
            if self.reading.step(shard):
                tell(self._connection, Finished(shard.shard_id))
        if now >= self._report_at:
            self._report()

    def _report(self) -> None:
        self._report_at = self._host.now() + REPORT_SECONDS
        self.metrics.set("last_turn_timestamp_seconds", time.time())
        reading = self.reading
        shards = frozenset(reading.shards)
        report = Report(
            shards, reading.at_end, self.totals, self.metrics.snapshot(), reading.refused
        )
        tell(self._connection, report)

    def _receive(self, seconds: float) -> None:
        """Take the messages that are there; wait for the first one no longer than this."""
        try:
            while not self._stopped and self._connection.poll(seconds):
                self._take(self._connection.recv())
                seconds = 0.0
        except (EOFError, OSError):  # nobody is there any more
            self._stopped = True

    def _take(self, message: NamedTuple) -> None:
        if isinstance(message, Start):
            self.reading.start(message.shard_id, message.parents)
            self._report_at = 0.0
        elif isinstance(message, Ask):
            answer = Answer(message.number, self.reading.inspect(message.device))
            tell(self._connection, answer)
        else:
            assert isinstance(message, Stop), message
            self._stopped = True
