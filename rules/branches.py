"""Numbers of functions and of CASE over columns, with a bound of their error.

A function that jumps (floor, round) is proven where the bound does not reach the next jump. A
function that works in float64 (sqrt, exp) is proven for numbers of the payload, whose float64 is
its argument. For each branch of CASE the rows that take it are known as truths.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ..engine.batch import Bools, Column, Floats, Kind
from .columns import (
    Frame,
    Leaf,
    Mask,
    Numbers,
    NumberStep,
    Source,
    TruthStep,
    UnprovableError,
    either,
    exact_max,
    least,
    some,
    source_of,
    unit,
)
from .interpret import CASTS
from .tree import Call, Case, Cast, Node

OfNode = Callable[[Node], NumberStep]

whole_max = 2.0**52  # from here on every float64 is whole


def function(node: Call | Cast, number: OfNode) -> NumberStep:
    """Return the step of a function; `number` makes those of its arguments.

    Raises UnprovableError where the function has no columnar form.
    """
    if isinstance(node, Cast):
        if CASTS[node.type] not in ("int", "decimal"):
            raise UnprovableError
        apply = _JUMPS["floor"] if CASTS[node.type] == "int" else _same
        return _of_payload(_source(node.operand), apply, truths=True)
    name, arguments = node.name, node.arguments
    if name == "abs" and len(arguments) == 1:
        inner = number(arguments[0])
        return lambda frame: _absolute(inner(frame))
    if name in _JUMPS and len(arguments) == 1:
        return _jump(arguments[0], _JUMPS[name], number)
    if name in _DOUBLES and len(arguments) == 1:
        return _of_payload(_source(arguments[0]), _mapped(_DOUBLES[name]))
    if name in ("nanvl", "get_or_default") and len(arguments) == 2:
        return _default(_source(arguments[0]), number(arguments[1]))
    raise UnprovableError


def _source(node: Node) -> Source:
    source = source_of(node)
    if source is None:
        raise UnprovableError
    return source


def _absolute(a: Numbers) -> Numbers:
    return Numbers(np.abs(a.value), a.error, a.undefined, a.unproven)


# What jumps at whole numbers, or half way between them.


def _jump(argument: Node, apply: Callable[[Floats], Floats], number: OfNode) -> NumberStep:
    source = source_of(argument)
    if source is not None:  # no whole or half number lies between a decimal and its float64
        return _of_payload(source, apply)
    inner = number(argument)

    def step(frame: Frame) -> Numbers:
        a = inner(frame)
        low, high = apply(np.asarray(a.value - a.error)), apply(np.asarray(a.value + a.error))
        value = apply(np.asarray(a.value))
        exact = np.equal(a.error, 0.0)
        unsure = ~exact & ((low != high) | (np.abs(value) >= whole_max))
        return Numbers(value, 0.0, a.undefined, either(a.unproven, some(np.asarray(unsure))))

    return step


def _half_away(value: Floats) -> Floats:
    whole = np.trunc(value)
    return whole + np.where(np.abs(value - whole) >= 0.5, np.sign(value), 0.0)


_JUMPS: dict[str, Callable[[Floats], Floats]] = {
    "ceil": lambda value: np.ceil(value) + 0.0,  # never a minus zero
    "floor": np.floor,
    "round": lambda value: _half_away(value) + 0.0,
    "sign": lambda value: np.sign(value) + 0.0,
}


# What works in float64.


def _mapped(function: Callable[[float], float]) -> Callable[[Floats], Floats]:
    if function is math.sqrt:
        return np.sqrt  # rounded correctly by both
    # numpy's own may differ from these in the last digit.

    def apply(values: Floats) -> Floats:
        return np.fromiter(map(_real(function), values.tolist()), np.float64, len(values))

    return apply


def _real(function: Callable[[float], float]) -> Callable[[float], float]:
    def apply(value: float) -> float:
        try:
            return function(value)
        except (ValueError, OverflowError):
            return math.nan

    return apply


_DOUBLES: dict[str, Callable[[float], float]] = {
    "acos": math.acos,
    "asin": math.asin,
    "atan": math.atan,
    "cos": math.cos,
    "cosh": math.cosh,
    "exp": math.exp,
    "ln": math.log,
    "log": math.log10,
    "sin": math.sin,
    "sinh": math.sinh,
    "sqrt": math.sqrt,
    "tan": math.tan,
    "tanh": math.tanh,
}


def _same(value: Floats) -> Floats:
    return value


def _of_payload(
    source: Source, apply: Callable[[Floats], Floats], truths: bool = False
) -> NumberStep:
    """Apply a function to numbers of the payload; no result is no number.

    truths: whether Booleans are numbers too, which are then left unproven.
    """

    def step(frame: Frame) -> Numbers:
        leaf = frame.leaf(source)
        value = apply(leaf.value)
        real = np.isfinite(value)
        undefined = either(leaf.not_a_number, None if real.all() else ~real)
        value = np.where(real, value, 0.0)
        unproven = either(leaf.text, leaf.wide)
        if truths and leaf.numeric is not None:
            unproven = either(unproven, some(leaf.column.kind == Kind.BOOLEAN))
        size = np.abs(value)
        whole = (np.rint(value) == value) & (size <= exact_max)
        return Numbers(value, np.where(whole, 0.0, size * unit + least), undefined, unproven)

    return step


# What chooses.


def _chosen(leaf: Leaf) -> Numbers:
    """A column as a result, not as an operand: what is no number is left unproven."""
    other = None if leaf.numeric is None else ~leaf.numeric
    if other is not None and leaf.missing is not None:
        other &= ~leaf.missing
    return Numbers(leaf.value, leaf.error, leaf.missing, either(other, leaf.wide))


def chosen(column: Column, unproven: Mask) -> Numbers:
    """A computed column as a result, as above."""
    found = _chosen(Leaf(column))
    found.unproven = either(found.unproven, unproven)
    return found


def _default(source: Source, otherwise: NumberStep) -> NumberStep:
    def step(frame: Frame) -> Numbers:
        leaf = frame.leaf(source)
        found = _chosen(leaf)
        if leaf.numeric is None:
            return found
        kind = leaf.column.kind
        absent = (kind == Kind.UNDEFINED) | (kind == Kind.NULL)
        return merged(absent, otherwise(frame), found)

    return step


def case(node: Case, number: OfNode, equal: Callable[[Node, Node], TruthStep]) -> NumberStep:
    """Return the step of CASE; `equal` makes the truths of subject = test.

    Raises UnprovableError where a branch has no columnar form.
    """
    subject = source_of(node.subject)
    results = [_result(result, number) for _, result in node.whens]
    tests = [equal(node.subject, test) for test, _ in node.whens]
    last = None if node.otherwise is None else _result(node.otherwise, number)

    def step(frame: Frame) -> Numbers:
        rows = frame.rows
        nothing = Numbers(np.zeros(rows), 0.0, np.ones(rows, np.bool_))
        found = nothing if last is None else last(frame)
        for test, result in zip(reversed(tests), reversed(results), strict=True):
            truths = test(frame)
            found = merged(truths.true, result(frame), found)
            # Undefined is the subject, and then so is the CASE, or the test: not told apart here.
            found.unproven = either(found.unproven, either(truths.undefined, truths.unproven))
        missing = None if subject is None else frame.leaf(subject).missing
        if missing is not None:
            found.undefined = either(found.undefined, missing)
            found.unproven = None if found.unproven is None else some(found.unproven & ~missing)
        return found

    return step


def _result(node: Node, number: OfNode) -> NumberStep:
    source = source_of(node)
    return number(node) if source is None else lambda frame: _chosen(frame.leaf(source))


def merged(first: Bools, a: Numbers, b: Numbers) -> Numbers:
    """Return `a` for the rows of `first`, `b` for the others."""
    return Numbers(
        np.where(first, a.value, b.value),
        np.where(first, a.error, b.error),
        _either_of(first, a.undefined, b.undefined),
        _either_of(first, a.unproven, b.unproven),
    )


def _either_of(first: Bools, a: Mask, b: Mask) -> Mask:
    if a is None and b is None:
        return None
    nowhere: Any = False
    return some(np.where(first, nowhere if a is None else a, nowhere if b is None else b))
