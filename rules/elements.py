"""Nested SELECTs over columns: the elements of all rows as one long column, and back.

    readings    [a b]  [c]  []  [d e f]        elements    a b c d e f
                                               of row      0 0 1 3 3 3

The condition of the nested SELECT is evaluated over the elements as any condition over rows. Two
forms of it have a columnar form: EXISTS, and `get` of one of the results, which must be a field of
the elements. Rows whose source is an object, or has very many elements, are left unproven.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any, NamedTuple

import numpy as np
from msgspec import UNSET

from ..engine.batch import Batch, Bools, Column, Ints, Kind
from ..engine.payload import walk
from . import tree
from .columns import Frame, Mask, Source, Truths, UnprovableError, either, some, source_of
from .interpret import Dialect, item_key
from .message import steps_max
from .tree import Call, Exists, Literal, Member, Node, Path, Query

Condition = Callable[[Node, Dialect], Callable[[Frame], Truths]]
CellStep = Callable[[Frame], tuple[Column, Mask]]

queries_max = 8  # nested SELECTs of one expression, over which its steps are shared out


class _Passed(NamedTuple):
    """Elements that pass, in the order of the rows: `row` of each, int64, and the values of the
    wanted field; `unproven`: rows of which it is not known."""

    row: Ints
    values: list[Any]
    unproven: Mask


def within_limits(node: Node) -> bool:
    """Whether an expression has so few nested SELECTs that their steps are shared out here."""
    return sum(isinstance(part, Query) for part in tree.walk(node)) <= queries_max


def exists(node: Exists, dialect: Dialect, condition: Condition) -> Callable[[Frame], Truths]:
    """Return the function that tells for each row whether an element passes.

    Raises UnprovableError where the nested SELECT has no columnar form.
    """
    passed = _passing(node.query, None, dialect, condition)

    def step(frame: Frame) -> Truths:
        found = passed(frame)
        true = np.zeros(frame.rows, np.bool_)
        true[found.row] = True
        return Truths(true, None, found.unproven)

    return step


def picked(node: Node, dialect: Dialect, condition: Condition) -> CellStep:
    """Return the function that gives `get((SELECT VALUE field FROM ...), n)` for each row.

    Also `get((SELECT field FROM ...), n).field`. Raises UnprovableError for every other form.
    """
    member = node.name if isinstance(node, Member) else None
    call = node.whole if isinstance(node, Member) else node
    if not (isinstance(call, Call) and call.name == "get" and len(call.arguments) == 2):
        raise UnprovableError
    query, index = call.arguments
    if not (isinstance(query, Query) and isinstance(index, Literal)):
        raise UnprovableError
    place = index.value
    if type(place) is not Decimal or place != int(place) or not 0 <= place <= steps_max:
        raise UnprovableError
    if len(query.items) != 1 or query.bare != (member is None):
        raise UnprovableError
    if member is not None and item_key(query.items[0]) != (member,):
        raise UnprovableError
    field = query.items[0].value
    if not isinstance(field, Path):
        raise UnprovableError
    passed = _passing(query, field, dialect, condition)
    return lambda frame: _nth(passed(frame), int(place), query.bare, frame.rows)


def _nth(found: _Passed, place: int, defined: bool, rows: int) -> tuple[Column, Mask]:
    """The n-th result of each row; without `defined` Undefined ones count too."""
    row, values = found.row, found.values
    if defined:
        there = np.array([value is not UNSET for value in values], np.bool_)
        row = row[there]
        values = [value for value in values if value is not UNSET]
    first = np.searchsorted(row, row)  # the place of the first result of the same row
    at = np.flatnonzero(np.arange(len(row)) - first == place)
    cells: list[Any] = [UNSET] * rows
    for number, target in zip(at.tolist(), row[at].tolist(), strict=True):
        cells[target] = values[number]
    column = Column.of(cells)
    return column, either(found.unproven, some(column.kind >= Kind.ARRAY))


def _passing(
    query: Query, field: Path | None, dialect: Dialect, condition: Condition
) -> Callable[[Frame], _Passed]:
    source = None if query.source is None else source_of(query.source)
    if source is None or source.path is None:
        raise UnprovableError
    where = query.where
    paths = {str(part) for part in _inner(where)} if where is not None else set()
    wanted = None if field is None else str(field)
    parts = sum(1 for _ in tree.walk(query))
    test = None if where is None else condition(where, dialect)

    def step(frame: Frame) -> _Passed:
        row, items, unproven = _flat(frame, source, steps_max // queries_max // parts)
        passes: Bools = np.ones(len(items), np.bool_)
        if test is not None and items:
            inner = _batch_of(frame.batch, row, items, paths, query.name)
            truths = test(Frame(inner))
            passes = np.broadcast_to(truths.true, (len(items),)).copy()
            if truths.undefined is not None:
                passes &= ~truths.undefined
            if truths.unproven is not None:
                unknown = np.zeros(frame.rows, np.bool_)
                unknown[row[np.broadcast_to(truths.unproven, (len(items),))]] = True
                unproven = either(unproven, unknown)
        at = np.flatnonzero(passes)
        values: list[Any] = []
        if wanted is not None:
            values = _values(query.name, [items[number] for number in at.tolist()], wanted)
        return _Passed(row[at], values, unproven)

    return step


def _inner(where: Node) -> list[Path]:
    """The paths of an inner condition; what is nested in it again has no columnar form."""
    parts = list(tree.walk(where))
    if any(isinstance(part, Query | tree.Star | tree.Variable) for part in parts):
        raise UnprovableError
    return [part for part in parts if isinstance(part, Path)]


def _flat(frame: Frame, source: Source, items_max: int) -> tuple[Ints, list[Any], Mask]:
    """Rows and elements of all arrays of a column; objects and long arrays are unproven."""
    column = frame.leaf(source).column
    unproven = column.kind == Kind.OBJECT
    rows: list[int] = []
    items: list[Any] = []
    if column.other is not None:
        for row in np.flatnonzero(column.kind == Kind.ARRAY).tolist():
            elements = column.other[row]
            if len(elements) > items_max:
                unproven[row] = True
                continue
            items += elements
            rows += [row] * len(elements)
    return np.array(rows, np.int64), items, some(unproven)


def _values(name: str | None, items: list[Any], path: str) -> list[Any]:
    """The field of each element, as `Element.value` gives it."""
    first, *rest = path.split(".")
    if first == name:
        return [walk(item, rest) for item in items]
    if rest:
        return [walk(item, [first, *rest]) for item in items]
    return [item.get(first, UNSET) if type(item) is dict else UNSET for item in items]


def _batch_of(
    batch: Batch, row: Ints, items: list[Any], paths: set[str], name: str | None
) -> Batch:
    """The elements as the rows of a batch, each with the topic and position of its message."""
    columns = {path: Column.of(_values(name, items, path)) for path in paths}
    topic = batch.topic
    if topic is not None:
        other = None if topic.other is None else [topic.other[n] for n in row.tolist()]
        topic = Column(topic.kind[row], topic.number[row], other)
    return Batch(
        batch.users, batch.devices, batch.row[row], batch.device[row], batch.time[row],
        batch.arrival[row], columns, topic,
    )  # fmt: skip
