"""MQTT packets: the bytes of the standards' own examples, and readers that trust nothing."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamgauge.producers.mqtt_packets import (
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
    read_varint,
    text,
    varint,
    welcome,
)


@pytest.mark.parametrize(  # MQTT 5.0, table 1-1 and 2.1.4
    ("value", "encoded"),
    [
        (0, "00"), (127, "7f"), (128, "8001"), (16_383, "ff7f"), (16_384, "808001"),
        (2_097_151, "ffff7f"), (2_097_152, "80808001"), (268_435_455, "ffffff7f"),
    ],
)  # fmt: skip
def test_lengths(value: int, encoded: str) -> None:
    assert varint(value).hex() == encoded
    assert read_varint(varint(value), 0) == (value, len(encoded) // 2)
    assert read_varint(varint(value)[:-1], 0) is None


def test_a_length_of_five_bytes_is_none() -> None:
    with pytest.raises(ProtocolError):
        read_varint(b"\x80\x80\x80\x80\x01", 0)


def test_connect() -> None:
    packet = connect("id", 60, V311, "me", "pw")
    assert packet == (b"\x10\x16\x00\x04MQTT\x04\xc2\x00\x3c\x00\x02id\x00\x02me\x00\x02pw")
    assert connect("", 0, V5, None, None) == b"\x10\x0d\x00\x04MQTT\x05\x02\x00\x00\x00\x00\x00"


def test_publish() -> None:
    topic = text("a/b")
    assert publish(topic, b"xy", 0, 0, V311) == b"\x30\x07\x00\x03a/bxy"
    assert publish(topic, b"xy", 1, 258, V311) == b"\x32\x09\x00\x03a/b\x01\x02xy"
    assert publish(topic, b"", 1, 10, V5) == b"\x32\x08\x00\x03a/b\x00\x0a\x00"


def test_texts_have_a_limit() -> None:
    assert text("é") == b"\x00\x02\xc3\xa9"
    with pytest.raises(ValueError, match="65536 bytes"):
        text("x" * 65_536)


def test_welcome() -> None:
    assert welcome(b"\x00\x05", V311) == Welcome(5)
    properties = (
        b"\x21\x00\x14"  # Receive Maximum
        b"\x12\x00\x02id\x26\x00\x01a\x00\x01b"
        b"\x24\x01\x27\x00\x00\x10\x00"  # Maximum QoS, Maximum Packet Size
    )
    body = b"\x01\x00" + varint(len(properties)) + properties
    assert welcome(body, V5) == Welcome(0, 20, 1, 4096)
    assert welcome(b"\x00\x00\x00", V5) == Welcome(0)


@pytest.mark.parametrize(
    "body",
    [b"", b"\x00", b"\x00\x00\x05\x21", b"\x00\x00\x01\x21", b"\x00\x00\x02\x7f\x00",
     b"\x00\x00\x03\x12\x00\x09"],
)  # fmt: skip
def test_what_is_no_welcome(body: bytes) -> None:
    with pytest.raises(ProtocolError):
        welcome(body, V5)


def test_acknowledged() -> None:
    assert acknowledged(b"\x01\x02") == (258, 0)
    assert acknowledged(b"\x00\x07\x97\x00") == (7, 0x97)
    with pytest.raises(ProtocolError):
        acknowledged(b"\x01")


@given(st.lists(st.binary(max_size=300), max_size=8), st.lists(st.integers(1, 9), max_size=600))
def test_packets_come_out_whole_however_bytes_come_in(bodies: list[bytes], cuts: list[int]) -> None:
    stream = b"".join(b"\x40" + varint(len(body)) + body for body in bodies)
    reader, found, at = Reader(), list[Packet](), 0
    for size in [*cuts, len(stream)]:
        found += reader.feed(stream[at : at + size])
        at += size
    assert found == [Packet(PUBACK, body) for body in bodies]
