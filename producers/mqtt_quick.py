"""A subscriber's connection to an MQTT 5 broker, quick: bytes to messages with little between.

The same face as mqtt_link.Link, for the same tests. A general client costs more a message than
routes and producer together (bench/bridge.py); this one knows just what the bridge needs: QoS 0 and
1, one session, subscriptions with identifiers, acknowledgement by hand. Bytes that are no packet,
or none that a server may send to such a client, end the connection, never the bridge.

Source: the OASIS standard MQTT 5.0, chapters 2 and 3.
"""

from __future__ import annotations

import random as random_module
import select
import socket
import ssl
import time
from collections.abc import Callable, Sequence

from . import mqtt_properties
from .mqtt import Message
from .mqtt_broker import (
    CONNECT_SECONDS_MAX,
    KEEPALIVE_SECONDS,
    SESSION_SECONDS,
    V5,
    Broker,
    Tries,
)
from .mqtt_filters import filters_by_identifier
from .mqtt_packets import (
    CONNACK,
    DISCONNECT,
    FAILED,
    GOODBYE,
    IDENTIFIER,
    PINGREQ,
    PINGRESP,
    ProtocolError,
    properties,
    read_varint,
    reason,
    text,
    varint,
)

RECEIVE_BYTES = 1 << 18
WRITE_SECONDS_MAX = 1.0  # of the last words
PUBLISH, SUBACK = 3, 9
REFUSED = {0x84, 0x85, 0x86, 0x87}  # of CONNACK: to try again is of no use
_IDENTIFIERS_AVAILABLE, _KEEPALIVE = 0x29, 0x13


