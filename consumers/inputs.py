"""Inputs: a file of records or standard input, its lines, and how far it has been read."""

from __future__ import annotations

import gzip
import os
import stat
import sys
import zlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from io import BufferedIOBase
from typing import cast

from ..engine.errors import InputError

BLOCK_BYTES = 1 << 20
LINE_BYTES_MAX = 1 << 26  # far above the largest record of a stream, in base64

Waiting = Callable[[], AbstractContextManager[None]]


class Input:
    """The lines of a file (one ending in .gz is decompressed) or of standard input (`-`).

    name: for messages. line: lines handed out so far. total: bytes in the file, None where unknown.
    """

    def __init__(self, path: str, waiting: Waiting = nullcontext) -> None:
        """Open it; raises InputError if that cannot be done.

        Args:
            path: name of the file, or `-`.
            waiting: makes a context in which more is asked for; on a pipe that may take for ever.
        """
        self.name = "standard input" if path == "-" else path
        self.line = 0
        self.total: int | None = None
        self._waiting = waiting
        self._ahead = b""  # read by `peek`, not handed out yet
        try:
            raw = sys.stdin.buffer if path == "-" else open(path, "rb")
            self._raw = cast(BufferedIOBase, raw)
            if path != "-":
                status = os.fstat(self._raw.fileno())
                self.total = status.st_size if stat.S_ISREG(status.st_mode) else None
        except OSError as error:
            raise InputError(f"{path}: {error.strerror}") from None
        self._file = self._raw
        if path.endswith(".gz"):
            self._file = gzip.GzipFile(fileobj=raw, mode="rb")

    def close(self) -> None:
        """Close the file; standard input stays open."""
        if self.name != "standard input":
            self._raw.close()

    def fileno(self) -> int | None:
        """The number of the open file, None where the operating system knows of none."""
        try:
            return self._raw.fileno()
        except (OSError, ValueError):
            return None

    @property
    def bytes_read(self) -> int:
        """Bytes of the file that were read, out of `total`."""
        return 0 if self.total is None else self._raw.tell()

    def peek(self) -> bytes:
        """The first line, which stays to be read."""
        while b"\n" not in self._ahead and (block := self._read()):
            self._ahead += block
            self._check(self._ahead.partition(b"\n")[0])
        return self._ahead.partition(b"\n")[0]

    def lines(self, line_ends: bool = False) -> Iterator[bytes]:
        """Each line; while it is handled, `line` is its number."""
        for block in self.blocks(line_ends):
            before = self.line
            for self.line, line in enumerate(block, before + 1):
                yield line
            self.line = before

    def blocks(self, line_ends: bool = False) -> Iterator[list[bytes]]:
        """The lines, some thousand at a time, without their line ends (\\n or \\r\\n) or with them.

        While a block is handled, `line` is the number of lines before it.

        Raises:
            InputError: the file cannot be read on, or a line is longer than `LINE_BYTES_MAX`.
        """
        rest = b""
        while block := self._ahead or self._read():
            self._ahead = b""
            text = rest + block
            lines = text.split(b"\n")
            rest = lines.pop()
            if line_ends:
                lines = [line + b"\n" for line in lines]
            elif b"\r" in text:
                lines = [line.removesuffix(b"\r") for line in lines]
            yield lines
            self.line += len(lines)
            self._check(rest)
        if rest:
            yield [rest]
            self.line += 1

    def _check(self, line: bytes) -> None:
        if len(line) > LINE_BYTES_MAX:
            raise InputError(
                f"{self.name}: line {self.line + 1} is longer than {LINE_BYTES_MAX} bytes"
            )

    def _read(self) -> bytes:
        try:
            with self._waiting():
                return self._file.read1(BLOCK_BYTES)
        except (OSError, EOFError, zlib.error) as error:
            raise InputError(f"{self.name}: line {self.line + 1}: cannot go on: {error}") from None
