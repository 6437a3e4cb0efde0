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
SIZE_BITS = 32


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
    """A partition key that Kinesis can take: its hash key, size, and entry in a table of keys.

    cost: what a record without data counts for in the bound of memory, in bytes.
    """

    hash_key: int
    size: int
    field: bytes
    cost: int


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
    field = b"\x0a" + _varint(len(key)) + key
    return Key(hash_key(key), len(key), field, cost(partition_key, b""))


def cost(partition_key: str, data: bytes) -> int:
    """What a user record counts for in the bound of memory, in bytes."""
    return RECORD_OVERHEAD_BYTES + len(data) + 4 * len(partition_key)


class Parcel:
    """User records that go as one Kinesis record; its bytes are joined when it is sent.

    keys: their partition keys. size: in bytes, as the limits of a call count it. cost: of all, in
    memory. count: how many they are. since: when the first was put. told: whether somebody is to be
    told the outcome of any. A single one goes as it is; one that begins as an aggregate does
    (`wraps`) is made one, or readers would open it.
    """

    __slots__ = ("cost", "count", "keys", "since", "size", "told", "_buffer", "_whole")

    def __init__(self, buffer: Buffer, wraps: bool) -> None:
        """Take what is in a buffer."""
        self._buffer = buffer
        self.keys: Collection[str] = buffer.places
        self.count, self.since = len(buffer.names), buffer.since
        self.cost, self.told = buffer.cost, buffer.callbacks is not None
        self._whole = self.count > 1 or wraps and buffer.rows[1].startswith(MAGIC)
        if self._whole:
            self.size = buffer.bytes + len(OUTER_KEY)
        else:
            self.size = len(buffer.rows[1]) + len(buffer.names[0].encode())

    @classmethod
    def of(cls, users: Sequence[UserRecord], wraps: bool) -> Parcel:
        """User records together, whatever size they have."""
        buffer = Buffer()
        for user in users:
            buffer.add(user, known(user.partition_key), None)
        return cls(buffer, wraps)

    @property
    def users(self) -> list[UserRecord]:
        """The user records, in order; made anew at each call."""
        return self._buffer.users

    def pack(self) -> Put:
        """The Kinesis record."""
        buffer = self._buffer
        if not self._whole:
            return Put(buffer.names[0], buffer.hash_key(0), buffer.rows[1])
        body = b"".join((*buffer.keys, *buffer.hash_keys, *buffer.rows))
        digest = hashlib.md5(body, usedforsecurity=False).digest()
        return Put(OUTER_KEY, buffer.hash_key(0), b"".join((MAGIC, body, digest)))


