"""An archive as the input of a back-test: which pipeline's, and how far it has been read."""

from __future__ import annotations

import os
from collections.abc import Iterator

from ..engine.errors import InputError
from ..engine.folder import Place
from ..engine.records import Opened
from ..engine.sinks.archive_read import holds, pipelines, read_archive

BUCKET = "s3://"


def is_location(path: str) -> bool:
    """Whether an input is where an archive lies: an S3 prefix or a directory."""
    return path.startswith(BUCKET) or os.path.isdir(path)


class ArchiveInput:
    """The archive of one pipeline at a location.

    name: for messages. total, bytes_read: as an Input has them; how much there is is not known.
    """

    total: int | None = None
    bytes_read = 0

    def __init__(self, location: str, place: Place, pipeline: str) -> None:
        """Look what is there: `pipeline` if it is archived there, else the only one that is.

        Raises:
            InputError: no archive is there, or that of several others.
            UnavailableError: the location cannot be read.
        """
        self.name = location
        self._place = place
        self.pipeline = pipeline
        if holds(place, pipeline):
            return
        found = pipelines(place)
        if not found:
            raise InputError(f"{location}: no archive is there")
        if len(found) > 1:
            listed = ", ".join(found)
            raise InputError(f"{location}: holds archives of {listed}, and none of {pipeline}")
        self.pipeline = found[0]

    def close(self) -> None:
        """Do nothing: no file is open between two objects."""

    def read(self) -> Iterator[Opened]:
        """What was read of the stream, shard after shard; see read_archive."""
        return read_archive(self._place, self.pipeline)
