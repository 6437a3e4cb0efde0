"""User records to a Batch of columns, and those that cannot be read.

A record has one verdict. It is refused for the first of these that holds, in this order; the
stage of the rejected record is "decode" and the reason is:

| reason | when |
|---|---|
| not_utf8, byte_order_mark, too_deep, not_json, surrogate, not_object | the bytes are no payload |
| number_range | a number at a path that is read is not finite as float64 |
| device_missing | there is nothing at a device path |
| device_type | it is neither a non-empty string nor an integer |
| time_missing | there is nothing at the time path; without one: no arrival time is known |
| time_type | it is no number, or, where the unit is iso8601, no text of a date-time |
| time_range | it is outside the years 1970..9999 |
| arrival_missing, arrival_type, arrival_range | the same of the declared arrival path |
| clock_skew | the time is further ahead of the arrival time than allowed |

Nothing else about fields that are not read matters. Two readings give the same verdict and the same
bits: the quick one (fields.py) proves for nearly every row that it is sound; every row that it
cannot vouch for, and every row about to be refused, is read again by the exact one (payload.py),
which alone gives reasons.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import compress
from typing import Annotated, Any

import msgspec
import numpy as np

from .batch import (
    LAST_TIME,
    NO_TIME,
    Batch,
    Bools,
    Column,
    Ints,
    Kind,
    Rejected,
    UserRecords,
    kind_of,
)
from .devices import Devices
from .fields import Fields
from .payload import Unreadable, message_of, name_of, walk
from .times import UNITS, time_of, times_of

_Text = Annotated[str, msgspec.Meta(min_length=1)]
_Integer = Annotated[int, msgspec.Meta(ge=-(1 << 63), le=(1 << 63) - 1)]
_NUMBERS = frozenset({int, float})
_EXACT_BELOW = 2.0**53  # below this every integer is a float64


@dataclass(frozen=True)
class Schema:
    """Where to find things in a message; paths are dotted.

    device: paths, the values of several are joined with "/". time: path of the event time, None for
    the arrival time. time_unit: s, ms, us, ns or iso8601, of time and arrival. topic: path of what
    FROM and topic() see. fields: the paths that the rules read. max_clock_skew: ms that a time may
    be ahead of a known arrival time. arrival: path of the arrival time, None for that of the
    Kinesis record. constants: path to value, set on every message before anything is read.
    """

    device: tuple[str, ...]
    time: str | None
    time_unit: str = "ms"
    topic: str | None = None
    fields: tuple[str, ...] = ()
    max_clock_skew: int = 300_000
    arrival: str | None = None
    constants: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse a unit that does not exist: ValueError."""
        if self.time_unit not in UNITS:
            raise ValueError(f"time_unit is {self.time_unit!r}, expected one of {UNITS}")

    @property
    def columns(self) -> tuple[str, ...]:
        """The paths of which there will be columns: the fields and the topic, each once."""
        topic = () if self.topic is None else (self.topic,)
        return tuple(dict.fromkeys((*self.fields, *topic)))

    @property
    def reads(self) -> tuple[str, ...]:
        """Every path that is read, each once."""
        times = (path for path in (self.time, self.arrival) if path is not None)
        return tuple(dict.fromkeys((*self.device, *times, *self.columns)))


