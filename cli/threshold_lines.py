"""Limits as lines of NDJSON or CSV: what `thresholds import` reads and `export` writes.

NDJSON is the thresholds file of the back-test. CSV has a header that names the same keys; an empty
cell is an absent key. In CSV a version that is text is JSON text where it would be taken for
something else, and a device that a spreadsheet would take for a formula has a ' before it.
"""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import sys
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from ..engine.errors import ConfigError, Problem
from ..engine.limits import Entry, shown
from ..engine.stores.threshold_attributes import DEVICE_BYTES_MAX, can_be_key, storable
from ..engine.stores.threshold_items import HISTORY_MAX
from ..rules.spec_values import nearest

KEYS = ("device", "rule", "value", "clear_margin", "version", "effective_from")
REQUIRED = KEYS[:3]
PROBLEMS_MAX = 100  # that are listed; the rest is counted
FORMULA = ("=", "+", "-", "@", "\t", "\r")  # what the cells begin with that spreadsheets run

Row = dict[str, Any]


@dataclass
class Given:
    """The lines of one (device, rule), in their order.

    exact: one of them has the key version, as in an export: the item is to hold just these.
    """

    device: str
    rule: str
    entries: list[Entry] = field(default_factory=list)
    exact: bool = False
    lines: list[str] = field(default_factory=list)  # where each stands, for messages


def read(data: bytes, form: str, origin: str, rules: Sequence[str]) -> list[Given]:
    """Read every line of a file.

    Args:
        data: its bytes. form: ndjson or csv. origin: its name. rules: those that the pipeline has.

    Raises:
        ConfigError: lines are wrong; names each, with what was expected.
    """
    problems: list[Problem] = []
    found: dict[tuple[str, str], Given] = {}
    for where, line in _csv_lines(data, origin) if form == "csv" else _lines(data, origin):
        try:
            row = _object(line) if isinstance(line, bytes) else line
            device, rule, entry = _limit(row, rules)
            _add(found.setdefault((device, rule), Given(device, rule)), entry, row, where)
        except ValueError as error:
            problems.append(Problem(where, str(error)))
    for given in found.values():
        problems += _repeats(given)
    if problems:
        more = len(problems) - PROBLEMS_MAX
        rest = [Problem(origin, f"{more} more lines are wrong")] if more > 0 else []
        raise ConfigError([*problems[:PROBLEMS_MAX], *rest])
    return list(found.values())


def content(source: str) -> tuple[bytes, str]:
    """The bytes of a file (`.gz` unpacked) or of standard input (-), and its name for messages.

    Raises:
        ConfigError: it cannot be read.
    """
    if source == "-":
        return sys.stdin.buffer.read(), "standard input"
    try:
        data = Path(source).read_bytes()
        return (gzip.decompress(data) if source.endswith(".gz") else data), source
    except (OSError, EOFError, zlib.error) as error:
        cause = getattr(error, "strerror", None) or str(error)
        raise ConfigError([Problem(source, f"cannot be read: {cause}")]) from error


def packed(data: bytes, target: Path) -> bytes:
    """The bytes of a file as its name asks: the same each time, and read by `content` again."""
    return gzip.compress(data, mtime=0) if target.suffix == ".gz" else data


def row_of(device: str, rule: str, entry: Entry) -> Row:
    """One entry as a row, without the keys that it lacks.

    The version is named also where there is none (null): that marks the row as an export's.
    """
    row = {"device": device, "rule": rule, **msgspec.structs.asdict(entry)}
    return {key: row[key] for key in KEYS if row[key] is not None or key == "version"}


def lines(rows: Sequence[Row], form: str) -> bytes:
    """Rows as a file of lines, with a header where that is CSV."""
    if form != "csv":
        return b"".join(msgspec.json.encode(row) + b"\n" for row in rows)
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\r\n")  # as RFC 4180; so that both are quoted
    writer.writerow(KEYS)
    writer.writerows([[_cell(key, row) for key in KEYS] for row in rows])
    return text.getvalue().encode()


def _limit(row: Row, rules: Sequence[str]) -> tuple[str, str, Entry]:
    missing = [key for key in REQUIRED if key not in row]
    if missing:
        raise ValueError(f"expected the keys device, rule and value; missing: {', '.join(missing)}")
    device, rule = row["device"], row["rule"]
    if type(device) is int:
        device = str(device)
    if type(device) is not str or not can_be_key(device, "r"):
        expected = f"expected a text of 1 to {DEVICE_BYTES_MAX:,} bytes"
        raise ValueError(f"device: {expected}, found {shown(device)}")
    if rule not in rules:
        near = nearest(rule, rules) if type(rule) is str else None
        hint = f"did you mean {near!r}?" if near else f"the rules are {', '.join(rules)}"
        raise ValueError(f"rule: the pipeline has none called {shown(rule)} ({hint})")
    fields: list[Any] = [row.get(key) for key in KEYS[2:]]  # as they come: `storable` checks them
    try:
        return device, rule, storable(Entry(*fields))
    except ValueError as error:
        raise ValueError(f"device {shown(device)}, rule {shown(rule)}: {error}") from error