class Buffer:
    """User records of one shard that are not packed yet, as columns.

    One object a user record would cost more than all else, and hardly any is looked at again: so
    they are made when somebody has to (`users`).

    bytes: the exact size of the aggregate that they make. places: of the partition keys in their
    table. keys, hash_keys: the entries of the tables. names, numbers: partition key and number of
    each record. rows: two of each, what stands before its data, and its data. times: from which
    record on which `since` holds. explicits: explicit hash keys, by place. callbacks: None while no
    record has one.
    """

    __slots__ = (
        "bytes", "callbacks", "explicits", "hash_keys", "keys", "names", "numbers", "places",
        "rows", "times", "_hash_places", "_noted",
    )  # fmt: skip

    def __init__(self) -> None:
        """Hold nothing."""
        self.bytes = ENVELOPE_BYTES
        self.places: dict[str, int] = {}
        self.keys: list[bytes] = []
        self.hash_keys: list[bytes] = []
        self.rows: list[bytes] = []
        self.names: list[str] = []
        self.numbers: list[int] = []
        self.times: list[tuple[int, float]] = []
        self.explicits: dict[int, int] = {}
        self.callbacks: list[Any] | None = None
        self._hash_places: dict[int, int] = {}
        self._noted = 0

    @property
    def since(self) -> float:
        """When the first record was put."""
        return self.times[0][1]

    @property
    def cost(self) -> int:
        """What all count for in the bound of memory, in bytes; see `cost`."""
        texts = sum(map(len, self.rows[1::2])) + 4 * sum(map(len, self.names))
        return RECORD_OVERHEAD_BYTES * len(self.names) + texts

    @property
    def users(self) -> list[UserRecord]:
        """The records as objects, in order."""
        count = len(self.names)
        starts = [*(first for first, _ in self.times), count]
        sinces = list[float]()
        for (first, since), end in zip(self.times, starts[1:], strict=True):
            sinces += [since] * (end - first)
        explicits = [self.explicits.get(place) for place in range(count)]
        hashes = map(self.hash_key, range(count))
        callbacks = self.callbacks or [None] * count
        columns = (
            self.names, self.rows[1::2], explicits, hashes, self.numbers, sinces, callbacks
        )  # fmt: skip
        return [UserRecord(*values) for values in zip(*columns, strict=True)]

    def hash_key(self, place: int) -> int:
        """The hash key of one record: the explicit one, else its partition key's."""
        explicit = self.explicits.get(place)
        return known(self.names[place]).hash_key if explicit is None else explicit

    def note(self, since: float, callback: Any) -> int:
        """Note of the records since the last note when they were put, and whom to tell.

        Returns how many they are. What a signal has kept from its last column is taken out.
        """
        count, before = len(self.rows) // 2, self._noted
        del self.names[count:], self.numbers[count:]
        if count == before:
            return 0
        if not self.times or self.times[-1][1] != since:
            self.times.append((before, since))
        if callback is not None and self.callbacks is None:
            self.callbacks = [None] * before
        if self.callbacks is not None:
            self.callbacks += [callback] * (count - before)
        self._noted = count
        return count - before

    def forget(self) -> bool:
        """Take out what a signal has kept from being noted; whether anything is left."""
        count = self._noted
        del self.names[count:], self.numbers[count:], self.rows[2 * count :]
        self.times = [(first, since) for first, since in self.times if first < count]
        self.explicits.pop(count, None)
        if self.callbacks is not None:
            del self.callbacks[count:]
        return count > 0

    def add(self, user: UserRecord, key: Key, bytes_max: int | None) -> bool:
        """Take one more, unless the aggregate would be larger than that; whether it was taken.

        Args:
            key: what is known of its partition key.
        """
        name, explicit, size = user.partition_key, user.explicit_hash_key, len(user.data)
        place = self.places.get(name, len(self.places))
        key_field = b"" if name in self.places else key.field
        hash_field = b""
        if explicit is None:
            head = head_of(place, size)
        else:
            hash_place = self._hash_places.get(explicit, len(self._hash_places))
            hash_field = b"" if explicit in self._hash_places else _hash_field(explicit)
            head = _head(place, b"\x10" + _varint(hash_place), size)
        total = self.bytes + len(key_field) + len(hash_field) + len(head) + size
        if bytes_max is not None and total > bytes_max:
            return False
        if key_field:
            self.keys[place:] = [key_field]  # in place of what a signal has left there
            self.places[name] = place
        if explicit is not None:
            self.explicits[len(self.rows) // 2] = explicit
            if hash_field:
                self.hash_keys[hash_place:] = [hash_field]
                self._hash_places[explicit] = hash_place
        self.bytes = total
        self.names.append(name)
        self.numbers.append(user.number)
        self.rows += (head, user.data)
        self.note(user.since, user.callback)
        return True


HEADS: dict[int, bytes] = {}  # what stands before data, by place << SIZE_BITS | size


def head_of(place: int, size: int) -> bytes:
    """What stands before the data of a record without explicit hash key; kept, for the next."""
    found = HEADS.get(place << SIZE_BITS | size)
    if found is None:
        if len(HEADS) >= _HEADS_MAX:
            HEADS.clear()
        found = HEADS[place << SIZE_BITS | size] = _head(place, b"", size)
    return found


def _head(place: int, hash_place: bytes, size: int) -> bytes:
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
