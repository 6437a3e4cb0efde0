"""What a condition reads of a batch, as arrays: the columns of the payload and of the topic.

The three kinds of columnar values stand here: `Leaf` (a column as it came), `Numbers` (computed)
and `Truths` (of a condition). conditions.py says how the rows that they leave open are proven.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..engine.batch import Batch, Bools, Column, Floats, Ints, Kind
from . import topic as topics
from .message import topic_texts
from .tree import Call, Literal, Node, Path
from .values import integer_of

exact_max = 2.0**53  # beyond it float64 skips whole numbers
unit = 2.0**-52  # twice the relative error of one float64 operation
least = 1e-300  # what underflow can hide
topics_max = 65_536  # topics of which a level or a verdict is remembered
topic_chars_max = 1_024  # longer ones are not: AWS IoT has none, and memory must stay bounded

Mask = Bools | None  # bool (rows,); None where it holds for no row


class UnprovableError(Exception):
    """An expression has no columnar form; every row of it is for the exact evaluator."""


@dataclass(slots=True)
class Truths:
    """The truth of each row; `true` means nothing where a row is undefined or unproven."""

    true: Bools
    undefined: Mask = None
    unproven: Mask = None


@dataclass(slots=True)
class Numbers:
    """The number of each row, float64 (rows,) or one for all, and a bound of its distance from
    the exact one.

    An error of 0 says more: the exact number is this one, whole and at most 2**53.
    """

    value: Floats | float
    error: Floats | float
    undefined: Mask = None
    unproven: Mask = None


# What compiled parts of a condition and of arithmetic are.
TruthStep = Callable[["Frame"], Truths]
NumberStep = Callable[["Frame"], Numbers]


def some(mask: Bools) -> Mask:
    """Return a mask, or None where it holds for no row."""
    return mask if mask.any() else None


def either(a: Mask, b: Mask) -> Mask:
    """Return the rows of either mask."""
    if a is None or b is None:
        return b if a is None else a
    return a | b


class Leaf:
    """A column as it came, seen as numbers.

    numeric: rows that hold a number; None where all do, and then the masks below are None as well.
    text: rows that may convert. missing: Undefined rows. wide: rows that may hold an integer which
    float64 cannot tell from its neighbours.
    """

    __slots__ = ("column", "value", "numeric", "text", "missing", "wide", "_error")

    def __init__(self, column: Column) -> None:
        """Derive the masks from the kinds."""
        self.column = column
        self.value = column.number
        self.numeric: Mask = None
        self.text: Mask = None
        self.missing: Mask = None
        self.wide: Mask = None
        self._error: Floats | float | None = None
        numeric = column.kind == Kind.NUMBER
        if not numeric.all():
            self.numeric = numeric
            self.text = some(column.kind == Kind.STRING)
            self.missing = some(column.kind == Kind.UNDEFINED)
        if column.other is not None:
            self.wide = some(np.abs(column.number) >= exact_max)

    @property
    def not_a_number(self) -> Mask:
        """The rows that no operator on numbers converts."""
        if self.numeric is None:
            return None
        return ~self.numeric if self.text is None else ~(self.numeric | self.text)

    @property
    def error(self) -> Floats | float:
        """The bound for arithmetic, as in Numbers.

        A number with a fraction stands for the shortest decimal text of its float64, half a unit
        in the last place away at most.
        """
        if self._error is None:
            value = self.value
            size = np.abs(value)
            whole = (np.rint(value) == value) & (size <= exact_max)
            self._error = 0.0 if whole.all() else np.where(whole, 0.0, size * unit + least)
        return self._error

    def numbers(self) -> Numbers:
        """Return the column as an operand of arithmetic: texts are left to the exact evaluator."""
        return Numbers(self.value, self.error, self.not_a_number, either(self.text, self.wide))


@dataclass(frozen=True, slots=True)
class Source:
    """A column that conditions and measures read; two are equal if they read the same.

    `path` is the path of the payload, None for what comes from the topic.
    """

    key: str
    path: str | None
    read: Callable[[Batch], Column] = field(compare=False)


class Frame:
    """One batch under evaluation, with what was derived from its columns."""

    __slots__ = ("_codes", "_leaves", "batch", "rows")

    def __init__(self, batch: Batch) -> None:
        """Begin with nothing derived."""
        self.batch = batch
        self.rows = len(batch)
        self._leaves: dict[str, Leaf] = {}
        self._codes: dict[str, tuple[Ints, int]] = {}

    def leaf(self, source: Source) -> Leaf:
        """Return a column as a leaf, derived once however often the condition names it."""
        found = self._leaves.get(source.key)
        if found is None:
            found = self._leaves[source.key] = Leaf(source.read(self.batch))
        return found

    def codes(self, source: Source) -> tuple[Ints, int]:
        """Return the codes of a column, as `codes` has them, made once."""
        found = self._codes.get(source.key)
        if found is None:
            found = self._codes[source.key] = codes(source.read(self.batch))
        return found


def codes(column: Column) -> tuple[Ints, int]:
    """Return a small number for each value of a column, int64 (rows,), and how many there are.

    -1 stands for what has no cheap identity: arrays, objects and integers beyond float64.
    """
    kind, other = column.kind, column.other
    if other is not None and (kind == Kind.STRING).all():
        known: dict[Any, int] = {}
        found = [known.setdefault(text, len(known)) for text in other]
        return np.array(found, np.int64), len(known)
    result = np.full(len(kind), -1, np.int64)
    result[kind == Kind.UNDEFINED] = 0
    result[kind == Kind.NULL] = 1
    count = 2
    if other is not None:
        count = _coded_others(kind, other, result)
    numeric = np.flatnonzero(kind == Kind.NUMBER)
    if other is not None:
        numeric = numeric[[other[row] is None for row in numeric.tolist()]]
    if len(numeric):
        values, places = np.unique(column.number[numeric], return_inverse=True)
        result[numeric] = places.reshape(-1) + count
        count += len(values)
    return result, count


def _coded_others(kind: Any, other: list[Any], result: Ints) -> int:
    """Number truths and texts, from 2 on; how many numbers are taken then."""
    known: dict[Any, int] = {}
    for row in np.flatnonzero(kind == Kind.BOOLEAN).tolist():
        result[row] = 2 + other[row]
    for row in np.flatnonzero(kind == Kind.STRING).tolist():
        result[row] = known.setdefault(other[row], len(known)) + 4
    return len(known) + 4


class Remembered(dict[str | None, Any]):
    """The results of a function of topics, so that each topic is looked at once."""

    def __init__(self, function: Callable[[Any], Any]) -> None:
        """Remember nothing yet."""
        super().__init__()
        self.function = function

    def __missing__(self, topic: str | None) -> Any:
        """Apply the function; forget all where there are too many topics."""
        found = self.function(topic)
        if topic is None or len(topic) <= topic_chars_max:
            if len(self) >= topics_max:
                self.clear()
            self[topic] = found
        return found


def path_source(path: str) -> Source:
    """Return the source of one dotted path of the payload."""
    return Source(path, path, lambda batch: batch.columns[path])


def topic_source(n: int | None) -> Source:
    """Return the source of topic(n), or of topic() where n is None."""
    known = Remembered(topics.visible if n is None else lambda topic: topics.level(topic, n))

    def read(batch: Batch) -> Column:
        found = [None if text is None else known[text] for text in topic_texts(batch)]
        there = np.array([text is not None for text in found], np.bool_)
        kind = np.where(there, np.uint8(Kind.STRING), np.uint8(Kind.UNDEFINED))
        return Column(kind, np.zeros(len(found)), found)

    return Source(f"topic({n})", None, read)


def nothing(batch: Batch) -> Column:
    """Return the column in which every row is Undefined."""
    return Column(np.zeros(len(batch), np.uint8), np.zeros(len(batch)))


def source_of(node: Node) -> Source | None:
    """Return what a node reads as it stands; None where it computes something."""
    if isinstance(node, Path):
        return path_source(str(node))
    if isinstance(node, Call) and node.name == "topic":
        if not node.arguments:
            return topic_source(None)
        argument = node.arguments[0]
        if len(node.arguments) > 1:
            return Source("topic(?)", None, nothing)
        if isinstance(argument, Literal):
            n = integer_of(argument.value)
            return topic_source(0 if n is None else n)
    return None