def _add(given: Given, entry: Entry, row: Row, where: str) -> None:
    if len(given.entries) > HISTORY_MAX:
        of = f"device {shown(given.device)}, rule {shown(given.rule)}"
        raise ValueError(f"{of}: expected at most {HISTORY_MAX + 1} lines, found one more")
    given.entries.append(entry)
    given.exact = given.exact or "version" in row
    given.lines.append(where)


def _repeats(given: Given) -> Iterator[Problem]:
    """Two new limits for one time: which is meant cannot be told. An export may have them."""
    first: dict[int | None, str] = {}
    for entry, where in zip(given.entries, given.lines, strict=True):
        before = first.setdefault(entry.effective_from, where)
        if before != where and not given.exact:
            of = f"device {shown(given.device)}, rule {shown(given.rule)}"
            yield Problem(where, f"{of}: a limit for the same time stands in {before} already")


def _lines(data: bytes, origin: str) -> Iterator[tuple[str, bytes]]:
    for number, line in enumerate(data.removeprefix(codecs.BOM_UTF8).split(b"\n"), 1):
        if line.strip():
            yield f"{origin}:{number}", line


def _object(line: bytes) -> Row:
    try:
        row = msgspec.json.decode(line)
    except (ValueError, RecursionError) as error:
        text = shown(line.strip().decode("utf-8", "backslashreplace"))
        raise ValueError(f"expected one JSON object, found {text}: {error}") from error
    if type(row) is not dict:
        raise ValueError(f"expected one JSON object, found {shown(row)}")
    return row


def _csv_lines(data: bytes, origin: str) -> Iterator[tuple[str, Row]]:
    """The rows below the header; ConfigError where the file is no CSV."""
    try:
        reader = csv.reader(io.StringIO(data.decode("utf-8-sig"), newline=""), strict=True)
    except UnicodeDecodeError as error:
        raise ConfigError([Problem(origin, f"no UTF-8: {error.reason} at {error.start}")]) from None
    names: list[str] = []
    try:
        for cells in reader:
            where = f"{origin}:{reader.line_num}"
            if not names:
                names = _header([cell.strip() for cell in cells], where)
            elif cells:
                if len(cells) != len(names):
                    message = f"expected {len(names)} cells as in the header, found {len(cells)}"
                    raise ConfigError([Problem(where, message)])
                row = zip(names, cells, strict=True)
                yield where, {key: _value(key, cell) for key, cell in row if _is_given(key, cell)}
    except csv.Error as error:
        where = f"{origin}:{reader.line_num}"
        raise ConfigError([Problem(where, f"expected a row of CSV: {error}")]) from error


def _header(names: list[str], where: str) -> list[str]:
    missing = [key for key in REQUIRED if key not in names]
    twice = [key for key in KEYS if names.count(key) > 1]
    if missing or twice:
        wrong = f"missing: {', '.join(missing)}" if missing else f"twice: {', '.join(twice)}"
        message = f"expected a header that names {', '.join(KEYS)}; {wrong}"
        raise ConfigError([Problem(where, message)])
    return names


def _is_given(key: str, cell: str) -> bool:
    return bool(cell if key in ("device", "rule") else cell.strip())


def _value(key: str, cell: str) -> Any:
    """A cell as the value that NDJSON has."""
    if key in ("device", "rule"):
        quoted = cell.startswith("'") and cell[1:].startswith((*FORMULA, "'"))
        return cell[1:] if quoted else cell
    try:
        return msgspec.json.decode(cell)
    except (ValueError, RecursionError):
        return cell


def _cell(key: str, row: Row) -> str:
    """The cell that `_value` reads as the same value."""
    value = row.get(key)
    if key in ("device", "rule"):
        assert isinstance(value, str)
        return f"'{value}" if value.startswith((*FORMULA, "'")) else value
    if key == "version" and isinstance(value, str):
        plain = value and value == value.strip() and not value.startswith(FORMULA)
        if plain and _value(key, value) is value:
            return str(value)
        return msgspec.json.encode(value).decode()
    return "" if key not in row else msgspec.json.encode(value).decode()
