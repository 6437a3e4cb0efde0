"""Aggregated records of the Kinesis Producer Library: to user records, and back to bytes.

    F3 89 9A C2 | protobuf AggregatedRecord | MD5 of the protobuf bytes

    message AggregatedRecord {
        repeated bytes partition_key_table = 1;
        repeated bytes explicit_hash_key_table = 2;
        repeated Record records = 3; }
    message Record {
        required uint64 partition_key_index = 1;
        optional uint64 explicit_hash_key_index = 2;
        required bytes data = 3; }

(aggregation-format.md of awslabs/amazon-kinesis-producer; keys are `bytes` here, so that those that
are no UTF-8 are kept.) A record without the four magic bytes is one user record as it is. One with
them is opened, and nothing of it gets lost; the stage of its rejected records is "deaggregate":

| reason | what is rejected |
|---|---|
| bad_digest | the whole record: its digest is wrong, or it has no room for one |
| bad_body | the whole record: the body is no such message, or holds no user record but other data |
| too_large | the whole record: it is larger than `AGGREGATE_BYTES_MAX` |
| too_many_records | the whole record: it holds more user records than `USER_RECORDS_MAX` |
| key_index | one user record, whose key or hash key index is outside the table; the others go on |

An aggregate inside an aggregate is not opened. A body without any content but keys holds no user
record and yields none.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import compress, repeat
from typing import Any

import numpy as np

from . import wire
from .batch import LAST_TIME, NO_TIME, Ints, Position, Record, Rejected, UserRecords, key_text

MAGIC = b"\xf3\x89\x9a\xc2"
DIGEST_BYTES = 16
USER_RECORDS_MAX = 1 << 20
AGGREGATE_BYTES_MAX = (10 << 20) + (64 << 10)  # what a stream can hold, and some more
HASH_KEYS = 1 << 128

_ABSENT = (1 << 64) - 1  # an index that is not there; no table is that long
_ABSENT_BYTE = b"\xff"  # in every varint of that value, and in no UTF-8
_DECIMAL = re.compile(r"[0-9]{1,39}")


@cache
def _aggregate_type() -> Any:
    """The generated class, from a pool of our own, where no other library's names are.

    protobuf is imported at the first aggregate: a host that meets none starts the sooner.
    """
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    kind = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="kpl.proto", package="kpl", syntax="proto2")
    aggregate = file.message_type.add(name="AggregatedRecord")
    for number, name in ((1, "partition_key_table"), (2, "explicit_hash_key_table")):
        aggregate.field.add(
            name=name, number=number, type=kind.TYPE_BYTES, label=kind.LABEL_REPEATED
        )
    aggregate.field.add(
        name="records",
        number=3,
        type=kind.TYPE_MESSAGE,
        type_name=".kpl.Record",
        label=kind.LABEL_REPEATED,
    )
    record = file.message_type.add(name="Record")
    for number, name, label in (
        (1, "partition_key_index", kind.LABEL_REQUIRED),
        (2, "explicit_hash_key_index", kind.LABEL_OPTIONAL),
    ):
        record.field.add(
            name=name,
            number=number,
            type=kind.TYPE_UINT64,
            label=label,
            default_value=str(_ABSENT),  # so that reading it also tells whether it is there
        )
    record.field.add(name="data", number=3, type=kind.TYPE_BYTES, label=kind.LABEL_REQUIRED)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("kpl.AggregatedRecord"))


class _Refused(Exception):
    """A record with the magic bytes cannot be opened; `reason` is its code."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(slots=True)
class _Rows:
    """The user records of one slice, being gathered; one entry a row.

    hashes holds the rows with an explicit hash key, bad those whose index is out of range with what
    is wrong.
    """

    data: list[bytes] = field(default_factory=list)
    keys: list[bytes] = field(default_factory=list)
    hashes: dict[int, bytes] = field(default_factory=dict)
    bad: dict[int, str] = field(default_factory=dict)


def deaggregate(records: Sequence[Record]) -> tuple[UserRecords, list[Rejected]]:
    """The user records of Kinesis records of ONE shard, in order, and what cannot be opened.

    A record that its host has opened (`sub_sequence_number` is set) is one user record as it is;
    `aggregated` then tells no more than that it is not the first of its aggregate.
    """
    data = [record.data for record in records]
    subs = [record.sub_sequence_number for record in records]
    magic = map(bytes.startswith, data, repeat(MAGIC))
    marked = [begins and sub is None for begins, sub in zip(magic, subs, strict=True)]
    rows = _Rows()
    rejected: list[tuple[int, Rejected]] = []  # with the number of the Kinesis record
    if not any(marked):
        counts = np.ones(len(records), np.int64)
        rows.data = data
        rows.keys = _keys(records)
    else:
        counts, refused = _gather(records, marked, rows)
        rejected = [(number, _reject(records[number], error)) for number, error in refused]
    users = _user_records(records, marked, rows, counts)
    if rows.bad:
        for row, message in rows.bad.items():
            lost = users.reject(row, "deaggregate", "key_index", message)
            rejected.append((int(users.record[row]), lost))
        rejected.sort(key=lambda found: found[0])  # stable: sub-sequence numbers ascend already
        users = _without(users, rows.bad)
    return users, [row for _, row in rejected]


