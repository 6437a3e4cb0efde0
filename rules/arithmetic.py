"""Arithmetic over columns: float64, with a bound of each row's distance from the exact result.

The exact result is that of values.py, in decimals of 34 digits; its own rounding is far below the
bounds here. Where both operands are whole and the result stays below 2**53, nothing is lost at all.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import numpy as np

from ..engine.batch import Bools
from . import branches, distinct, elements
from .columns import (
    Mask,
    Numbers,
    NumberStep,
    TruthStep,
    UnprovableError,
    either,
    exact_max,
    least,
    some,
    source_of,
    unit,
)
from .interpret import Dialect
from .tree import Binary, Call, Case, Cast, Literal, Member, Node, Unary
from .values import is_whole

growth = 1.0 + 2.0**-40  # the rounding of the bounds themselves


Condition = Callable[[Node, Dialect], TruthStep]


def numbers(node: Node, dialect: Dialect, condition: Condition) -> NumberStep:
    """Return the function that computes a node, as an operand of arithmetic, for each row.

    `condition` makes the steps of what CASE asks. What has no form of its own is evaluated once for
    each combination of what it reads. Raises UnprovableError where it reads more than columns hold.
    """
    try:
        if isinstance(node, Case):
            return choice(node, dialect, condition)
        return native(node, dialect, condition)
    except UnprovableError:
        return distinct.numbers(node, dialect)


def native(node: Node, dialect: Dialect, condition: Condition) -> NumberStep:
    """Return the function that computes a node which gives a number or Undefined, nothing else.

    Raises UnprovableError where the node has no columnar form.
    """
    if isinstance(node, Literal):
        constant = _constant(node.value)
        return lambda frame: constant
    source = source_of(node)
    if source is not None:
        return lambda frame: frame.leaf(source).numbers()
    if isinstance(node, Unary) and node.sign == "-":
        operand = numbers(node.operand, dialect, condition)
        return lambda frame: _negated(operand(frame))
    if isinstance(node, Binary) and node.sign in "+-*/%":
        apply = _APPLY[node.sign]
        if node.sign == "/" and dialect.int_division == "int":
            apply = _cut_quotient
        left = numbers(node.left, dialect, condition)
        right = numbers(node.right, dialect, condition)
        return lambda frame: _applied(apply, left(frame), right(frame))
    if isinstance(node, Call) and node.name in ("mod", "remainder") and len(node.arguments) == 2:
        return native(Binary(node.at, "%", *node.arguments), dialect, condition)
    if isinstance(node, Member) or (isinstance(node, Call) and node.name == "get"):
        cells = elements.picked(node, dialect, condition)
        return lambda frame: branches.chosen(*cells(frame))
    if isinstance(node, Call | Cast):
        return branches.function(node, lambda part: numbers(part, dialect, condition))
    raise UnprovableError


def choice(node: Case, dialect: Dialect, condition: Condition) -> NumberStep:
    """Return the function that computes a CASE whose results are numbers.

    Raises UnprovableError where a result has no columnar form.
    """

    def equal(subject: Node, test: Node) -> TruthStep:
        return condition(Binary(test.at, "=", subject, test), dialect)

    return branches.case(node, lambda part: numbers(part, dialect, condition), equal)


def _constant(value: Any) -> Numbers:
    if type(value) is not Decimal or abs(float(value)) > 1e300:
        raise UnprovableError  # a text among the operands may join or convert
    number = float(value)
    if is_whole(value) and abs(value) <= exact_max:
        return Numbers(number, 0.0)
    return Numbers(number, abs(number) * unit + least)


def _negated(a: Numbers) -> Numbers:
    return Numbers(-a.value, a.error, a.undefined, a.unproven)


# An operation gives value, error and the masks that it adds to those of its operands.
Result = tuple[Any, Any, Mask, Mask]


def _applied(apply: Callable[[Numbers, Numbers], Result], a: Numbers, b: Numbers) -> Numbers:
    value, error, undefined, unproven = apply(a, b)
    return Numbers(
        value,
        error,
        either(undefined, either(a.undefined, b.undefined)),
        either(unproven, either(a.unproven, b.unproven)),
    )


def _bounded(value: Any, inherited: Any, a: Numbers, b: Numbers) -> Result:
    """Add the rounding of one operation, unless it worked on whole numbers and lost nothing."""
    size = np.abs(value)
    error = (inherited + size * unit + least) * growth
    lossless = _whole(a) & _whole(b) & (size < exact_max)  # 2**53 itself may be 2**53 + 1, rounded
    if lossless.all():
        return value, 0.0, None, None
    return value, np.where(lossless, 0.0, error), None, None


def _whole(a: Numbers) -> Bools:
    return np.equal(a.error, 0.0)


def _sum(a: Numbers, b: Numbers) -> Result:
    return _bounded(a.value + b.value, a.error + b.error, a, b)


def _difference(a: Numbers, b: Numbers) -> Result:
    return _bounded(a.value - b.value, a.error + b.error, a, b)


def _product(a: Numbers, b: Numbers) -> Result:
    inherited = np.abs(a.value) * b.error + (np.abs(b.value) + b.error) * a.error
    return _bounded(a.value * b.value, inherited, a, b)


def _quotient(a: Numbers, b: Numbers) -> Result:
    zero = (np.asarray(b.value) == 0.0) & _whole(b)
    divisor = np.abs(b.value)
    near_zero = (divisor <= b.error) & ~zero
    value = np.asarray(a.value / np.where(zero, 1.0, b.value))
    size = np.abs(value)
    inherited = (size * b.error + a.error) / np.where(divisor > b.error, divisor - b.error, 1.0)
    error = (inherited + size * unit + least) * growth
    return value, error, some(zero), some(near_zero)


def _cut_quotient(a: Numbers, b: Numbers) -> Result:
    value, error, undefined, unproven = _quotient(a, b)
    ints = _whole(a) & _whole(b)
    decimals = _surely_no_int(a) | _surely_no_int(b)
    if not decimals.all():
        divisor = np.where(np.asarray(b.value) == 0.0, 1.0, b.value)
        # fmod is exact, and so is the division of the multiple that it leaves.
        cut = (a.value - np.fmod(a.value, divisor)) / divisor
        value = np.where(ints, cut, value)
        error = np.where(ints, 0.0, error)
        unproven = either(unproven, some(np.broadcast_to(~ints & ~decimals, value.shape)))
    return value, error, undefined, unproven


def _surely_no_int(a: Numbers) -> Bools:
    return np.greater(np.abs(a.value - np.rint(a.value)), a.error)


def _remainder(a: Numbers, b: Numbers) -> Result:
    # Near a multiple the remainder of two decimals jumps, so only whole numbers are proven.
    zero = (np.asarray(b.value) == 0.0) & _whole(b)
    value = np.fmod(a.value, np.where(zero, 1.0, b.value))
    ints = np.broadcast_to(_whole(a) & _whole(b), value.shape)
    return value, 0.0, some(zero), some(~ints)


_APPLY: dict[str, Callable[[Numbers, Numbers], Result]] = {
    "+": _sum,
    "-": _difference,
    "*": _product,
    "/": _quotient,
    "%": _remainder,
}
