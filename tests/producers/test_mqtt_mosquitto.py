"""The publisher against mosquitto, where it is installed: every message of a fleet arrives."""

from __future__ import annotations

import socket
import struct
import subprocess
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from fake_broker import packet
from servers import need

from streamgauge.producers.fleet import Fleet
from streamgauge.producers.mqtt_packets import V5, V311, connect, text, varint
from streamgauge.producers.mqtt_publish import Publisher, Server

STARTED_SECONDS_MAX = 10.0
CONFIG = """\
listener {port} 127.0.0.1
allow_anonymous true
max_queued_messages 0
persistence false
"""


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


@pytest.fixture
def port(tmp_path: Path) -> Iterator[int]:
    mosquitto = need("mosquitto")
    number = free_port()
    config = tmp_path / "mosquitto.conf"
    config.write_text(CONFIG.format(port=number))
    process = subprocess.Popen(
        [mosquitto, "-c", config], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        for _ in range(int(STARTED_SECONDS_MAX / 0.05)):
            assert process.poll() is None, "mosquitto did not start"
            try:
                socket.create_connection(("127.0.0.1", number), 1.0).close()
                break
            except OSError:
                threading.Event().wait(0.05)
        yield number
    finally:
        process.terminate()
        process.wait()


class Subscriber:
    """Counts what is published to home/#; a program of its own making, at QoS 0."""

    def __init__(self, port: int) -> None:
        self.seen: Counter[tuple[str, bytes]] = Counter()
        self._socket = socket.create_connection(("127.0.0.1", port), 20.0)
        self._stream = self._socket.makefile("rb")
        self._socket.sendall(connect("subscriber", 0, V311, None, None))
        assert packet(self._stream) == (0x20, b"\x00\x00")
        body = b"\x00\x01" + text("home/#") + b"\x00"
        self._socket.sendall(b"\x82" + varint(len(body)) + body)
        assert packet(self._stream) == (0x90, b"\x00\x01\x00")

    def read(self, count: int) -> None:
        for _ in range(count):
            head, body = packet(self._stream)
            assert head & 0xF0 == 0x30
            (size,) = struct.unpack_from(">H", body)
            self.seen[body[2 : 2 + size].decode(), body[2 + size :]] += 1

    def close(self) -> None:
        self._stream.close()
        self._socket.close()


@pytest.mark.parametrize("version", [V311, V5])
@pytest.mark.parametrize("qos", [0, 1])
def test_every_message_of_a_fleet_arrives(port: int, version: int, qos: int) -> None:
    subscriber = Subscriber(port)
    out = Publisher(Server("127.0.0.1", port, version=version, qos=qos))
    sent: Counter[tuple[str, bytes]] = Counter()
    for tick in Fleet(100, 60, seed=3, start=1_767_600_000_000):
        out.send(tick)
        out.drain()
        sent.update(zip(tick.topics, tick.data, strict=True))
        subscriber.read(len(tick))
    out.close()
    subscriber.close()
    assert (out.accepted, out.refused) == (out.sent, 0)
    assert subscriber.seen == sent
    assert len({topic for topic, _ in sent}) > 100  # doors among them
