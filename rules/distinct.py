"""An expression evaluated once for each distinct combination of what it reads.

Texts, flags and settings repeat: ten thousand rows hold a few topics, modes and versions. What has
no columnar form of its own is evaluated by the exact evaluator for one row of each combination, and
holds for all rows of it. Where nearly every row is its own combination nothing is gained, and the
rows are left unproven.

    rows      a  b  a  a  c        codes    0  1  0  0  2        lower(x) = 'a'   T  F  T  T  F
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from decimal import Decimal
from typing import Any, NamedTuple

import numpy as np
from msgspec import UNSET

from ..engine.batch import Bools, Column, Floats, Ints, Kind, kind_of
from .columns import (
    Frame,
    Mask,
    Numbers,
    Source,
    Truths,
    UnprovableError,
    least,
    some,
    source_of,
    unit,
)
from .functions import CONTEXT, DRAWN
from .interpret import Dialect, evaluate
from .message import Row
from .tree import Call, Node, Query, Star, Variable, walk
from .values import CostlyError, Value, is_whole, truth_of

sources_max = 4  # that one expression may read
rows_each_min = 2  # on the average, for which a combination is evaluated; else nothing is gained
spare = 64  # combinations that are always evaluated, however few rows there are


class Groups(NamedTuple):
    """Rows by what they hold: `group` of each row, int64 (rows,), -1 where it is unproven, and one
    row of each group, int64 (groups,)."""

    group: Ints
    first: Ints


def reads_of(node: Node) -> list[Source]:
    """Return what an expression reads of a row.

    Raises UnprovableError where it reads more than fields and the topic, or too many of them.
    """
    found: dict[str, Source] = {}
    for part in _parts(node):
        source = source_of(part)
        if source is not None:
            found[source.key] = source
        elif isinstance(part, Star | Variable):
            raise UnprovableError
        elif isinstance(part, Call) and (part.name in DRAWN or part.name in CONTEXT):
            raise UnprovableError
    if not 1 <= len(found) <= sources_max:
        raise UnprovableError
    return list(found.values())


def _parts(node: Node) -> Iterator[Node]:
    """Yield the nodes that read of the message; of a nested SELECT that is its source, and all
    calls, as their context is the message's."""
    waiting = [node]
    while waiting:
        node = waiting.pop()
        yield node
        if source_of(node) is not None:
            continue
        if isinstance(node, Query):
            waiting += () if node.source is None else (node.source,)
            yield from (part for part in walk(node) if isinstance(part, Call | Variable))
        else:
            waiting += node.parts


def grouped(frame: Frame, sources: Sequence[Source]) -> Groups | None:
    """Group the rows of a batch by what some sources hold; None where there are too many groups."""
    group, count = frame.codes(sources[0])
    for source in sources[1:]:
        more, size = frame.codes(source)
        unproven = (group < 0) | (more < 0)
        group, count = _dense(np.where(unproven, -1, group * size + more), count * size)
    if count > frame.rows // rows_each_min + spare:
        return None
    first = np.zeros(count, np.int64)
    known = np.flatnonzero(group >= 0)[::-1]
    first[group[known]] = known
    return Groups(group, first)


def _dense(group: Ints, count: int) -> tuple[Ints, int]:
    """Number groups anew, without those that do not occur."""
    if count <= 4 * len(group) + spare:
        there = np.zeros(count + 1, np.bool_)
        there[group] = True  # -1 is the last place
        there[-1] = False
        numbers = np.cumsum(there) - 1
        numbers[-1] = -1
        return numbers[group], int(there.sum())
    names, dense = np.unique(group, return_inverse=True)
    missing = int(names[0] < 0) if len(names) else 0
    return dense.reshape(-1).astype(np.int64) - missing, len(names) - missing