def _gather(
    records: Sequence[Record], marked: Sequence[bool], rows: _Rows
) -> tuple[Ints, list[tuple[int, _Refused]]]:
    """Append the user records of all records; how many each gave, and which cannot be opened."""
    refused: list[tuple[int, _Refused]] = []
    bodies: dict[int, bytes] = {}
    for number, record in enumerate(records):
        if marked[number]:
            try:
                bodies[number] = _body(record.data)
            except _Refused as error:
                refused.append((number, error))
    data, keys, usual = wire.read(list(bodies.values()), USER_RECORDS_MAX)
    quick = dict(zip(bodies, usual, strict=True))
    counts = np.zeros(len(records), np.int64)
    at = 0
    for number, record in enumerate(records):
        before = len(rows.data)
        if not marked[number]:
            rows.data.append(record.data)
            rows.keys.append(_key(record.partition_key))
        elif (many := quick.get(number, 0)) > 0:
            rows.data += data[at : at + many]
            rows.keys += keys[at : at + many]
            at += many
        elif number in bodies:
            try:
                _open(bodies[number], record, rows)
            except _Refused as error:
                refused.append((number, error))
        counts[number] = len(rows.data) - before
    refused.sort(key=lambda found: found[0])
    return counts, refused


def _key(key: str | bytes) -> bytes:
    return key if isinstance(key, bytes) else key.encode("utf-8", "surrogatepass")


def _keys(records: Sequence[Record]) -> list[bytes]:
    try:
        return [record.partition_key.encode() for record in records]
    except UnicodeEncodeError:
        return [_key(record.partition_key) for record in records]


def _reject(record: Record, error: _Refused) -> Rejected:
    return Rejected(
        stage="deaggregate",
        reason=error.reason,
        message=str(error),
        rule=None,
        at=Position(record.shard_id, record.sequence_number, 0),
        arrival_time=record.arrival,
        partition_key=record.partition_key,
        data=record.data,
    )


def _within_int64(arrival: int | None) -> int:
    """An arrival time; one that is absurd is no less out of range for being cut."""
    if arrival is None:
        return NO_TIME
    return arrival if -1 <= arrival <= LAST_TIME else (-1 if arrival < 0 else LAST_TIME + 1)


def _user_records(
    records: Sequence[Record], marked: Sequence[bool], rows: _Rows, counts: Ints
) -> UserRecords:
    """The rows as columns; `counts` says how many each Kinesis record gave."""
    first = np.cumsum(counts) - counts
    sub = np.arange(len(rows.data), dtype=np.int64)
    sub -= np.repeat(first, counts)
    opened = [record.sub_sequence_number or 0 for record in records]  # by the host
    if any(opened):
        numbers = np.flatnonzero(opened)
        sub[first[numbers]] = np.array(opened, np.int64)[numbers]
    arrival = [_within_int64(record.arrival) for record in records]
    hash_keys: list[str | None] | None = None
    if rows.hashes:
        hash_keys = [None] * len(rows.data)
        for row, key in rows.hashes.items():
            hash_keys[row] = key_text(key)
    return UserRecords(
        shard_id=records[0].shard_id if records else "",
        sequences=[record.sequence_number for record in records],
        record=np.repeat(np.arange(len(records), dtype=np.int64), counts),
        sub=sub,
        data=rows.data,
        keys=rows.keys,
        arrival=np.repeat(np.array(arrival, np.int64), counts),
        aggregated=np.repeat(np.array(marked, np.bool_), counts) | (sub > 0),
        hash_keys=hash_keys,
    )


def _without(users: UserRecords, bad: Iterable[int]) -> UserRecords:
    """The same user records without some rows."""
    kept = np.ones(len(users), np.bool_)
    kept[list(bad)] = False
    return UserRecords(
        shard_id=users.shard_id,
        sequences=users.sequences,
        record=users.record[kept],
        sub=users.sub[kept],
        data=list(compress(users.data, kept)),
        keys=list(compress(users.keys, kept)),
        arrival=users.arrival[kept],
        aggregated=users.aggregated[kept],
        hash_keys=None if users.hash_keys is None else list(compress(users.hash_keys, kept)),
    )


