"""Objects of an archive made into others, in small steps: staged ones for all to read, or larger.

A step that is refused is made again; what a crash interrupts is begun anew from objects that are
still there. Only when `step` says so is all safe under new names and the old ones may go.
"""

from __future__ import annotations

import gzip
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Protocol

from ..folder import Place
from . import archive_parquet
from .archive_objects import KINDS, NDJSON, PARQUET, Form, Held, Order, held, made_name
from .archive_rows import ArchiveRow, encode, unpack

GROUP_ROWS = 32_768  # rows, or
GROUP_BYTES = 8 << 20  # payload bytes, that are held as rows before they are compressed
COMPRESSION_LEVEL = 6  # of gzip, for what is kept


class Maker(Protocol):
    """Makes the bytes of one object, some rows at a time."""

    def add(self, rows: Sequence[ArchiveRow]) -> None:
        """Take rows, by position."""
        ...

    def close(self) -> bytes:
        """The whole object."""
        ...


class NdjsonMaker:
    """Makes gzip NDJSON; the same rows give the same bytes."""

    def __init__(self) -> None:
        """Begin an object in memory."""
        self._buffer = io.BytesIO()
        self._file = gzip.GzipFile("", "wb", COMPRESSION_LEVEL, self._buffer, mtime=0)

    def add(self, rows: Sequence[ArchiveRow]) -> None:
        """Compress these rows."""
        self._file.write(encode(rows))

    def close(self) -> bytes:
        """The whole object."""
        self._file.close()
        return self._buffer.getvalue()


def maker(form: Form) -> Maker:
    """What makes an object in one form."""
    return archive_parquet.ParquetMaker() if form == PARQUET else NdjsonMaker()


def read(part: Held, data: bytes) -> Iterator[list[ArchiveRow]]:
    """The rows of one object, some at a time; InputError where it is none of an archive."""
    if part.form == NDJSON:
        return unpack(part.name, data)
    return archive_parquet.read(part.name, data)


class Making:
    """Makes objects of the rows of others, each position once.

    made: what was made so far. All rows are of one shard and hour.
    """

    def __init__(
        self,
        place: Place,
        parts: Iterable[Held],
        folder: str,
        form: Form,
        *,
        covered: Sequence[tuple[Order, Order]] = (),
        known: Mapping[str, bytes] | None = None,
    ) -> None:
        """Do nothing yet.

        Args:
            place: where all objects lie. parts: those to read. folder: see `made_folder`.
            form: of what is made.
            covered: first and last positions of objects that hold their rows already; a row in
                between is left out.
            known: the bytes of parts that need not be fetched, by name.
        """
        self.made: list[Held] = []
        self._place, self._folder, self._form = place, folder, form
        self._parts = sorted(parts, key=lambda part: (part.first, part.last))
        self._covered, self._known = covered, known or {}
        self._rows: list[ArchiveRow] = []
        self._bytes = 0
        self._last: Order | None = None  # of all rows taken so far
        self._maker: Maker | None = None
        self._ends: tuple[Order, Order] | None = None  # of the object that is being made
        self._ready: list[tuple[str, bytes]] = []

    def step(self) -> bool:
        """Read a part or write an object; whether all is done.

        Raises:
            UnavailableError: it was refused; call again.
            InputError: a part is no object of an archive.
        """
        if self._ready:
            name, data = self._ready[0]
            self._place.put(name, data, KINDS[self._form])
            del self._ready[0]
            one = held(name, len(data))
            assert one is not None, name
            self.made.append(one)
        elif self._parts:
            self._take(self._parts[0])
            del self._parts[0]
            if not self._parts:
                self._close()
        return not (self._ready or self._parts)

    def _take(self, part: Held) -> None:
        data = self._known.get(part.name)
        if data is None:
            data = self._place.get(part.name)
        if data is None:  # another one has made it into an object, and removed it
            return
        inside = [one for one in self._covered if one[0] <= part.last and part.first <= one[1]]
        for rows in read(part, data):
            for row in rows:
                order = row.order
                if self._last is not None and order <= self._last:
                    continue
                self._last = order
                if inside and any(first <= order <= last for first, last in inside):
                    self._close()  # an object has all rows between its ends
                    continue
                self._add(row, order)

    def _add(self, row: ArchiveRow, order: Order) -> None:
        self._ends = (order, order) if self._ends is None else (self._ends[0], order)
        self._rows.append(row)
        self._bytes += len(row.data or row.data_base64 or "")
        if len(self._rows) >= GROUP_ROWS or self._bytes >= GROUP_BYTES:
            self._compress()

    def _compress(self) -> None:
        if self._maker is None:
            self._maker = maker(self._form)
        self._maker.add(self._rows)
        self._rows, self._bytes = [], 0

    def _close(self) -> None:
        if self._ends is None:
            return
        if self._rows or self._maker is None:
            self._compress()
        assert self._maker is not None
        name = made_name(self._folder, *self._ends, self._form)
        self._ready.append((name, self._maker.close()))
        self._maker = self._ends = None
