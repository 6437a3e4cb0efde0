"""KPL aggregates and files of Kinesis records, packed and opened byte by byte, slow and obvious.

Shares no code with the engine: what the oracle knows of aggregation stands here.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

MAGIC = b"\xf3\x89\x9a\xc2"


class Kinesis(NamedTuple):
    """One Kinesis record: `arrival` is int ms or None."""

    shard: str
    sequence: str
    data: bytes
    key: str = "a"
    arrival: int | None = None


class User(NamedTuple):
    """One user record; `fault` is the reason it was rejected for when its aggregate was opened."""

    shard: str
    sequence: str
    sub: int
    data: bytes
    key: bytes = b"a"
    arrival: int | None = None
    fault: str | None = None

    @property
    def position(self) -> str:
        return f"{self.shard}:{self.sequence}:{self.sub}"


def varint(number: int) -> bytes:
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    return bytes([*out, number])


def piece(field: int, data: bytes) -> bytes:
    """One length-delimited protobuf field."""
    return varint(field << 3 | 2) + varint(len(data)) + data


def seal(body: bytes) -> bytes:
    return MAGIC + body + hashlib.md5(body).digest()


def pack(users: Iterable[tuple[bytes, bytes, int | None]], bad_index: Iterable[int] = ()) -> bytes:
    """An aggregate of (partition key, data, explicit hash key or None).

    The user records numbered in `bad_index` get a key index beyond the table.
    """
    users, spoilt = list(users), set(bad_index)
    keys = list(dict.fromkeys(key for key, _, _ in users))
    hashes = list(dict.fromkeys(h for _, _, h in users if h is not None))
    body = b"".join(piece(1, key) for key in keys)
    body += b"".join(piece(2, str(h).encode()) for h in hashes)
    for number, (key, data, hash_key) in enumerate(users):
        index = len(keys) + 3 if number in spoilt else keys.index(key)
        record = b"\x08" + varint(index)
        if hash_key is not None:
            record += b"\x10" + varint(hashes.index(hash_key))
        body += piece(3, record + piece(3, data))
    return seal(body)


def read_varint(data: bytes, at: int) -> tuple[int, int]:
    number = shift = 0
    while True:
        if at >= len(data) or shift > 63:
            raise ValueError("a varint ends too early or too late")
        number |= (data[at] & 127) << shift
        at, shift = at + 1, shift + 7
        if data[at - 1] < 128:
            return number, at


def fields(data: bytes) -> Iterator[tuple[int, Any]]:
    """(field number, int or bytes) of a protobuf message; ValueError where it is none."""
    at = 0
    while at < len(data):
        tag, at = read_varint(data, at)
        kind = tag & 7
        if kind == 0:
            number, at = read_varint(data, at)
            yield tag >> 3, number
            continue
        if kind == 2:
            size, at = read_varint(data, at)
        elif kind in (1, 5):
            size = 8 if kind == 1 else 4
        else:
            raise ValueError("a wire type that no aggregate has")
        if at + size > len(data):
            raise ValueError("a field ends too early")
        yield tag >> 3, data[at : at + size]
        at += size


def open_body(body: bytes) -> list[tuple[bytes, bytes, str | None]]:
    """(partition key, data, fault) of each user record; ValueError where the body is no message."""
    keys, hashes, records = [], [], []
    for number, value in fields(body):
        if number in (1, 2, 3) and not isinstance(value, bytes):
            raise ValueError("a number where bytes belong")
        if number == 3:
            record = dict(fields(value))  # of a repeated field the last holds
            if 1 not in record or 3 not in record:
                raise ValueError("a user record without key index or data")
            records.append(record)
        elif number in (1, 2):
            (keys if number == 1 else hashes).append(value)
    out = []
    for record in records:
        good = record[1] < len(keys) and record.get(2, -1) < len(hashes)
        key = keys[record[1]] if record[1] < len(keys) else b""
        out.append((key, record[3], None if good else "key_index"))
    return out


def opened(record: Kinesis) -> list[User]:
    """The user records of one Kinesis record, in order, and what could not be opened."""
    shard, sequence, data, key, arrival = record
    whole = User(shard, sequence, 0, data, key.encode(), arrival)
    if not data.startswith(MAGIC):
        return [whole]
    body, digest = data[4:-16], data[-16:]
    if len(data) <= 20 or hashlib.md5(body).digest() != digest:
        return [whole._replace(fault="bad_digest")]
    try:
        users = open_body(body)
    except ValueError:
        return [whole._replace(fault="bad_body")]
    return [User(shard, sequence, n, d, k, arrival, f) for n, (k, d, f) in enumerate(users)]


def repacked(users: Iterable[User], pieces: Iterator[int], first: int = 1) -> list[Kinesis]:
    """The same user records without repeated positions, in Kinesis records of other sizes.

    Only neighbours of one shard and arrival can share an aggregate; `pieces` says how many.
    """
    last: dict[str, tuple[int, int]] = {}
    left: list[User] = []
    for user in users:
        order = int(user.sequence), user.sub
        if order > last.get(user.shard, (-1, -1)):
            last[user.shard] = order
            left.append(user)
    records: list[Kinesis] = []
    at = 0
    while at < len(left):
        size, head = next(pieces), left[at]
        group = [head]
        for user in left[at + 1 : at + size] if head.fault is None else []:
            if (user.shard, user.arrival, user.fault) != (head.shard, head.arrival, None):
                break
            group.append(user)
        at += len(group)
        data, key = head.data, head.key.decode("utf-8", "backslashreplace")
        if len(group) > 1 or head.fault == "key_index" or (
            data.startswith(MAGIC) and not head.fault
        ):  # fmt: skip
            bad_index = [0] if head.fault else []
            data, key = pack([(u.key, u.data, None) for u in group], bad_index), "a"
        records.append(Kinesis(head.shard, str(first + len(records)), data, key, head.arrival))
    return records


def write(path: Path, records: Iterable[Kinesis]) -> None:
    """One GetRecords record a line."""
    lines = [
        {
            "ShardId": r.shard,
            "SequenceNumber": r.sequence,
            "ApproximateArrivalTimestamp": None if r.arrival is None else r.arrival / 1000,
            "PartitionKey": r.key,
            "Data": base64.b64encode(r.data).decode(),
        }
        for r in records
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def read(path: Path) -> list[Kinesis]:
    records = []
    for line in map(json.loads, path.read_text().splitlines()):
        seconds = line["ApproximateArrivalTimestamp"]
        arrival = None if seconds is None else round(Fraction(seconds) * 1000)
        data = base64.b64decode(line["Data"])
        records.append(
            Kinesis(line["ShardId"], line["SequenceNumber"], data, line["PartitionKey"], arrival)
        )
    return records
