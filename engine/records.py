"""What a host hands over, made ready: Records, cut into slices of one shard, without repeats."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from fractions import Fraction
from itertools import islice
from operator import attrgetter, lt
from typing import Any, NamedTuple, TypeGuard

import numpy as np

from .batch import Ints, Position, Record, Rejected, UserRecords
from .errors import InputError
from .kernels import run_starts

SLICE_BYTES_MAX = 512 << 10  # payload bytes a slice: larger ones fall out of the processor's caches
SLICE_RECORDS_MAX = 8192
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NEVER = 1 << 62
_DAY_MS = 86_400_000
_SECONDS_QUICK = 1e10
_DATA = attrgetter("data")
_SHARD = attrgetter("shard_id")


class Opened(NamedTuple):
    """What Kinesis records of one shard hold: user records, and those that cannot be opened.

    lost: of these aggregates, or of single user records in them; their sequence numbers stand in
    `users.sequences` too.
    """

    users: UserRecords
    lost: list[Rejected]


def arrival_ms(stamp: Any) -> int | None:
    """An ApproximateArrivalTimestamp as int ms UTC, rounded half to even; None stays None.

    Args:
        stamp: an aware datetime (boto3), or a number of seconds (files, Lambda events).
    """
    if stamp is None:
        return None
    if isinstance(stamp, str):
        raise TypeError(f"expected a date-time or seconds, found {stamp[:40]!r}")
    if isinstance(stamp, datetime):
        since = (stamp if stamp.tzinfo else stamp.replace(tzinfo=UTC)) - _EPOCH
        whole, rest = divmod(since.microseconds, 1000)
        whole += rest > 500 or (rest == 500 and whole % 2)
        return since.days * _DAY_MS + since.seconds * 1000 + whole
    if type(stamp) is float and abs(stamp) < _SECONDS_QUICK:
        product = stamp * 1000.0  # off by less than a thousandth
        nearest = round(product)
        if abs(product - nearest) < 0.49:
            return nearest
    return round(Fraction(stamp) * 1000)


def as_record(given: Record | Mapping[str, Any]) -> Record:
    """A Record from a dict as GetRecords gives it, with `ShardId` added; a Record as it is.

    Raises:
        InputError: a key is missing or of another type; names it.
    """
    if isinstance(given, Record):
        return given
    data: Any = given.get("Data")
    if isinstance(data, bytearray | memoryview):
        data = bytes(data)
    for key, value, kind in (
        ("ShardId", given.get("ShardId"), str),
        ("SequenceNumber", given.get("SequenceNumber"), str),
        ("Data", data, bytes),
    ):
        if not isinstance(value, kind):
            found = "nothing" if value is None else type(value).__name__
            raise InputError(f"record: {key}: expected {kind.__name__}, found {found}")
    try:
        arrival = arrival_ms(given.get("ApproximateArrivalTimestamp"))
    except (TypeError, ValueError, OverflowError) as error:
        raise InputError(f"record: ApproximateArrivalTimestamp: {error}") from None
    return Record(
        shard_id=given["ShardId"],
        sequence_number=given["SequenceNumber"],
        data=data,
        partition_key=given.get("PartitionKey") or "",
        arrival=arrival,
    )


def slices(records: Iterable[Record | Mapping[str, Any]]) -> Iterator[list[Record]]:
    """Cut records into slices of one shard and a size that the processor's caches like."""
    source = iter(records)
    while given := list(islice(source, SLICE_RECORDS_MAX)):
        some = given if _are_records(given) else list(map(as_record, given))
        size = np.fromiter(map(len, map(_DATA, some)), np.int64, len(some))
        cut = (np.cumsum(size) - size) // SLICE_BYTES_MAX
        shards = list(map(_SHARD, some))
        if shards.count(shards[0]) < len(shards):
            numbers = {shard: number for number, shard in enumerate(dict.fromkeys(shards))}
            shard = np.fromiter(map(numbers.__getitem__, shards), np.int64, len(some))
            cut = cut * len(numbers) + shard
        starts = run_starts(cut).tolist()
        for start, end in zip(starts, [*starts[1:], len(some)], strict=True):
            yield some[start:end]


def _are_records(given: list[Any]) -> TypeGuard[list[Record]]:
    return all(issubclass(kind, Record) for kind in set(map(type, given)))


def without_repeats(
    users: UserRecords, rejected: list[Rejected], last: Position | None
) -> tuple[UserRecords, list[Rejected], int]:
    """Leave out what lies at or before the last applied position of the shard.

    Positions are compared as integers. A position that comes twice in the slice is a repeat the
    second time. Returns what is left and how many user records were left out.
    """
    names = users.sequences
    if not names:
        return users, rejected, 0
    if _growing(names) and (last is None or _shorter_first(names[0], last.sequence_number)):
        return users, rejected, 0
    from_sub = _first_new_sub(users, rejected, last)
    keep = np.flatnonzero(users.sub >= from_sub[users.record])
    known: set[tuple[int, int]] = set()
    newest = last.order if last is not None else (-1, -1)
    kept = []
    for row in rejected:
        if row.at.order > newest and row.at.order not in known:
            known.add(row.at.order)
            kept.append(row)
    repeated = len(users) - len(keep) + len(rejected) - len(kept)
    return users.take(keep), kept, repeated


def last_position(
    users: UserRecords, rejected: Sequence[Rejected], last: Position | None
) -> Position | None:
    """The greatest position of a slice without repeats, or `last` where nothing is new."""
    ends = [users.position(len(users) - 1)] if len(users) else []
    ends += [row.at for row in rejected]
    if not users.sequences:
        return last
    # A record without any user record (an empty aggregate) moves the position on, too.
    names = users.sequences
    newest = names[-1] if _growing(names) else max(names, key=int)
    ends.append(Position(users.shard_id, newest, 0))
    best = max(ends, key=lambda at: at.order)
    return best if last is None or best.order > last.order else last


def _growing(names: Sequence[str]) -> bool:
    """True if sequence numbers of one length grow: the quick check, False proves nothing."""
    return len(set(map(len, names))) == 1 and all(map(lt, names, names[1:]))


def _shorter_first(new: str, old: str) -> bool:
    return int(new) > int(old)


def _first_new_sub(users: UserRecords, rejected: list[Rejected], last: Position | None) -> Ints:
    """For each Kinesis record the first sub-sequence number that is new; _NEVER where none is."""
    largest = np.zeros(len(users.sequences), np.int64)
    np.maximum.at(largest, users.record, users.sub)
    tops: dict[str, int] = {}
    for row in rejected:
        name = row.at.sequence_number
        tops[name] = max(tops.get(name, 0), row.at.sub_sequence_number)
    sequence, sub = last.order if last is not None else (-1, -1)
    result = []
    for name, most in zip(users.sequences, largest.tolist(), strict=True):
        number, top = int(name), max(most, tops.get(name, 0))
        if number > sequence:
            result.append(0)
            sequence, sub = number, top
        elif number == sequence:
            result.append(sub + 1)
            sub = max(sub, top)
        else:
            result.append(_NEVER)
    return np.asarray(result, np.int64)
