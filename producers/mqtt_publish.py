"""Publishing over MQTT at a rate that a general client does not reach: packets made in bulk, one
socket, acknowledgements counted.

At QoS 1 a message is accepted when its PUBACK has come, at QoS 0 when its bytes are handed to the
operating system. At most `in_flight_max` messages wait for a PUBACK; `send` waits for room. Where a
connection breaks, it is made anew and everything not acknowledged is published again, in order and
before anything else: it may arrive twice, it is not lost. Nothing is read or written but inside
`send`, `tend` and `drain`.
"""

from __future__ import annotations

import select
import socket
import ssl
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice

from ..engine.errors import StreamgaugeError, UnavailableError
from .destinations import Accept, Destination
from .messages import Messages
from .mqtt_packets import (
    CONNACK,
    DISCONNECT,
    FAILED,
    GOODBYE,
    PINGREQ,
    PUBACK,
    V5,
    V311,
    Packet,
    ProtocolError,
    Reader,
    Welcome,
    acknowledged,
    connect,
    publish,
    text,
    welcome,
)

IN_FLIGHT_MAX = 2_000  # messages
UNSENT_BYTES_MAX = 1 << 20  # made and not yet handed to the operating system
PART_MESSAGES_MAX = 500  # made into packets at once
RECEIVE_BYTES = 1 << 16
KEEP_ALIVE_SECONDS = 60
CONNECT_SECONDS_MAX = 10.0  # until a server has answered
SILENT_SECONDS_MAX = 60.0  # of a server that owes acknowledgements; then the connection is broken
RETRY_SECONDS_MAX = 120.0  # without a connection
PAUSE_SECONDS_FIRST, PAUSE_SECONDS_MAX = 0.5, 10.0
FRUITLESS_MAX = 10  # connections in a row over which nothing was accepted
WAIT_SECONDS = 0.2
IDS = 65_535
LATER = {V311: {3}, V5: {0x88, 0x89, 0x97, 0x9F}}  # CONNACK codes after which a try may succeed


@dataclass(frozen=True)
class Server:
    """A broker, and how to talk to it. The password is never shown."""

    host: str
    port: int
    client_id: str = "streamgauge-fleet"
    version: int = V5
    qos: int = 1
    username: str | None = None
    password: str | None = None
    tls: ssl.SSLContext | None = None
    in_flight_max: int = IN_FLIGHT_MAX

    def __str__(self) -> str:
        """For messages."""
        return f"mqtt{'s' if self.tls else ''}://{self.host}:{self.port}"


class Refused(StreamgaugeError):
    """A server refuses for good: version, client id, credentials, or the quality of service."""


