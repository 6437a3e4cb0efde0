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

import os
import random as random_module
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any, NamedTuple, Protocol

from ..engine.batch import Position, Rejected
from ..engine.errors import StreamgaugeError, UnavailableError
from ..engine.payload import Unreadable
from ..engine.sinks.base import PAUSE_SECONDS_FIRST, PAUSE_SECONDS_MAX, Sink
from ..rules.project import Route, RouteError
from .in_flight import InFlight, Taken
from .outcomes import Outcome, RecordError

LOOK_SECONDS = 0.05  # the longest that a silent broker is waited for, while records are due
IDLE_SECONDS = 0.5
BYTES_MAX = 32 << 20  # of messages without outcome
CLOSE_SECONDS = 0.5  # of `finish`, for what is handed back


class Message(NamedTuple):
    """A PUBLISH as it came.

    packet_id: 0 with quality of service 0. repeated: its DUP flag. readable: False where the topic
    is no UTF-8; its other bytes are escaped then. filters: those of our subscriptions that the
    broker sends it for; empty where it does not say. context: what its properties tell, under the
    names of `rules.message`; empty before MQTT 5.
    """

    topic: str
    payload: bytes
    packet_id: int
    repeated: bool = False
    readable: bool = True
    filters: frozenset[str] = frozenset()
    context: Mapping[str, Any] = {}


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

    def close(self, seconds_max: float) -> None:
        """Send everything, and hand back what is not sent in time."""


class Link(Protocol):
    """What the bridge needs of a connection to a broker; `mqtt_link.Link` is one."""

    @property
    def connected(self) -> bool:
        """Whether there is a connection now."""
        ...

    def turn(self, seconds: float, reading: bool) -> None:
        """Move bytes both ways, for at most so long; messages go to the one it was made with."""

    def acknowledge(self, packet_id: int) -> None:
        """Send a PUBACK by the connection there is."""


@dataclass
class Counts:
    """What became of messages since the bridge was made."""

    received: int = 0
    repeated: int = 0  # of them with the DUP flag
    recognised: int = 0  # of these that were held already, and are not put again
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

    counts: so far. in_flight: what is on its way. left: messages that had no outcome at the end.
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
        self.left = 0
        self.refused = ""  # why the error stream does not take rows, while it does not

    @property
    def full(self) -> bool:
        """Whether no more messages are to be taken for now."""
        return self.in_flight.open >= self._most or self.in_flight.bytes >= BYTES_MAX

    def begin(self, resumed: bool) -> None:
        """Note a new connection to the broker; `resumed`: it has kept the session."""
        self.in_flight.begin(resumed)

    def take(self, message: Message) -> None:
        """Send a message on; whatever goes wrong with it, it goes to the error stream.

        Raises:
            StreamgaugeError: the stream refuses for good. The message is not acknowledged.
        """
        counts, payload = self.counts, message.payload
        counts.received += 1
        counts.repeated += message.repeated
        counts.bytes += len(payload)
        digest = hash((message.topic, payload)) if message.packet_id else 0
        if message.repeated and self.in_flight.recognised(message.packet_id, digest):
            counts.recognised += 1
            return
        size = len(payload) + len(message.topic)
        taken = self.in_flight.take(message.packet_id, digest, size)
        try:
            self._route(message, taken)
        except BaseException:
            taken.packet_id = 0  # not all of it is safe, so it is the broker's still
            raise
        finally:
            self.in_flight.close(taken)

    def _route(self, message: Message, taken: Taken) -> None:
        """Send a message by each route that takes it."""
        gone = 0
        if not message.readable:
            self._reject(message, taken, "decode", "topic", "topic: is no UTF-8")
            gone += 1
        for route in self._routes:
            if message.filters and route.filter not in message.filters:
                continue  # the broker sends it once more for that subscription, or has
            try:
                gone += route.matches(message.topic) and self._send(route, message, taken)
            except (Unreadable, RouteError) as error:
                stage = "decode" if isinstance(error, Unreadable) else "route"
                self._reject(message, taken, stage, error.reason, f"{route.filter}: {error}")
                gone += 1
            except RecordError as error:
                self._reject(message, taken, "route", "record", f"{route.filter}: {error}")
                gone += 1
            except StreamgaugeError:
                raise
            except Exception as error:  # a bug: the message is not lost for it, nor the bridge
                self._log("message_failed", route=route.filter, error=repr(error))
                self._reject(message, taken, "route", "failed", f"{route.filter}: {error!r}")
                gone += 1
        self.counts.filtered += not gone

    def _send(self, route: Route, message: Message, taken: Taken) -> bool:
        context = {"timestamp": int(self._wall() * 1000), **message.context}
        sent = route.send(message.topic, message.payload, context, os.urandom(16))
        if sent is None:
            return False
        taken.open += 1
        try:
            # Of what the broker keeps nothing but a number is kept here.
            kept = None if message.packet_id else message._replace(context={})
            done = partial(self._told, taken, kept)
            self._producer.put(sent.partition_key, sent.data, callback=done)
        except BaseException:
            taken.open -= 1  # it was not taken
            raise
        self.counts.records += 1
        return True

    def _told(self, taken: Taken, message: Message | None, outcome: Outcome) -> None:
        if outcome.placed is None:  # handed back when the bridge ends
            taken.packet_id = 0  # the broker has it still
            if message is not None:  # and of this one it has nothing
                last = outcome.attempts[-1].code if outcome.attempts else "the bridge has ended"
                self._reject(message, taken, "route", "not_put", f"stream: not put: {last}")
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
        """Acknowledge, in their order, the messages of which all is safe.

        Not while there is no connection: what waits came by one that is gone, and its packet ids
        may be those of others in the next.
        """
        if not link.connected:
            return
        for packet_id in self.in_flight.settled():
            link.acknowledge(packet_id)
            self.counts.acknowledged += 1

    def finish(self, link: Link, seconds_max: float) -> bool:
        """Take nothing more, and wait for the outcomes of what was taken; whether all came.

        What the stream has not taken by then is handed back: with quality of service 1 the broker
        has it, with 0 it goes to the error stream.
        """
        end = self._now() + seconds_max - CLOSE_SECONDS
        while self.in_flight.open and self._now() < end:
            self._deliver()
            self._producer.flush(min(LOOK_SECONDS, max(0.0, end - self._now())))
            self.acknowledge(link)
            link.turn(0.0, reading=False)
        self.left = self.in_flight.open
        self._producer.close(0.0)
        self._errors_at = 0.0
        self._deliver()
        self.acknowledge(link)
        link.turn(0.0, reading=False)
        return not self.left


def run(bridge: Bridge, link: Link, stop: Callable[[], bool]) -> None:
    """Carry messages until `stop` says so."""
    pause = 0.0
    while not stop():
        link.turn(pause, reading=not bridge.full)
        pause = bridge.turn()
        bridge.acknowledge(link)
