"""Limits as lines of NDJSON or CSV: what `thresholds import` reads and `export` writes.

The NDJSON form is the thresholds file of the back-test. A CSV file has a header, which names the
same keys; an empty cell is an absent key.
"""

from __future__ import annotations

import codecs
import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import msgspec

from ..engine.errors import ConfigError, Problem
from ..engine.limits import Entry, checked, shown

KEYS = ("device", "rule", "value", "clear_margin", "version", "effective_from")
REQUIRED = KEYS[:3]
PROBLEMS_MAX = 100  # that are listed; the rest is counted


class Given(NamedTuple):
    """The lines of one (device, rule) in their order.

    exact: they carry versions or times, or are several: the item is to hold just these.
    """

    device: str
    rule: str
    entries: list[Entry]
    exact: bool


def read(data: bytes, form: str, origin: str, rules: Sequence[str]) -> list[Given]:
    """Read every line of a file.

    Args:
        data: its bytes. form: ndjson or csv. origin: its name. rules: those that the pipeline has.

    Raises:
        ConfigError: lines are wrong; names each, with what was expected.
    """
    problems: list[Problem] = []
    found: dict[tuple[str, str], list[Entry]] = {}
    exact: set[tuple[str, str]] = set()
    rows = _csv_rows(data, origin) if form == "csv" else _ndjson_rows(data, origin)
    for where, row in rows:
        if isinstance(row, Problem):
            problems.append(row)
            continue
        try:
            device, rule, entry = _limit(row, rules)
        except ValueError as error:
            problems.append(Problem(where, str(error)))
            continue
        found.setdefault((device, rule), []).append(entry)
        if entry.version is not None or "effective_from" in row:
            exact.add((device, rule))
    if problems:
        more = len(problems) - PROBLEMS_MAX
        rest = [Problem(origin, f"{more} more lines are wrong")] if more > 0 else []
        raise ConfigError([*problems[:PROBLEMS_MAX], *rest])
    return [
        Given(*pair, entries, pair in exact or len(entries) > 1) for pair, entries in found.items()
    ]


def write(items: Iterable[tuple[str, str, Sequence[Entry]]], form: str) -> Iterator[str]:
    """The lines of these items, each with its line end."""
    rows = (
        {"device": device, "rule": rule, **plain(entry)}
        for device, rule, entries in items
        for entry in entries
    )
    if form == "ndjson":
        for row in rows:
            yield msgspec.json.encode(row).decode() + "\n"
        return
    text = io.StringIO()
    writer = csv.DictWriter(text, KEYS, lineterminator="\n")
    writer.writeheader()
    for row in rows:
        yield _taken(text)
        writer.writerow(row)
    yield _taken(text)


def plain(entry: Entry) -> dict[str, Any]:
    """The keys of an entry that are there."""
    fields = msgspec.structs.asdict(entry)
    return {key: value for key, value in fields.items() if value is not None}


def _taken(text: io.StringIO) -> str:
    found = text.getvalue()
    text.seek(0)
    text.truncate()
    return found


def _ndjson_rows(data: bytes, origin: str) -> Iterator[tuple[str, dict[str, Any] | Problem]]:
    for number, line in enumerate(data.removeprefix(codecs.BOM_UTF8).splitlines(), 1):
        where = f"{origin}:{number}"
        if not line.strip():
            continue
        try:
            row = msgspec.json.decode(line)
        except (ValueError, RecursionError) as error:
            yield where, Problem(where, f"expected one JSON object: {error}")
            continue
        if type(row) is not dict:
            yield where, Problem(where, f"expected one JSON object, found {shown(row)}")
            continue
        yield where, row


def _csv_rows(data: bytes, origin: str) -> Iterator[tuple[str, dict[str, Any] | Problem]]:
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        yield origin, Problem(origin, f"no UTF-8: {error.reason} at byte {error.start}")
        return
    reader = csv.DictReader(io.StringIO(text), strict=True)
    try:
        names = [name.strip() for name in reader.fieldnames or ()]
    except csv.Error as error:
        yield origin, Problem(f"{origin}:1", f"no row of a CSV file: {error}")
        return
    reader.fieldnames = names
    missing = [key for key in REQUIRED if key not in names]
    if missing:
        message = f"expected a header that names {', '.join(KEYS)}; missing: {', '.join(missing)}"
        yield origin, Problem(f"{origin}:1", message)
        return
    while True:
        try:
            cells = next(reader, None)
        except csv.Error as error:
            where = f"{origin}:{reader.line_num}"
            yield where, Problem(where, f"no row of a CSV file: {error}")
            return
        if cells is None:
            return
        where = f"{origin}:{reader.line_num}"
        if None in cells or None in cells.values():
            yield where, Problem(where, f"expected {len(names)} cells, as the header has")
            continue
        yield where, {key: _cell(key, cells[key]) for key in KEYS if cells.get(key)}


def _cell(key: str, text: str) -> Any:
    """A cell as the value that NDJSON has: a number where a number is expected."""
    if key in ("device", "rule"):
        return text
    try:
        value = msgspec.json.decode(text.strip())
    except (msgspec.DecodeError, RecursionError):
        return text
    return value if isinstance(value, int | float) or key != "version" else text


def _limit(row: dict[str, Any], rules: Sequence[str]) -> tuple[str, str, Entry]:
    missing = [key for key in REQUIRED if key not in row]
    if missing:
        raise ValueError(f"expected the keys device, rule and value; missing: {', '.join(missing)}")
    device = row["device"]
    if type(device) is int:
        device = str(device)
    if type(device) is not str or not device:
        raise ValueError(f"device: expected a text that is not empty, found {shown(device)}")
    rule = row["rule"]
    if rule not in rules:
        raise ValueError(f"rule: expected one of {', '.join(rules)}, found {shown(rule)}")
    entry = Entry(
        row["value"], row.get("clear_margin"), row.get("version"), row.get("effective_from")
    )
    return device, rule, checked(entry)