def _each(
    node: Node, dialect: Dialect
) -> Callable[[Frame], tuple[Groups, list[Value], Bools] | None]:
    """Return the function that evaluates a node for one row of each group."""
    sources = reads_of(node)

    def step(frame: Frame) -> tuple[Groups, list[Value], Bools] | None:
        groups = grouped(frame, sources)
        if groups is None:
            return None
        message = Row(frame.batch)
        values: list[Value] = []
        costly = np.zeros(len(groups.first) + 1, np.bool_)
        costly[-1] = True  # also where the group is -1
        for number, row in enumerate(groups.first.tolist()):
            message.move(row)
            try:
                values.append(evaluate(node, message, dialect))
            except CostlyError:
                values.append(UNSET)
                costly[number] = True
        return groups, values, costly

    return step


def truths(node: Node, dialect: Dialect) -> Callable[[Frame], Truths]:
    """Return the function that gives the truth of a node for each row."""
    each = _each(node, dialect)

    def step(frame: Frame) -> Truths:
        found = each(frame)
        if found is None:
            none = np.zeros(frame.rows, np.bool_)
            return Truths(none, None, np.ones(frame.rows, np.bool_))
        groups, values, costly = found
        known = [truth_of(value) for value in values]
        true = np.array([truth is True for truth in known] + [False], np.bool_)
        undefined = np.array([truth is UNSET for truth in known] + [False], np.bool_)
        group = groups.group
        return Truths(true[group], some(undefined[group]), some(costly[group]))

    return step


def numbers(node: Node, dialect: Dialect) -> Callable[[Frame], Numbers]:
    """Return the function that gives a node as an operand of arithmetic for each row.

    Texts are left unproven: they may convert, or join.
    """
    each = _each(node, dialect)

    def step(frame: Frame) -> Numbers:
        found = each(frame)
        if found is None:
            return Numbers(np.zeros(frame.rows), 0.0, None, np.ones(frame.rows, np.bool_))
        groups, values, costly = found
        size = len(values) + 1
        number, error = np.zeros(size), np.zeros(size)
        undefined = np.zeros(size, np.bool_)
        for place, value in enumerate(values):
            if type(value) is Decimal and abs(value) < _NUMBER_MAX:
                number[place] = float(value)
                if not (is_whole(value) and abs(value) <= _WHOLE_MAX):
                    error[place] = abs(number[place]) * unit + least
            elif type(value) is Decimal or type(value) is str:
                costly[place] = True
            else:
                undefined[place] = True
        group = groups.group
        return Numbers(number[group], error[group], some(undefined[group]), some(costly[group]))

    return step


_NUMBER_MAX = Decimal("1e300")
_WHOLE_MAX = Decimal(2**53)


def cells(node: Node, dialect: Dialect) -> Callable[[Frame], tuple[Column, Mask]]:
    """Return the function that gives a node's value for each row, and which rows are unproven.

    A number is rounded once to float64; one beyond it is Undefined.
    """
    each = _each(node, dialect)

    def step(frame: Frame) -> tuple[Column, Mask]:
        found = each(frame)
        if found is None:
            nothing = Column(np.zeros(frame.rows, np.uint8), np.zeros(frame.rows))
            return nothing, np.ones(frame.rows, np.bool_)
        groups, values, costly = found
        kind, number, other = column_of([*values, UNSET])
        group = groups.group
        held = None
        if other is not None:
            held = [other[place] for place in group.tolist()]
        return Column(kind[group], number[group], held), some(costly[group])

    return step


def column_of(values: Sequence[Value]) -> tuple[Any, Floats, list[Any] | None]:
    """Return kinds, numbers and others, as of `Column`, of values of the language."""
    kind, number = np.zeros(len(values), np.uint8), np.zeros(len(values))
    other: list[Any] = [None] * len(values)
    held = False
    for row, value in enumerate(values):
        if type(value) is Decimal:
            number[row] = float(value)
            if np.isfinite(number[row]):
                kind[row] = Kind.NUMBER
            else:
                number[row] = 0.0
        elif value is not UNSET:
            kind[row] = kind_of(value)
            if value is not None:
                other[row], held = value, True
    return kind, number, other if held else None
