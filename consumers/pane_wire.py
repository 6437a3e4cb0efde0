"""What the functions of the fan-out mode tell each other: chunks, partial panes, marks.

    dispatcher --chunk, invoked--> worker --Part--> panes stream --> merger
    dispatcher --Mark-------------------------------^

A Mark says which chunks of a shard count, and of how many parts each is made; a merger takes a
chunk when all of them are there. So it does not matter in which order records come, nor how often.
Each merger has a hash key of its own: its records lie in one shard of the panes stream, whichever.
"""

from __future__ import annotations

import base64
import binascii
import gzip
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from ..engine.batch import Record
from ..engine.errors import InputError, StateError, UnavailableError
from ..engine.pane_parts import HASH_BITS
from ..producers.kinesis import CALL_BYTES_MAX, ENTRIES_MAX, Failed, KinesisWriter, Put

MAGIC = b"SGPANES"
FORMAT = b"1"
EVENT = "streamgauge.chunk"  # the key by which a worker knows an event for it
_GZIP_LEVEL = 1


class Part(msgspec.Struct, tag="part", frozen=True):
    """Panes of one chunk for one merger: the content of this number, of so many parts.

    digest: of all parts together; parts of another making of the chunk have another.
    """

    pipeline: str
    mergers: int
    merger: int
    shard: str
    chunk: int
    digest: str
    number: int
    parts: int
    content: bytes


class End(msgspec.Struct, frozen=True):
    """The end of a chunk: its last sequence number, the shard time there, and what makes it up.

    parts: 0 where it has nothing for this merger, or was given up.
    """

    chunk: int
    last: str
    shard_time: int
    parts: int
    digest: str


class Mark(msgspec.Struct, tag="mark", frozen=True):
    """What counts of a shard, for one merger.

    shards: that nothing may be evaluated without, but for finished ones. finished: shards that have
    ended, with the number of their chunks.
    """

    pipeline: str
    mergers: int
    merger: int
    shard: str
    ends: list[End]
    shards: list[str] = []
    finished: dict[str, int] = {}


Told = Part | Mark
_decoder = msgspec.msgpack.Decoder(Told)


class Chunk(NamedTuple):
    """What a worker is handed: an interval of a shard's records, and the shard time before it."""

    shard: str
    number: int
    shard_time: int
    mergers: int
    records: list[Record]


def pack(told: Told) -> bytes:
    """The data of a record of the panes stream."""
    return MAGIC + FORMAT + msgspec.msgpack.encode(told)


def unpack(data: bytes) -> Told:
    """What a record of the panes stream says.

    Raises:
        InputError: it is none of these.
        StateError: it is of a version that is not known here.
    """
    if not data.startswith(MAGIC):
        raise InputError("expected partial panes or a mark")
    if data[len(MAGIC) : len(MAGIC) + 1] != FORMAT:
        raise StateError(f"panes of a version that is not known here: {data[: len(MAGIC) + 1]!r}")
    try:
        told: Told = _decoder.decode(data[len(MAGIC) + 1 :])
    except (msgspec.DecodeError, RecursionError) as error:
        raise InputError(f"cannot be read: {error}") from error
    return told


def hash_key(merger: int, mergers: int) -> int:
    """The hash key of a merger's records: the middle of its part of the range."""
    return ((2 * merger + 1) << HASH_BITS) // (2 * mergers)


def put_for(told: Told) -> Put:
    """A record of the panes stream, on its way to its merger."""
    key = f"merger-{told.merger}"
    return Put(key, hash_key(told.merger, told.mergers), pack(told))


def put_all(
    writer: KinesisWriter, puts: Sequence[Put], insist: Callable[[Callable[[], Any]], Any]
) -> None:
    """Put records; those that are refused again, and no other, as long as `insist` does."""
    for some in _calls(puts):
        waiting = list(some)

        def call() -> None:
            nonlocal waiting
            told = writer.put(waiting)
            failed = [(put, one) for put, one in zip(waiting, told, strict=True)
                      if isinstance(one, Failed)]  # fmt: skip
            waiting = [put for put, _ in failed]
            if failed:
                cause = failed[0][1]
                raise UnavailableError(f"stream {writer.stream}: {cause.code}: {cause.message}")

        insist(call)


def _calls(puts: Sequence[Put]) -> list[list[Put]]:
    """Cut what is to be put by the limits of one call."""
    found: list[list[Put]] = []
    size = CALL_BYTES_MAX
    for put in puts:
        size += len(put.data) + len(put.partition_key)
        if size > CALL_BYTES_MAX or len(found[-1]) == ENTRIES_MAX:
            found.append([])
            size = len(put.data) + len(put.partition_key)
        found[-1].append(put)
    return found


def chunk_event(pipeline: str, chunk: Chunk) -> dict[str, Any]:
    """The event that a worker is invoked with."""
    rows = [[r.sequence_number, r.arrival, r.partition_key, r.data] for r in chunk.records]
    packed = gzip.compress(msgspec.msgpack.encode(rows), _GZIP_LEVEL, mtime=0)
    return {
        EVENT: 1,
        "pipeline": pipeline,
        "shard": chunk.shard,
        "chunk": chunk.number,
        "shard_time": chunk.shard_time,
        "mergers": chunk.mergers,
        "records": base64.b64encode(packed).decode("ascii"),
    }


def chunk_of(event: Any, pipeline: str) -> Chunk:
    """The chunk of an event.

    Raises:
        InputError: it is none, or one of another pipeline or version; says which.
    """
    if not isinstance(event, Mapping) or event.get(EVENT) != 1:
        raise InputError("event: expected a chunk as the dispatcher of this version sends it")
    if event.get("pipeline") != pipeline:
        raise InputError(f"event: a chunk of pipeline {event.get('pipeline')!r}, not {pipeline!r}")
    try:
        packed = gzip.decompress(base64.b64decode(event["records"], validate=True))
        rows = msgspec.msgpack.decode(packed, type=list[tuple[str, int | None, str, bytes]])
        shard: str = event["shard"]
        records = [Record(shard, number, data, key, at) for number, at, key, data in rows]
        return Chunk(shard, event["chunk"], event["shard_time"], event["mergers"], records)
    except (
        KeyError,
        TypeError,
        ValueError,
        EOFError,
        OSError,
        zlib.error,
        binascii.Error,
    ) as error:
        raise InputError(f"event: a chunk that cannot be read: {error!r}") from error
