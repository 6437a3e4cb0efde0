"""The functions of IoT SQL on numbers, exactly, one value at a time.

Each takes the message and its arguments, already evaluated. A wrong number or wrong types of
arguments give Undefined, never an error; a text counts where it converts. Semantics: the AWS IoT
Core developer guide. Where the guide is silent, the choice is made here:

- roots, logarithms, powers and the trigonometric functions work in IEEE double, as the guide says,
  and give the shortest decimal that reads back as that double; a result that is no real number or
  too large for a double is Undefined, so `ln(0)` is;
- bits are those of two's complement, as many as it takes; `bitnot(13)` is -14.

The functions in `INT_RESULTS` always give Ints; which results of others are Decimals though they be
whole matters to SQL version 2015-10-08 alone and is the evaluator's affair.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping, Sequence
from decimal import ROUND_CEILING, ROUND_DOWN, ROUND_FLOOR, ROUND_HALF_UP, Decimal

from msgspec import UNSET

from . import values
from .values import DECIMAL, Value, digits_max, integer_of, is_whole, number_of, settle

Function = Callable[[object, Sequence[Value]], Value]

ONE = Decimal(1)

INT_RESULTS = frozenset("bitand bitnot bitor bitxor ceil floor round sign".split())


def _number(value: Value) -> Decimal | None:
    number = number_of(value)
    return number if type(number) is Decimal and number.is_finite() else None


def _of_one(apply: Callable[[Decimal], Value]) -> Function:
    def function(message: object, arguments: Sequence[Value]) -> Value:
        number = _number(arguments[0]) if len(arguments) == 1 else None
        return UNSET if number is None else apply(number)

    return function


def _of_two(apply: Callable[[Decimal, Decimal], Value]) -> Function:
    def function(message: object, arguments: Sequence[Value]) -> Value:
        if len(arguments) != 2:
            return UNSET
        a, b = map(_number, arguments)
        return UNSET if a is None or b is None else apply(a, b)

    return function


def as_int(number: Decimal) -> Value:
    """Write a whole number with exponent 0, where its digits are few enough to be an Int."""
    if number.adjusted() < digits_max:
        number = DECIMAL.quantize(number, ONE)
    return settle(number)


def absolute(message: object, arguments: Sequence[Value]) -> Value:
    """Apply abs(): Int to Int, Decimal to Decimal, and a text that converts to Decimal."""
    number = _number(arguments[0]) if len(arguments) == 1 else None
    if number is None:
        return UNSET
    return number.copy_abs()


def _rounded(rounding: str) -> Function:
    return _of_one(lambda number: as_int(number.to_integral_value(rounding)))


def cut(message: object, arguments: Sequence[Value]) -> Value:
    """Apply trunc(number, places): toward zero, without trailing zeros; an Int stays as it is.

    The places are floored and brought into 0 .. 34; a text is no number of places.
    """
    if len(arguments) != 2 or type(arguments[1]) is not Decimal:
        return UNSET
    number, wanted = _number(arguments[0]), _number(arguments[1])
    if number is None or wanted is None:
        return UNSET
    places = int(min(max(wanted.to_integral_value(ROUND_FLOOR), Decimal(0)), Decimal(digits_max)))
    last = Decimal((0, (1,), -places))
    if number.as_tuple().exponent < -places:  # type: ignore[operator]  # finite: an int
        # Fewer digits than before: it cannot fail for want of room.
        number = number.quantize(last, ROUND_DOWN, DECIMAL)
    return as_int(number) if is_whole(number) else settle(number.normalize(DECIMAL))


def _sign(number: Decimal) -> Value:
    return Decimal((number > 0) - (number < 0))


def _result(number: float) -> Value:
    """Bring a double back: the shortest decimal that reads as it."""
    return settle(Decimal(repr(number))) if math.isfinite(number) else UNSET


def _double(apply: Callable[[float], float]) -> Function:
    def function(number: Decimal) -> Value:
        try:
            return _result(apply(float(number)))
        except (ValueError, OverflowError):  # no real number; too large for a double
            return UNSET

    return _of_one(function)


def _double_of_two(apply: Callable[[float, float], float]) -> Function:
    def function(a: Decimal, b: Decimal) -> Value:
        try:
            return _result(apply(float(a), float(b)))
        except (ValueError, OverflowError):
            return UNSET

    return _of_two(function)


def rest(message: object, arguments: Sequence[Value]) -> Value:
    """Apply mod() and remainder(): what the operator % gives, with the sign of the dividend."""
    if len(arguments) != 2 or None in map(_number, arguments):
        return UNSET
    return values.remainder(*arguments)


def _bits(apply: Callable[[int, int], int]) -> Function:
    def function(message: object, arguments: Sequence[Value]) -> Value:
        if len(arguments) != 2 or None in map(_number, arguments):
            return UNSET
        a, b = map(integer_of, arguments)
        assert a is not None and b is not None  # both are numbers
        return as_int(DECIMAL.create_decimal(apply(a, b)))

    return function


def _complement(number: Decimal) -> Value:
    return as_int(DECIMAL.create_decimal(~int(number.to_integral_value(ROUND_FLOOR))))


FUNCTIONS: Mapping[str, Function] = {
    "abs": absolute,
    "acos": _double(math.acos),
    "asin": _double(math.asin),
    "atan": _double(math.atan),
    "atan2": _double_of_two(math.atan2),
    "bitand": _bits(operator.and_),
    "bitnot": _of_one(_complement),
    "bitor": _bits(operator.or_),
    "bitxor": _bits(operator.xor),
    "ceil": _rounded(ROUND_CEILING),
    "cos": _double(math.cos),
    "cosh": _double(math.cosh),
    "exp": _double(math.exp),
    "floor": _rounded(ROUND_FLOOR),
    "ln": _double(math.log),
    "log": _double(math.log10),
    "mod": rest,
    "power": _double_of_two(math.pow),
    "remainder": rest,
    "round": _rounded(ROUND_HALF_UP),
    "sign": _of_one(_sign),
    "sin": _double(math.sin),
    "sinh": _double(math.sinh),
    "sqrt": _double(math.sqrt),
    "tan": _double(math.tan),
    "tanh": _double(math.tanh),
    "trunc": cut,
}
