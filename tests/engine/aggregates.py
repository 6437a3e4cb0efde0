"""Aggregated records written byte by byte, well or badly, and what becomes of one."""

import hashlib
from typing import Any

from streamgauge.engine.batch import Record, Rejected, UserRecords
from streamgauge.engine.kpl import MAGIC, deaggregate

USERS: list[tuple[bytes, bytes, int | None]] = [
    (b"a", b"one", None),
    (b"b", b"two", 5),
    (b"a", b"", (1 << 128) - 1),
    (b"a", b"four", 5),
]


def seal(body: bytes) -> bytes:
    """A body between the magic bytes and its digest."""
    return MAGIC + body + hashlib.md5(body).digest()


def varint(number: int, length: int = 0) -> bytes:
    """A varint, stretched to `length` bytes where that is more than it needs."""
    out = []
    while number > 127 or len(out) + 1 < length:
        out.append(number & 127 | 128)
        number >>= 7
    return bytes([*out, number])


def piece(field: int, data: bytes, length: int = 0) -> bytes:
    """A length-delimited field, its length stretched to `length` bytes."""
    return varint(field << 3 | 2) + varint(len(data), length) + data


def user(index: int, data: bytes, explicit: int | None = None) -> bytes:
    """A user record as a field of the body."""
    middle = b"" if explicit is None else b"\x10" + varint(explicit)
    return piece(3, b"\x08" + varint(index) + middle + piece(3, data))


def record(data: bytes, sequence: str = "7", key: str = "outer", **more: Any) -> Record:
    """A Kinesis record."""
    return Record(
        shard_id="shard", sequence_number=sequence, data=data, partition_key=key, arrival=9, **more
    )


def opened(data: bytes) -> tuple[UserRecords, list[Rejected]]:
    """What becomes of one Kinesis record."""
    return deaggregate([record(data)])


def rows(users: UserRecords) -> list[tuple[bytes, bytes, str | None]]:
    """(partition key, data, explicit hash key) of every row."""
    hash_keys = users.hash_keys or [None] * len(users)
    return list(zip(users.keys, users.data, hash_keys, strict=True))
