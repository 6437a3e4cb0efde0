"""The user records that wait for one shard, and the exact size that they have as one aggregate.

Sizes follow the KPL's aggregation format: magic and digest, the tables of keys, the records.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from ..engine.kpl import aggregate
from .kinesis import Put

ENVELOPE_BYTES = 20  # magic and MD5
OUTER_KEY = "a"  # a filler, as the KPL has it: the explicit hash key chooses the shard


class UserRecord(NamedTuple):
    """A user record on its way.

    hash_key: the explicit one, else MD5 of the partition key. since: when it was put, in seconds on
    the clock of the producer. token: whatever the caller wants to know it by.
    """

    partition_key: str
    data: bytes
    explicit_hash_key: int | None
    hash_key: int
    since: float
    token: Any = None

    @property
    def size(self) -> int:
        """Bytes of data and key, as the limit of a record counts them."""
        return len(self.data) + len(self.partition_key.encode())


class Outgoing(NamedTuple):
    """A Kinesis record that is ready to be put, and the user records in it."""

    put: Put
    users: tuple[UserRecord, ...]

    @classmethod
    def of(cls, users: tuple[UserRecord, ...]) -> Outgoing:
        """One user record as it is, several as an aggregate."""
        first = users[0]
        if len(users) == 1:
            return cls(Put(first.partition_key, first.hash_key, first.data), users)
        data = aggregate((user.partition_key, user.data, user.explicit_hash_key) for user in users)
        return cls(Put(OUTER_KEY, first.hash_key, data), users)


class Buffer:
    """User records of one shard that are not packed yet.

    bytes: the exact size of the aggregate that they make. due: when the first of them must go.
    """

    def __init__(self) -> None:
        """Hold nothing."""
        self.users: list[UserRecord] = []
        self.bytes = ENVELOPE_BYTES
        self._keys: dict[str, int] = {}
        self._hash_keys: dict[int, int] = {}

    def __len__(self) -> int:
        """The number of user records."""
        return len(self.users)

    def with_another(self, user: UserRecord) -> int:
        """The size that the aggregate would have with one more user record."""
        key = user.partition_key.encode()
        place = self._keys.get(user.partition_key, len(self._keys))
        more = 0 if user.partition_key in self._keys else _field(len(key))
        inner = 1 + _varint(place) + _field(len(user.data))
        if user.explicit_hash_key is not None:
            number = user.explicit_hash_key
            more += 0 if number in self._hash_keys else _field(len(str(number)))
            inner += 1 + _varint(self._hash_keys.get(number, len(self._hash_keys)))
        return self.bytes + more + _field(inner)

    def add(self, user: UserRecord) -> None:
        """Take one more."""
        self.bytes = self.with_another(user)
        self._keys.setdefault(user.partition_key, len(self._keys))
        if user.explicit_hash_key is not None:
            self._hash_keys.setdefault(user.explicit_hash_key, len(self._hash_keys))
        self.users.append(user)

    def pack(self) -> Outgoing:
        """Everything as one Kinesis record."""
        return Outgoing.of(tuple(self.users))


def _varint(number: int) -> int:
    """Bytes of a number as protobuf writes it."""
    return max(1, (number.bit_length() + 6) // 7)


def _field(length: int) -> int:
    """Bytes of a field that holds so many bytes."""
    return 1 + _varint(length) + length
