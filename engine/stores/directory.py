"""State objects as files: ``<location>/<pipeline>/<shard>/<generation, 20 digits>``.

Pipeline and shard are percent-encoded where unsafe, so no name leaves the location. A file is
written beside its place, synced, and linked to its name, which fails where the name is taken; so of
two owners of a shard one wins, and a crash leaves whole objects only.
"""

from __future__ import annotations

import contextlib
import os
import re
from pathlib import Path

from .. import files
from ..errors import FencedError, StateError

GENERATION_DIGITS = 20


class DirectoryStates:
    """A StateStore in a directory of a local file system that has hard links.

    Everything the operating system refuses (disk full, no permission) is UnavailableError with the
    path and the cause.
    """

    def __init__(self, location: str | os.PathLike[str]) -> None:
        """Name the directory; it is made with the first object."""
        self.location = Path(location)

    def generations(self, pipeline: str, shard: str) -> list[int]:
        """The numbers of all objects there are, ascending."""
        return self._listed(self._directory(pipeline, shard))

    def exists(self, pipeline: str, shard: str, generation: int) -> bool:
        """Whether there is an object of this number."""
        path = self._path(pipeline, shard, generation)
        with files.available(path):
            return path.is_file()

    def read(self, pipeline: str, shard: str, generation: int) -> bytes:
        """The bytes of one object; StateError where there is none."""
        path = self._path(pipeline, shard, generation)
        with files.available(path):
            try:
                return path.read_bytes()
            except FileNotFoundError:
                raise StateError(f"no state object {path}") from None

    def create(self, pipeline: str, shard: str, generation: int, data: bytes) -> None:
        """Write one object; FencedError where this generation or a later one exists."""
        path = self._path(pipeline, shard, generation)
        directory = path.parent
        newest = max(self._listed(directory), default=-1)
        with files.available(path):
            try:
                written = newest < generation and files.create(path, data)
            except FileNotFoundError:  # the winner has already cleaned our temporary file up
                if max(self._listed(directory), default=-1) < generation:
                    raise
                written = False
        # Looked at again: while an owner is stopped between the look and the link, others may go
        # past its number and remove what it would have collided with. What it wrote then lies
        # below all that is kept, is read by nobody, and goes with the next prune.
        newest = max(self._listed(directory), default=newest)
        if not written or newest > generation:
            raise FencedError(
                f"state object {path} cannot be written: {newest} of this shard exists,"
                " so another owner has gone on"
            )
        self._clean(directory, generation)

    def delete(self, pipeline: str, shard: str, generation: int) -> None:
        """Remove one object; nothing happens where there is none."""
        path = self._path(pipeline, shard, generation)
        with files.available(path):
            path.unlink(missing_ok=True)

    def prune(self, pipeline: str, shard: str, oldest_kept: int) -> None:
        """Remove all objects below `oldest_kept`, but never the newest one."""
        for generation in self.generations(pipeline, shard)[:-1]:
            if generation < oldest_kept:
                self.delete(pipeline, shard, generation)

    def _directory(self, pipeline: str, shard: str) -> Path:
        return self.location / files.segment(pipeline) / files.segment(shard)

    def _path(self, pipeline: str, shard: str, generation: int) -> Path:
        assert 0 <= generation < 10**GENERATION_DIGITS, generation
        return self._directory(pipeline, shard) / f"{generation:0{GENERATION_DIGITS}}"

    def _listed(self, directory: Path) -> list[int]:
        with files.available(directory):
            try:
                names = os.listdir(directory)
            except FileNotFoundError:
                return []
        return sorted(int(name) for name in names if GENERATION.fullmatch(name))

    def _clean(self, directory: Path, generation: int) -> None:
        """Remove temporary files of generations up to this one: whoever writes them has lost."""
        with contextlib.suppress(OSError):
            for path, found in files.leftovers(directory):
                if GENERATION.fullmatch(found) and int(found) <= generation:
                    path.unlink(missing_ok=True)


GENERATION = re.compile(rf"[0-9]{{{GENERATION_DIGITS}}}")
