"""The aggregating producer with a thread of its own, for callers of several threads.

    with exit_on_sigterm(), BackgroundProducer("telemetry", Service("kinesis")) as producer:
        for device, payload in readings:
            future = producer.put(device, payload)
        ...
        future.result().placed.sequence_number

`put` hands a record to the thread and comes back at once, unless there is no room: then it waits,
or raises. Records of one partition key keep the order of their puts, as far as the caller's threads
have one. What becomes of a record its future tells, or its callback, or both.
"""

from __future__ import annotations

import atexit
import logging
import math
import signal
import sys
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple, Self

from ..engine.aws import Service
from ..engine.errors import StreamgaugeError
from .aggregator import BUFFER_BYTES_MAX, EXIT_SECONDS_MAX, Callback, Producer
from .buffer import cost, known
from .outcomes import BufferFullError, Counters, HandedBackError, Outcome, RecordError

REFUSED_SECONDS = 1.0  # between two tries where the stream refuses for good
IDLE_SECONDS = 3600.0  # with nothing to put; a put ends it
_log = logging.getLogger(__name__)


class _Given(NamedTuple):
    """A record on its way to the thread."""

    partition_key: str
    data: bytes
    explicit_hash_key: int | None
    callback: Callback | None
    future: Future[Outcome]


