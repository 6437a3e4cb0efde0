"""A broker of one test: it answers nothing by itself, so that a test says every byte.

MQTT 5 over a socket of loopback. Nothing here waits for the other side but with a limit.
"""

from __future__ import annotations

import socket
from typing import Any, NamedTuple

from streamgauge.producers.mqtt_filters import identifier

SECONDS_MAX = 5.0
CONNECT, CONNACK, PUBLISH, PUBACK, SUBSCRIBE, SUBACK, PINGREQ, DISCONNECT = 1, 2, 3, 4, 8, 9, 12, 14
TAKEN_OVER = 0x8E


class Packet(NamedTuple):
    """A packet as it came: its type, flags, and what follows the length."""

    type: int
    flags: int
    body: bytes

    @property
    def packet_id(self) -> int:
        return int.from_bytes(self.body[:2], "big")


def packet(kind: int, flags: int, body: bytes) -> bytes:
    return bytes([kind << 4 | flags]) + varint(len(body)) + body


def varint(value: int) -> bytes:
    found = bytearray()
    while True:
        value, digit = divmod(value, 128)
        found.append(digit | 0x80 if value else digit)
        if not value:
            return bytes(found)


def text(value: str | bytes) -> bytes:
    data = value if isinstance(value, bytes) else value.encode()
    return len(data).to_bytes(2, "big") + data


def publish(
    topic: str | bytes, payload: bytes, packet_id: int = 0, again: bool = False,
    filters: tuple[str, ...] = (), more: bytes = b"",
) -> bytes:  # fmt: skip
    """PUBLISH, with the identifiers of the subscriptions it is sent for and more properties."""
    qos = 1 if packet_id else 0
    number = packet_id.to_bytes(2, "big") if packet_id else b""
    properties = b"".join(b"\x0b" + varint(identifier(one)) for one in filters) + more
    head = text(topic) + number + varint(len(properties)) + properties
    return packet(PUBLISH, again << 3 | qos << 1, head + payload)


def connack(session: bool = False, reason: int = 0) -> bytes:
    return packet(CONNACK, 0, bytes([session, reason, 0]))


def suback(asked: Packet, reason: int = 1) -> bytes:
    filters, at = 0, 3 + asked.body[2]
    while at < len(asked.body):
        at += 2 + int.from_bytes(asked.body[at : at + 2], "big") + 1
        filters += 1
    return packet(SUBACK, 0, asked.body[:2] + b"\x00" + bytes([reason]) * filters)


class ScriptedBroker:
    """Listens from the start on; takes one client at a time."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(SECONDS_MAX)
        self.port: int = self._listener.getsockname()[1]
        self.url = f"mqtt://127.0.0.1:{self.port}"
        self._client: socket.socket | None = None
        self._held = b""

    def accept(self) -> Packet:
        """Take a client; its CONNECT."""
        self.cut()
        self._client, _ = self._listener.accept()
        self._client.settimeout(SECONDS_MAX)
        self._held = b""
        return self.receive()

    def receive(self) -> Packet:
        """The next packet of the client."""
        while (found := self._parsed()) is None:
            assert self._client is not None
            more = self._client.recv(65_536)
            assert more, "the client has closed the connection"
            self._held += more
        return found

    def received(self) -> list[Packet]:
        """The packets that have come by now."""
        assert self._client is not None
        self._client.settimeout(0.02)
        try:
            while more := self._client.recv(65_536):
                self._held += more
        except (TimeoutError, OSError):
            pass
        finally:
            self._client.settimeout(SECONDS_MAX)
        found = []
        while (one := self._parsed()) is not None:
            found.append(one)
        return found

    def _parsed(self) -> Packet | None:
        length, shift = 0, 0
        for at, byte in enumerate(self._held[1:5], 1):
            length |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                end = at + 1 + length
                if len(self._held) < end:
                    return None
                head, body = self._held[0], self._held[at + 1 : end]
                self._held = self._held[end:]
                return Packet(head >> 4, head & 15, body)
        return None

    def send(self, *data: bytes) -> None:
        assert self._client is not None
        self._client.sendall(b"".join(data))

    def cut(self) -> None:
        """Close the connection, without a word."""
        if self._client is not None:
            self._client.close()
            self._client = None

    def close(self) -> None:
        self.cut()
        self._listener.close()

    def __enter__(self) -> ScriptedBroker:
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()
