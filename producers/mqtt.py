"""The bridge: messages of an MQTT broker, through routes, into a stream.

    link > take > routes > producer > outcome > acknowledged to the broker
                        `> error stream > acknowledged

A message of quality of service 1 is acknowledged only when everything that became of it is safe: in
the stream, or in the error stream with its topic and bytes. Until then the broker keeps it, and
sends it again to whoever comes after a crash. How many have no outcome yet is bounded: where the
bound is reached nothing more is read, and the broker holds the rest back.

One thread does all of it, link and producer too, so nothing ends silently behind the others.
"""

from __future__ import annotations

import random as random_module
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import NamedTuple, Protocol

from ..engine.batch import Position, Rejected
from ..engine.errors import UnavailableError
from ..engine.payload import Unreadable
from ..engine.sinks.base import PAUSE_SECONDS_FIRST, PAUSE_SECONDS_MAX, Sink
from ..rules.project import Route, RouteError
from .in_flight import InFlight, Taken
from .outcomes import Outcome, RecordError

LOOK_SECONDS = 0.05  # the longest that a silent broker is waited for, while records are due
IDLE_SECONDS = 0.5


class Message(NamedTuple):
    """A PUBLISH as it came.

    packet_id: 0 with quality of service 0. repeated: its DUP flag. readable: False where the topic
    is no UTF-8; its other bytes are escaped then.
    """

    topic: str
    payload: bytes
    packet_id: int
    connection: int
    repeated: bool = False
    readable: bool = True


class Stream(Protocol):
    """What the bridge needs of a producer; `aggregator.Producer` is one."""

    def put(
        self,
        partition_key: str,
        data: bytes,
        explicit_hash_key: int | None = None,
        *,
        callback: Callable[[Outcome], object] | None = None,
    ) -> None:
        """Take a record."""

    def tick(self) -> float:
        """Send what is due; seconds until something will be."""
        ...

    def flush(self, seconds_max: float) -> bool:
        """Send everything, at most for so long; whether it was."""
        ...


class Link(Protocol):
    """What the bridge needs of a connection to a broker; `mqtt_link.Link` is one."""

    connection: int

    def turn(self, seconds: float, reading: bool) -> None:
        """Move bytes both ways, for at most so long; messages go to the one it was made with."""

    def acknowledge(self, packet_id: int) -> None:
        """Send a PUBACK by the connection there is."""


@dataclass
class Counts:
    """What became of messages since the bridge was made."""

    received: int = 0
    repeated: int = 0  # of them with the DUP flag
    records: int = 0  # put into the stream
    filtered: int = 0  # left out by the WHERE of every route, or on no route's topic
    rejected: int = 0
    acknowledged: int = 0
    bytes: int = 0  # of payloads received


def shard_of(client_id: str, started: float) -> str:
    """The shard id of the rejected messages of one run; `started` is in seconds since 1970."""
    stamp = datetime.fromtimestamp(started, UTC)
    return f"mqtt-{client_id}-{stamp:%Y%m%dT%H%M%S}.{stamp.microsecond:06}Z"