class Decoder:
    """Reads user records of one schema. It keeps nothing from one call to the next."""

    def __init__(self, schema: Schema) -> None:
        """Make the readers; slow enough (a millisecond) to be done once a schema."""
        self.schema = schema
        self._constants = _Constants(schema)
        paths = [path for path in schema.reads if path not in self._constants.values]
        self._paths = {path: path.split(".") for path in paths}
        self._fields = Fields({path: self._type(path) for path in paths})

    def decode(self, users: UserRecords, devices: Devices) -> tuple[Batch, list[Rejected]]:
        """The readable rows as a Batch, the others as rejected records, both in arrival order.

        Only devices of readable rows get a number in `devices`.
        """
        values, doubtful = self._fields.read(users.data)
        if self._constants.unfit:
            doubtful = list(range(len(users)))
        for path, constant in self._constants.values.items():
            values[path] = [constant] * len(users)
        self._constants.patch(values)
        kept = np.ones(len(users), np.bool_)
        refused: dict[int, Rejected] = {}
        for row in doubtful:
            read = self._exact(users, row)
            if isinstance(read, Rejected):
                refused[row] = read
                kept[row] = False
            else:
                for path, value in read.items():
                    values[path][row] = value
        while True:
            rows = np.flatnonzero(kept)
            if len(rows) < len(kept):
                held = {path: list(compress(column, kept)) for path, column in values.items()}
            else:
                held = values
            batch, doubt = self._columns(users, devices, rows, held)
            if batch is not None:
                return batch, [refused[row] for row in sorted(refused)]
            for row in rows[doubt].tolist():
                read = self._exact(users, row)
                assert isinstance(read, Rejected), "the two readings differ"
                refused[row] = read
                kept[row] = False

    def _type(self, path: str) -> Any:
        """The msgspec type with which the quick reading meets the value at a path."""
        is_time = path in (self.schema.time, self.schema.arrival)
        is_text = self.schema.time_unit == "iso8601"
        if path in self.schema.device:
            return (_Text if is_text else _Integer) if is_time else _Text | _Integer
        if is_time:
            return str if is_text else _Integer | float
        return object

    def _columns(
        self, users: UserRecords, devices: Devices, rows: Ints, values: Mapping[str, list[Any]]
    ) -> tuple[Batch | None, Bools]:
        """The batch of these rows; None where some must be refused, with the mask of those."""
        schema = self.schema
        arrival = users.arrival[rows]
        if schema.arrival is not None:
            arrival = times_of(values[schema.arrival], schema.time_unit)
        time = arrival.copy()
        if schema.time is not None:
            time = times_of(values[schema.time], schema.time_unit)
        known = arrival != NO_TIME
        doubt = (time < 0) | (time > LAST_TIME)
        doubt |= known & ((arrival < 0) | (arrival > LAST_TIME))
        doubt |= known & (time - arrival > schema.max_clock_skew)
        if schema.arrival is not None:
            doubt |= ~known
        columns: dict[str, Column] = {}
        for path in schema.columns:
            try:
                columns[path] = column_of(values[path])
            except OverflowError:
                doubt |= [not _is_finite(value) for value in values[path]]
        if doubt.any():
            return None, doubt
        names: Sequence[Any] = values[schema.device[0]]
        if len(schema.device) > 1:
            parts = (values[path] for path in schema.device)
            names = ["/".join(map(str, part)) for part in zip(*parts, strict=True)]
        device = np.fromiter(map(devices.ids.__getitem__, names), np.int64, len(rows))
        topic = None if schema.topic is None else columns[schema.topic]
        fields = {path: columns[path] for path in schema.fields}
        return Batch(users, devices, rows, device, time, arrival, fields, topic), doubt

    def _exact(self, users: UserRecords, row: int) -> dict[str, Any] | Rejected:
        """The values of one row at every path of the payload, or why it is refused."""
        try:
            message = message_of(users.data[row])
            read = {path: [walk(message, keys)] for path, keys in self._paths.items()}
            self._constants.patch(read)
            values = {path: value for path, (value,) in read.items()}
            self._check({**values, **self._constants.values}, int(users.arrival[row]))
        except Unreadable as error:
            return users.reject(row, "decode", error.reason, str(error))
        return values

    def _check(self, values: Mapping[str, Any], arrival: int) -> None:
        """Raise Unreadable with the first reason to refuse a message with these values."""
        schema = self.schema
        for path, value in values.items():
            if not _is_finite(value):
                raise Unreadable("number_range", f"{path}: a number beyond float64")
        for path in schema.device:
            value = values[path]
            if type(value) is not int and (type(value) is not str or not value):
                raise _misfit("device", path, value, "a non-empty string or an integer")
        if schema.time is not None:
            time = self._time("time", schema.time, values[schema.time])
        if schema.arrival is not None:
            arrival = self._time("arrival", schema.arrival, values[schema.arrival])
        if schema.time is None:
            time = arrival
            if arrival == NO_TIME:
                raise Unreadable("time_missing", "time: no path is declared, no arrival time known")
            if not 0 <= time <= LAST_TIME:
                raise Unreadable("time_range", "arrival time: outside the years 1970..9999")
        if arrival != NO_TIME and not 0 <= arrival <= LAST_TIME:
            raise Unreadable("arrival_range", "arrival time: outside the years 1970..9999")
        if arrival != NO_TIME and time - arrival > schema.max_clock_skew:
            ahead = f"{schema.time}: {time - arrival} ms ahead of the arrival time"
            raise Unreadable("clock_skew", f"{ahead}, at most {schema.max_clock_skew} are allowed")

    def _time(self, what: str, path: str, value: Any) -> int:
        unit = self.schema.time_unit
        time = time_of(value, unit)
        if time is None:
            expected = "text of a date-time" if unit == "iso8601" else f"a number of {unit}"
            raise _misfit(what, path, value, expected)
        if not 0 <= time <= LAST_TIME:
            message = f"{path}: outside the years 1970..9999, read in the unit {unit}"
            raise Unreadable(f"{what}_range", message)
        return time


