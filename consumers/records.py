"""Kinesis records in files: one GetRecords record a line, to `Record`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

import msgspec

from ..engine.batch import Record
from ..engine.errors import InputError
from ..engine.records import arrival_ms

_SEQUENCE_NUMBER = re.compile(r"0|[1-9][0-9]{0,128}")  # as the Kinesis API defines it
_SHARD_ID = re.compile(r"[A-Za-z0-9_.-]{1,128}")


class _Line(msgspec.Struct, rename="pascal", gc=False):
    """The keys of a line; others may stand beside them. `data` is base64 in the file."""

    shard_id: str
    sequence_number: str
    data: bytes
    partition_key: str
    approximate_arrival_timestamp: float | None = None  # seconds


_decode = msgspec.json.Decoder(_Line).decode


def read_kinesis_lines(lines: Iterable[bytes], name: str) -> Iterator[Record]:
    """The record of each line; `name` is the file's, for messages.

    Raises:
        InputError: a line is no Kinesis record; names file and line.
    """
    for number, line in enumerate(lines, 1):
        try:
            found = _decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise InputError(f"{name}: line {number}: no Kinesis record: {error}") from None
        _check(found, f"{name}: line {number}")
        yield Record(
            shard_id=found.shard_id,
            sequence_number=found.sequence_number,
            data=found.data,
            partition_key=found.partition_key,
            arrival=arrival_ms(found.approximate_arrival_timestamp),
        )


def _check(line: _Line, where: str) -> None:
    if not _SEQUENCE_NUMBER.fullmatch(line.sequence_number):
        raise InputError(
            f"{where}: SequenceNumber is {line.sequence_number[:60]!a}, expected a decimal number"
        )
    if not _SHARD_ID.fullmatch(line.shard_id):
        raise InputError(
            f"{where}: ShardId is {line.shard_id[:60]!a}, expected letters, digits and any of _.-"
        )
