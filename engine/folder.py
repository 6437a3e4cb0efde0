"""A directory with the face of a bucket: whole objects by their names below one location."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

from . import files
from .aws import Service
from .bucket import SCHEME, Bucket

DEPTH_MAX = 16  # directories below the location


class Folder:
    """The objects below one directory; a name's slashes are directories.

    What is asked of it answers as a Bucket does. UnavailableError: the system refuses.
    """

    def __init__(self, location: str | os.PathLike[str]) -> None:
        """Name the directory; it is made with the first object."""
        self.location = Path(location)

    def url(self, name: str) -> str:
        """The whole name, for messages."""
        return str(self.location / name)

    def put(self, name: str, data: bytes, kind: str) -> None:
        """Write an object, or another in its place, whole and synced; `kind` is not kept."""
        path = self.location / name
        with files.available(path):
            files.replace(path, data)

    def get(self, name: str) -> bytes | None:
        """The bytes of an object, None where there is none."""
        path = self.location / name
        with files.available(path):
            try:
                return path.read_bytes()
            except FileNotFoundError:
                return None

    def names(self, below: str) -> Iterator[str]:
        """The names that begin with `below`, in the order of their parts."""
        return (name for name, _ in self.sizes(below))

    def sizes(self, below: str) -> Iterator[tuple[str, int]]:
        """The names that begin with `below` with the bytes of each, in the order of their parts."""
        folder, _, first = below.rpartition("/")
        return self._below(folder, first, DEPTH_MAX)

    def delete(self, names: Sequence[str]) -> None:
        """Remove objects, and the directories that are empty then; nothing where there are none."""
        parents: dict[Path, None] = {}
        for name in names:
            path = self.location / name
            with files.available(path):
                path.unlink(missing_ok=True)
            parents[path.parent] = None
        for parent in parents:
            while parent != self.location and self._removed(parent):
                parent = parent.parent

    def _removed(self, directory: Path) -> bool:
        try:
            directory.rmdir()
        except OSError:  # not empty, or not there
            return False
        return True

    def _below(self, folder: str, first: str, depth: int) -> Iterator[tuple[str, int]]:
        directory = self.location / folder
        with files.available(directory):
            try:
                found = sorted(os.scandir(directory), key=lambda entry: entry.name)
            except (FileNotFoundError, NotADirectoryError):
                return
        for entry in found:
            if not entry.name.startswith(first) or entry.name.startswith("."):
                continue
            name = f"{folder}/{entry.name}" if folder else entry.name
            with files.available(Path(entry.path)):
                try:
                    if entry.is_dir():
                        size = None
                    else:
                        size = entry.stat().st_size
                except FileNotFoundError:  # removed meanwhile
                    continue
            if size is not None:
                yield name, size
            elif depth:
                yield from self._below(name, "", depth - 1)


class Place(Protocol):
    """Whole objects by their names below one location: a Bucket, a Folder, or one around these."""

    def url(self, name: str) -> str:
        """The whole name, for messages."""
        ...

    def put(self, name: str, data: bytes, kind: str) -> None:
        """Write an object, or another in its place."""
        ...

    def get(self, name: str) -> bytes | None:
        """The bytes of an object, None where there is none."""
        ...

    def names(self, below: str) -> Iterator[str]:
        """The names that begin with `below`."""
        ...

    def sizes(self, below: str) -> Iterator[tuple[str, int]]:
        """The names that begin with `below`, with the bytes of each."""
        ...

    def delete(self, names: Sequence[str]) -> None:
        """Remove objects; nothing happens where there are none."""
        ...


def place(location: str, service: Service | None = None) -> Place:
    """The objects below a location, `s3://bucket/prefix/` (through `service`) or a directory."""
    if location.startswith(SCHEME):
        assert service is not None, location
        return Bucket(location, service)
    return Folder(location)