def _open(body: bytes, record: Record, rows: _Rows) -> None:
    """Append the user records of one aggregate; raises _Refused with nothing appended."""
    odd = _ABSENT_BYTE in body
    keys: list[bytes] = []
    hash_keys: list[bytes] = []
    data: list[bytes] = []
    index: list[int] = []
    hash_index: dict[int, int] = {}
    for piece in wire.pieces(body):
        message = _parse(piece)
        found = message.records[:]
        payloads = [user.data for user in found]
        if not all(payloads) and not message.IsInitialized():
            raise _incomplete()
        if len(data) + len(found) > USER_RECORDS_MAX:
            raise _Refused("too_many_records", f"aggregate: over {USER_RECORDS_MAX} user records")
        places = [user.explicit_hash_key_index for user in found]
        if odd or places.count(_ABSENT) < len(places):
            for number, user in enumerate(found, len(data)):
                if user.HasField("explicit_hash_key_index"):
                    hash_index[number] = user.explicit_hash_key_index
        data += payloads
        index += [user.partition_key_index for user in found]
        keys += message.partition_key_table
        hash_keys += message.explicit_hash_key_table
    if not data and _holds_more(body):
        raise _Refused("bad_body", "aggregate: no user record, but other content")
    bad: dict[int, str] = {}
    try:
        names = [keys[place] for place in index]
    except IndexError:
        if not _parse(body).IsInitialized():
            raise _incomplete() from None
        bad = {n: _beyond("key", p, keys) for n, p in enumerate(index) if p >= len(keys)}
        outer = _key(record.partition_key)
        names = [outer if n in bad else keys[place] for n, place in enumerate(index)]
    first = len(rows.data)
    for number, place in hash_index.items():
        if place < len(hash_keys):
            rows.hashes[first + number] = hash_keys[place]
        else:
            bad.setdefault(number, _beyond("explicit hash key", place, hash_keys))
    rows.bad |= {first + number: bad[number] for number in sorted(bad)}
    rows.data += data
    rows.keys += names


def _body(data: bytes) -> bytes:
    """The protobuf bytes of a record with the magic; raises _Refused."""
    if len(data) > AGGREGATE_BYTES_MAX:
        raise _Refused("too_large", f"aggregate: over {AGGREGATE_BYTES_MAX} bytes")
    if len(data) <= len(MAGIC) + DIGEST_BYTES:
        raise _Refused("bad_digest", f"aggregate: {len(data)} bytes leave no room for a digest")
    body = data[len(MAGIC) : -DIGEST_BYTES]
    if hashlib.md5(body, usedforsecurity=False).digest() != data[-DIGEST_BYTES:]:
        raise _Refused("bad_digest", "aggregate: the MD5 digest at its end is not that of its body")
    return body


def _parse(body: bytes) -> Any:
    try:
        return _aggregate_type().FromString(body)
    except Exception:  # DecodeError; what else, is up to the protobuf implementation
        raise _Refused("bad_body", "aggregate: its body is no AggregatedRecord") from None


def _incomplete() -> _Refused:
    return _Refused("bad_body", "aggregate: a user record without key index or data")


def _beyond(what: str, index: int, table: Sequence[bytes]) -> str:
    return f"{what} index {index}: the table of the aggregate holds {len(table)}"


def _holds_more(body: bytes) -> bool:
    """Whether a body has fields that AggregatedRecord does not know."""
    message = _parse(body)
    size = message.ByteSize()
    message.DiscardUnknownFields()
    return bool(message.ByteSize() != size)


def aggregate(users: Iterable[tuple[bytes | str, bytes, int | None]]) -> bytes:
    """Pack user records into the data of one Kinesis record; equal keys share a table entry.

    Args:
        users: (partition key, data, explicit hash key or None), at least one.

    Raises:
        ValueError: there is no user record, or an explicit hash key is outside 0 .. 2**128 - 1.
    """
    message = _aggregate_type()()
    keys: dict[bytes, int] = {}
    hash_keys: dict[bytes, int] = {}
    for key, data, explicit in users:
        user = message.records.add(
            partition_key_index=keys.setdefault(_key(key), len(keys)), data=data
        )
        if explicit is not None:
            if not 0 <= explicit < HASH_KEYS:
                raise ValueError(f"explicit hash key {explicit} is outside 0 .. 2**128 - 1")
            place = hash_keys.setdefault(b"%d" % explicit, len(hash_keys))
            user.explicit_hash_key_index = place
    if not message.records:
        raise ValueError("an aggregate needs at least one user record")
    message.partition_key_table.extend(keys)
    message.explicit_hash_key_table.extend(hash_keys)
    body: bytes = message.SerializeToString()
    return MAGIC + body + hashlib.md5(body, usedforsecurity=False).digest()


def hash_key(key: bytes, explicit: str | None = None) -> int:
    """The 128-bit number by which Kinesis chooses a shard: the explicit one, else MD5 of the key.

    An explicit hash key that is no decimal number below 2**128 counts as absent.
    """
    if explicit is not None and _DECIMAL.fullmatch(explicit) and int(explicit) < HASH_KEYS:
        return int(explicit)
    return int.from_bytes(hashlib.md5(key, usedforsecurity=False).digest(), "big")
