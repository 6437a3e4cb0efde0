"""The objects of the error stream, wherever they lie: their names, their rows, and each row once.

    <pipeline>/YYYY/MM/DD/HH/<shard>-<first seq>.<sub>-<last seq>.<sub>.ndjson.gz

Date and hour are UTC; rows without an arrival time are under ``undated/`` instead. Pipeline and
shard are percent-encoded where unsafe, and of a name beyond 255 bytes the tail is a hash. The same
rows give the same name and the same bytes, so a repeat overwrites itself. After a restart objects
may overlap; readers give each (position, rule) once.
"""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import IO

import msgspec

from .. import files
from ..batch import LAST_TIME, Position, Rejected
from ..errors import InputError
from ..folder import Place
from .base import ndjson

SUFFIX = ".ndjson.gz"
UNDATED = "undated"
COMPRESSION_LEVEL = 6

Seen = set[tuple[Position, str | None]]


def objects(pipeline: str, rows: Sequence[Rejected]) -> Iterator[tuple[str, bytes]]:
    """Name and bytes of one object for each shard and hour of the rows of one push."""
    groups: dict[tuple[str, str], list[Rejected]] = {}
    for row in rows:
        groups.setdefault((_hour(row.arrival_time), row.at.shard_id), []).append(row)
    for (hour, _), group in sorted(groups.items()):
        group.sort(key=lambda row: row.at.order)  # keeps the order of rules at one position
        name = f"{files.segment(pipeline)}/{hour}/{_name(group)}"
        yield name, gzip.compress(ndjson(group), COMPRESSION_LEVEL, mtime=0)


def rows(name: object, file: IO[bytes], seen: Seen) -> Iterator[Rejected]:
    """The rows of one object that are not in `seen` yet; they are, then.

    Raises:
        InputError: it is no gzip NDJSON of rejected rows; names object and line.
    """
    read = 0
    try:
        with gzip.open(file, "rb") as lines:
            for line in lines:
                read += 1
                row = _DECODER.decode(line).row()
                if (row.at, row.rule) not in seen:
                    seen.add((row.at, row.rule))
                    yield row
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise InputError(f"{name}:{read + 1}: not a whole gzip file: {error}") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{name}:{read}: not a rejected row: {error}") from error


def read(place: Place, pipeline: str | None = None) -> Iterator[Rejected]:
    """The rejected rows at a place, of one pipeline or all, each (position, rule) once.

    Memory is bounded by the positions of one hour: rows of one position have one arrival time.

    Raises:
        InputError: an object is no gzip NDJSON of rejected rows; names object and line.
        UnavailableError: the place cannot be read.
    """
    seen: Seen = set()
    hour = ""
    for name in place.names("" if pipeline is None else files.segment(pipeline) + "/"):
        if not name.endswith(SUFFIX):
            continue
        if (folder := name.rpartition("/")[0]) != hour:
            hour, seen = folder, set()
        data = place.get(name)
        if data is not None:
            yield from rows(place.url(name), io.BytesIO(data), seen)


class _Line(msgspec.Struct):
    """A row as Rejected.line() writes it; other keys are passed over."""

    stage: str
    reason: str
    message: str
    rule: str | None
    shard_id: str
    sequence_number: str
    sub_sequence_number: int
    arrival_time: int | None
    partition_key: str
    data: bytes  # base64 in the text

    def row(self) -> Rejected:
        return Rejected(
            stage=self.stage,
            reason=self.reason,
            message=self.message,
            rule=self.rule,
            at=Position(self.shard_id, self.sequence_number, self.sub_sequence_number),
            arrival_time=self.arrival_time,
            partition_key=self.partition_key,
            data=self.data,
        )


_DECODER = msgspec.json.Decoder(_Line)


def _hour(arrival: int | None) -> str:
    if arrival is None or not 0 <= arrival <= LAST_TIME:
        return UNDATED
    at = datetime.fromtimestamp(arrival // 1000, UTC)
    return f"{at.year:04}/{at.month:02}/{at.day:02}/{at.hour:02}"


def _name(group: Sequence[Rejected]) -> str:
    first, last = group[0].at, group[-1].at
    ends = "-".join(f"{at.sequence_number}.{at.sub_sequence_number}" for at in (first, last))
    return files.segment(f"{first.shard_id}-{ends}", files.NAME_BYTES_MAX - len(SUFFIX)) + SUFFIX