class Bridge:
    """Takes messages, says what is to be acknowledged.

    counts: so far. in_flight: what is on its way.
    """

    def __init__(
        self,
        routes: Sequence[Route],
        producer: Stream,
        errors: Sink[Rejected],
        *,
        max_in_flight: int,
        shard: str,
        log: Callable[..., None],
        now: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
        random: Callable[[], float] = random_module.random,
    ) -> None:
        """Take what it drives.

        Args:
            routes: every message goes by each that its topic matches.
            errors: the error stream. shard: of the positions there, see shard_of.
            max_in_flight: messages without outcome at once.
            log: log(event, **fields). now, wall, random: handed in by tests.
        """
        self.counts = Counts()
        self.in_flight = InFlight()
        self._routes, self._producer, self._errors = routes, producer, errors
        self._most, self._shard, self._log = max_in_flight, shard, log
        self._now, self._wall, self._random = now, wall, random
        self._rejected: list[tuple[Rejected, Taken]] = []
        self._errors_at, self._pause = 0.0, PAUSE_SECONDS_FIRST
        self.refused = ""  # why the error stream does not take rows, while it does not

    @property
    def full(self) -> bool:
        """Whether no more messages are to be taken for now."""
        return self.in_flight.open >= self._most

    def take(self, message: Message) -> None:
        """Send a message on; whatever goes wrong with it, it goes to the error stream."""
        counts = self.counts
        counts.received += 1
        counts.repeated += message.repeated
        counts.bytes += len(message.payload)
        taken = self.in_flight.take(message.connection, message.packet_id)
        gone = 0
        if not message.readable:
            self._reject(message, taken, "decode", "topic", "topic: is no UTF-8")
            gone += 1
        for route in self._routes:
            try:
                gone += route.matches(message.topic) and self._send(route, message, taken)
            except (Unreadable, RouteError) as error:
                stage = "decode" if isinstance(error, Unreadable) else "route"
                self._reject(message, taken, stage, error.reason, f"{route.filter}: {error}")
                gone += 1
            except RecordError as error:
                self._reject(message, taken, "route", "record", f"{route.filter}: {error}")
                gone += 1
            except Exception as error:  # a bug: the message is not lost for it, nor the bridge
                self._log("message_failed", route=route.filter, error=repr(error))
                self._reject(message, taken, "route", "failed", f"{route.filter}: {error!r}")
                gone += 1
        counts.filtered += not gone
        self.in_flight.close(taken)

    def _send(self, route: Route, message: Message, taken: Taken) -> bool:
        sent = route.send(message.topic, message.payload)
        if sent is None:
            return False
        taken.open += 1
        try:
            done = partial(self._told, taken)
            self._producer.put(sent.partition_key, sent.data, callback=done)
        except RecordError:
            taken.open -= 1
            raise
        except BaseException:
            taken.open -= 1  # it was not taken, and is not acknowledged: the broker has it
            taken.packet_id = 0
            raise
        self.counts.records += 1
        return True

    def _told(self, taken: Taken, outcome: Outcome) -> None:
        if outcome.placed is None:  # handed back when the bridge ends: the broker has it still
            taken.packet_id = 0
        self.in_flight.close(taken)

    def _reject(self, message: Message, taken: Taken, stage: str, reason: str, text: str) -> None:
        self.counts.rejected += 1
        taken.open += 1
        row = Rejected(
            stage=stage, reason=reason, message=text, rule=None,
            at=Position(self._shard, str(self.counts.rejected), 0),
            arrival_time=int(self._wall() * 1000), partition_key=message.topic,
            data=message.payload,
        )  # fmt: skip
        self._rejected.append((row, taken))

    def turn(self) -> float:
        """Deliver rejected messages, send what is due; seconds until something will be."""
        self._deliver()
        pause = self._producer.tick()
        return min(pause, LOOK_SECONDS) if self.in_flight.open else IDLE_SECONDS

    def _deliver(self) -> None:
        if not self._rejected or self._now() < self._errors_at:
            return
        rows = self._rejected
        try:
            self._errors.deliver([row for row, _ in rows])
            self._errors.flush()
        except UnavailableError as error:
            self._errors_at = self._now() + self._random() * self._pause
            self._pause = min(2 * self._pause, PAUSE_SECONDS_MAX)
            self.refused = str(error)
            self._log("waiting", step="deliver", rows=len(rows), cause=self.refused)
            return
        self._pause, self.refused = PAUSE_SECONDS_FIRST, ""
        self._rejected = []
        for _, taken in rows:
            self.in_flight.close(taken)

    def acknowledge(self, link: Link) -> None:
        """Acknowledge, in their order, the messages of which all is safe."""
        for taken in self.in_flight.settled(link.connection):
            link.acknowledge(taken.packet_id)
            self.counts.acknowledged += 1

    def finish(self, link: Link, seconds_max: float) -> bool:
        """Take nothing more, and wait for the outcomes of what was taken; whether all came."""
        end = self._now() + seconds_max
        while self.in_flight.open and self._now() < end:
            self._deliver()
            self._producer.flush(min(LOOK_SECONDS, max(0.0, end - self._now())))
            self.acknowledge(link)
            link.turn(0.0, reading=False)
        self.acknowledge(link)
        link.turn(0.0, reading=False)
        return not self.in_flight.open


def run(bridge: Bridge, link: Link, stop: Callable[[], bool]) -> None:
    """Carry messages until `stop` says so."""
    pause = 0.0
    while not stop():
        link.turn(pause, reading=not bridge.full)
        pause = bridge.turn()
        bridge.acknowledge(link)
