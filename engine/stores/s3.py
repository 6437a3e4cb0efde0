"""State objects on S3: ``<location><pipeline>/<shard>/<generation, 20 digits>``.

Pipeline and shard are percent-encoded where unsafe. An object is put on the condition that there is
none of its name (`If-None-Match: *`), so of two owners of a shard one wins. The caller needs
s3:ListBucket, s3:GetObject, s3:PutObject and s3:DeleteObject.
"""

from __future__ import annotations

from .. import files
from ..aws import Service
from ..bucket import Bucket
from ..errors import FencedError, StateError
from .directory import GENERATION, GENERATION_DIGITS

CONTENT_TYPE = "application/octet-stream"


class BucketStates:
    """A StateStore in a prefix of an S3 bucket."""

    def __init__(self, location: str, service: Service) -> None:
        """Take `s3://bucket/prefix/` and the service `s3`; nothing is called yet."""
        self.bucket = Bucket(location, service)

    def generations(self, pipeline: str, shard: str) -> list[int]:
        """The numbers of all objects there are, ascending."""
        folder = _folder(pipeline, shard)
        names = (name.removeprefix(folder) for name in self.bucket.names(folder))
        return sorted(int(name) for name in names if GENERATION.fullmatch(name))

    def exists(self, pipeline: str, shard: str, generation: int) -> bool:
        """Whether there is an object of this number: one HEAD."""
        return self.bucket.exists(_name(pipeline, shard, generation))

    def read(self, pipeline: str, shard: str, generation: int) -> bytes:
        """The bytes of one object; StateError where there is none."""
        name = _name(pipeline, shard, generation)
        data = self.bucket.get(name)
        if data is None:
            raise StateError(f"no state object {self.bucket.url(name)}")
        return data

    def create(self, pipeline: str, shard: str, generation: int, data: bytes) -> None:
        """Write one object; FencedError where this generation or a later one exists."""
        name = _name(pipeline, shard, generation)
        newest = max(self.generations(pipeline, shard), default=-1)
        written = newest < generation and self.bucket.create(name, data, CONTENT_TYPE)
        # Looked at again: while an owner is stopped between the look and the put, others may go
        # past its number and remove what it would have collided with (see DirectoryStates).
        newest = max(self.generations(pipeline, shard), default=newest)
        if not written or newest > generation:
            raise FencedError(
                f"state object {self.bucket.url(name)} cannot be written: {newest} of this shard"
                " exists, so another owner has gone on"
            )

    def delete(self, pipeline: str, shard: str, generation: int) -> None:
        """Remove one object; nothing happens where there is none."""
        self.bucket.delete([_name(pipeline, shard, generation)])

    def prune(self, pipeline: str, shard: str, oldest_kept: int) -> None:
        """Remove all objects below `oldest_kept`, but never the newest one."""
        old = [n for n in self.generations(pipeline, shard)[:-1] if n < oldest_kept]
        if old:
            self.bucket.delete([_name(pipeline, shard, generation) for generation in old])


def _folder(pipeline: str, shard: str) -> str:
    return f"{files.segment(pipeline)}/{files.segment(shard)}/"


def _name(pipeline: str, shard: str, generation: int) -> str:
    assert 0 <= generation < 10**GENERATION_DIGITS, generation
    return f"{_folder(pipeline, shard)}{generation:0{GENERATION_DIGITS}}"
