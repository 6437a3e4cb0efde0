"""The user records that wait for one shard, in the bytes that they have in an aggregate.

Bytes and sizes are those of the KPL's aggregation format (its aggregation-format.md): magic, the
tables of keys, the records, MD5. They are laid out as the KPL does it, table entries shared and in
the order of their first use, and are the same as `engine.kpl.aggregate` gives.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Sequence
from functools import lru_cache
from typing import Any

import msgspec

from ..engine.kpl import MAGIC, hash_key
from .kinesis import KEY_CHARACTERS_MAX, Put
from .outcomes import RecordError

ENVELOPE_BYTES = 20  # magic and MD5
OUTER_KEY = "a"  # a filler, as the KPL has it: the explicit hash key chooses the shard
RECORD_OVERHEAD_BYTES = 400  # what a user record takes in memory beside its data and key
KEYS_KNOWN_MAX = 1 << 16
_HEADS_MAX = 1 << 16
_SIZE_BITS = 32


class UserRecord(msgspec.Struct, frozen=True):
    """A user record on its way.

    hash_key: the explicit one, else MD5 of the partition key. number: the order of the puts. since:
    when it was put, in seconds on the clock of the producer. callback: to be told the outcome.
    """

    partition_key: str
    data: bytes
    explicit_hash_key: int | None
    hash_key: int
    number: int = 0
    since: float = 0.0
    callback: Any = None

    @property
    def size(self) -> int:
        """Bytes of data and key, as the limit of a record counts them."""
        return len(self.data) + len(self.partition_key.encode())


class Key(msgspec.Struct, frozen=True, gc=False):
    """A partition key that Kinesis can take: its hash key, size, and entry in a table of keys."""

    hash_key: int
    size: int
    field: bytes


@lru_cache(KEYS_KNOWN_MAX)
def known(partition_key: str) -> Key:
    """What there is to know of a partition key; RecordError where Kinesis cannot take it."""
    if not isinstance(partition_key, str):
        raise RecordError(f"partition key: expected text, found {type(partition_key).__name__}")
    if not 1 <= len(partition_key) <= KEY_CHARACTERS_MAX:
        expected = f"expected 1 to {KEY_CHARACTERS_MAX} characters"
        raise RecordError(f"partition key: {expected}, found {len(partition_key)}")
    try:
        key = partition_key.encode()
    except UnicodeEncodeError as error:
        raise RecordError(f"partition key: expected UTF-8 text: {error.reason}") from None
    return Key(hash_key(key), len(key), b"\x0a" + _varint(len(key)) + key)


def cost(partition_key: str, data: bytes) -> int:
    """What a user record counts for in the bound of memory, in bytes."""
    return RECORD_OVERHEAD_BYTES + len(data) + 4 * len(partition_key)


class Parcel:
    """User records that go as one Kinesis record; its bytes are joined when it is sent.

    keys: their partition keys. size: in bytes, as the limits of a call count it. cost: of all, in
    memory. told: whether somebody is to be told the outcome of any. A single one goes as it is;
    one that begins as an aggregate does (`wraps`) is made one, or readers would open it.
    """

    __slots__ = ("cost", "keys", "size", "told", "users", "_parts")

    def __init__(self, buffer: Buffer, wraps: bool) -> None:
        """Take what is in a buffer."""
        self.users: Sequence[UserRecord] = buffer.users
        self.keys: Collection[str] = buffer.places
        self.cost, self.told = buffer.cost, buffer.told
        alone = len(self.users) == 1
        if alone and not (wraps and self.users[0].data.startswith(MAGIC)):
            self._parts = None
            self.size = self.users[0].size
        else:
            self._parts = buffer.parts
            self.size = buffer.bytes + len(OUTER_KEY)

    @classmethod
    def of(cls, users: Sequence[UserRecord], wraps: bool) -> Parcel:
        """User records together, whatever size they have."""
        buffer = Buffer()
        for user in users:
            size = cost(user.partition_key, user.data)
            buffer.add(user, known(user.partition_key), size, None)
        return cls(buffer, wraps)

    def pack(self) -> Put:
        """The Kinesis record."""
        first = self.users[0]
        if self._parts is None:
            return Put(first.partition_key, first.hash_key, first.data)
        body = b"".join([part for of in self._parts for part in of])
        digest = hashlib.md5(body, usedforsecurity=False).digest()
        return Put(OUTER_KEY, first.hash_key, b"".join((MAGIC, body, digest)))


class Buffer:
    """User records of one shard that are not packed yet.

    bytes: the exact size of the aggregate that they make. places: of the partition keys in their
    table. cost, told: as of a parcel.
    """

    __slots__ = (
        "bytes", "cost", "places", "told", "users", "_hash_keys", "_hash_places", "_keys", "_rows",
    )  # fmt: skip

    def __init__(self) -> None:
        """Hold nothing."""
        self.users: list[UserRecord] = []
        self.bytes, self.cost, self.told = ENVELOPE_BYTES, 0, False
        self.places: dict[str, int] = {}
        self._hash_places: dict[int, int] = {}
        self._keys: list[bytes] = []
        self._hash_keys: list[bytes] = []
        self._rows: list[bytes] = []  # of each record what stands before its data, and its data

    @property
    def parts(self) -> tuple[list[bytes], list[bytes], list[bytes]]:
        """The pieces of the body, in order."""
        return self._keys, self._hash_keys, self._rows

    def add(self, user: UserRecord, key: Key, cost: int, bytes_max: int | None) -> bool:
        """Take one more, unless the aggregate would be larger than that; whether it was taken.

        Args:
            key: what is known of its partition key. cost: of the record in memory.
        """
        if user.explicit_hash_key is not None:
            return self._add_with_hash_key(user, user.explicit_hash_key, key, cost, bytes_max)
        data, name = user.data, user.partition_key
        size = len(data)
        place = self.places.get(name, -1)
        if new := place < 0:
            place = len(self.places)
        head = _HEADS.get(place << _SIZE_BITS | size) or _head(place, size)
        total = self.bytes + len(head) + size + (len(key.field) if new else 0)
        if bytes_max is not None and total > bytes_max:
            return False
        if new:
            self.places[name] = place
            self._keys.append(key.field)
        self.bytes = total
        self.cost += cost
        self._rows += (head, data)
        self.users.append(user)
        if user.callback is not None:
            self.told = True
        return True

    def _add_with_hash_key(
        self, user: UserRecord, number: int, key: Key, cost: int, bytes_max: int | None
    ) -> bool:
        """The same, for a record that has an explicit hash key."""
        places, hashes = self.places, self._hash_places
        place = places.get(user.partition_key, len(places))
        hash_place = hashes.get(number, len(hashes))
        head = _head_of(place, b"\x10" + _varint(hash_place), len(user.data))
        key_field = b"" if user.partition_key in places else key.field
        hash_field = b"" if number in hashes else _hash_field(number)
        total = self.bytes + len(key_field) + len(hash_field) + len(head) + len(user.data)
        if bytes_max is not None and total > bytes_max:
            return False
        if key_field:
            places[user.partition_key] = place
            self._keys.append(key_field)
        if hash_field:
            hashes[number] = hash_place
            self._hash_keys.append(hash_field)
        self.bytes = total
        self.cost += cost
        self._rows += (head, user.data)
        self.users.append(user)
        if user.callback is not None:
            self.told = True
        return True


_HEADS: dict[int, bytes] = {}


def _head(place: int, size: int) -> bytes:
    """What stands before the data of a record without explicit hash key; kept, for the next."""
    if len(_HEADS) >= _HEADS_MAX:
        _HEADS.clear()
    head = _HEADS[place << _SIZE_BITS | size] = _head_of(place, b"", size)
    return head


def _head_of(place: int, hash_place: bytes, size: int) -> bytes:
    """What stands before the data of a record: its own length, its keys, the length of the data."""
    inner = b"\x08" + _varint(place) + hash_place + b"\x1a" + _varint(size)
    return b"\x1a" + _varint(len(inner) + size) + inner


def _hash_field(number: int) -> bytes:
    """An entry of the table of hash keys."""
    text = b"%d" % number
    return b"\x12" + _varint(len(text)) + text


def _varint(number: int) -> bytes:
    """A number as protobuf writes it."""
    if number < 0x80:
        return bytes((number,))
    found = bytearray()
    while number >= 0x80:
        found.append(number & 0x7F | 0x80)
        number >>= 7
    found.append(number)
    return bytes(found)
