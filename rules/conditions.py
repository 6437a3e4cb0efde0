"""The columnar evaluator: a condition over all rows of a batch, in float64, with a proof a row.

Each step says of each row that it is true, false or Undefined, or that it could not be proven here.
Rows of the last kind go to the exact evaluator, one by one, so both give the same answer for every
row. The proofs:

- A payload number is held as the float64 nearest to it and stands for the shortest decimal text of
  that float64. Rounding to float64 keeps the order, so comparing it with a literal or with another
  payload number is exact as it stands: only where both fall on the same float64 must more be known,
  and for a literal that is known beforehand.
- A computed number carries a bound of its error; a comparison is proven where the difference
  exceeds both bounds, or both numbers are exact.
- Integers beyond 2**53, and texts where they may convert to numbers or truths, are not proven.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from decimal import Decimal
from itertools import repeat
from typing import Any

import numpy as np
from msgspec import UNSET

from ..engine.batch import Bools, Kind
from . import distinct, elements
from .arithmetic import growth, native, numbers
from .columns import (
    Frame,
    Leaf,
    Numbers,
    NumberStep,
    Source,
    Truths,
    TruthStep,
    UnprovableError,
    either,
    exact_max,
    some,
    source_of,
)
from .interpret import Dialect
from .tree import COMPARISON, ArrayLiteral, Binary, Call, Exists, Literal, Logic, Node, Unary
from .values import ORDER, exact, number_of, truth_of

Test = Callable[[Any, Any], Any]

items_max = 16  # of IN, up to which each is compared over the column

_MIRRORED = {"<": ">", "<=": ">=", ">": "<", ">=": "<="}


def condition(node: Node, dialect: Dialect) -> TruthStep:
    """Return the function that gives the truth of each row.

    Expects constants to be folded. Raises UnprovableError where a part has no columnar form.
    """
    if isinstance(node, Logic):
        return _logic(node, dialect)
    if isinstance(node, Unary) and node.sign == "NOT":
        inner = condition(node.operand, dialect)
        return lambda frame: _inverted(inner(frame))
    if isinstance(node, Binary) and node.binding == COMPARISON:
        return _comparison(node, dialect)
    if isinstance(node, Literal):
        return _constant(truth_of(node.value))
    source = source_of(node)
    if source is not None:
        return lambda frame: _booleans(frame.leaf(source))
    if isinstance(node, Exists):
        try:
            return elements.exists(node, dialect, condition)
        except UnprovableError:
            pass  # one evaluation for each distinct source is left
    kinds = _kinds_told(node)
    return distinct.truths(node, dialect) if kinds is None else kinds


def _kinds_told(node: Node) -> TruthStep | None:
    """Return the step of isNull and isUndefined of a column."""
    told = {"isnull": Kind.NULL, "isundefined": Kind.UNDEFINED}
    if not (isinstance(node, Call) and node.name in told and len(node.arguments) == 1):
        return None
    source, kind = source_of(node.arguments[0]), told[node.name]
    if source is None:
        return None
    return lambda frame: Truths(frame.leaf(source).column.kind == kind)


def _logic(node: Logic, dialect: Dialect) -> TruthStep:
    steps = [condition(operand, dialect) for operand in node.operands]
    combine = _kleene if dialect.undefined_logic == "kleene" else _strict
    return lambda frame: combine(node.sign, [step(frame) for step in steps])


def _comparison(node: Binary, dialect: Dialect) -> TruthStep:
    left, right, sign = node.left, node.right, node.sign
    if sign == "IN":
        return _within(node, dialect)
    if isinstance(left, Literal):
        left, right, sign = right, left, _MIRRORED.get(sign, sign)
    if sign in ORDER:
        return _ordering(sign, left, right, dialect)
    try:
        equal = _equality(left, right, dialect)
    except UnprovableError:
        return distinct.truths(node, dialect)
    return equal if sign == "=" else lambda frame: _inverted(equal(frame))


def _constant(truth: Any) -> TruthStep:
    def step(frame: Frame) -> Truths:
        every = np.ones(frame.rows, np.bool_)
        return Truths(every, every) if truth is UNSET else Truths(every == truth)

    return step


def _booleans(leaf: Leaf) -> Truths:
    column = leaf.column
    known = column.kind == Kind.BOOLEAN
    true = _matched(column.other, operator.is_, True, len(known))
    undefined = some(~known) if leaf.text is None else ~(known | leaf.text)
    return Truths(true, undefined, leaf.text)


def _matched(other: list[Any] | None, test: Test, value: Any, rows: int) -> Bools:
    if other is None:
        return np.zeros(rows, np.bool_)
    return np.frombuffer(bytes(map(test, other, repeat(value))), np.bool_)


def _inverted(truths: Truths) -> Truths:
    return Truths(~truths.true, truths.undefined, truths.unproven)


def _strict(sign: str, operands: list[Truths]) -> Truths:
    merge = np.logical_and if sign == "AND" else np.logical_or
    first, *others = operands
    result = Truths(first.true, first.undefined, first.unproven)
    for operand in others:
        result.true = merge(result.true, operand.true)
        result.undefined = either(result.undefined, operand.undefined)
        result.unproven = either(result.unproven, operand.unproven)
    return result


def _kleene(sign: str, operands: list[Truths]) -> Truths:
    result = _strict(sign, operands)
    if result.undefined is not None:
        decided = np.zeros(len(result.true), np.bool_)
        for operand in operands:
            decides = operand.true if sign == "OR" else ~operand.true
            decided |= decides if operand.undefined is None else decides & ~operand.undefined
        result.true = np.where(decided, sign == "OR", result.true)
        result.undefined = result.undefined & ~decided
    return result


def _ordering(sign: str, left: Node, right: Node, dialect: Dialect) -> TruthStep:
    test = ORDER[sign]
    if isinstance(right, Literal):
        limit = number_of(right.value)
        if limit is UNSET:  # there is no order of texts: Undefined, whatever the other side
            return _constant(UNSET)
        right = Literal(right.at, limit)
    first, second = source_of(left), source_of(right)
    if first is not None and isinstance(right, Literal):
        return _against_literal(sign, first, right.value)
    if first is not None and second is not None:
        return lambda frame: _leaves_ordered(test, frame.leaf(first), frame.leaf(second))
    a, b = numbers(left, dialect, condition), numbers(right, dialect, condition)
    return lambda frame: _proven(test, a(frame), b(frame))


def _against_literal(sign: str, source: Source, limit: Decimal) -> TruthStep:
    nearest = float(limit)
    tie = exact(nearest)  # what a payload number on the same float64 stands for
    if tie is not UNSET and tie != limit:
        # Then no payload number equals the limit: a tie counts as less or as more.
        sign = sign[0] + "=" * ((tie < limit) == (sign[0] == "<"))
    test, wide_matters = ORDER[sign], abs(nearest) >= exact_max

    def step(frame: Frame) -> Truths:
        leaf = frame.leaf(source)
        unproven = either(leaf.text, leaf.wide) if wide_matters else leaf.text
        return Truths(test(leaf.value, nearest), leaf.not_a_number, unproven)

    return step


def _leaves_ordered(test: Test, a: Leaf, b: Leaf) -> Truths:
    unproven = either(either(a.text, b.text), either(a.wide, b.wide))
    undefined = either(a.not_a_number, b.not_a_number)
    return Truths(test(a.value, b.value), undefined, unproven)


def _proven(test: Test, a: Numbers, b: Numbers) -> Truths:
    gap = np.abs(a.value - b.value)
    unsure = ~(gap > (a.error + b.error) * growth)  # also where the gap is no number
    unsure &= (np.asarray(a.error) != 0) | (np.asarray(b.error) != 0)
    unproven = either(either(a.unproven, b.unproven), some(unsure))
    return Truths(test(a.value, b.value), either(a.undefined, b.undefined), unproven)


def _equality(left: Node, right: Node, dialect: Dialect) -> TruthStep:
    first, second = source_of(left), source_of(right)
    if first is None:
        left, right, first, second = right, left, second, first
    if first is None:
        a, b = native(left, dialect, condition), native(right, dialect, condition)
        return lambda frame: _proven(operator.eq, a(frame), b(frame))
    if second is not None:
        return lambda frame: _leaves_equal(frame.leaf(first), frame.leaf(second))
    if isinstance(right, Literal):
        return _equals_literal(first, right.value)
    return _equals_computed(first, native(right, dialect, condition))


def _within(node: Binary, dialect: Dialect) -> TruthStep:
    """Return the step of x IN [literals]: one that equals it is enough."""
    source, array = source_of(node.left), node.right
    items = array.items if isinstance(array, ArrayLiteral) else ()
    short = 1 <= len(items) <= items_max and all(isinstance(item, Literal) for item in items)
    if source is None or not short or any(item.value is UNSET for item in items):  # type: ignore
        return distinct.truths(node, dialect)
    if any(type(item.value) is str for item in items):  # type: ignore[attr-defined]
        return distinct.truths(node, dialect)
    steps = [_equals_literal(source, item.value) for item in items]  # type: ignore[attr-defined]

    def step(frame: Frame) -> Truths:
        first, *others = [equal(frame) for equal in steps]
        for other in others:
            first.true = first.true | other.true
            first.unproven = either(first.unproven, other.unproven)
        return first

    return step


def _equals_literal(source: Source, value: Any) -> TruthStep:
    if value is UNSET:
        return _constant(UNSET)
    if type(value) is Decimal:
        return _equals_number(source, value)
    test = operator.is_ if type(value) is bool else operator.eq

    def step(frame: Frame) -> Truths:
        leaf = frame.leaf(source)
        if value is None:
            return Truths(leaf.column.kind == Kind.NULL, leaf.missing)
        return Truths(_matched(leaf.column.other, test, value, frame.rows), leaf.missing)

    return step


def _equals_number(source: Source, value: Decimal) -> TruthStep:
    nearest = float(value)
    reachable = exact(nearest) == value  # else no payload number is this one

    def step(frame: Frame) -> Truths:
        leaf = frame.leaf(source)
        true = leaf.value == nearest
        if not reachable:
            true[:] = False
        elif leaf.numeric is not None:
            true &= leaf.numeric
        return Truths(true, leaf.missing, leaf.wide if abs(nearest) >= exact_max else None)

    return step


def _leaves_equal(a: Leaf, b: Leaf) -> Truths:
    true = a.value == b.value  # 0.0 on both sides where neither row is a number
    unproven = either(a.wide, b.wide)
    if a.numeric is not None or b.numeric is not None:
        kinds, others = a.column.kind, b.column.kind
        true &= kinds == others
        if a.column.other is not None and b.column.other is not None:
            held = (kinds == Kind.STRING) | (kinds == Kind.BOOLEAN)
            same = bytes(map(operator.eq, a.column.other, b.column.other))
            true &= np.frombuffer(same, np.bool_) | ~held
        unproven = either(unproven, some((kinds == others) & (kinds >= Kind.ARRAY)))
    return Truths(true, either(a.missing, b.missing), unproven)


def _equals_computed(source: Source, computed: NumberStep) -> TruthStep:
    def step(frame: Frame) -> Truths:
        leaf, other = frame.leaf(source), computed(frame)
        mine = Numbers(leaf.value, leaf.error, leaf.missing, leaf.wide)
        result = _proven(operator.eq, mine, other)
        if leaf.numeric is not None:
            result.true &= leaf.numeric  # a text is not equal to a number: nothing converts
        return result

    return step
