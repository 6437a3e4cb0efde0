"""The container of a shard's state object: bytes that are whole, or are known not to be.

    offset  bytes
    0       7      magic, "SGSTATE"
    7       1      format number
    8       32     SHA-256 of everything else (magic, format number, content)
    40      rest   content; format 1: zlib over MessagePack of [kind, body]

Magic, format number and digest stay the same in every format, so any version can tell a torn object
from one of a format that it does not know. A reader of each older format stays in `_READERS`.

The body is a tree of plain values; nothing in it names code, so reading it runs none. numpy arrays
are MessagePack extension 1 (dtype code, dimensions and raw bytes, all little-endian), integers
beyond 64 bits are extension 2. Unknown keys in a body are simply returned.
"""

from __future__ import annotations

import hashlib
import math
import struct
import zlib
from collections.abc import Callable
from typing import Any, Protocol

import msgspec
import numpy as np

from .errors import StateError

MAGIC = b"SGSTATE"
FORMAT = 1
BODY_BYTES_MAX = 1 << 31  # decompressed; more is neither written nor read
ARRAY_DIMENSIONS_MAX = 8
DEPTH_MAX = 64  # lists and dicts inside each other
COMPRESSION_LEVEL = 1

KINDS = ("full", "delta")
Decoded = tuple[str, dict[str, Any]]  # kind and body

_HEADER_BYTES = len(MAGIC) + 1 + hashlib.sha256().digest_size
_ARRAY, _INTEGER = 1, 2  # MessagePack extension codes
_DTYPES = {
    code: np.dtype(name)
    for code, name in ((b"q", "<i8"), (b"i", "<i4"), (b"B", "|u1"), (b"d", "<f8"), (b"?", "|b1"))
}
_CODES = {dtype: code for code, dtype in _DTYPES.items()}


class StateStore(Protocol):
    """Where the state objects of shards lie; implementations are in stores/.

    The objects of a (pipeline, shard) are numbered. The next number is one above the greatest of
    `generations`, whether that object can be read or not. Any call may raise UnavailableError and
    may then be repeated; but a `create` that raised it may have written all the same: the next one
    then says FencedError, and a reload finds the object.
    """

    def generations(self, pipeline: str, shard: str) -> list[int]:
        """The numbers of all objects there are, ascending; empty for an unknown shard."""
        ...

    def exists(self, pipeline: str, shard: str, generation: int) -> bool:
        """Whether there is an object of this number; cheaper than `generations`."""
        ...

    def read(self, pipeline: str, shard: str, generation: int) -> bytes:
        """The bytes of one object, as they were given; StateError where there is none."""
        ...

    def create(self, pipeline: str, shard: str, generation: int, data: bytes) -> None:
        """Write one object, whole and for good, before this returns.

        Raises:
            FencedError: this generation or a later one exists, so another owner has the shard.
        """
        ...

    def delete(self, pipeline: str, shard: str, generation: int) -> None:
        """Remove one object; nothing happens where there is none."""
        ...

    def prune(self, pipeline: str, shard: str, oldest_kept: int) -> None:
        """Remove all objects below `oldest_kept`, but never the newest one.

        The newest one guards the numbers: without it a late owner could take an old one again.
        """
        ...


def encode(kind: str, body: dict[str, Any]) -> bytes:
    """Pack a body into a state object of one of KINDS.

    Values: None, bool, int, float, str, bytes, list, dict with str keys, and numpy arrays of
    int64, int32, uint8, float64 or bool, at any depth up to DEPTH_MAX. TypeError names a type that
    is none of these.

    Raises:
        StateError: larger than BODY_BYTES_MAX, so that it could not be read back.
    """
    assert kind in KINDS, kind
    content = msgspec.msgpack.encode([kind, _packed(body, 0)])
    if len(content) > BODY_BYTES_MAX:
        raise StateError(f"state of {len(content)} bytes; at most {BODY_BYTES_MAX} are supported")
    compressed = zlib.compress(content, COMPRESSION_LEVEL)
    head = MAGIC + bytes([FORMAT])
    return b"".join((head, _digest(head, compressed), compressed))


def decode(data: bytes, bytes_max: int = BODY_BYTES_MAX) -> Decoded:
    """Unpack a state object into its kind and body; arrays are writable copies.

    Raises:
        StateError: torn, changed, no state object, of an unknown format, or larger than
            `bytes_max` when decompressed. No other exception is raised, whatever the bytes.
    """
    if not data.startswith(MAGIC[: len(data)]):
        raise StateError("not a state object: it does not begin with SGSTATE")
    if len(data) < _HEADER_BYTES:
        raise StateError(f"state object is torn: {len(data)} bytes, its header is {_HEADER_BYTES}")
    head, digest, content = data[:8], data[8:_HEADER_BYTES], data[_HEADER_BYTES:]
    if _digest(head, content) != digest:
        raise StateError(f"state object is torn or corrupt: wrong checksum over {len(data)} bytes")
    number = head[7]
    reader = _READERS.get(number)
    if reader is None:
        known = f"this version of streamgauge reads formats {min(_READERS)} to {max(_READERS)}"
        newer = "; a newer version wrote it" if number > max(_READERS) else ""
        raise StateError(f"state object has format {number}: {known}{newer}")
    return reader(content, bytes_max)