class QuickLink:
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
        """Connect to nothing yet; the arguments are those of mqtt_link.Link."""
        assert broker.version == V5, "it speaks MQTT 5 alone"
        self.tries = Tries(broker, now, sleep, random, log)
        self._broker, self._take, self._begin, self._full = broker, take, begin, full
        self._now = now
        self._filters = filters_by_identifier(filters)
        self._filters_of: dict[tuple[int, ...], frozenset[str]] = {(): frozenset()}
        self._context = broker.context()
        self._socket: socket.socket | None = None
        self._in, self._out = bytearray(), bytearray()
        self._unread = False  # there may be a whole packet in what was received
        self._wanted = 0  # bytes before which there is none: a long one is looked at once
        self._asked: dict[int, str] = {}  # topic filters by the packet id of their SUBSCRIBE
        self._heard = self._spoke = self._began = 0.0
        self._pinged: float | None = None  # since when an answer to a ping is waited for
        self._keepalive = float(KEEPALIVE_SECONDS)

    @property
    def connected(self) -> bool:
        """Whether there is a connection now."""
        return self.tries.connected

    def turn(self, seconds: float, reading: bool) -> None:
        """Move bytes both ways, for at most so long; where there is no connection, try to make one.

        Raises:
            StreamgaugeError: the broker refuses the client, or a topic, at the first connection.
        """
        if self._socket is None:
            self._connect(seconds)
        else:
            try:
                reading = reading or not self.connected  # what is no message needs no room
                self._move(self._socket, seconds, reading)
                self._keep_alive(reading)
            except ProtocolError as error:
                self._lost("Malformed packet", str(error))
            except OSError as error:  # ssl.SSLError is one
                self._lost("Unspecified error", str(error) or "the link is cut")
        if self.tries.fatal is not None:
            raise self.tries.fatal

    def acknowledge(self, packet_id: int) -> None:
        """Send a PUBACK by the connection there is, with the next turn."""
        self._out += b"\x40\x02"
        self._out += packet_id.to_bytes(2)

    def close(self) -> None:
        """Take leave of the broker; the session stays."""
        if self._socket is not None:
            try:
                self._socket.settimeout(WRITE_SECONDS_MAX)
                self._socket.sendall(bytes(self._out) + GOODBYE)
            except OSError:
                pass  # whoever is gone need not be told
            self._drop()

    def _connect(self, seconds: float) -> None:
        """Connect if it is time for that, else wait for it."""
        if not self.tries.due(seconds):
            return
        try:
            made = socket.create_connection(self._broker.address, CONNECT_SECONDS_MAX)
            made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._context is not None:
                made = self._context.wrap_socket(made, server_hostname=self._broker.address[0])
            made.setblocking(False)
        except OSError as error:
            self.tries.lost("unreachable", str(error))
            return
        self._socket = made
        self._out[:] = self._hello()
        self._pinged, self._keepalive = None, float(KEEPALIVE_SECONDS)
        self._heard = self._spoke = self._began = self._now()
        self._write(made)

    def _hello(self) -> bytes:
        """CONNECT, asking for the session of before."""
        broker = self._broker
        flags = (broker.username is not None) << 7 | (broker.password is not None) << 6
        properties = (
            b"\x11" + SESSION_SECONDS.to_bytes(4) + b"\x21" + broker.receive_max.to_bytes(2)
        )
        body = text("MQTT") + bytes((V5, flags)) + KEEPALIVE_SECONDS.to_bytes(2)
        body += varint(len(properties)) + properties + text(broker.client_id)
        for credential in (broker.username, broker.password):
            if credential is not None:
                body += text(credential)
        return b"\x10" + varint(len(body)) + body

    def _move(self, connection: socket.socket, seconds: float, reading: bool) -> None:
        if self._out:
            self._write(connection)
        pending = isinstance(connection, ssl.SSLSocket) and connection.pending() > 0
        waiting = reading and (self._unread or pending)
        readable, writable, _ = select.select(
            [connection] if reading else [], [connection] if self._out else [], [],
            0.0 if waiting else seconds,
        )  # fmt: skip
        if writable:
            self._write(connection)
        if reading and not self._unread and (readable or pending):
            self._receive(connection)
        if reading and self._unread:
            self._parse()

    def _write(self, connection: socket.socket) -> None:
        try:
            sent = connection.send(self._out)
        except (BlockingIOError, ssl.SSLWantWriteError, ssl.SSLWantReadError):
            return
        del self._out[:sent]
        self._spoke = self._now()

    def _receive(self, connection: socket.socket) -> None:
        try:
            data = connection.recv(RECEIVE_BYTES)
        except (BlockingIOError, ssl.SSLWantReadError):
            return
        if not data:
            raise ConnectionError("the link is cut")
        self._in += data
        self._unread = len(self._in) >= self._wanted
        self._heard = self._now()

    def _keep_alive(self, reading: bool) -> None:
        """Ask a silent broker whether it is there; give one up that has not answered.

        None is silent while there is no room for what it says: it is told that we are here.
        """
        now = self._now()
        if self._unread or not reading:
            self._heard = now
        heard = max(self._heard, self._pinged or self._heard)
        if not self.connected:
            if self._socket is not None and now - self._began >= CONNECT_SECONDS_MAX:
                self._lost("unreachable", "no answer to CONNECT")
        elif self._pinged is not None and now - heard >= self._keepalive:
            self._lost("Keep alive timeout", "the broker has not answered")
        elif now - min(heard, self._spoke) >= self._keepalive and not self._out:
            self._out += PINGREQ
            self._pinged = now
        elif self.tries.unanswered(len(self._asked)):
            self._lost("unreachable", "no answer to SUBSCRIBE")

    def _parse(self) -> None:
        """Take the packets that are whole, while there is room for what they bring."""
        held, at, full, self._wanted = bytes(self._in), 0, self._full, 0
        size = len(held)
        try:
            while not (full() and self.connected):
                if size - at < 2:
                    break
                length, begin = held[at + 1], at + 2
                if length > 127:
                    found = read_varint(held, at + 1)
                    if found is None:
                        break
                    length, begin = found
                end = begin + length
                if end > size:
                    self._wanted = end - at
                    break
                head, at = held[at], end
                if head >> 4 == PUBLISH and self.connected:
                    self._publish(head, held, begin, end)
                else:
                    self._other(head >> 4, held[begin:end])
                if self._socket is None:
                    return
            else:
                return  # there is no room: what is left is looked at again
            self._unread = False
        except IndexError:
            raise ProtocolError("a packet that is too short") from None
        finally:
            del self._in[:at]

    def _publish(self, head: int, held: bytes, at: int, end: int) -> None:
        """Hand on one message."""
        qos = head >> 1 & 3
        first = at + 2
        at = first + (held[at] << 8 | held[at + 1])
        raw = held[first:at]
        packet_id = 0
        if qos:
            packet_id = held[at] << 8 | held[at + 1]
            at += 2
        if qos > 1 or (qos and not packet_id) or at >= end or not raw:
            raise ProtocolError("a PUBLISH that nobody asked for")
        filters, context = self._filters_of[()], mqtt_properties.NONE
        if held[at]:
            numbers, texts, at = properties(held, at, end)
            filters = self._for(tuple(numbers.get(IDENTIFIER, ())))
            context = mqtt_properties.of_packet(numbers, texts)
        else:
            at += 1
        payload, again = held[at:end], head & 8 > 0
        try:
            message = Message(raw.decode(), payload, packet_id, again, True, filters, context)
        except UnicodeDecodeError:  # brokers should let no such topic through
            topic = raw.decode("utf-8", "backslashreplace")
            message = Message(topic, payload, packet_id, again, False, filters, context)
        self._take(message)

    def _for(self, numbers: tuple[int, ...]) -> frozenset[str]:
        """The filters of these identifiers; there are few such sets."""
        found = self._filters_of.get(numbers)
        if found is None:
            known = frozenset(one for number in numbers for one in self._filters.get(number, ()))
            if len(numbers) > len(self._filters) or len(self._filters_of) > 10_000:
                return known
            found = self._filters_of[numbers] = known
        return found

    def _other(self, kind: int, body: bytes) -> None:
        if kind == PINGRESP:
            self._pinged = None
        elif kind == CONNACK and not self.connected:
            self._welcome(body)
        elif kind == SUBACK and self.connected:
            _, _, at = properties(body, 2, len(body))
            topic = self._asked.get(body[0] << 8 | body[1], "")
            for code in body[at:]:
                if code >= FAILED:
                    self.tries.topic_refused(self._broker.subscription(topic), reason(code))
                else:
                    self.tries.topic_granted()
        elif kind == DISCONNECT:
            self._lost(reason(body[0] if body else 0), "the broker has closed it")
        else:
            raise ProtocolError(f"a packet of type {kind}, which is not expected")

    def _welcome(self, body: bytes) -> None:
        """CONNACK: subscribe, or see why not."""
        if body[1]:
            if body[1] in REFUSED:
                self.tries.refused(reason(body[1]))
            self._lost(reason(body[1]), "the broker refuses us")
            return
        granted, _, _ = properties(body, 2, len(body))
        for seconds in granted.get(_KEEPALIVE, ()):
            self._keepalive = float(seconds) or self._keepalive
        resumed = body[0] & 1 > 0
        self.tries.made(resumed)
        self._begin(resumed)
        self._subscribe(granted.get(_IDENTIFIERS_AVAILABLE, [1])[-1] != 0)

    def _subscribe(self, identified: bool) -> None:
        """Subscribe to each filter, under an identifier that its messages carry, if brokers can."""
        self._asked.clear()
        for identifier, topics in self._filters.items():
            named = bytes((IDENTIFIER,)) + varint(identifier) if identified else b""
            for topic in topics:
                number = len(self._asked) + 1
                self._asked[number] = topic
                body = number.to_bytes(2) + varint(len(named)) + named
                body += text(self._broker.subscription(topic)) + bytes((self._broker.qos,))
                self._out += b"\x82" + varint(len(body)) + body

    def _lost(self, cause: str, message: str) -> None:
        self._drop()
        self.tries.lost(cause, message)

    def _drop(self) -> None:
        """Let go of the connection, and of all that was to go over it."""
        assert self._socket is not None, "there is one"
        self._socket.close()
        self._socket = None
        self._in.clear()
        self._out.clear()
        self._unread, self._wanted = False, 0
