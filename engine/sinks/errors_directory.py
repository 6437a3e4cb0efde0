"""The error stream as files in a directory; error_objects.py says which, and what they hold."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from .. import files
from ..batch import Rejected
from . import error_objects

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
        for name, data in error_objects.objects(self.pipeline, rows):
            path = self.location / name
            with files.available(path):
                files.replace(path, data)

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
    seen: error_objects.Seen = set()
    names = _listed(directory)
    for name in names:
        if name.endswith(error_objects.SUFFIX):
            path = directory / name
            with files.available(path), open(path, "rb") as file:
                yield from error_objects.rows(path, file, seen)
    for name in names if depth else ():
        if (directory / name).is_dir():
            yield from _below(directory / name, depth - 1)


def _listed(directory: Path) -> list[str]:
    with files.available(directory):
        try:
            return sorted(os.listdir(directory))
        except FileNotFoundError:
            return []
