"""The error stream as objects on S3; error_objects.py says which, and what they hold.

The caller needs s3:PutObject, and to read them s3:ListBucket and s3:GetObject.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ..aws import Service
from ..batch import Rejected
from ..bucket import Bucket
from . import error_objects

CONTENT_TYPE = "application/gzip"  # no Content-Encoding: clients that unpack it would hide the .gz


class ErrorBucket:
    """A Sink of rejected records on S3.

    Hand in all rejected rows of a push at once: an object is named by its first and last position,
    so another one for the same positions takes its place.
    """

    def __init__(self, location: str, pipeline: str, service: Service) -> None:
        """Take `s3://bucket/prefix/` and the service `s3`; nothing is called yet."""
        self.bucket = Bucket(location, service)
        self.pipeline = pipeline

    def deliver(self, rows: Sequence[Rejected]) -> None:
        """Write one object for each shard and hour."""
        for name, data in error_objects.objects(self.pipeline, rows):
            self.bucket.put(name, data, CONTENT_TYPE)

    def flush(self) -> None:
        """Do nothing: nothing is held back."""

    def close(self) -> None:
        """Do nothing: the service belongs to the caller."""


def read_error_bucket(
    location: str, pipeline: str | None = None, *, service: Service
) -> Iterator[Rejected]:
    """Give the rejected rows below `location`, of one pipeline or all, each (position, rule) once.

    Memory is bounded by the positions of one hour, as in `read_errors` of a directory.

    Raises:
        InputError: an object is no gzip NDJSON of rejected rows; names object and line.
        UnavailableError: the bucket cannot be read.
    """
    return error_objects.read(Bucket(location, service), pipeline)
