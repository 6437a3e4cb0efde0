"""Arithmetic over columns that is exact in decimals, so that a result is rounded once.

A reading such as 21.37 is no float64, but 2137 / 100 is exact: two whole numbers that are.
As long as the whole numbers stay below 2**53, sums and products of them are exact too, and the one
division at the end gives the float64 nearest to the decimal result, as the exact evaluator does.

    t           21.37  18.4   7          num   2137  1840   700     den 100
    t * 9 / 5   38.466 33.12  12.6       num  19233 16560  6300     den 500

Rows whose numbers have more digits, or results that do not fit, are left unproven. Quotients that
have no end are rounded to 34 digits by the exact evaluator at each step; the float64 nearest to one
is still the same, for the quotient of two numbers below 2**53 lies at least 2**-107 of itself away
from the middle of two float64. It may be multiplied and divided a few times, not added to.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import numpy as np

from ..engine.batch import Bools, Floats
from .columns import Frame, Leaf, Mask, UnprovableError, either, some, source_of
from .interpret import CASTS, Dialect
from .tree import Binary, Call, Cast, Literal, Node, Unary

whole_max = 2.0**53
digits_float = 1e15  # decimals of 15 digits and float64 tell each other apart
places_max = 9  # digits after the point that a payload number may have
rounds_max = 3  # operations on a quotient without end

ScaledStep = Callable[[Frame], "Scaled"]


@dataclass(slots=True)
class Scaled:
    """Numbers num / den: float64 (rows,) or one for all, whole and below 2**53, and an int.

    rounds: how often the exact evaluator has rounded to 34 digits on the way.
    """

    num: Floats
    den: int
    undefined: Mask = None
    unproven: Mask = None
    rounds: int = 0

    def value(self) -> Floats:
        """The float64 nearest to each number."""
        found: Floats = self.num / float(self.den) + 0.0
        return found


def scaled(node: Node, dialect: Dialect) -> ScaledStep:
    """Return the function that computes a node exactly for each row.

    Raises UnprovableError where the node has no such form.
    """
    if isinstance(node, Literal):
        constant = _constant(node.value)
        return lambda frame: constant
    source = source_of(node)
    if source is not None:
        return lambda frame: _of_leaf(frame.leaf(source))
    if isinstance(node, Unary) and node.sign == "-":
        operand = scaled(node.operand, dialect)
        return lambda frame: _mapped(operand(frame), np.negative)
    if isinstance(node, Cast) and CASTS[node.type] == "decimal" and source_of(node.operand) is None:
        return scaled(node.operand, dialect)
    if isinstance(node, Call) and node.name in _FUNCTIONS and len(node.arguments) == 1:
        apply, inner = _FUNCTIONS[node.name], scaled(node.arguments[0], dialect)
        return lambda frame: apply(inner(frame))
    if isinstance(node, Binary) and node.sign in "+-*/":
        return _binary(node, dialect)
    raise UnprovableError


def _binary(node: Binary, dialect: Dialect) -> ScaledStep:
    left, right = scaled(node.left, dialect), scaled(node.right, dialect)
    if node.sign == "/":
        if not isinstance(node.right, Literal):
            raise UnprovableError
        divisor, cut = _constant(node.right.value), dialect.int_division == "int"
        if not divisor.num:
            raise UnprovableError
        return lambda frame: _quotient(left(frame), divisor, cut)
    if node.sign == "*":
        return lambda frame: _product(left(frame), right(frame))
    sign = 1.0 if node.sign == "+" else -1.0
    return lambda frame: _sum(left(frame), right(frame), sign)


def _constant(value: Any) -> Scaled:
    if type(value) is not Decimal:
        raise UnprovableError
    num, den = value.as_integer_ratio()
    power = 1
    while power % den:
        power *= 10
        if power > whole_max:
            raise UnprovableError
    num *= power // den
    if abs(num) >= whole_max:
        raise UnprovableError
    return Scaled(np.float64(num), power)  # type: ignore[arg-type]  # one for all rows


def _of_leaf(leaf: Leaf) -> Scaled:
    """Take the numbers of a column: each stands for the shortest decimal of its float64."""
    value = leaf.value
    size = np.abs(value)
    fits = size < digits_float
    places = 0
    left = value[fits]
    for places in range(places_max + 1):
        power = 10.0**places
        left = left[np.rint(left * power) / power != left]
        if not len(left):
            break
    power = 10.0**places
    num = np.rint(value * power)
    proven = (num / power == value) & (np.abs(num) < digits_float)
    unproven = either(either(leaf.text, leaf.wide), None if proven.all() else ~proven)
    return Scaled(np.where(proven, num, 0.0), 10**places, leaf.not_a_number, unproven)


def _mapped(a: Scaled, apply: Callable[[Any], Any]) -> Scaled:
    return Scaled(apply(a.num), a.den, a.undefined, a.unproven, a.rounds)


def _checked(
    num: Floats, den: int, rounds: int, a: Scaled, b: Scaled, unsure: Bools | None = None
) -> Scaled:
    """A result, with the rows that do not fit left unproven."""
    if den >= whole_max or rounds > rounds_max:
        raise UnprovableError
    over = np.abs(num) >= whole_max
    if unsure is not None:
        over = over | unsure
    unproven = either(either(a.unproven, b.unproven), some(np.asarray(over)))
    num = np.where(over, 0.0, num)
    return Scaled(num, den, either(a.undefined, b.undefined), unproven, rounds)


def _ends(den: int) -> bool:
    """Whether num / den is a decimal of at most 34 digits, whatever num is."""
    return bool(10**18 % den == 0)


def _sum(a: Scaled, b: Scaled, sign: float) -> Scaled:
    if a.rounds or b.rounds:
        raise UnprovableError  # what is rounded before a sum may cancel
    den = math.lcm(a.den, b.den)
    first, second = a.num * float(den // a.den), b.num * float(den // b.den)
    unsure = (np.abs(first) >= whole_max) | (np.abs(second) >= whole_max)
    return _checked(first + sign * second, den, 0, a, b, unsure)


def _product(a: Scaled, b: Scaled) -> Scaled:
    rounds = a.rounds + b.rounds
    return _checked(a.num * b.num, a.den * b.den, rounds + bool(rounds), a, b)


def _quotient(a: Scaled, b: Scaled, cut: bool) -> Scaled:
    """Divide by one number for all rows; of Ints the quotient is cut toward zero."""
    over = int(b.num)
    num = a.num * float(b.den) * math.copysign(1.0, over)
    den = a.den * abs(over)
    shared = math.gcd(den, b.den)
    if (a.den * abs(over)) >= whole_max:
        raise UnprovableError
    unsure = np.abs(num) >= whole_max
    if cut and over % b.den == 0:
        whole = np.fmod(a.num, float(a.den)) == 0.0
        value, by = a.num / float(a.den), float(over // b.den)
        quotient = (value - np.fmod(value, by)) / by
        num = np.where(whole, quotient * float(den), num)
        unsure = np.where(whole, np.abs(num) >= whole_max, unsure)
    rounds = a.rounds + (not _ends(den // shared) or bool(a.rounds))
    return _checked(num, den, rounds, a, b, unsure)


def _floor(a: Scaled) -> Scaled:
    num = (a.num - np.mod(a.num, float(a.den))) / float(a.den)
    return Scaled(num, 1, a.undefined, a.unproven)


def _whole(apply: Callable[[Scaled], Scaled]) -> Callable[[Scaled], Scaled]:
    """Refuse what was rounded: it may have been rounded over a whole number."""

    def step(a: Scaled) -> Scaled:
        if a.rounds:
            raise UnprovableError
        return apply(a)

    return step


def _ceil(a: Scaled) -> Scaled:
    return _mapped(_floor(_mapped(a, np.negative)), np.negative)


def _round(a: Scaled) -> Scaled:
    """To the nearest whole number, halves away from zero."""
    twice = Scaled(2.0 * np.abs(a.num) + float(a.den), 2 * a.den, a.undefined, a.unproven)
    unsure = some(np.asarray(np.abs(twice.num) >= whole_max))
    found = _floor(twice)
    return Scaled(found.num * np.sign(a.num), 1, a.undefined, either(a.unproven, unsure))


_FUNCTIONS: dict[str, Callable[[Scaled], Scaled]] = {
    "abs": lambda a: _mapped(a, np.abs),
    "ceil": _whole(_ceil),
    "floor": _whole(_floor),
    "round": _whole(_round),
}
