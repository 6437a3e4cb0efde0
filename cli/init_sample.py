"""The readings of a file that a pipeline is to be made for, by field."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from ..engine.errors import InputError

RECORDS_MAX = 50_000  # more are not looked at


@dataclass
class Field:
    """One path of the readings and its values in their order, absent ones left out."""

    path: str
    rows: list[int] = field(default_factory=list)
    values: list[Any] = field(default_factory=list)

    @property
    def words(self) -> list[str]:
        """The words of the last name of the path: deviceId and device_id are device, id."""
        return words_of(self.path.rsplit(".", 1)[-1])

    @property
    def numbers(self) -> list[float]:
        """The values that are numbers within float64."""
        return [number for number in map(number_of, self.values) if number is not None]

    def all_are(self, *types: type) -> bool:
        """Whether every value has exactly one of these types."""
        return all(type(value) in types for value in self.values)


@dataclass
class Sample:
    """The readings of a file, by field. unreadable: lines among the first that are no reading."""

    form: str
    readings: int = 0
    unreadable: int = 0
    fields: dict[str, Field] = field(default_factory=dict)

    def column(self, path: str) -> list[Any]:
        """The values of one field, one a reading, None where it is absent."""
        column: list[Any] = [None] * self.readings
        for row, value in zip(self.fields[path].rows, self.fields[path].values, strict=True):
            column[row] = value
        return column


def read_sample(path: Path) -> Sample:
    """The first readings of an ndjson, csv or kinesis file (also .gz), read as a back-test does.

    Raises:
        InputError: the file cannot be read, or holds no reading.
    """
    from ..consumers.backtest import guess_format, read
    from ..consumers.inputs import Input
    from ..engine.kpl import deaggregate
    from ..engine.payload import Unreadable, message_of

    source = Input(str(path))
    try:
        form = guess_format(source)
        records = list(islice(read(source, form), RECORDS_MAX))
    finally:
        source.close()
    payloads = [record.data for record in records]
    if form == "kinesis":
        payloads = []
        for shard in dict.fromkeys(record.shard_id for record in records):
            payloads += deaggregate([row for row in records if row.shard_id == shard])[0].data
    sample = Sample(form)
    for payload in payloads:
        try:
            message = message_of(payload)
        except Unreadable:
            sample.unreadable += 1
            continue
        for name, value in _leaves(message):
            found = sample.fields.setdefault(name, Field(name))
            found.rows.append(sample.readings)
            found.values.append(value)
        sample.readings += 1
    if not sample.readings:
        raise InputError(f"{path}: no reading: {len(records)} lines, none of them a JSON object")
    return sample


def _leaves(message: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    """The values of a message that a dotted path can name; arrays and null are left out."""
    for key, value in message.items():
        if not key or "." in key or key != key.strip() or not key.isprintable():
            continue
        if isinstance(value, dict):
            yield from _leaves(value, f"{above}{key}.")
        elif isinstance(value, (str, int, float)):
            yield above + key, value


def words_of(name: str) -> list[str]:
    """The words of a name: deviceId and device_id are device, id."""
    return [word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+[0-9]*|[0-9]+", name)]


def number_of(value: Any) -> float | None:
    """A value as float64, None where it is no number or beyond the range."""
    if type(value) is not int and type(value) is not float:
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None