def _digest(head: bytes, content: bytes) -> bytes:
    digest = hashlib.sha256(head)
    digest.update(content)
    return digest.digest()


def _read_1(content: bytes, bytes_max: int) -> Decoded:
    try:
        found = _DECODER.decode(_decompressed(content, bytes_max))
    # The digest keeps accidents out, not malice: a signed object may claim any size and depth.
    except (ValueError, RecursionError, OverflowError, MemoryError, zlib.error) as error:
        raise StateError(f"state object cannot be read: {error}") from error
    if type(found) is not list or len(found) != 2:
        raise StateError("state object cannot be read: expected [kind, body]")
    kind, body = found
    if type(kind) is not str or kind not in KINDS or type(body) is not dict:
        raise StateError("state object cannot be read: expected [kind, body]")
    if not all(type(key) is str for key in body):
        raise StateError("state object cannot be read: a key of the body is no string")
    return kind, body


_READERS: dict[int, Callable[[bytes, int], Decoded]] = {1: _read_1}


def _decompressed(content: bytes, bytes_max: int) -> bytes:
    stream = zlib.decompressobj()
    plain = stream.decompress(content, bytes_max + 1)
    if len(plain) > bytes_max:
        raise StateError(f"state object is larger than {bytes_max} bytes when decompressed")
    if not stream.eof or stream.unused_data:
        raise StateError("state object cannot be read: its content does not end where it should")
    return plain


def _packed(value: Any, depth: int) -> Any:
    """`value` in the types that MessagePack has."""
    kind = type(value)
    if kind in (str, float, bytes, bool) or value is None:
        return value
    if kind is int:
        return value if -(1 << 63) <= value < 1 << 64 else _packed_integer(value)
    if kind is np.ndarray:
        return _packed_array(value)
    if kind in (list, dict) and depth > DEPTH_MAX:
        raise TypeError(f"a state body is at most {DEPTH_MAX} lists and dicts deep")
    if kind is list:
        return [_packed(item, depth + 1) for item in value]
    if kind is dict:
        for key in value:
            if type(key) is not str:
                raise TypeError(f"a key in a state body is a str, not {type(key).__name__}")
        return {key: _packed(item, depth + 1) for key, item in value.items()}
    raise TypeError(f"a state body cannot hold {kind.__module__}.{kind.__qualname__}")


def _packed_integer(value: int) -> msgspec.msgpack.Ext:
    size = value.bit_length() // 8 + 1
    return msgspec.msgpack.Ext(_INTEGER, value.to_bytes(size, "little", signed=True))


def _packed_array(array: np.ndarray[Any, Any]) -> msgspec.msgpack.Ext:
    dtype = array.dtype.newbyteorder("<")
    code = _CODES.get(dtype)
    if code is None or array.ndim > ARRAY_DIMENSIONS_MAX:
        raise TypeError(f"a state body cannot hold an array of {array.dtype}, {array.ndim}-d")
    raw = array.astype(dtype, copy=False).tobytes()  # C order, whatever the array's own
    head = struct.pack(f"<cB{array.ndim}Q", code, array.ndim, *array.shape)
    return msgspec.msgpack.Ext(_ARRAY, head + raw)


def _unpacked(code: int, data: memoryview) -> Any:
    if code == _INTEGER:
        return int.from_bytes(data, "little", signed=True)
    if code == _ARRAY:
        return _unpacked_array(data)
    raise ValueError(f"unknown extension {code}")


def _unpacked_array(data: memoryview) -> np.ndarray[Any, Any]:
    dtype = _DTYPES.get(bytes(data[:1]))
    if dtype is None or len(data) < 2 or data[1] > ARRAY_DIMENSIONS_MAX:
        raise ValueError("an array of unknown type")
    start = 2 + 8 * data[1]
    if len(data) < start:
        raise ValueError("an array is cut short")
    shape = struct.unpack_from(f"<{data[1]}Q", data, 2)
    raw = data[start:]
    if math.prod(shape) * dtype.itemsize != len(raw):
        raise ValueError("an array's dimensions do not fit its bytes")
    if dtype.kind == "b" and np.frombuffer(raw, np.uint8).max(initial=0) > 1:
        raise ValueError("an array of truth values holds something else")
    array = np.frombuffer(raw, dtype).reshape(shape)
    return array.astype(dtype.newbyteorder("="), copy=True)


_DECODER: msgspec.msgpack.Decoder[Any] = msgspec.msgpack.Decoder(ext_hook=_unpacked)
