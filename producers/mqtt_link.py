"""A connection to an MQTT broker that comes back: paho-mqtt in a loop of ours, MQTT 5.

paho's own thread ends without a word at an exception in a handler; there is none here. The session
is persistent: what was not acknowledged comes again after a cut, a kill or a restart, if the broker
keeps it. Pauses between two tries have full jitter and grow; only a connection that has lasted
makes them short again, so that two clients with one id do not throw each other out for ever.
"""

from __future__ import annotations

import random as random_module
import select
import ssl
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from ..engine.errors import StreamgaugeError
from .mqtt import Message
from .mqtt_filters import filters_by_identifier

KEEPALIVE_SECONDS = 10  # a link that is dead and does not say so is seen within twice this
CONNECT_SECONDS_MAX = 5.0
SESSION_SECONDS = 86_400 * 7  # for which a broker is asked to keep what we miss
RECEIVE_MAX = 65_535
READS_MAX = 200  # packets between two looks at other things
PAUSE_SECONDS_FIRST, PAUSE_SECONDS_MAX = 0.2, 30.0
LASTED_SECONDS = 30.0
PORTS = {"mqtt": 1883, "mqtts": 8883}
REFUSED = {"Bad user name or password", "Not authorized", "Client identifier not valid"}


@dataclass(frozen=True)
class Broker:
    """How a broker is reached; the fields are those of [mqtt]."""

    url: str
    client_id: str
    qos: int = 1
    share: str | None = None
    ca: str | None = None
    cert: str | None = None
    key: str | None = None
    username: str | None = None
    password: str | None = None
    max_in_flight: int = 2000

    def context(self) -> ssl.SSLContext | None:
        """The TLS settings; None where the URL asks for none.

        Raises:
            StreamgaugeError: a file of certificates cannot be read; names it.
        """
        if urlsplit(self.url).scheme != "mqtts":
            return None
        try:
            context = ssl.create_default_context(cafile=self.ca)
            context.minimum_version = ssl.TLSVersion.TLSv1_2
            if self.cert is not None:
                context.load_cert_chain(self.cert, self.key)
        except (OSError, ssl.SSLError) as error:
            files = ", ".join(str(name) for name in (self.ca, self.cert, self.key) if name)
            raise StreamgaugeError(f"mqtt: {files}: cannot be used: {error}") from error
        return context


