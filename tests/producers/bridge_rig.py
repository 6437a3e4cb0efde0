"""A bridge with everything around it in memory but the socket, for a broker of a test."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import scripted_broker as broker
from memory_kinesis import Clock, MemoryKinesis, producer
from scripted_broker import ScriptedBroker

from streamgauge.engine.batch import Rejected
from streamgauge.engine.sinks.local import MemorySink
from streamgauge.producers.mqtt import Bridge, shard_of
from streamgauge.producers.mqtt_broker import Broker
from streamgauge.producers.mqtt_link import Link
from streamgauge.producers.mqtt_quick import QuickLink
from streamgauge.rules.project import Route

TOPIC = "home/7/thermostat"
TURNS_MAX = 200
ROUTE = ("SELECT *, topic() AS topic FROM 'home/+/thermostat' WHERE t < 100", "${topic(2)}")


class Rig:
    """A bridge with everything around it in memory but the socket.

    client: whose code talks to the broker.
    """

    client: type[Link] | type[QuickLink] = Link
    open: list[Rig] = []

    def __init__(self, url: str, stream: MemoryKinesis, most: int = 100, **more: Any) -> None:
        self.clock, self.stream = Clock(), stream
        self.open.append(self)
        self.errors: MemorySink[Rejected] = MemorySink()
        self.events: list[dict[str, Any]] = []
        self.producer = producer(
            stream, self.clock, linger_seconds=0.0, rate=None, live_seconds_max=float("inf")
        )
        self.bridge = Bridge(
            [Route(*ROUTE)], self.producer, self.errors, max_in_flight=most,
            shard=shard_of("bridge-1", 0.0), log=self.log, now=self.clock.now,
            wall=self.clock.now, random=lambda: 1.0,
        )  # fmt: skip
        self.link = self.client(
            Broker(url, "bridge-1", max_in_flight=most, **more), ["home/+/thermostat"],
            self.bridge.take, begin=self.bridge.begin, full=lambda: self.bridge.full,
            log=self.log, now=self.clock.now, sleep=self.clock.sleep, random=lambda: 1.0,
        )  # fmt: skip

    @classmethod
    def close_all(cls) -> None:
        while cls.open:
            cls.open.pop().link.close()

    @property
    def trying(self) -> bool:
        """Whether there is a socket, whatever the broker says."""
        link = self.link
        return (link._client.socket() if isinstance(link, Link) else link._socket) is not None

    def log(self, event: str, **fields: Any) -> None:
        self.events.append({"event": event, **fields})

    def turn(self, times: int = 1) -> None:
        for _ in range(times):
            self.link.turn(0.02, reading=not self.bridge.full)
            self.bridge.turn()
            self.bridge.acknowledge(self.link)

    def until(self, reached: Callable[[], bool]) -> None:
        for _ in range(TURNS_MAX):
            if reached():
                return
            self.turn()
        raise AssertionError("it does not come")

    def said(self, event: str) -> list[dict[str, Any]]:
        return [one for one in self.events if one["event"] == event]


CLIENTS = {"paho": Link, "quick": QuickLink}


def connected(there: ScriptedBroker, rig: Rig, session: bool = False) -> broker.Packet:
    """Let the bridge connect and subscribe; its CONNECT."""
    rig.until(lambda: rig.trying)
    first = there.accept()
    there.send(broker.connack(session))
    rig.until(lambda: rig.link.connected)
    rig.turn(2)
    asked = there.receive()
    assert asked.type == broker.SUBSCRIBE
    there.send(broker.suback(asked))
    rig.turn()
    return first


def acknowledged(there: ScriptedBroker, rig: Rig, count: int) -> list[int]:
    """The packet ids that are acknowledged, in order, once there are so many, and no more come."""
    found: list[int] = []

    def enough() -> bool:
        found.extend(one.packet_id for one in there.received() if one.type == broker.PUBACK)
        return len(found) >= count

    rig.until(enough)
    rig.turn(2)
    enough()
    return found


def reading(number: int, more: str = "") -> bytes:
    return b'{"n":%d,"t":21.50%b}' % (number, more.encode())
