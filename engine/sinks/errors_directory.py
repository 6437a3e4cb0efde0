"""The error stream as files: gzip NDJSON, by date and hour of arrival.

    <location>/<pipeline>/YYYY/MM/DD/HH/<shard>-<first seq>.<sub>-<last seq>.<sub>.ndjson.gz

Date and hour are UTC; rows without an arrival time are under ``undated/`` instead. Pipeline and
shard are percent-encoded where unsafe, and of a name beyond 255 bytes the tail is a hash. The same
rows give the same name and the same bytes, so a repeat overwrites itself. After a restart objects
may overlap; `read_errors` gives each row once.
"""

from __future__ import annotations

import gzip
import os
import zlib
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from .. import files
from ..batch import LAST_TIME, Position, Rejected
from ..errors import InputError
from .base import ndjson

SUFFIX = ".ndjson.gz"
UNDATED = "undated"
COMPRESSION_LEVEL = 6
DEPTH_MAX = 5  # directories below the location: pipeline, year, month, day, hour


class ErrorDirectory:
    """A Sink of rejected records in a directory.

    Hand in all rejected rows of a push at once: an object is named by its first and last position,
    so another one for the same positions takes its place.
    """

    def __init__(self, location: str | os.PathLike[str], pipeline: str) -> None:
        """Name the directory; it is made with the first row."""
        self.location = Path(location)
        self.pipeline = pipeline

    def deliver(self, rows: Sequence[Rejected]) -> None:
        """Write one object for each shard and hour, whole and synced."""
        groups: dict[tuple[str, str], list[Rejected]] = {}
        for row in rows:
            groups.setdefault((_hour(row.arrival_time), row.at.shard_id), []).append(row)
        for (hour, _), group in sorted(groups.items()):
            group.sort(key=lambda row: row.at.order)  # keeps the order of rules at one position
            path = self.location / files.segment(self.pipeline) / hour / _name(group)
            with files.available(path):
                files.replace(path, gzip.compress(ndjson(group), COMPRESSION_LEVEL, mtime=0))

    def flush(self) -> None:
        """Do nothing: nothing is held back."""

    def close(self) -> None:
        """Do nothing: no file is open between deliveries."""


def read_errors(
    location: str | os.PathLike[str], pipeline: str | None = None
) -> Iterator[Rejected]:
    """Give the rejected rows below `location`, of one pipeline or all, each (position, rule) once.

    Hours come in their order, the undated rows last; within an hour objects by name. Memory is
    bounded by the positions of one hour: rows of one position have one arrival time.

    Raises:
        InputError: an object is no gzip NDJSON of rejected rows; names file and line.
        UnavailableError: the directory cannot be read. A missing one holds no rows.
    """
    top = Path(location)
    return _below(top if pipeline is None else top / files.segment(pipeline), DEPTH_MAX)


def _below(directory: Path, depth: int) -> Iterator[Rejected]:
    """The rows of one directory, then those of the directories in it."""
    seen: set[tuple[Position, str | None]] = set()
    names = _listed(directory)
    for name in names:
        if name.endswith(SUFFIX):
            for row in _rows(directory / name):
                if (row.at, row.rule) not in seen:
                    seen.add((row.at, row.rule))
                    yield row
    for name in names if depth else ():
        if (directory / name).is_dir():
            yield from _below(directory / name, depth - 1)


def _listed(directory: Path) -> list[str]:
    with files.available(directory):
        try:
            return sorted(os.listdir(directory))
        except FileNotFoundError:
            return []


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


def _rows(path: Path) -> Iterator[Rejected]:
    read = 0
    with files.available(path):
        try:
            with gzip.open(path, "rb") as lines:
                for line in lines:
                    read += 1
                    yield _DECODER.decode(line).row()
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise InputError(f"{path}:{read + 1}: not a whole gzip file: {error}") from error
        except (ValueError, RecursionError) as error:
            raise InputError(f"{path}:{read}: not a rejected row: {error}") from error


def _hour(arrival: int | None) -> str:
    if arrival is None or not 0 <= arrival <= LAST_TIME:
        return UNDATED
    at = datetime.fromtimestamp(arrival // 1000, UTC)
    return f"{at.year:04}/{at.month:02}/{at.day:02}/{at.hour:02}"


def _name(group: Sequence[Rejected]) -> str:
    first, last = group[0].at, group[-1].at
    ends = "-".join(f"{at.sequence_number}.{at.sub_sequence_number}" for at in (first, last))
    return files.segment(f"{first.shard_id}-{ends}", files.NAME_BYTES_MAX - len(SUFFIX)) + SUFFIX