class BackgroundProducer:
    """Puts user records into one stream, from any thread; see aggregator.py for what it promises.

    Where the stream refuses for good (no such stream, not allowed), `put` says so until it no
    longer does; what was taken before is tried again until its time is over, and then handed back.
    """

    def __init__(
        self,
        stream: str,
        service: Service,
        *,
        buffer_bytes_max: int = BUFFER_BYTES_MAX,
        wait_for_room: bool = True,
        **settings: Any,
    ) -> None:
        """Start the thread; it makes the first call when it is given the first record.

        Args:
            stream: name or ARN. service: `kinesis`.
            buffer_bytes_max: memory of all that is on its way. wait_for_room: False raises
                BufferFullError where that is reached.
            settings: as of Producer.
        """
        self._stream = stream
        self._buffer_max, self._wait_for_room = buffer_bytes_max, wait_for_room
        self._producer = Producer(stream, service, buffer_bytes_max=sys.maxsize, **settings)
        self._changed = threading.Condition()  # guards all below
        self._inbox: deque[_Given] = deque()
        self._held = 0  # memory of the records whose outcome is not known
        self._count = 0
        self._refused: StreamgaugeError | None = None
        self._closing: float | None = None  # when what is left is to be handed back
        self._thread = threading.Thread(target=self._work, name="streamgauge producer", daemon=True)
        self._thread.start()
        # A program that forgets to close still puts what it can at its end.
        self._at_exit = partial(_close_at_exit, weakref.ref(self))
        atexit.register(self._at_exit)

    def __enter__(self) -> Self:
        """The producer itself."""
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        """Close; after an exception or a signal for at most EXIT_SECONDS_MAX."""
        self.close(math.inf if kind is None else EXIT_SECONDS_MAX)

    @property
    def counters(self) -> Counters:
        """What it has done; counted by the thread, so that it may be a little behind."""
        return self._producer.counters

    @property
    def buffered_bytes(self) -> int:
        """Memory of the user records that are on their way, with an overhead for each."""
        return self._held

    @property
    def buffered_records(self) -> int:
        """The number of user records that are on their way."""
        return self._count

    def put(
        self,
        partition_key: str,
        data: bytes,
        explicit_hash_key: int | None = None,
        *,
        callback: Callback | None = None,
    ) -> Future[Outcome]:
        """Take one user record; after an exception it is not taken.

        Returns:
            What becomes of it: an Outcome, or HandedBackError where it was not put in time. Its
            result is there once an answer told it. Such a future cannot be cancelled.

        Raises:
            RecordError: its key is none that Kinesis takes. Other reasons of that kind come as the
                future's exception.
            BufferFullError: there is no room (only without `wait_for_room`).
            StreamgaugeError: the stream refuses for good, or the producer is closed.
        """
        known(partition_key)
        size = cost(partition_key, data)
        future: Future[Outcome] = Future()
        future.set_running_or_notify_cancel()
        given = _Given(partition_key, data, explicit_hash_key, callback, future)
        with self._changed:
            self._wait_for(size)
            if self._closing is not None:
                raise StreamgaugeError(f"stream {self._stream}: the producer is closed")
            self._held += size
            self._count += 1
            self._inbox.append(given)
            if len(self._inbox) == 1:
                self._changed.notify_all()
        return future

    def flush(self, seconds_max: float = math.inf) -> bool:
        """Wait until every record taken before has its outcome; whether that was reached."""
        end = time.monotonic() + seconds_max
        with self._changed:
            while self._count and (left := end - time.monotonic()) > 0:
                self._changed.wait(min(left, REFUSED_SECONDS))
            return not self._count

    def close(self, seconds_max: float = math.inf) -> None:
        """Put everything, hand back what cannot be put in time, and end the thread.

        Puts are refused from then on. May be called twice.
        """
        atexit.unregister(self._at_exit)
        with self._changed:
            until = time.monotonic() + seconds_max
            self._closing = until if self._closing is None else min(until, self._closing)
            self._changed.notify_all()
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def _wait_for(self, size: int) -> None:
        """Wait for room, or raise; the lock is held."""
        while self._closing is None:
            if self._refused is not None:
                raise self._refused
            if not self._held or self._held + size <= self._buffer_max:
                return
            if not self._wait_for_room:
                held = f"{self._held} bytes wait to be put, of at most {self._buffer_max}"
                raise BufferFullError(f"stream {self._stream}: {held}")
            if threading.current_thread() is self._thread:
                return  # a callback that puts: to wait here would be to wait for itself
            self._changed.wait(REFUSED_SECONDS)

    def _work(self) -> None:
        """The thread: hand records to the producer and let it send, until closed and empty."""
        while True:
            with self._changed:
                given, self._inbox = self._inbox, deque()
                closing = self._closing
            pause = self._send(given, closing)
            with self._changed:
                self._changed.notify_all()  # there may be room
                if self._inbox or self._closing != closing:
                    continue
                if closing is not None and (not self._count or time.monotonic() >= closing):
                    break
                self._changed.wait(pause)
        self._guarded(lambda: self._producer.close(0.0))

    def _send(self, given: deque[_Given], closing: float | None) -> float:
        """Give the producer what came, and send what is due; seconds until something will be."""
        refused: StreamgaugeError | None = None
        pause = REFUSED_SECONDS
        while given:
            one = given.popleft()
            told = partial(self._told, one)
            try:
                self._producer.put(
                    one.partition_key, one.data, one.explicit_hash_key, callback=told
                )
            except RecordError as error:
                self._ended(one)
                one.future.set_exception(error)
            except StreamgaugeError as error:  # it was not taken
                refused = error
                given.appendleft(one)
                break
        else:
            try:
                if closing is not None:
                    self._producer.flush(0.0)
                idle = not self._producer.buffered_records
                pause = IDLE_SECONDS if idle else self._producer.tick()
            except StreamgaugeError as error:
                refused, pause = error, REFUSED_SECONDS
        with self._changed:
            self._refused = refused
            self._inbox.extendleft(reversed(given))
            if given and closing is not None and time.monotonic() >= closing:
                self._give_up()
        return pause if refused is None else REFUSED_SECONDS

    def _give_up(self) -> None:
        """Hand back what the producer never took; the lock is held."""
        while self._inbox:
            one = self._inbox.popleft()
            self._held -= cost(one.partition_key, one.data)
            self._count -= 1
            why = f"stream {self._stream}: not put in time: {self._refused}"
            one.future.set_exception(HandedBackError(why, []))

    def _told(self, one: _Given, outcome: Outcome) -> None:
        """Tell the outcome of a record, which is a callback of the producer's."""
        self._ended(one)
        if one.callback is not None:
            self._guarded(partial(one.callback, outcome))
        if outcome.placed is not None:
            one.future.set_result(outcome)
        else:
            codes = ", ".join(dict.fromkeys(attempt.code for attempt in outcome.attempts))
            why = f"stream {self._stream}: not put in time; errors: {codes or 'none'}"
            one.future.set_exception(HandedBackError(why, [outcome]))

    def _ended(self, one: _Given) -> None:
        with self._changed:
            self._held -= cost(one.partition_key, one.data)
            self._count -= 1

    def _guarded(self, call: Callable[[], object]) -> None:
        """Call what may raise anything: the thread lives on."""
        try:
            call()
        except Exception:
            self.counters.callback_errors += 1
            _log.exception("stream %s: a callback has failed", self._stream)


def _close_at_exit(producer: weakref.ref[BackgroundProducer]) -> None:
    if (found := producer()) is not None:
        found.close(EXIT_SECONDS_MAX)


@contextmanager
def exit_on_sigterm() -> Iterator[None]:
    """Have SIGTERM end the program as `sys.exit(0)` does, so that producers around are closed.

    For the main thread. Entered before the producer, it is left after that is closed.
    """

    def leave(*_: object) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # once is enough: the closing is not cut
        sys.exit(0)

    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
