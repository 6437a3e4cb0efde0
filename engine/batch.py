"""Batch: the columns that go from step to step, and the rows that come out.

Data go one way: `Record` (what a host was handed) -> `UserRecords` (de-aggregated) -> `Batch`
(columns) -> `Alert`, `Rejected` and `Forwarded`. A step is a plain function from columns to
columns; a step never calls another one, only pipeline.py knows their order.
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from .devices import Devices

NO_TIME = -(1 << 62)  # int64 ms: "unknown", older than every real time
LAST_TIME = 253402300799999  # ms: 9999-12-31T23:59:59.999Z
SUB_BITS = 24  # a user record's serial = (number of its Kinesis record << SUB_BITS) | sub-sequence

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
Bytes = NDArray[np.uint8]


class Position(NamedTuple):
    """What names one user record for ever: (shard id, sequence number, sub-sequence number)."""

    shard_id: str
    sequence_number: str
    sub_sequence_number: int = 0

    def __str__(self) -> str:
        """The form of alerts and logs: shard:sequence:sub."""
        return f"{self.shard_id}:{self.sequence_number}:{self.sub_sequence_number}"

    @property
    def order(self) -> tuple[int, int]:
        """The key by which positions of one shard are compared: sequence numbers are integers."""
        return int(self.sequence_number), self.sub_sequence_number


class Record(msgspec.Struct, frozen=True, gc=False):
    """One Kinesis record as a host hands it over; it may hold many user records (KPL aggregation).

    `arrival` is ApproximateArrivalTimestamp in int ms UTC, None where unknown.
    `sub_sequence_number` is set only by hosts that de-aggregate themselves (KCL).
    """

    shard_id: str
    sequence_number: str
    data: bytes
    partition_key: str = ""
    arrival: int | None = None
    sub_sequence_number: int | None = None


class Kind(IntEnum):
    """The IoT SQL type of one value, as stored in Column.kind."""

    UNDEFINED = 0
    NULL = 1
    BOOLEAN = 2
    NUMBER = 3
    STRING = 4
    ARRAY = 5
    OBJECT = 6


# As plain integers: the names of an enumeration take long to look up in a loop.
_NULL, _NUMBER = int(Kind.NULL), int(Kind.NUMBER)


class Column:
    """One field of every row of a batch.

    kind: uint8 (rows,), values of `Kind`. number: float64 (rows,), the float64 nearest to a JSON
    number, 0.0 where the row is no number. other: the Python value (str, bool, list, dict, and int
    where |int| > 2**53) for rows that `number` cannot tell, None elsewhere; None as a whole where
    no row needs it. Negative zero never occurs in `number`.
    """

    __slots__ = ("kind", "number", "other")

    def __init__(self, kind: Bytes, number: Floats, other: list[Any] | None = None) -> None:
        """Take the arrays as they are; all have one length."""
        self.kind = kind
        self.number = number
        self.other = other

    def __len__(self) -> int:
        """The number of rows."""
        return len(self.kind)

    @classmethod
    def numbers(cls, number: Floats) -> Column:
        """A column in which every row is a number."""
        return cls(np.full(len(number), Kind.NUMBER, np.uint8), number)

    @classmethod
    def constant(cls, value: Any, rows: int) -> Column:
        """A column in which every row holds the same Python value (`None` is JSON null)."""
        return cls.of([value] * rows)

    @classmethod
    def of(cls, values: list[Any]) -> Column:
        """A column of Python values as a JSON decoder gives them; `UNSET` stands for Undefined."""
        kind = np.fromiter(map(_KINDS.__getitem__, map(type, values)), np.uint8, len(values))
        number = np.zeros(len(values))
        numeric = np.flatnonzero(kind == _NUMBER)
        number[numeric] = [float(values[row]) + 0.0 for row in numeric.tolist()]
        held = kind > _NULL
        held[numeric] = [abs(values[row]) > 1 << 53 for row in numeric.tolist()]
        if not held.any():
            return cls(kind, number)
        other: list[Any] = [None] * len(values)
        for row in np.flatnonzero(held).tolist():
            other[row] = values[row]
        return cls(kind, number, other)

    def value(self, row: int) -> Any:
        """The Python value of one row: UNSET, None, bool, int, float, str, list or dict."""
        kind = self.kind[row]
        if self.other is not None and self.other[row] is not None:
            return self.other[row]
        if kind == _NUMBER:
            number = float(self.number[row])
            return int(number) if number.is_integer() else number
        return None if kind == _NULL else msgspec.UNSET


def kind_of(value: Any) -> int:
    """The `Kind` of one Python value; `UNSET` is Undefined, `None` is JSON null."""
    return _KINDS[type(value)]


_KINDS: dict[type, int] = {
    msgspec.UnsetType: int(Kind.UNDEFINED),
    type(None): _NULL,
    bool: int(Kind.BOOLEAN),
    int: _NUMBER,
    float: _NUMBER,
    str: int(Kind.STRING),
    list: int(Kind.ARRAY),
    dict: int(Kind.OBJECT),
}


@dataclass(slots=True)
class UserRecords:
    """The user records of one shard in arrival order, before their payload is read.

    sequences: sequence number of each Kinesis record. record: int64 (rows,), index into
    `sequences`. sub: int64 (rows,), sub-sequence number, 0 where not aggregated. data: payload
    bytes of each row. keys: partition key of each row, as bytes (an aggregate may hold bytes that
    are no UTF-8). hash_keys: explicit hash key of each row as decimal text or None; None as a whole
    where no row has one. aggregated: bool (rows,). arrival: int64 ms (rows,), NO_TIME where
    unknown.
    """

    shard_id: str
    sequences: list[str]
    record: Ints
    sub: Ints
    data: list[bytes]
    keys: list[bytes]
    arrival: Ints
    aggregated: Bools
    hash_keys: list[str | None] | None = None

    def __len__(self) -> int:
        """The number of rows."""
        return len(self.data)

    def take(self, rows: Ints) -> UserRecords:
        """The user records of these rows, in their order; `sequences` stays whole."""
        order = rows.tolist()
        hash_keys = self.hash_keys
        return UserRecords(
            self.shard_id,
            self.sequences,
            self.record[rows],
            self.sub[rows],
            [self.data[row] for row in order],
            [self.keys[row] for row in order],
            self.arrival[rows],
            self.aggregated[rows],
            None if hash_keys is None else [hash_keys[row] for row in order],
        )

    def position(self, row: int) -> Position:
        """The position of one row."""
        return Position(self.shard_id, self.sequences[self.record[row]], int(self.sub[row]))

    def reject(
        self, row: int, stage: str, reason: str, message: str, rule: str | None = None
    ) -> Rejected:
        """The rejected record of one row, with its original bytes."""
        arrival = int(self.arrival[row])
        return Rejected(
            stage=stage,
            reason=reason,
            message=message,
            rule=rule,
            at=self.position(row),
            arrival_time=None if arrival == NO_TIME else arrival,
            partition_key=key_text(self.keys[row]),
            data=self.data[row],
        )


def key_text(key: bytes) -> str:
    """A partition key as text; bytes that are no UTF-8 are shown as \\xNN."""
    return key.decode("utf-8", "backslashreplace")


@dataclass(slots=True)
class Batch:
    """The user records of one shard that could be read, in arrival order, as columns.

    users: what the rows were made of. row: int64 (rows,), index into `users`. device: int64
    (rows,), numbers of `devices`. time: int64 ms UTC (rows,). arrival: int64 ms (rows,), NO_TIME
    where unknown. columns: one Column per path that the rules read. topic: column or None where no
    topic is declared.
    """

    users: UserRecords
    devices: Devices
    row: Ints
    device: Ints
    time: Ints
    arrival: Ints
    columns: dict[str, Column]
    topic: Column | None = None

    def __len__(self) -> int:
        """The number of rows."""
        return len(self.row)

    def reject(self, row: int, stage: str, reason: str, message: str, rule: str) -> Rejected:
        """The rejected record of one row of this batch, for one rule."""
        return self.users.reject(int(self.row[row]), stage, reason, message, rule)


class Verdict(IntEnum):
    """What a rule's filter says of one row."""

    PASS = 0
    TOPIC_MISSING = 1
    TOPIC_MISMATCH = 2
    WHERE_FALSE = 3
    WHERE_UNDEFINED = 4
    COSTLY = 5  # could not be told: the record is rejected


