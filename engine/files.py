"""Whole files in directories: written so that a crash leaves the old one, the new one, or none.

Under the directory store and the error directory. Temporary files begin with a dot and end in
`.tmp`; no reader looks at them.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import secrets
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

from .errors import UnavailableError

NAME_BYTES_MAX = 255  # of one name in a directory, on every common file system
_TAIL_MARK = "%+"  # no percent-encoding holds it
_TAIL_DIGITS = 32  # hexadecimal


def segment(name: str, bytes_max: int = NAME_BYTES_MAX) -> str:
    """`name` as one file name: percent-encoded where unsafe, never empty, never leading elsewhere.

    Different names give different results. A result longer than `bytes_max` has its tail replaced
    by a hash of the whole, so it is the same each time.
    """
    safe = quote(name, safe="", errors="surrogatepass") or "%"
    if safe.startswith("."):
        safe = "%2E" + safe[1:]
    if len(safe) <= bytes_max:
        return safe
    tail = hashlib.sha256(safe.encode("ascii")).hexdigest()[:_TAIL_DIGITS]
    return safe[: bytes_max - len(_TAIL_MARK) - len(tail)] + _TAIL_MARK + tail


@contextlib.contextmanager
def available(path: Path) -> Iterator[None]:
    """Turn what the operating system refuses into UnavailableError that names path and cause."""
    try:
        yield
    except OSError as error:
        raise UnavailableError(f"{error.filename or path}: {error.strerror or error}") from error


def create(path: Path, data: bytes) -> bool:
    """Write a file that does not exist yet; False where the name is taken, which changes nothing.

    Of any number of writers of one name, one wins. On return data and name are on the disk.
    """
    with _temporary(path, data) as temporary:
        try:
            os.link(temporary, path)
        except FileExistsError:
            return False
    sync_directory(path.parent)
    return True


def replace(path: Path, data: bytes) -> None:
    """Write a file, or another in its place. On return data and name are on the disk."""
    with _temporary(path, data) as temporary:
        os.replace(temporary, path)
    sync_directory(path.parent)


def leftovers(directory: Path) -> list[tuple[Path, str]]:
    """Temporary files that crashed writers left, or running ones still write, with the final name.

    Of a final name of more than 100 bytes only a hash is known.
    """
    found = ((directory / name, _TEMPORARY.fullmatch(name)) for name in os.listdir(directory))
    return [(path, match[1]) for path, match in found if match]


def sync_directory(directory: Path) -> None:
    """Make the names in a directory last."""
    number = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


@contextlib.contextmanager
def _temporary(path: Path, data: bytes) -> Iterator[Path]:
    """A synced file beside `path` that holds `data`; gone afterwards, however that ends."""
    _make(path.parent)
    name = segment(path.name, 100)  # readable, and short enough for what is added
    temporary = path.parent / f".{name}.{secrets.token_hex(8)}.tmp"
    try:
        with open(temporary, "xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        yield temporary
    finally:
        with contextlib.suppress(OSError):
            os.unlink(temporary)


def _make(directory: Path) -> None:
    """Create a directory with its parents, each name synced."""
    if directory.is_dir():
        return
    _make(directory.parent)
    directory.mkdir(exist_ok=True)
    sync_directory(directory.parent)


_TEMPORARY = re.compile(r"\.(.+)\.[0-9a-f]{16}\.tmp")
