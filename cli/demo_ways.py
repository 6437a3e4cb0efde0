"""How the demo's messages come into the stream: straight, or through a broker and the bridge."""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Protocol

from ..engine.errors import StreamgaugeError
from ..producers.aggregator import Producer
from ..producers.messages import Messages
from ..rules.edges import Edges
from .demo_cloud import STREAM
from .local_broker import HOST, LocalBroker, local_broker

ROUTE = ("SELECT * FROM 'home/#'", "${device}")
READY_SECONDS_MAX = 20.0  # until the bridge has subscribed
CARRY_SECONDS_MAX = 60.0  # after the last message, for what is on its way
LOOK_SECONDS = 0.01

Log = Callable[..., None]


class Way(Protocol):
    """Takes messages to the stream; `rejected`: those that lie in the error stream instead."""

    @property
    def rejected(self) -> int:
        """How many it has rejected on the way."""
        ...

    def send(self, messages: Messages) -> None:
        """Return once all are accepted."""


Open = Callable[[Edges, Log], AbstractContextManager[Way]]


class _Straight:
    rejected = 0

    def __init__(self, producer: Producer) -> None:
        self._producer = producer

    def send(self, messages: Messages) -> None:
        for message in messages:
            self._producer.put(message.key, message.data)
        self._producer.flush()


@contextmanager
def straight(edges: Edges, log: Log) -> Iterator[Way]:
    """A producer, and nothing else."""
    with Producer(STREAM, edges.service("kinesis")) as producer:
        yield _Straight(producer)


class Carried:
    """Publishes to a broker with QoS 1; a bridge in a thread takes it from there.

    broker: which one, for the screen.
    """

    broker = ""

    def __init__(self, stop: Callable[[], bool], kind: str | None = None) -> None:
        """Start nothing yet.

        Args:
            stop: tells that nobody waits any more for what is on its way.
            kind: of broker; None: the first that is there.
        """
        self._stop, self._kind = stop, kind
        self._ended = threading.Event()
        self._failed: Exception | None = None

    @property
    def rejected(self) -> int:
        """How many messages the bridge has rejected."""
        return self._bridge.counts.rejected

    @contextmanager
    def open(self, edges: Edges, log: Log) -> Iterator[Way]:
        """Start broker and bridge; at the end wait for what is on its way, and end both.

        Raises:
            StreamgaugeError: there is no broker, or it or the bridge does not start.
        """
        from ..producers.mqtt_publish import Publisher, Server

        with (
            tempfile.TemporaryDirectory() as folder,
            local_broker(Path(folder), self._kind) as broker,
        ):
            self.broker = broker.name
            self._make(edges, broker, log)
            thread = threading.Thread(target=self._carry, daemon=True)
            thread.start()
            self._publisher = Publisher(Server(HOST, broker.port, version=broker.version))
            try:
                self._wait(lambda: self._link.tries.granted > 0, READY_SECONDS_MAX)
                yield self
                self._wait(self._all_taken, CARRY_SECONDS_MAX)
            finally:
                self._publisher.close()
                self._ended.set()
                thread.join()
            self._check()

    def send(self, messages: Messages) -> None:
        """Publish, and wait until the broker has all."""
        self._publisher.send(messages)
        self._publisher.drain()
        self._check()

    def _make(self, edges: Edges, broker: LocalBroker, log: Log) -> None:
        from ..producers.mqtt import Bridge, shard_of
        from ..producers.mqtt_broker import Broker
        from ..producers.mqtt_link import Link
        from ..rules.project import Route

        one = Broker(broker.url, "demo-bridge", version=broker.version)
        route = Route(*ROUTE)
        self._bridge = Bridge(
            [route], Producer(STREAM, edges.service("kinesis")), edges.errors(),
            max_in_flight=one.max_in_flight, shard=shard_of(one.client_id, time.time()), log=log,
        )  # fmt: skip
        self._link = Link(
            one, ["home/#"], self._bridge.take, begin=self._bridge.begin,
            full=lambda: self._bridge.full, log=log,
        )  # fmt: skip

    def _carry(self) -> None:
        """Be the bridge; the body of the thread."""
        from ..producers.mqtt import run

        try:
            run(self._bridge, self._link, self._ended.is_set)
            self._bridge.finish(self._link, 0.0 if self._stop() else CARRY_SECONDS_MAX)
            self._link.close()
        except Exception as error:  # told by whoever sends
            self._failed = error

    def _all_taken(self) -> bool:
        return self._bridge.counts.received >= self._publisher.accepted

    def _wait(self, reached: Callable[[], bool], seconds_max: float) -> None:
        until = time.monotonic() + seconds_max
        while not reached() and not self._stop() and time.monotonic() < until:
            self._check()
            time.sleep(LOOK_SECONDS)
        self._check()

    def _check(self) -> None:
        if self._failed is not None:
            raise StreamgaugeError(f"the bridge: {self._failed}") from self._failed
