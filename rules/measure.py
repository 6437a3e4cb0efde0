"""The measure of one compiled rule, where it is more than a field: a value for each row.

Numbers come out as the float64 nearest to the exact result. Arithmetic is done in exact decimals
over the column (scaled.py), what repeats once for each combination of what it reads (distinct.py),
CASE by the rows that take each branch; the rows that none of them can prove are interpreted.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from msgspec import UNSET

from ..engine.batch import Batch, Bools, Column, Kind
from . import distinct, elements
from .columns import Frame, Mask, Truths, UnprovableError, either, source_of
from .conditions import condition
from .distinct import column_of
from .filter import FilterCounts
from .interpret import OLDER, Dialect, evaluate
from .message import Row
from .scaled import scaled
from .tree import Binary, Call, Case, Literal, Node
from .values import CostlyError

Cells = tuple[Column, Mask]  # the value of each row, and which rows are unproven
CellStep = Callable[[Frame], Cells]


class RuleMeasure:
    """What an expression of the SELECT gives for each row, numbers rounded once to float64.

    A number beyond float64 and a value that takes too many steps are Undefined.
    """

    def __init__(self, node: Node, dialect: Dialect, definitions: Mapping[str, Node]) -> None:
        """Take an expression with constants folded; `definitions` as of `Scope`."""
        self.counts = FilterCounts()
        self._node = node
        self._dialect = dialect
        self._definitions = definitions
        self._step: CellStep | None = None
        if dialect.version != OLDER and elements.within_limits(node):
            try:
                self._step = cells(node, dialect)
            except UnprovableError:
                pass

    @property
    def interpreted(self) -> int:
        """How many rows were evaluated one by one."""
        return self.counts.interpreted

    @property
    def columnar(self) -> bool:
        """Whether there is a form over columns at all."""
        return self._step is not None

    def __call__(self, batch: Batch) -> Column:
        """The value of each row."""
        rows = len(batch)
        self.counts.rows += rows
        if self._step is None:
            return self._interpreted(batch, range(rows))
        try:
            with np.errstate(all="ignore"):
                column, unproven = self._step(Frame(batch))
        except UnprovableError:  # numbers of this batch have too many digits
            return self._interpreted(batch, range(rows))
        if unproven is None:
            return column
        some = np.flatnonzero(np.broadcast_to(unproven, (rows,)))
        found = self._interpreted(batch, some.tolist())
        return _filled(column, some, found)

    def _interpreted(self, batch: Batch, rows: Sequence[int]) -> Column:
        self.counts.interpreted += len(rows)
        message = Row(batch, self._definitions, self._dialect.version == OLDER)
        values = []
        for row in rows:
            message.move(row)
            try:
                values.append(evaluate(self._node, message, self._dialect))
            except CostlyError:
                values.append(UNSET)
        return Column(*column_of(values))


def cells(node: Node, dialect: Dialect) -> CellStep:
    """Return the function that gives a node's value for each row.

    Raises UnprovableError where it reads more than columns hold.
    """
    source = source_of(node)
    if source is not None:
        return lambda frame: (source.read(frame.batch), None)
    if isinstance(node, Case):
        return _case(node, dialect)
    try:
        exact = scaled(node, dialect)
    except UnprovableError:
        return _of_elements(node, dialect)

    def step(frame: Frame) -> Cells:
        found = exact(frame)
        rows = frame.rows
        number = np.broadcast_to(found.value(), (rows,)).copy()
        kind = np.full(rows, Kind.NUMBER, np.uint8)
        if found.undefined is not None:
            kind[found.undefined] = Kind.UNDEFINED
            number[found.undefined] = 0.0
        return Column(kind, number), found.unproven

    return step


def _of_elements(node: Node, dialect: Dialect) -> CellStep:
    try:
        return elements.picked(node, dialect, condition)
    except UnprovableError:
        return distinct.cells(node, dialect)


def _case(node: Case, dialect: Dialect) -> CellStep:
    tests = [condition(_equal(node.subject, test), dialect) for test, _ in node.whens]
    results = [cells(result, dialect) for _, result in node.whens]
    last = None if node.otherwise is None else cells(node.otherwise, dialect)
    subject = node.subject
    told = isinstance(subject, Call) and subject.name in ("isundefined", "isnull")

    def step(frame: Frame) -> Cells:
        nothing = Column(np.zeros(frame.rows, np.uint8), np.zeros(frame.rows))
        column, unproven = (nothing, None) if last is None else last(frame)
        for test, result in zip(reversed(tests), reversed(results), strict=True):
            truths: Truths = test(frame)
            column, unproven = _merged(truths.true, result(frame), (column, unproven))
            unproven = either(unproven, truths.unproven)
            if not told:  # an Undefined subject and an Undefined test differ: not told apart here
                unproven = either(unproven, truths.undefined)
        return column, unproven

    return step


def _equal(subject: Node, test: Node) -> Node:
    """Return subject = test; where the test is TRUE of what is always a Boolean, that itself."""
    told = isinstance(subject, Call) and subject.name in ("isundefined", "isnull")
    if told and isinstance(test, Literal) and test.value is True:
        return subject
    return Binary(test.at, "=", subject, test)


def _merged(first: Bools, a: Cells, b: Cells) -> Cells:
    """Take `a` for the rows of `first`, `b` for the others."""
    (one, unproven), (two, more) = a, b
    first = np.broadcast_to(first, (len(one),))  # a test of two constants has one truth for all
    other = None
    if one.other is not None or two.other is not None:
        rows = len(one)
        pairs = zip(first.tolist(), one.other or [None] * rows, two.other or [None] * rows,
                    strict=True)  # fmt: skip
        other = [x if chosen else y for chosen, x, y in pairs]
    mask: Any = None
    if unproven is not None or more is not None:
        nowhere: Any = False
        mask = np.where(
            first,
            nowhere if unproven is None else unproven,
            nowhere if more is None else more,
        )
    kind = np.where(first, one.kind, two.kind)
    return Column(kind, np.where(first, one.number, two.number), other), mask


def _filled(column: Column, rows: Any, found: Column) -> Column:
    """Put values into some rows of a column."""
    kind, number = column.kind.copy(), column.number.copy()
    kind[rows], number[rows] = found.kind, found.number
    other = None if column.other is None else list(column.other)
    if other is None and found.other is not None:
        other = [None] * len(kind)
    if other is not None:
        for place, row in enumerate(rows.tolist()):
            other[row] = None if found.other is None else found.other[place]
    return Column(kind, number, other)
