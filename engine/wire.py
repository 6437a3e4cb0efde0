"""The usual layout of aggregates' user records, read as columns: three times as quick as messages.

    08 index 1A length data        index and length are varints; no other field

Producers write nearly every user record so. Here the parser is told only that user records are
bytes; their few bytes of head are then read for all aggregates of a slice at once. An aggregate
with anything else in it is left to the message parser in kpl.py, which decides what it means.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any

import numpy as np

from .batch import Ints
from .kernels import run_starts

_INDEX_TAG = 0x08
_DATA_TAG = 0x1A
GROUP_BYTES = 128 << 10  # of bodies read at once
PIECE_BYTES = 64 << 10
_DENSE_BYTES = 64  # below this many bytes a user record, a body is opened in pieces
_HEAD_BYTES_MAX = 8  # tag, index below 2**14, tag, length below 2**21


@cache
def _layout_type() -> Any:
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    kind = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="layout.proto", package="layout")
    message = file.message_type.add(name="Aggregate")
    for number, name in enumerate(("keys", "hash_keys", "records"), 1):
        message.field.add(name=name, number=number, type=kind.TYPE_BYTES, label=kind.LABEL_REPEATED)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("layout.Aggregate"))


def read(bodies: list[bytes], records_max: int) -> tuple[list[bytes], list[bytes], list[int]]:
    """The user records of aggregates' protobuf bodies, for those in the usual layout.

    Args:
        bodies: AggregatedRecord messages.
        records_max: an aggregate with more user records is left to the message parser.

    Returns:
        data, keys: payload and partition key of each user record, one aggregate after the other.
        counts: how many each body gave; -1 where it has another layout and gave none.
    """
    data: list[bytes] = []
    keys: list[bytes] = []
    counts: list[int] = []
    some: list[bytes] = []
    size = 0
    for body in bodies:
        some.append(body)
        size += len(body)
        if size >= GROUP_BYTES:
            counts += _read(some, records_max, data, keys)
            some, size = [], 0
    counts += _read(some, records_max, data, keys)
    return data, keys, counts


def _read(bodies: list[bytes], records_max: int, data: list[bytes], keys: list[bytes]) -> list[int]:
    """Append the user records of a few bodies at a time, which stay in the processor's cache."""
    counts: list[int] = []
    records: list[bytes] = []
    tables: list[bytes] = []
    bases: list[int] = []
    sizes: list[int] = []
    for body in bodies:
        message: Any
        try:
            message = None if _is_dense(body) else _layout_type().FromString(body)
        except Exception:  # DecodeError; what else, is up to the protobuf implementation
            message = None
        found = message.records[:] if message is not None else ()
        if not found or len(found) > records_max or message.hash_keys:
            counts.append(-1)
            continue
        counts.append(len(found))
        records += found
        bases.append(len(tables))
        tables += message.keys[:]
        sizes.append(len(tables) - bases[-1])
    if not records:
        return counts
    owner = np.repeat(np.arange(len(bases)), [count for count in counts if count > 0])
    index, head, usual = _heads(records)
    usual &= index < np.asarray(sizes)[owner]
    place = index + np.asarray(bases)[owner]
    if not usual.all():
        good = np.logical_and.reduceat(usual, run_starts(owner))
        counts = _without(counts, good.tolist())
        rows = np.flatnonzero(good[owner])
        records = [records[row] for row in rows.tolist()]
        place, head = place[rows], head[rows]
    data += [record[skip:] for record, skip in zip(records, head.tolist(), strict=True)]
    keys += map(tables.__getitem__, place.tolist())
    return counts


def _without(counts: list[int], good: list[bool]) -> list[int]:
    verdict = iter(good)
    return [count if count > 0 and next(verdict) else -1 for count in counts]


def _heads(records: list[bytes]) -> tuple[Ints, Ints, Any]:
    """Key index and length of the head of each user record, and which are in the usual layout."""
    size = np.fromiter(map(len, records), np.int64, len(records))
    start = np.cumsum(size) - size
    raw = np.frombuffer(b"".join(records) + bytes(_HEAD_BYTES_MAX), np.uint8)
    usual = raw[start] == _INDEX_TAG
    at = start + 1
    index = raw[at].astype(np.int64)
    wide = index >= 128
    if wide.any():
        more = raw[at + 1].astype(np.int64)
        usual &= ~wide | (more < 128)
        index = np.where(wide, (index & 127) | (more << 7), index)
        at = at + wide
    usual &= raw[at + 1] == _DATA_TAG
    at += 2
    length = raw[at].astype(np.int64)
    wide = length >= 128
    if wide.any():
        more, last = raw[at + 1].astype(np.int64), raw[at + 2].astype(np.int64)
        widest = wide & (more >= 128)
        usual &= ~widest | (last < 128)
        length = np.where(wide, (length & 127) | ((more & 127) << 7), length)
        length = np.where(widest, length | (last << 14), length)
        at = at + wide + widest
    head = at + 1 - start
    usual &= head + length == size
    return index, head, usual


def _is_dense(body: bytes) -> bool:
    """Whether a body seems made of very many tiny user records."""
    if len(body) <= PIECE_BYTES:
        return False
    tags = int(np.count_nonzero(np.frombuffer(body, np.uint8) == _DATA_TAG))
    return tags * _DENSE_BYTES >= 2 * len(body)


def pieces(body: bytes) -> Iterator[bytes]:
    """The body, cut between fields where it seems made of very many tiny user records.

    A parsed message takes ten times their bytes. Every piece is a message of its own, and their
    tables and records, one after the other, are those of the whole.
    """
    if not _is_dense(body):
        yield body
        return
    start = at = 0
    while at < len(body):
        after = _after_field(body, at)
        if after is None:
            break
        if after - start > PIECE_BYTES and at > start:
            yield body[start:at]
            start = at
        at = after
    yield body[start:]


def _after_field(body: bytes, at: int) -> int | None:
    """Where the length-delimited field that begins at `at` ends; None if it is another field."""
    if body[at] & 0x87 != 2:
        return None
    size = shift = 0
    for place in range(at + 1, min(at + 5, len(body))):
        size |= (body[place] & 0x7F) << shift
        if body[place] < 0x80:
            return place + 1 + size
        shift += 7
    return None
