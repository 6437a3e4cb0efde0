"""A connection to an MQTT broker that comes back: paho-mqtt in a loop of ours.

paho's own thread ends without a word at an exception in a handler; there is none here. The session
is persistent: what was not acknowledged comes again after a cut, a kill or a restart, if the broker
keeps it.
"""

from __future__ import annotations

import random as random_module
import select
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ..engine.errors import StreamgaugeError
from . import mqtt_properties
from .mqtt import Message
from .mqtt_broker import (
    CONNECT_SECONDS_MAX,
    KEEPALIVE_SECONDS,
    SESSION_SECONDS,
    V5,
    Broker,
    Tries,
)  # fmt: skip
from .mqtt_filters import filters_by_identifier

SILENT_SECONDS = KEEPALIVE_SECONDS / 3  # without a read, while there is no room
READS_MAX = 200  # packets between two looks at other things
REFUSED = {"Bad user name or password", "Not authorized", "Client identifier not valid"}


class Link:
    """Subscribes to topics and hands on what comes, for as long as it is turned.

    tries: the connections there were, and the one there is.
    """

    def __init__(
        self,
        broker: Broker,
        filters: Sequence[str],
        take: Callable[[Message], None],
        *,
        begin: Callable[[bool], None] = lambda resumed: None,
        full: Callable[[], bool] = lambda: False,
        log: Callable[..., None] = lambda event, **fields: None,
        now: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], object] = time.sleep,
        random: Callable[[], float] = random_module.random,
    ) -> None:
        """Make the client; nothing is connected yet.

        Args:
            filters: topic filters. take: is handed each message. begin: is told of each new
                connection, and whether the broker has kept the session.
            full: says that no more are to be read for now. log: log(event, **fields).
        """
        try:
            import paho.mqtt.client as paho
            from paho.mqtt.enums import CallbackAPIVersion
        except ImportError:
            raise StreamgaugeError(
                "the bridge needs paho-mqtt: pip install 'streamgauge[mqtt]'"
            ) from None
        self.tries = Tries(broker, now, sleep, random, log)
        self._broker, self._take, self._begin, self._full = broker, take, begin, full
        self._filters = filters_by_identifier(filters)
        self._asked: dict[int, str] = {}  # topic filters by the packet id of their SUBSCRIBE
        five = broker.version == V5
        self._client = paho.Client(
            CallbackAPIVersion.VERSION2, client_id=broker.client_id,
            protocol=paho.MQTTv5 if five else paho.MQTTv311, clean_session=None if five else False,
            manual_ack=True, reconnect_on_failure=False,
        )  # fmt: skip
        self._client.connect_timeout = CONNECT_SECONDS_MAX
        self._client.username = broker.username
        self._client.password = broker.password
        context = broker.context()
        if context is not None:
            self._client.tls_set_context(context)
        self._client.on_connect = self._on_connect
        self._client.on_disconnect = self._on_disconnect
        self._client.on_subscribe = self._on_subscribe
        self._client.on_message = self._on_message
        self._messages, self._read_at, self._now = 0, 0.0, now

    @property
    def connected(self) -> bool:
        """Whether there is a connection now."""
        return self.tries.connected

    def turn(self, seconds: float, reading: bool) -> None:
        """Move bytes both ways, for at most so long; where there is no connection, try to make one.

        Raises:
            StreamgaugeError: the broker refuses the client, or a topic, at the first connection.
        """
        client = self._client
        socket: Any = client.socket()
        if socket is None:
            self._connect(seconds)
        else:
            reading = reading or not self.connected  # what is no message needs no room
            waiting = reading and getattr(socket, "pending", lambda: 0)() > 0
            wanted = [socket] if client.want_write() else []
            try:
                ready, writable, _ = select.select(
                    [socket] if reading else [], wanted, [], 0.0 if waiting else seconds
                )
            except (OSError, ValueError):  # closed under our hands
                ready, writable = [socket], []
            if not reading and self._now() - self._read_at >= SILENT_SECONDS:
                # paho takes a link that nothing is read of for dead: so one packet, now and then.
                ready = select.select([socket], [], [], 0.0)[0]
            if ready or waiting:
                self._read_at = self._now()
                self._read()
            if writable:
                client.loop_write()
            client.loop_misc()
            if self.tries.unanswered(len(self._asked)):
                client.disconnect()
        if self.tries.fatal is not None:
            raise self.tries.fatal

    def acknowledge(self, packet_id: int) -> None:
        """Send a PUBACK by the connection there is."""
        self._client.ack(packet_id, 1)

    def close(self) -> None:
        """Take leave of the broker; the session stays."""
        if self._client.socket() is not None:
            self._client.disconnect()
            for _ in range(READS_MAX):
                if self._client.socket() is None or not self._client.want_write():
                    break
                self._client.loop_write()

    def _read(self) -> None:
        """Read packets while there are any, and room for them."""
        for _ in range(READS_MAX):
            before = self._messages
            if self._client.loop_read() or self._client.socket() is None:
                return
            if self._messages == before or self._full():
                return

    def _connect(self, seconds: float) -> None:
        """Connect if it is time for that, else wait for it."""
        if not self.tries.due(seconds):
            return
        more: dict[str, Any] = {}
        if self._broker.version == V5:
            more = {"clean_start": False, "properties": self._properties("CONNECT")}
            more["properties"].SessionExpiryInterval = SESSION_SECONDS
            more["properties"].ReceiveMaximum = self._broker.receive_max
        try:
            self._client.connect(*self._broker.address, KEEPALIVE_SECONDS, **more)
        except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
            self.tries.lost("unreachable", str(error))

    def _properties(self, packet: str) -> Any:
        from paho.mqtt.packettypes import PacketTypes
        from paho.mqtt.properties import Properties

        return Properties(getattr(PacketTypes, packet))  # type: ignore[no-untyped-call]

    def _on_connect(self, client: Any, data: Any, flags: Any, reason: Any, more: Any) -> None:
        if reason.is_failure:
            if str(reason) in REFUSED:
                self.tries.refused(str(reason))
            return  # what follows is a disconnect
        self.tries.made(bool(flags.session_present))
        self._begin(bool(flags.session_present))
        self._subscribe(getattr(more, "SubscriptionIdentifierAvailable", 1) != 0)

    def _subscribe(self, identified: bool) -> None:
        """Subscribe to each filter, under an identifier that its messages carry, if brokers can."""
        from paho.mqtt.subscribeoptions import SubscribeOptions

        self._asked.clear()
        qos, five = self._broker.qos, self._broker.version == V5
        for identifier, topics in self._filters.items():
            properties = None
            if identified and five:
                properties = self._properties("SUBSCRIBE")
                properties.SubscriptionIdentifier = identifier
            for topic in topics:
                asked: Any = [(self._broker.subscription(topic), qos)]
                if five:
                    asked = [(asked[0][0], SubscribeOptions(qos=qos))]
                _, packet_id = self._client.subscribe(asked, properties=properties)
                if packet_id is not None:
                    self._asked[packet_id] = topic

    def _on_disconnect(self, client: Any, data: Any, flags: Any, reason: Any, more: Any) -> None:
        told = flags.is_disconnect_packet_from_server
        self.tries.lost(str(reason), "the broker has closed it" if told else "the link is cut")

    def _on_subscribe(self, client: Any, data: Any, mid: int, reasons: Any, more: Any) -> None:
        topic = self._broker.subscription(self._asked.get(mid, ""))
        for reason in reasons:
            if reason.is_failure:
                self.tries.topic_refused(topic, str(reason))
            else:
                self.tries.topic_granted()

    def _on_message(self, client: Any, data: Any, message: Any) -> None:
        self._messages += 1
        packet_id = message.mid if message.qos else 0
        numbers = getattr(message.properties, "SubscriptionIdentifier", ())
        filters = frozenset(one for number in numbers for one in self._filters.get(number, ()))
        given = Message(
            "", bytes(message.payload), packet_id, message.dup, True, filters,
            _context(message.properties),
        )  # fmt: skip
        try:
            self._take(given._replace(topic=message.topic))
        except UnicodeDecodeError as error:  # brokers should let no such topic through
            topic = error.object.decode("utf-8", "backslashreplace")
            self._take(given._replace(topic=topic, readable=False))


def _context(properties: Any) -> Mapping[str, Any]:
    """What a message's properties tell; nothing before MQTT 5, which has none."""
    if properties is None:
        return {}
    if properties.isEmpty():
        return mqtt_properties.NONE
    return mqtt_properties.told(
        getattr(properties, "PayloadFormatIndicator", None),
        getattr(properties, "ContentType", None),
        getattr(properties, "ResponseTopic", None),
        getattr(properties, "CorrelationData", None),
        getattr(properties, "UserProperty", []),
    )
