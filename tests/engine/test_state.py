"""State objects: what goes in comes out, and what is not whole is never taken for it."""

import hashlib
import math
import re
import tracemalloc
import zlib
from typing import Any

import msgspec
import numpy as np
import pytest
from effort import examples
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from streamgauge.engine import state
from streamgauge.engine.errors import StateError
from streamgauge.engine.state import decode, encode

ARRAYS = st.sampled_from(["<i8", ">i8", "<i4", "|u1", "<f8", ">f8", "|b1"]).flatmap(
    lambda dtype: hnp.arrays(dtype, hnp.array_shapes(min_dims=0, max_dims=3, min_side=0))
)
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.text()
    | st.binary()
)
VALUES = st.recursive(
    SCALARS | ARRAYS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
BODIES = st.dictionaries(st.text(), VALUES, max_size=5)

SMALL = encode("delta", {"positions": {"s": "1"}, "time": np.array([1, -2], np.int64), "n": 2**80})


def same(left: Any, right: Any) -> bool:
    """Equal in type and bits."""
    if isinstance(left, np.ndarray):
        return (
            isinstance(right, np.ndarray)
            and left.dtype.newbyteorder("=") == right.dtype
            and left.shape == right.shape
            and left.astype(right.dtype).tobytes() == right.tobytes()
        )
    if type(left) is not type(right):
        return False
    if isinstance(left, list):
        return len(left) == len(right) and all(map(same, left, right))
    if isinstance(left, dict):
        return list(left) == list(right) and all(map(same, left.values(), right.values()))
    if isinstance(left, float):
        return left.hex() == right.hex() or (math.isnan(left) and math.isnan(right))
    return bool(left == right)


def signed(content: bytes, number: int = 1) -> bytes:
    """An object with a right checksum around any content."""
    head = b"SGSTATE" + bytes([number])
    return head + hashlib.sha256(head + content).digest() + content


def packed(found: Any) -> bytes:
    return signed(zlib.compress(msgspec.msgpack.encode(found)))


@given(st.sampled_from(["full", "delta"]), BODIES)
@settings(max_examples=examples(300))
def test_what_goes_in_comes_out(kind: str, body: dict[str, Any]) -> None:
    found_kind, found = decode(encode(kind, body))
    assert found_kind == kind
    assert same(body, found)


def test_equal_bodies_give_equal_bytes() -> None:
    body = {"a": np.arange(1000), "b": ["x"] * 100}
    assert encode("full", body) == encode("full", body)


def test_arrays_come_out_writable_and_in_the_machines_own_order() -> None:
    strided = np.arange(12, dtype=np.int64).reshape(3, 4).T[::2]
    _, body = decode(encode("full", {"a": strided}))
    assert np.array_equal(body["a"], strided)
    assert body["a"].dtype == np.dtype(np.int64) and body["a"].dtype.isnative
    body["a"][0] = 7


def test_the_first_bytes_are_a_promise() -> None:
    data = encode("full", {})
    assert data[:8] == b"SGSTATE\x01"
    assert data[8:40] == hashlib.sha256(data[:8] + data[40:]).digest()
    assert msgspec.msgpack.decode(zlib.decompress(data[40:])) == ["full", {}]


def test_an_object_of_format_1_is_read_for_ever() -> None:
    content = b"".join(
        [
            b"\x92\xa5delta\x82",
            b"\xa4time\xc7\x1a\x01q\x01" + b"\x02" + bytes(7),  # int64, one dimension, two
            b"\xff" * 8 + bytes(7) + b"\x80",
            b"\xa1n\xc7\x03\x02\x00\x00\x01",
        ]
    )
    kind, body = decode(signed(zlib.compress(content)))
    assert (kind, body["n"]) == ("delta", 65536)
    assert body["time"].tolist() == [-1, -(2**63)]


def test_cut_at_every_byte() -> None:
    for size in range(len(SMALL)):
        with pytest.raises(StateError):
            decode(SMALL[:size])
    for more in (b"\0", SMALL):
        with pytest.raises(StateError):
            decode(SMALL + more)


def test_every_bit_turned() -> None:
    for bit in range(8 * len(SMALL)):
        turned = bytearray(SMALL)
        turned[bit // 8] ^= 1 << bit % 8
        with pytest.raises(StateError):
            decode(bytes(turned))


@given(st.binary(max_size=200))
def test_any_bytes(data: bytes) -> None:
    for some in (data, state.MAGIC + data, SMALL[:40] + data):
        with pytest.raises(StateError):
            decode(some)


@given(st.binary(max_size=60), st.booleans())
@settings(max_examples=examples(500))
def test_any_signed_content_is_read_or_refused(content: bytes, compress: bool) -> None:
    try:
        decode(signed(zlib.compress(b"\x92\xa4full" + content) if compress else content))
    except StateError:
        pass


@given(st.integers(0, 400), st.integers(0, 255))
@settings(max_examples=examples(500))
def test_signed_content_with_one_byte_changed_is_read_or_refused(index: int, byte: int) -> None:
    body = {"a": np.arange(3), "b": [True, 2**70, np.ones((2, 1), np.bool_)], "c": {"d": b"x"}}
    content = bytearray(zlib.decompress(encode("full", body)[40:]))
    content[index % len(content)] = byte
    try:
        decode(signed(zlib.compress(bytes(content))))
    except StateError:
        pass


def array_of(head: bytes) -> bytes:
    return packed(["full", {"a": msgspec.msgpack.Ext(1, head)}])


HUGE = (1 << 60).to_bytes(8, "little")
HOSTILE = {
    "list of 4 billion": signed(zlib.compress(b"\xdd\xff\xff\xff\xff")),
    "dict of 4 billion": signed(zlib.compress(b"\xdf\xff\xff\xff\xff")),
    "bytes of 4 billion": signed(zlib.compress(b"\xc6\xff\xff\xff\xff")),
    "lists in lists": signed(zlib.compress(b"\x91" * 200_000)),
    "no list": packed("full"),
    "three parts": packed(["full", {}, 1]),
    "another kind": packed(["half", {}]),
    "kind is no text": packed([["full"], {}]),
    "body is no dict": packed(["full", []]),
    "keys that are no text": packed(["full", {1: 2}]),
    "not compressed": signed(msgspec.msgpack.encode(["full", {}])),
    "compressed and cut": signed(zlib.compress(msgspec.msgpack.encode(["full", {}]))[:-3]),
    "more after the end": signed(zlib.compress(msgspec.msgpack.encode(["full", {}])) + b"x"),
    "nothing": signed(b""),
    "unknown extension": packed(["full", {"a": msgspec.msgpack.Ext(9, b"")}]),
    "array of nothing": array_of(b""),
    "array without dimensions": array_of(b"q"),
    "array of objects": array_of(b"O\x01" + (1).to_bytes(8, "little") + b"12345678"),
    "array of 200 dimensions": array_of(b"q\xc8" + bytes(1600)),
    "array cut in its dimensions": array_of(b"q\x02" + bytes(15)),
    "array larger than its bytes": array_of(b"q\x01" + HUGE),
    "array whose size wraps": array_of(b"q\x02" + HUGE + (16).to_bytes(8, "little")),
    "array of nothing, hugely": array_of(b"q\x03" + bytes(8) + HUGE * 2),
    "truth values that are none": array_of(b"?\x01" + (1).to_bytes(8, "little") + b"\x02"),
}


@pytest.mark.parametrize("data", HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_content_is_refused(data: bytes) -> None:
    with pytest.raises(StateError):
        decode(data)


def test_a_bomb_is_refused_before_it_is_large() -> None:
    bomb = packed(["full", {"a": bytes(50_000_000)}])
    assert len(bomb) < 100_000
    tracemalloc.start()
    try:
        with pytest.raises(StateError, match="larger than 1000000 bytes"):
            decode(bomb, bytes_max=1_000_000)
        assert tracemalloc.get_traced_memory()[1] < 5_000_000
    finally:
        tracemalloc.stop()


def test_a_body_at_the_limit_is_read_and_one_above_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    data = encode("full", {"a": bytes(1000)})
    size = len(zlib.decompress(data[40:]))
    decode(data, bytes_max=size)
    with pytest.raises(StateError):
        decode(data, bytes_max=size - 1)
    monkeypatch.setattr(state, "BODY_BYTES_MAX", size - 1)
    with pytest.raises(StateError, match=f"at most {size - 1}"):
        encode("full", {"a": bytes(1000)})


@pytest.mark.parametrize(
    ("number", "message"),
    [
        (2, "has format 2: this version of streamgauge reads formats 1 to 1; a newer version"),
        (255, "has format 255: .*; a newer version wrote it"),
        (0, "has format 0: this version of streamgauge reads formats 1 to 1$"),
    ],
)
def test_an_unknown_format_is_named(number: int, message: str) -> None:
    with pytest.raises(StateError, match=message):
        decode(signed(b"whatever comes then", number))


def test_torn_and_foreign_are_told_apart() -> None:
    for data, message in [
        (b"", "torn: 0 bytes"),
        (b"SGST", "torn: 4 bytes"),
        (SMALL[:39], "torn: 39 bytes"),
        (SMALL[:-1], "wrong checksum"),
        (b"PK\x03\x04", "not a state object"),
        (b"sgstate" + SMALL[7:], "not a state object"),
    ]:
        with pytest.raises(StateError, match=re.escape(message)):
            decode(data)


def test_unknown_keys_are_returned() -> None:
    assert decode(packed(["full", {"known": 1, "of a later release": [1, {"x": None}]}])) == (
        "full",
        {"known": 1, "of a later release": [1, {"x": None}]},
    )


@pytest.mark.parametrize(
    "value",
    [
        (1, 2),
        {1: 2},
        {1},
        np.float64(1.0),
        np.int64(1),
        np.array(["a"]),
        np.array([None]),
        np.zeros(1, np.float32),
        np.zeros((1,) * 9),
        object(),
        complex(1),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_could_not_come_out_the_same_does_not_go_in(value: Any) -> None:
    with pytest.raises(TypeError):
        encode("full", {"a": [value]})


def test_depth_has_a_limit() -> None:
    body: dict[str, Any] = {}
    for _ in range(state.DEPTH_MAX):
        body = {"in": body}
    assert decode(encode("full", body)) == ("full", body)
    with pytest.raises(TypeError, match="deep"):
        encode("full", {"in": {"in": body}})