class Publisher(Destination):
    """One connection to a server; connected when the first messages are sent.

    reconnects: how often the connection was made anew.
    """

    def __init__(
        self,
        server: Server,
        accept: Accept = lambda payloads: None,
        *,
        now: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        """Connect to nothing yet; `now` and `sleep` are handed in by tests."""
        super().__init__(accept)
        self.reconnects = 0
        self._server, self._now, self._sleep = server, now, sleep
        self._socket: socket.socket | None = None
        self._reader = Reader()
        self._welcome = Welcome(0)
        self._out = bytearray()
        self._next_id = 0
        self._unacknowledged: dict[int, tuple[bytes, bytes]] = {}  # topic and payload, by packet id
        # At QoS 0: where each message ends among the bytes made for this connection.
        self._unwritten: deque[tuple[int, tuple[bytes, bytes]]] = deque()
        self._again: deque[tuple[bytes, bytes]] = deque()  # was on its way as a connection broke
        self._made = self._written = 0  # bytes of this connection
        self._fruitless = 0
        self._heard = self._spoke = 0.0
        self._topics: dict[str, bytes] = {}

    @property
    def unfinished(self) -> int:
        """Messages sent and neither accepted nor refused."""
        return len(self._unacknowledged) + len(self._unwritten) + len(self._again)

    def send(self, messages: Messages, at: int | None = None) -> None:
        """Publish; waits until there is room for the last of them.

        Raises:
            UnavailableError: there is no connection, for too long.
            StreamgaugeError: the server refuses for good.
        """
        self._connected()
        pairs = zip(messages.topics, messages.data, strict=True)
        while part := list(islice(pairs, PART_MESSAGES_MAX)):
            self.sent += len(part)
            good = []
            for topic, data in part:
                encoded = self._topic(topic)
                if (
                    encoded is None
                    or len(encoded) + len(data) + 12 > self._welcome.packet_bytes_max
                ):
                    self.refused += 1
                else:
                    good.append((encoded, data))
            while good:
                room = 0 if self._again else self._room()
                self._publish(good[:room])
                good = good[room:]
                self._exchange(WAIT_SECONDS if good else 0.0)

    def tend(self) -> None:
        """Read acknowledgements, and keep the connection alive."""
        if self._socket is None and not self.unfinished:
            return
        if self._now() - self._spoke > KEEP_ALIVE_SECONDS / 2:
            self._write(PINGREQ)
        self._exchange(0.0)

    def drain(self) -> None:
        """Return once everything is accepted or refused; raises as `send` does."""
        while self.unfinished or self._out:
            self._exchange(WAIT_SECONDS)

    def close(self) -> None:
        """Say goodbye."""
        if self._socket is not None:
            try:
                self._socket.setblocking(True)
                self._socket.settimeout(1.0)
                self._socket.sendall(bytes(self._out) + GOODBYE)
            except OSError:
                pass  # whoever is gone need not be told
            self._disconnect()

    def _topic(self, topic: str) -> bytes | None:
        """A topic as PUBLISH has it; None where a server would hang up on it."""
        found = self._topics.get(topic)
        if found is None:
            if not topic or "\0" in topic or "+" in topic or "#" in topic:
                return None
            try:
                found = text(topic)
            except ValueError:
                return None
            if len(self._topics) < 200_000:
                self._topics[topic] = found
        return found

    def _room(self) -> int:
        """How many messages may be published now."""
        if len(self._out) >= UNSENT_BYTES_MAX:
            return 0
        if not self._server.qos:
            return PART_MESSAGES_MAX
        most = min(self._server.in_flight_max, self._welcome.receive_max)
        return max(0, most - len(self._unacknowledged))

    def _publish(self, part: list[tuple[bytes, bytes]]) -> None:
        """Make packets; they go out with the next exchange."""
        version, qos = self._server.version, self._server.qos
        waiting, number = self._unacknowledged, self._next_id
        packets = []
        for message in part:
            if qos:
                number = number % IDS + 1
                while number in waiting:
                    number = number % IDS + 1
                waiting[number] = message
            packets.append(publish(*message, qos, number, version))
            if not qos:
                self._made += len(packets[-1])
                self._unwritten.append((self._made, message))
        self._next_id = number
        joined = b"".join(packets)
        if qos:
            self._made += len(joined)
        self._out += joined

    def _write(self, packet: bytes) -> None:
        self._made += len(packet)
        self._out += packet

    def _exchange(self, seconds: float) -> None:
        """Write what can be written and read what has come; waits at most so long for either."""
        connection = self._connected()
        if self._again:
            count = min(self._room(), len(self._again))
            self._publish([self._again.popleft() for _ in range(count)])
        try:
            writing = [connection] if self._out else []
            pending = isinstance(connection, ssl.SSLSocket) and connection.pending()
            wait = 0.0 if pending else seconds
            readable, writable, _ = select.select([connection], writing, [], wait)
            if writable:
                self._hand_over(connection)
            if readable or pending:
                self._receive(connection)
            owed = self.unfinished > 0
            if owed and self._now() - max(self._heard, self._spoke) > SILENT_SECONDS_MAX:
                raise OSError("it does not answer")
        except (OSError, ProtocolError) as error:
            self._disconnect()
            self._reconnect(error)

    def _hand_over(self, connection: socket.socket) -> None:
        try:
            written = connection.send(memoryview(self._out)[: 1 << 18])
        except (BlockingIOError, ssl.SSLWantWriteError, ssl.SSLWantReadError):
            return
        self._spoke = self._now()
        del self._out[:written]
        self._written += written
        accepted = []
        while self._unwritten and self._unwritten[0][0] <= self._written:
            accepted.append(self._unwritten.popleft()[1][1])
        if accepted:
            self._fruitless = 0
            self._accepted(accepted)

    def _receive(self, connection: socket.socket) -> None:
        try:
            data = connection.recv(RECEIVE_BYTES)
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return
        if not data:
            raise OSError("it closed the connection")
        self._heard = self._now()
        accepted: list[bytes] = []
        try:
            for packet in self._reader.feed(data):
                self._take(packet, accepted)
        finally:
            if accepted:
                self._fruitless = 0
                self._accepted(accepted)

    def _take(self, packet: Packet, accepted: list[bytes]) -> None:
        if packet.kind == DISCONNECT:
            reason = packet.body[0] if packet.body else 0
            raise OSError(f"it ended the connection with code 0x{reason:02x}")
        if packet.kind != PUBACK:
            return
        number, code = acknowledged(packet.body)
        message = self._unacknowledged.pop(number, None)
        if message is None:
            return
        if code >= FAILED:
            self.refused += 1
        else:
            accepted.append(message[1])

    def _connected(self) -> socket.socket:
        if self._socket is None:
            self._connect()
        assert self._socket is not None, "_connect raises where it does not connect"
        return self._socket

    def _connect(self) -> None:
        """Connect and wait for CONNACK."""
        server = self._server
        try:
            connection = socket.create_connection((server.host, server.port), CONNECT_SECONDS_MAX)
        except OSError as error:
            raise UnavailableError(f"{server}: cannot connect: {error}") from error
        try:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if server.tls is not None:
                connection = server.tls.wrap_socket(connection, server_hostname=server.host)
            connection.sendall(
                connect(server.client_id, KEEP_ALIVE_SECONDS, server.version, server.username,
                        server.password)
            )  # fmt: skip
            self._reader = Reader()
            self._welcome = self._greeting(connection)
        except (OSError, ProtocolError) as error:
            connection.close()
            raise UnavailableError(f"{server}: no MQTT connection: {error}") from error
        except BaseException:
            connection.close()
            raise
        connection.setblocking(False)
        self._socket = connection
        self._heard = self._spoke = self._now()

    def _greeting(self, connection: socket.socket) -> Welcome:
        """CONNACK, or the reason why there is none."""
        server = self._server
        while data := connection.recv(RECEIVE_BYTES):
            for packet in self._reader.feed(data):
                if packet.kind != CONNACK:
                    raise ProtocolError(f"expected CONNACK, found a packet of type {packet.kind}")
                found = welcome(packet.body, server.version)
                if found.code in LATER[server.version]:
                    raise ProtocolError(f"it is not ready: code 0x{found.code:02x}")
                if found.code:
                    raise Refused(f"{server}: refused the connection with code 0x{found.code:02x}")
                if found.qos_max < server.qos:
                    raise Refused(f"{server}: takes QoS {found.qos_max} at most")
                return found
        raise ProtocolError("it closed the connection")

    def _disconnect(self) -> None:
        """Close; what was on its way waits for the next connection, in its order."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        self._again.extendleft(message for _, message in reversed(self._unwritten))
        self._again.extendleft(reversed(self._unacknowledged.values()))
        self._unacknowledged.clear()
        self._unwritten.clear()
        self._out.clear()
        self._made = self._written = 0

    def _reconnect(self, cause: Exception) -> None:
        """Connect anew, with pauses that grow, until that is too long or too often in vain."""
        self._fruitless += 1
        if self._fruitless > FRUITLESS_MAX:
            raise UnavailableError(f"{self._server}: {FRUITLESS_MAX} connections broke: {cause}")
        begun, pause = self._now(), PAUSE_SECONDS_FIRST
        while True:
            self._sleep(pause)
            try:
                self._connect()
            except UnavailableError as error:
                if self._now() - begun > RETRY_SECONDS_MAX:
                    raise UnavailableError(
                        f"{error}; since {RETRY_SECONDS_MAX:g} s; before that: {cause}"
                    ) from error
                pause = min(2 * pause, PAUSE_SECONDS_MAX)
                continue
            self.reconnects += 1
            return
