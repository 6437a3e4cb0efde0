"""Sinks on this machine: memory, standard output, files. All take alerts and rejected records."""

from __future__ import annotations

import contextlib
import io
import os
import stat
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

import msgspec

from .. import files
from ..batch import Alert, Rejected
from ..errors import UnavailableError
from .base import ndjson

TAIL_BYTES_MAX = 4 << 20  # of an existing file that are searched for its last line end


class MemorySink:
    """Keeps rows in a list; can be made to refuse, for tests and simulation.

    rows: all rows in the order of delivery, repeats too. fail_next: calls of `deliver` that will
    be refused before a row is taken. lose_next: calls that will take the rows and then raise
    UnavailableError, as when an answer is lost on its way back.
    """

    def __init__(self) -> None:
        """Start empty and willing."""
        self.rows: list[Alert | Rejected] = []
        self.fail_next = 0
        self.lose_next = 0

    def deliver(self, rows: Sequence[Alert | Rejected]) -> None:
        """Keep the rows, unless told to refuse."""
        if self.fail_next:
            self.fail_next -= 1
            raise UnavailableError("memory: refused as asked")
        self.rows.extend(rows)
        if self.lose_next:
            self.lose_next -= 1
            raise UnavailableError("memory: the answer was lost")

    def flush(self) -> None:
        """Do nothing: nothing is held back."""

    def close(self) -> None:
        """Do nothing: the rows stay readable."""


class StdoutSink:
    """Writes NDJSON, always UTF-8, to standard output or another stream.

    "Safe" means handed to the operating system. A reader that has gone away raises BrokenPipeError,
    which is not retried: nobody will read there again.
    """

    def __init__(self, stream: IO[bytes] | IO[str] | None = None) -> None:
        """Take a stream, of bytes or of text; None means what sys.stdout is at each delivery."""
        self._stream = stream

    def deliver(self, rows: Sequence[Alert | Rejected]) -> None:
        """Write the rows and flush."""
        stream: Any = sys.stdout if self._stream is None else self._stream
        data = ndjson(rows)
        try:
            buffer = getattr(stream, "buffer", None)  # also of what Lambda puts around a stream
            if buffer is not None:  # past the stream's own encoding and line ends, after its own
                stream.flush()
                buffer.write(data)
            elif isinstance(stream, io.TextIOBase):
                stream.write(data.decode("utf-8"))
            else:
                stream.write(data)
            stream.flush()
        except BrokenPipeError:
            raise
        except OSError as error:
            raise UnavailableError(f"standard output: {error.strerror or error}") from error

    def flush(self) -> None:
        """Do nothing: `deliver` flushes."""

    def close(self) -> None:
        """Do nothing: the stream belongs to the caller."""


class FileSink:
    """Appends NDJSON to one file, which no other process writes.

    Rows are written and synced before `deliver` returns. What is repeated after a restart stands in
    the file again: readers apply an alert's id, a rejected row's position and rule, once. A last
    line torn by a crash was never acknowledged; it is cut off when the file is opened.
    """

    def __init__(
        self, path: str | os.PathLike[str], *, append: bool = True, sync: bool = True
    ) -> None:
        """Open the file; it is made where there is none, its directory is not.

        Args:
            path: a file, or a device or pipe, which is written to but not synced.
            append: False empties the file first, for output that one run makes whole.
            sync: False leaves syncing to `flush` and `close`, for output that can be made again.

        Raises:
            UnavailableError: the file cannot be opened; names path and cause.
        """
        self.path = Path(path)
        self._sync = sync
        with files.available(self.path):
            self._file = open(self.path, "ab" if append else "wb", buffering=0)
            self._regular = stat.S_ISREG(os.fstat(self._file.fileno()).st_mode)
            if self._regular:
                _mend(self.path, self._file)

    def deliver(self, rows: Sequence[Alert | Rejected]) -> None:
        """Append the rows and sync; where that fails, leave the file as it was."""
        data = ndjson(rows)
        number = self._file.fileno()
        with files.available(self.path):
            size = os.fstat(number).st_size
            try:
                _write(self._file, data)
                if self._sync:
                    self.flush()
            except OSError:
                if self._regular:
                    with contextlib.suppress(OSError):
                        os.truncate(number, size)
                        self._file.seek(0, os.SEEK_END)
                raise

    def flush(self) -> None:
        """Sync the file to the disk."""
        if self._regular:
            with files.available(self.path):
                os.fsync(self._file.fileno())

    def close(self) -> None:
        """Sync and close the file."""
        if not self._file.closed:
            self.flush()
            self._file.close()


def _write(file: io.FileIO, data: bytes) -> None:
    """Write all of `data`: one call of an unbuffered file may take a part."""
    rest = memoryview(data)
    while rest:
        rest = rest[file.write(rest) :]


def _mend(path: Path, file: io.FileIO) -> None:
    """Let the file end in a whole line: cut a torn row off, end any other text."""
    size = os.fstat(file.fileno()).st_size
    with open(path, "rb") as old:
        old.seek(max(0, size - TAIL_BYTES_MAX))
        tail = old.read()
    torn = tail[tail.rfind(b"\n") + 1 :]
    if not torn:
        return
    if torn.startswith(b"{") and len(torn) < TAIL_BYTES_MAX:
        try:
            msgspec.json.decode(torn)
        except (ValueError, RecursionError):
            os.truncate(file.fileno(), size - len(torn))
            return
    _write(file, b"\n")