class Forwarded(msgspec.Struct, frozen=True, gc=False):
    """What a rule's SELECT put out of one user record, for another stream; `at` is its position."""

    rule: str
    stream: str
    at: Position
    partition_key: str
    data: bytes


class Unsendable(NamedTuple):
    """A row of which a rule's SELECT cannot be sent on, and why; `reason` is a code."""

    row: int
    reason: str
    message: str


Filter = Callable[[Batch], Bytes]  # FROM and WHERE: a `Verdict` for each row, uint8 (rows,)
Measure = Callable[[Batch], Column]  # the value that a rule smooths, for each row
Sent = tuple[list[Forwarded], list[Unsendable]]
Forward = Callable[[Batch, Ints], Sent]  # what SELECT puts out of these rows, to be sent on


class Rejected(msgspec.Struct, frozen=True, kw_only=True):
    """A user record that could not be processed, with its original bytes and the reason.

    `at` is the position; `arrival_time` int ms UTC or None; `rule` is None where no rule saw it.
    """

    stage: str
    reason: str
    message: str
    rule: str | None
    at: Position
    arrival_time: int | None
    partition_key: str
    data: bytes

    def line(self) -> dict[str, Any]:
        """The row of the error stream: a JSON object with the stable keys of docs/formats.md."""
        return {
            "stage": self.stage,
            "reason": self.reason,
            "message": self.message,
            "rule": self.rule,
            "position": str(self.at),
            "shard_id": self.at.shard_id,
            "sequence_number": self.at.sequence_number,
            "sub_sequence_number": self.at.sub_sequence_number,
            "arrival_time": self.arrival_time,
            "partition_key": self.partition_key,
            "data": base64.b64encode(self.data).decode("ascii"),
        }


class Alert(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One change of state of a (rule, device). Encodes to the stable alert format as it is.

    Times and bounds are int ms UTC; positions are "shard:sequence:sub" or None (fan-out mode).
    """

    id: str
    pipeline: str
    rule: str
    device: str
    state: str
    time: int
    value: float
    samples: int
    threshold: float
    threshold_version: int | str | None
    window_start: int
    window_end: int
    first_position: str | None
    last_position: str | None
    severity: str
    stale: bool = False
    reason: str | None = None


@dataclass(slots=True)
class Statistics:
    """The statistics of one rule over one batch, one row a sample, in arrival order.

    index: int64 (rows,), row in the batch. device: int64 (rows,). time: int64 ms. value: float64.
    samples: int64, samples in the window.
    """

    rule: str
    index: Ints
    device: Ints
    time: Ints
    value: Floats
    samples: Ints
    names: list[str] = field(default_factory=list)
