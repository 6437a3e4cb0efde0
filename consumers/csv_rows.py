"""Rows of a CSV file as user records; what is no row keeps its bytes for the error stream."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from typing import NamedTuple, Self

import msgspec

from ..engine.batch import Record
from ..engine.errors import InputError
from .inputs import Input

NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")  # as JSON has it
BYTE_ORDER_MARK = b"\xef\xbb\xbf"

Path = tuple[str, ...]


class Row(Record, frozen=True):
    """A row of a CSV file: `data` is the JSON object made from it, `line` its original bytes.

    `fault` says why no object could be made of it (then `data` is empty, which no decoder takes).
    """

    line: bytes = b""
    fault: str = ""


class _Cells(NamedTuple):
    number: int  # of its first line
    line: bytes
    cells: list[str]
    fault: str


def read_csv(source: Input, shard_id: str) -> Iterator[Row]:
    """Rows (RFC 4180, UTF-8, separated by commas) as JSON objects; line 1 names the fields.

    A dotted name is a path: `a.b` is field b of object a. Text that is a JSON number becomes that
    number with all its digits, an empty cell is an absent field, a column without a name is left
    out. What is no row (more or fewer cells than names, a quote that does not end, no UTF-8) is a
    `Row` with a fault. A row's sequence number is the number of its first line.

    Raises:
        InputError: line 1 is no row, or names a field twice.
    """
    rows = _rows(source)
    header = next(rows, _Cells(1, b"", [], ""))
    if header.fault:
        raise InputError(f"{source.name}: line 1: {header.fault}")
    paths = _paths(header.cells, source.name)
    for number, line, cells, fault in rows:
        if not fault and len(cells) != len(paths):
            fault = f"{len(cells)} cells where line 1 names {len(paths)} fields"
        data = b"" if fault else msgspec.json.encode(_message(paths, cells))
        yield Row(shard_id, str(number), data, sub_sequence_number=0, line=line, fault=fault)


class _Texts:
    """Lines as text for the csv module, which asks for several where a quoted cell spans them."""

    def __init__(self, source: Input) -> None:
        self._lines = source.lines(line_ends=True)
        self.taken: list[bytes] = []  # the lines of the row that is being read
        self.unreadable = False  # one of them is no UTF-8
        self.number = 1  # of the first of them

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> str:
        line = next(self._lines)
        self.taken.append(line)
        if self.number == 1 and len(self.taken) == 1:
            line = line.removeprefix(BYTE_ORDER_MARK)
        try:
            return line.decode()
        except UnicodeDecodeError:
            self.unreadable = True
            return line.decode("utf-8", "replace")

    def row(self, cells: list[str], fault: str) -> _Cells:
        """The row that was read, with its lines less the last line end; the next one may begin."""
        line = b"".join(self.taken).removesuffix(b"\n").removesuffix(b"\r")
        found = _Cells(self.number, line, cells, "no UTF-8" if self.unreadable else fault)
        self.number += len(self.taken)
        self.taken.clear()
        self.unreadable = False
        return found


def _rows(source: Input) -> Iterator[_Cells]:
    texts = _Texts(source)
    reader = csv.reader(texts, strict=True)
    while True:
        try:
            yield texts.row(next(reader), "")
        except StopIteration:
            return
        except csv.Error as error:
            yield texts.row([], f"no row of a CSV file: {error}")


def _paths(names: list[str], origin: str) -> list[Path]:
    """Where the cells of each column go, () for a column without a name."""
    paths: list[Path] = []
    fields: set[Path] = set()
    objects: set[Path] = set()
    for name in map(str.strip, names):
        parts = tuple(name.split("."))
        path = parts if all(parts) else (name,)  # "No." is a name, not a path
        outer = {path[:depth] for depth in range(1, len(path))}
        if name and (path in fields | objects or outer & fields):
            raise InputError(f"{origin}: line 1: two columns give the field {name!r}")
        if name:
            fields.add(path)
            objects |= outer
        paths.append(path if name else ())
    return paths


def _message(paths: list[Path], cells: list[str]) -> dict[str, object]:
    """The object of one row."""
    message: dict[str, object] = {}
    for path, cell in zip(paths, cells, strict=True):
        if not path or not cell:
            continue
        target = message
        for part in path[:-1]:
            target = target.setdefault(part, {})  # type: ignore[assignment]
        text = cell.strip()
        target[path[-1]] = msgspec.Raw(text.encode()) if NUMBER.fullmatch(text) else cell
    return message
