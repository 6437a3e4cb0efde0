"""MQTT control packets that our clients need, to bytes and back, of versions 3.1.1 and 5.

Sources: the OASIS standards MQTT 3.1.1 and MQTT 5.0, chapters 2 and 3.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

V311, V5 = 4, 5  # protocol levels
CONNACK, PUBACK, PINGRESP, DISCONNECT = 2, 4, 13, 14
PINGREQ = b"\xc0\x00"
GOODBYE = b"\xe0\x00"  # DISCONNECT, normal
REMAINING_MAX = 268_435_455
TEXT_BYTES_MAX = 65_535
FAILED = 0x80  # reason codes of version 5 from here on are failures
REASONS = {
    0x00: "Success",
    0x80: "Unspecified error",
    0x81: "Malformed packet",
    0x82: "Protocol error",
    0x84: "Unsupported protocol version",
    0x85: "Client identifier not valid",
    0x86: "Bad user name or password",
    0x87: "Not authorized",
    0x88: "Server unavailable",
    0x89: "Server busy",
    0x8B: "Server shutting down",
    0x8D: "Keep alive timeout",
    0x8E: "Session taken over",
    0x8F: "Topic filter invalid",
    0x93: "Receive maximum exceeded",
    0x97: "Quota exceeded",
    0x9E: "Shared subscription not supported",
    0xA1: "Subscription identifiers not supported",
    0xA2: "Wildcard subscription not supported",
}

IDENTIFIER = 0x0B  # the property that names a subscription
_SIZES = {  # of properties in bytes, MQTT 5.0, 2.2.2.2; those not here have a length of their own
    0x01: 1, 0x02: 4, 0x11: 4, 0x13: 2, 0x21: 2, 0x22: 2, 0x23: 2, 0x24: 1, 0x25: 1, 0x27: 4,
    0x28: 1, 0x29: 1, 0x2A: 1,
}  # fmt: skip
_TEXTS = {0x03: 1, 0x08: 1, 0x09: 1, 0x12: 1, 0x15: 1, 0x16: 1, 0x1A: 1, 0x1C: 1, 0x1F: 1, 0x26: 2}
_RECEIVE_MAXIMUM, _MAXIMUM_QOS, _MAXIMUM_PACKET_SIZE = 0x21, 0x24, 0x27

Numbers = dict[int, list[int]]  # properties that are numbers, by identifier
Texts = list[tuple[int, tuple[bytes, ...]]]  # identifier, and one text or a pair, in order


class ProtocolError(ValueError):
    """Bytes that are no MQTT packet, or none that a server sends to a publisher."""


class Packet(NamedTuple):
    """One packet received: its type, and what follows the fixed header."""

    kind: int
    body: bytes


@dataclass(frozen=True)
class Welcome:
    """What a server grants in CONNACK; `code` 0 is success. The limits are those of version 5."""

    code: int
    receive_max: int = 65_535
    qos_max: int = 2
    packet_bytes_max: int = REMAINING_MAX


def connect(
    client_id: str, keep_alive: int, version: int, username: str | None, password: str | None
) -> bytes:
    """CONNECT with a clean session; `keep_alive` in seconds."""
    flags = 0x02 | (0x80 if username is not None else 0) | (0x40 if password is not None else 0)
    body = text("MQTT") + bytes((version, flags)) + keep_alive.to_bytes(2)
    if version == V5:
        body += b"\x00"  # no properties
    body += text(client_id)
    for credential in (username, password):
        if credential is not None:
            body += text(credential)
    return b"\x10" + varint(len(body)) + body


def publish(topic: bytes, data: bytes, qos: int, packet_id: int, version: int) -> bytes:
    """PUBLISH; `topic` with its length before it, as `text` gives it. No id at QoS 0."""
    identifier = packet_id.to_bytes(2) if qos else b""
    properties = b"\x00" if version == V5 else b""
    size = len(topic) + len(identifier) + len(properties) + len(data)
    head = 0x30 | qos << 1
    return b"".join((bytes((head,)), varint(size), topic, identifier, properties, data))


def text(value: str) -> bytes:
    """A UTF-8 string with its length before it; ValueError where it is too long."""
    encoded = value.encode()
    if len(encoded) > TEXT_BYTES_MAX:
        raise ValueError(f"{len(encoded)} bytes of text, expected at most {TEXT_BYTES_MAX}")
    return len(encoded).to_bytes(2) + encoded


def varint(value: int) -> bytes:
    """A variable byte integer."""
    if value < 128:
        return bytes((value,))
    if value < 16_384:
        return bytes((value & 127 | 128, value >> 7))
    encoded = bytearray()
    while value >= 128:
        encoded.append(value & 127 | 128)
        value >>= 7
    return bytes((*encoded, value))


def read_varint(data: bytes | bytearray, at: int) -> tuple[int, int] | None:
    """A variable byte integer and where it ends; None where it is not whole yet."""
    value = 0
    for place in range(4):
        if at + place >= len(data):
            return None
        byte = data[at + place]
        value |= (byte & 127) << 7 * place
        if byte < 128:
            return value, at + place + 1
    raise ProtocolError("a length of more than four bytes")


class Reader:
    """Cuts received bytes into packets."""

    def __init__(self) -> None:
        """Hold nothing yet."""
        self._held = bytearray()

    def feed(self, data: bytes) -> Iterator[Packet]:
        """The packets that are whole with these bytes.

        Raises:
            ProtocolError: they are none.
        """
        held = self._held
        held += data
        at = 0
        while len(held) - at >= 2:
            found = read_varint(held, at + 1)
            if found is None:
                break
            size, begin = found
            if len(held) < begin + size:
                break
            yield Packet(held[at] >> 4, bytes(held[begin : begin + size]))
            at = begin + size
        del held[:at]


def welcome(body: bytes, version: int) -> Welcome:
    """What CONNACK says; ProtocolError where it says nothing that is allowed."""
    if len(body) < 2:
        raise ProtocolError("a CONNACK of less than two bytes")
    if version != V5 or len(body) == 2:
        return Welcome(body[1])
    numbers, _, _ = properties(body, 2, len(body))
    return Welcome(
        body[1],
        numbers.get(_RECEIVE_MAXIMUM, [65_535])[-1],
        numbers.get(_MAXIMUM_QOS, [2])[-1],
        numbers.get(_MAXIMUM_PACKET_SIZE, [REMAINING_MAX])[-1],
    )


def acknowledged(body: bytes) -> tuple[int, int]:
    """The packet id of a PUBACK and its reason code, 0 where it has none."""
    if len(body) < 2:
        raise ProtocolError("a PUBACK of less than two bytes")
    return body[0] << 8 | body[1], body[2] if len(body) > 2 else 0


def properties(held: bytes, at: int, end: int) -> tuple[Numbers, Texts, int]:
    """The properties that begin at `at` with their length, and where they end.

    Args:
        held: has at least `end` bytes.

    Raises:
        ProtocolError: they are cut off, or one is none of MQTT 5.
    """
    length = read_varint(held, at) if at < end else None
    if length is None or length[0] + length[1] > end:
        raise ProtocolError("properties that are cut off")
    at, stop = length[1], length[0] + length[1]
    numbers: Numbers = {}
    texts: Texts = []
    while at < stop:
        name = held[at]
        at += 1
        if name == IDENTIFIER:
            number = read_varint(held, at)
            if number is None:
                raise ProtocolError("properties that are cut off")
            numbers.setdefault(name, []).append(number[0])
            at = number[1]
        elif size := _SIZES.get(name, 0):
            numbers.setdefault(name, []).append(int.from_bytes(held[at : at + size]))
            at += size
        elif count := _TEXTS.get(name, 0):
            found = []
            for _ in range(count):
                first = at + 2
                at = first + int.from_bytes(held[at:first])
                found.append(bytes(held[first:at]))
            texts.append((name, tuple(found)))
        else:
            raise ProtocolError(f"property 0x{name:02x}, which is none")
    if at != stop:
        raise ProtocolError("properties that are cut off")
    return numbers, texts, at


def reason(code: int) -> str:
    """A reason code of version 5 in words."""
    return REASONS.get(code, f"reason 0x{code:02x}")
