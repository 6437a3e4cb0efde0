"""A broker on a socket of this machine that takes PUBLISH and misbehaves as it is told."""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
import threading
from dataclasses import dataclass, field
from typing import Any

RECEIVE_SECONDS_MAX = 20.0  # a publisher that says nothing for so long has failed the test


@dataclass
class Faults:
    """What the broker does wrong.

    drop: after how many PUBLISH packets each connection is broken, in turn; the last of them is not
    acknowledged. codes: reason codes of PUBACK by payload. welcome: codes of CONNACK, in turn.
    together: acknowledgements are held until there are so many, then sent newest first. mute: so
    many connections, the first ones, get no acknowledgement at all.
    """

    drop: list[int] = field(default_factory=list)
    codes: dict[bytes, int] = field(default_factory=dict)
    welcome: list[int] = field(default_factory=list)
    together: int = 1
    mute: int = 0
    receive_max: int | None = None
    qos_max: int | None = None
    packet_bytes_max: int | None = None


class Broker:
    """Accepts connections until it is closed; use it in `with`.

    taken: (topic, payload, qos) in the order received, also of what was not acknowledged. connects:
    (client id, username, password). most: messages that were ever unacknowledged at once.
    """

    def __init__(self, faults: Faults | None = None, tls: ssl.SSLContext | None = None) -> None:
        self.faults, self._tls = faults or Faults(), tls
        self.taken: list[tuple[str, bytes, int]] = []
        self.connects: list[tuple[str, str | None, str | None]] = []
        self.versions: list[int] = []
        self.pings = self.goodbyes = self.most = 0
        self.errors: list[Exception] = []
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._server.getsockname()[1]
        self._threads: list[threading.Thread] = []
        self._accepting = threading.Thread(target=self._accept, daemon=True)

    def __enter__(self) -> Broker:
        self._accepting.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        self._accepting.join()
        for thread in self._threads:
            thread.join()
        assert not self.errors, self.errors

    def payloads(self) -> list[bytes]:
        return [data for _, data, _ in self.taken]

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._server.accept()
            except OSError:
                return
            thread = threading.Thread(target=self._guarded, args=(connection,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _guarded(self, connection: socket.socket) -> None:
        connection.settimeout(RECEIVE_SECONDS_MAX)
        try:
            with connection:
                if self._tls is None:
                    self._serve(connection)
                else:
                    with self._tls.wrap_socket(connection, server_side=True) as secured:
                        self._serve(secured)
        except (EOFError, OSError):
            pass  # the publisher hung up, which is its right
        except Exception as error:
            self.errors.append(error)

    def _serve(self, connection: Any) -> None:
        stream = connection.makefile("rb")
        version = self._greet(connection, stream)
        drop = self.faults.drop.pop(0) if self.faults.drop else None
        held: list[bytes] = []
        mute = len(self.connects) <= self.faults.mute
        while True:
            head, body = packet(stream)
            kind = head >> 4
            if kind == 12:
                self.pings += 1
                connection.sendall(b"\xd0\x00")
            elif kind == 14:
                self.goodbyes += 1
                return
            elif kind == 3:
                answer = self._publish(head, body, version)
                drop = None if drop is None else drop - 1
                if drop == 0:
                    return
                if answer and not mute:
                    held.append(answer)
                    self.most = max(self.most, len(held))
                if len(held) >= self.faults.together:
                    connection.sendall(b"".join(reversed(held)))
                    held.clear()
            else:
                raise AssertionError(f"a packet of type {kind}")

    def _greet(self, connection: Any, stream: Any) -> int:
        head, body = packet(stream)
        assert head == 0x10 and body[:6] == b"\x00\x04MQTT"
        version, flags = body[6], body[7]
        assert version in (4, 5) and flags & 0x02
        at = 10 + (1 + body[10] if version == 5 else 0)
        texts: list[str | None] = []
        for wanted in (True, bool(flags & 0x80), bool(flags & 0x40)):
            text = None
            if wanted:
                (size,) = struct.unpack_from(">H", body, at)
                text, at = body[at + 2 : at + 2 + size].decode(), at + 2 + size
            texts.append(text)
        assert at == len(body)
        self.versions.append(version)
        self.connects.append((texts[0] or "", texts[1], texts[2]))
        code = self.faults.welcome.pop(0) if self.faults.welcome else 0
        properties = b""
        if version == 5:
            faults = self.faults
            given = b"\x26\x00\x01a\x00\x01b\x1f\x00\x02ok"  # of no meaning to a publisher
            if faults.receive_max is not None:
                given += b"\x21" + struct.pack(">H", faults.receive_max)
            if faults.qos_max is not None:
                given += b"\x24" + bytes((faults.qos_max,))
            if faults.packet_bytes_max is not None:
                given += b"\x27" + struct.pack(">I", faults.packet_bytes_max)
            properties = bytes((len(given),)) + given
        answer = b"\x00" + bytes((code,)) + properties
        connection.sendall(b"\x20" + bytes((len(answer),)) + answer)
        if code:
            raise EOFError
        return version

    def _publish(self, head: int, body: bytes, version: int) -> bytes:
        """Note a message; its acknowledgement, or nothing at QoS 0."""
        qos = head >> 1 & 3
        (size,) = struct.unpack_from(">H", body)
        topic, at = body[2 : 2 + size].decode(), 2 + size
        identifier = b""
        if qos:
            identifier, at = body[at : at + 2], at + 2
            assert identifier != b"\x00\x00"
        if version == 5:
            assert body[at] == 0
            at += 1
        data = body[at:]
        self.taken.append((topic, data, qos))
        if not qos:
            return b""
        code = self.faults.codes.get(data)
        if code is None:
            return b"\x40\x02" + identifier
        return b"\x40\x04" + identifier + bytes((code, 0))


def packet(stream: Any) -> tuple[int, bytes]:
    """The next packet: its first byte, and what follows the length; EOFError at the end."""
    head = exactly(stream, 1)[0]
    size = shift = 0
    while True:
        byte = exactly(stream, 1)[0]
        size |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            return head, exactly(stream, size)


def exactly(stream: Any, size: int) -> bytes:
    data: bytes = b""
    with contextlib.suppress(TimeoutError):
        data = stream.read(size)
    if len(data) < size:
        raise EOFError
    return data