def _misfit(what: str, path: str, value: Any, expected: str) -> Unreadable:
    """The error for a value that is absent or of another type than expected."""
    found = "an empty string" if value == "" else name_of(value)
    reason = f"{what}_missing" if value is msgspec.UNSET else f"{what}_type"
    return Unreadable(reason, f"{path}: {found}, expected {expected}")


def _is_finite(value: Any) -> bool:
    """Whether a value, if it is a number, is finite as float64."""
    if type(value) is not int and type(value) is not float:
        return True
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


def column_of(values: list[Any]) -> Column:
    """A column of decoded JSON values, the same as `Column.of`, made quickly where all are alike.

    Raises OverflowError where a number is not finite as float64.
    """
    types = set(map(type, values))
    if types <= _NUMBERS:
        number = np.fromiter(values, np.float64, len(values)) + 0.0  # no negative zero
        if not len(number) or np.abs(number).max() < _EXACT_BELOW:
            return Column.numbers(number)
    elif types == {str}:
        kind = np.full(len(values), Kind.STRING, np.uint8)
        return Column(kind, np.zeros(len(values)), values)
    kind = np.fromiter(map(kind_of, values), np.uint8, len(values))
    number = np.zeros(len(values))
    rows = np.flatnonzero(kind == Kind.NUMBER)
    found = [values[row] for row in rows.tolist()]
    number[rows] = np.fromiter(found, np.float64, len(found)) + 0.0
    if not np.isfinite(number).all():
        raise OverflowError("a number is not finite as float64")
    other: list[Any] = [None] * len(values)
    for row in np.flatnonzero((kind > Kind.NULL) & (kind != Kind.NUMBER)).tolist():
        other[row] = values[row]
    for row in np.flatnonzero(np.abs(number) >= _EXACT_BELOW).tolist():
        if abs(values[row]) > _EXACT_BELOW:
            other[row] = values[row]
    return Column(kind, number, None if other.count(None) == len(other) else other)


class _Constants:
    """What `Schema.constants` makes of the paths that are read."""

    def __init__(self, schema: Schema) -> None:
        """Sort the constants out: above, at or below a path that is read."""
        self.values: dict[str, Any] = {}  # path: the value there, whatever the payload holds
        self._inside: list[tuple[str, list[str], Any]] = []  # set inside the payload's value
        for path in schema.reads:
            for place, constant in schema.constants.items():
                if path == place or path.startswith(place + "."):
                    inside = path.removeprefix(place).split(".")[1:]
                    self.values[path] = walk(constant, inside)
                    self._inside = [patch for patch in self._inside if patch[0] != path]
                elif place.startswith(path + "."):
                    inside = place.removeprefix(path + ".").split(".")
                    if path in self.values:
                        self.values[path] = _with(self.values[path], inside, constant)
                    else:
                        self._inside.append((path, inside, constant))
        self.unfit = not self._fit(schema)

    def _fit(self, schema: Schema) -> bool:
        """Whether a message can be readable at all."""
        record = {*schema.device, schema.time, schema.arrival}
        if any(path in record for path, _, _ in self._inside):
            return False  # an object where text or a number must stand
        for path, value in self.values.items():
            if not _is_finite(value):
                return False
            if path in schema.device and (type(value) not in (int, str) or value == ""):
                return False
            if path in (schema.time, schema.arrival):
                time = time_of(value, schema.time_unit)
                if time is None or not 0 <= time <= LAST_TIME:
                    return False
        return True

    def patch(self, columns: dict[str, list[Any]]) -> None:
        """Set the constants that stand inside values of the payload."""
        for path, inside, constant in self._inside:
            columns[path] = [_with(value, inside, constant) for value in columns[path]]


def _with(value: Any, keys: Sequence[str], constant: Any) -> dict[str, Any]:
    """A copy of an object (of anything else: a new one) with a value set at a path inside it."""
    changed = dict(value) if type(value) is dict else {}
    key, *rest = keys
    changed[key] = _with(changed.get(key), rest, constant) if rest else constant
    return changed