class Link:
    """Subscribes to topics and hands on what comes, for as long as it is turned.

    connection: how many there were. reconnects: by cause. connected: whether there is one now.
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
            from paho.mqtt.packettypes import PacketTypes
            from paho.mqtt.properties import Properties
        except ImportError:
            raise StreamgaugeError(
                "the bridge needs paho-mqtt: pip install 'streamgauge[mqtt]'"
            ) from None
        self.connection, self.connected = 0, False
        self.reconnects: dict[str, int] = {}
        self._broker, self._take, self._begin, self._full = broker, take, begin, full
        self._log = log
        self._now, self._sleep, self._random = now, sleep, random
        self._shared = f"$share/{broker.share}/" if broker.share else ""
        self._filters = filters_by_identifier(filters)
        self._asked: dict[int, str] = {}  # topic filters by the packet id of their SUBSCRIBE
        self._properties: Any = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        self._properties.SessionExpiryInterval = SESSION_SECONDS
        self._properties.ReceiveMaximum = min(broker.max_in_flight, RECEIVE_MAX)
        self._client = paho.Client(
            CallbackAPIVersion.VERSION2, client_id=broker.client_id, protocol=paho.MQTTv5,
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
        self._try_at, self._bound = 0.0, PAUSE_SECONDS_FIRST
        self._since = 0.0  # when the connection was made
        self._messages = 0
        self._fatal: StreamgaugeError | None = None

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
            waiting = reading and getattr(socket, "pending", lambda: 0)() > 0
            wanted = [socket] if client.want_write() else []
            try:
                ready, writable, _ = select.select(
                    [socket] if reading else [], wanted, [], 0.0 if waiting else seconds
                )
            except (OSError, ValueError):  # closed under our hands
                ready, writable = [socket], []
            if ready or waiting:
                self._read()
            if writable:
                client.loop_write()
            client.loop_misc()
        if self._fatal is not None:
            raise self._fatal

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
        left = self._try_at - self._now()
        if left > 0:
            self._sleep(min(left, seconds))
            return
        address = urlsplit(self._broker.url)
        try:
            self._client.connect(
                address.hostname or "", address.port or PORTS[address.scheme], KEEPALIVE_SECONDS,
                clean_start=False, properties=self._properties,
            )  # fmt: skip
        except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
            self._lost("unreachable", str(error))

    def _lost(self, cause: str, message: str) -> None:
        """Note that there is no connection, and when the next is to be tried."""
        if self.connected and self._now() - self._since >= LASTED_SECONDS:
            self._bound = PAUSE_SECONDS_FIRST
        self.connected = False
        self.reconnects[cause] = self.reconnects.get(cause, 0) + 1
        seconds = self._random() * self._bound
        self._bound = min(2 * self._bound, PAUSE_SECONDS_MAX)
        self._try_at = self._now() + seconds
        self._log("disconnected", cause=cause, message=message, seconds=round(seconds, 3))

    def _on_connect(self, client: Any, data: Any, flags: Any, reason: Any, more: Any) -> None:
        if reason.is_failure:
            if str(reason) in REFUSED and not self.connection:
                self._fatal = StreamgaugeError(f"mqtt: {self._broker.url} refuses us: {reason}")
            return  # what follows is a disconnect
        self.connection += 1
        self.connected, self._since = True, self._now()
        self._log("connected", connection=self.connection, session_present=flags.session_present)
        self._begin(bool(flags.session_present))
        self._subscribe(getattr(more, "SubscriptionIdentifierAvailable", 1) != 0)

    def _subscribe(self, identified: bool) -> None:
        """Subscribe to each filter, under an identifier that its messages carry, if brokers can."""
        from paho.mqtt.packettypes import PacketTypes
        from paho.mqtt.properties import Properties
        from paho.mqtt.subscribeoptions import SubscribeOptions

        self._asked.clear()
        for identifier, topics in self._filters.items():
            properties: Any = None
            if identified:
                properties = Properties(PacketTypes.SUBSCRIBE)  # type: ignore[no-untyped-call]
                properties.SubscriptionIdentifier = identifier
            for topic in topics:
                options = SubscribeOptions(qos=self._broker.qos)
                asked = [(self._shared + topic, options)]
                _, packet_id = self._client.subscribe(asked, properties=properties)
                if packet_id is not None:
                    self._asked[packet_id] = topic

    def _on_disconnect(self, client: Any, data: Any, flags: Any, reason: Any, more: Any) -> None:
        self._lost(str(reason), "the broker has closed it" if flags.is_disconnect_packet_from_server
                   else "the link is cut")  # fmt: skip

    def _on_subscribe(self, client: Any, data: Any, mid: int, reasons: Any, more: Any) -> None:
        topic = self._shared + self._asked.get(mid, "")
        for reason in reasons:
            if reason.is_failure:
                self._log("subscription_refused", topic=topic, reason=str(reason))
                if self.connection == 1:
                    text = f"mqtt: {self._broker.url} refuses topic {topic}: {reason}"
                    self._fatal = StreamgaugeError(text)

    def _on_message(self, client: Any, data: Any, message: Any) -> None:
        self._messages += 1
        packet_id = message.mid if message.qos else 0
        numbers = getattr(message.properties, "SubscriptionIdentifier", ())
        filters = frozenset(one for number in numbers for one in self._filters.get(number, ()))
        given = Message("", bytes(message.payload), packet_id, message.dup, True, filters)
        try:
            self._take(given._replace(topic=message.topic))
        except UnicodeDecodeError as error:  # brokers should let no such topic through
            topic = error.object.decode("utf-8", "backslashreplace")
            self._take(given._replace(topic=topic, readable=False))
