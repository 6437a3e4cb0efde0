"""The values of IoT SQL and what its operators do with them: exactly, one value at a time.

A value is UNSET (Undefined), None (Null), bool, Decimal (a number), str, list or dict; inside lists
and dicts numbers may also be the int and float of the JSON decoder. A number is Int where its
exponent is not negative (2, 2E+3), else Decimal (2.5). Version 2016-03-23 of the language makes
every whole number an Int, and so does each operation here; for version 2015-10-08, which tells 2.0
from 2, `fractional` marks what stays a Decimal.

Semantics: the AWS IoT Core developer guide. Where the guide is silent, the choice is made here:

- more than 34 digits are rounded half to even; magnitudes above 9.99E999 are Undefined, those below
  1E-999 are 0; division and remainder by zero are Undefined;
- a text longer than `text_chars_max` is Undefined (AWS IoT takes no message of that size).
"""

from __future__ import annotations

import json
import math
import operator
import re
from collections.abc import Callable, Iterable
from decimal import ROUND_FLOOR, ROUND_HALF_EVEN, Context, Decimal
from typing import Any

from msgspec import UNSET

Value = Any  # one of the types named above


class CostlyError(Exception):
    """A statement takes more steps, or makes larger values, for one message than is allowed."""


digits_max = 34
exponent_max = 999
text_chars_max = 1 << 17
parts_max = 2_500  # values in one array or object that a statement makes, at all levels
levels_max = (
    192  # of one array or object that a statement makes: a payload of 128, in literals of 64
)

DECIMAL = Context(digits_max, ROUND_HALF_EVEN, -exponent_max, exponent_max, 1, 0, [], [])
ZERO = Decimal(0)
_quoted = json.JSONEncoder(ensure_ascii=False).encode
LOGICAL = {"true": True, "false": False}
ORDER: dict[str, Callable[[Any, Any], Any]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}

# Possessive: a long text that is no number is told in one pass.
_NUMBER = re.compile(r"-?\d++(\.\d++)?([eE]-?\d++)?", re.ASCII)


def exact(value: Any) -> Value:
    """Return the value of what a JSON decoder gave; a float stands for its shortest decimal text.

    0.1 is then one tenth, as the sender wrote it, and not the float64 nearest to it.
    """
    kind = type(value)
    if kind is int:
        return settle(DECIMAL.create_decimal(value))
    if kind is float:
        return settle(DECIMAL.create_decimal(repr(value)))
    return value


def settle(number: Decimal) -> Value:
    """Bring one result into the range of the language: Undefined beyond it, never a minus zero.

    A whole number becomes an Int, as version 2016-03-23 has it.
    """
    if not number.is_finite():
        return UNSET
    if number.is_zero() or number.is_subnormal(DECIMAL):
        return ZERO
    whole = number.to_integral_value()
    return whole if whole == number else number


def fractional(number: Value) -> Value:
    """Mark a number as a Decimal though it be whole, for version 2015-10-08; others stay."""
    if type(number) is not Decimal or not is_int(number) or abs(number) >= _TENTHS_MAX:
        return number
    return number.quantize(_TENTH, context=DECIMAL)


_TENTH = Decimal("0.1")
_TENTHS_MAX = Decimal(10) ** (digits_max - 1)  # of a larger number no digit after the point is held


def is_int(number: Decimal) -> bool:
    """Tell Int from Decimal."""
    return _exponent(number) >= 0


def is_whole(number: Decimal) -> bool:
    """Whether a number, of whatever type, equals a whole one."""
    return number == number.to_integral_value()


def number_of(value: Value) -> Value:
    """Convert to Decimal as operators do: numbers and numeric text; all else is Undefined."""
    if type(value) is Decimal:
        return value
    if type(value) is str and _NUMBER.fullmatch(value):
        return settle(DECIMAL.create_decimal(value))
    return UNSET


def integer_of(value: Value) -> int | None:
    """Convert to Int as functions do, rounding down; None where there is no such number."""
    number = number_of(value)
    return None if number is UNSET else int(number.to_integral_value(ROUND_FLOOR))


def truth_of(value: Value) -> Value:
    """Convert to Boolean: Booleans and the texts "true" and "false"; all else is Undefined."""
    if type(value) is bool:
        return value
    if type(value) is str and len(value) <= len("false"):
        return LOGICAL.get(value.lower(), UNSET)
    return UNSET


def text_of(value: Value) -> Value:
    """Convert to String; Null and Undefined are Undefined."""
    if type(value) is str:
        return value
    if value is UNSET or value is None:
        return UNSET
    return json_text(value, text_chars_max)


def number_text(number: Decimal) -> str:
    """Write an Int in plain digits and any other number as short as it goes."""
    if is_int(number):
        return format(number, "f")
    if is_whole(number):  # only version 2015-10-08 has such a Decimal
        return format(number.to_integral_value(), "f") + ".0"
    return str(number.normalize(DECIMAL))


def json_text(value: Value, chars_max: int | None = None) -> Value:
    """Write a value as JSON, without blanks, numbers as `number_text` does.

    Undefined gives Undefined, and so does what is longer than `chars_max` characters: it is given
    up as soon as that shows, for one value may occur many times in another.
    """
    pieces: list[str] = []
    room = _Room(math.inf if chars_max is None else chars_max)
    return "".join(pieces) if value is not UNSET and _write(value, pieces, room) else UNSET


def json_length(value: Value) -> int | None:
    """Return how many characters a value has as JSON; None where that is over `text_chars_max`."""
    text = json_text(value, text_chars_max) if type(value) is not bytes else UNSET
    if text is UNSET or not (text.isascii() or _is_unicode(text)):
        return None
    return len(text)


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:  # half of a surrogate pair
        return False
    return True


class _Room:
    """How many characters may still be written."""

    __slots__ = ("left",)

    def __init__(self, left: float) -> None:
        self.left = left

    def take(self, pieces: list[str], text: str) -> bool:
        self.left -= len(text)
        pieces.append(text)
        return self.left >= 0


def _write(value: Value, pieces: list[str], room: _Room) -> bool:
    if type(value) is list:
        opening = "["
        for item in value:
            if not (room.take(pieces, opening) and _write(item, pieces, room)):
                return False
            opening = ","
        return room.take(pieces, "]" if value else "[]")
    if type(value) is dict:
        opening = "{"
        for name, item in value.items():
            if not room.take(pieces, f"{opening}{_quoted(name)}:"):
                return False
            if not _write(item, pieces, room):
                return False
            opening = ","
        return room.take(pieces, "}" if value else "{}")
    return room.take(pieces, _scalar(value))


def _scalar(value: Value) -> str:
    if type(value) is Decimal:
        return number_text(value)
    if type(value) in (int, float):
        quick = repr(value)  # most numbers stand there as they are
        if (
            len(quick) < digits_max
            and quick[-1].isdigit()
            and "e" not in quick
            and quick[-2:] != ".0"
        ):
            return quick if quick != "-0" else "0"
        number = exact(value)
        return "null" if number is UNSET else number_text(number)
    return _quoted(value)


def compare(sign: str, a: Value, b: Value) -> Value:
    """Apply one of < <= > >= : numeric, after conversion; there is no order of texts."""
    a, b = number_of(a), number_of(b)
    return UNSET if a is UNSET or b is UNSET else ORDER[sign](a, b)


def equal(a: Value, b: Value) -> Value:
    """Apply = : values of different types are not equal, nothing converts."""
    return UNSET if a is UNSET or b is UNSET else _same(a, b)


def _same(a: Value, b: Value) -> bool:
    kind = type(a)
    if kind is type(b):
        if kind is list:
            return len(a) == len(b) and all(map(_same, a, b))
        if kind is dict:
            return a.keys() == b.keys() and all(_same(v, b[k]) for k, v in a.items())
        if kind is not int or a == b:
            return bool(a == b)
    a, b = exact(a), exact(b)
    return type(a) is type(b) and bool(a == b)


def within(a: Value, items: Value) -> Value:
    """Apply IN: whether an item of the array equals the value.

    A payload may hold a very long array: what cannot be equal is passed over before the Decimals
    of its items are made.
    """
    if a is UNSET or type(items) is not list:
        return UNSET
    kind = type(a)
    if kind is not Decimal:
        return any(type(item) is kind and _same(a, item) for item in items)
    near = float(a)  # equals every float64 of which the number is the shortest text
    whole = int(a) if is_whole(a) else near
    return any(
        _same(a, item)
        for item in items
        if item == near
        or item == whole
        or type(item) is Decimal
        or (type(item) is int and not -_ROUNDED_MIN < item < _ROUNDED_MIN)
    )


_ROUNDED_MIN = 10**digits_max  # integers from here on are rounded before they are compared


def invert(value: Value) -> Value:
    """Apply NOT; what is no Boolean gives Undefined."""
    truth = truth_of(value)
    return UNSET if truth is UNSET else not truth


def combine(sign: str, values: Iterable[Value], kleene: bool) -> Value:
    """Apply AND or OR to all operands.

    Strict, as the guide's table says: one operand that is no Boolean makes the result Undefined.
    Kleene: it does so only where the other operands do not decide alone.
    """
    truths = [truth_of(value) for value in values]
    decisive = sign == "OR"
    if UNSET in truths and not (kleene and decisive in truths):
        return UNSET
    return decisive if decisive in truths else not decisive


def negate(a: Value) -> Value:
    """Apply the unary minus."""
    number = number_of(a)
    return UNSET if number is UNSET else settle(DECIMAL.minus(number))


def add(a: Value, b: Value) -> Value:
    """Apply + : with a String on either side it joins texts, otherwise it adds numbers."""
    if type(a) is str or type(b) is str:
        return _joined(text_of(a), text_of(b))
    if type(a) is Decimal and type(b) is Decimal:
        return settle(DECIMAL.add(a, b))
    return UNSET


def _joined(a: Value, b: Value) -> Value:
    if a is UNSET or b is UNSET or len(a) + len(b) > text_chars_max:
        return UNSET
    return a + b


def bounded(value: Value) -> Value:
    """Return an array or object that a statement made.

    Raises CostlyError where it has more than `parts_max` parts, each counted as often as it occurs,
    or more than `levels_max` levels: what writes and compares values recurses.
    """
    level, levels, count = [value], 0, 0
    while level:
        levels += 1
        if levels > levels_max:
            raise CostlyError(f"an array or object may have {levels_max:,} levels, not more")
        below: list[Value] = []
        for made in level:
            count += len(made)
            if count > parts_max:
                raise CostlyError(f"an array or object may have {parts_max:,} parts, not more")
            parts = made if type(made) is list else made.values()
            below += [part for part in parts if type(part) in (list, dict)]
        level = below
    return value


def cast(value: Value, kind: str) -> Value:
    """Apply CAST to "string", "int", "boolean", "decimal" or "double", a Decimal as float64."""
    if kind == "string":
        return text_of(value)
    if kind == "boolean":
        return not value.is_zero() if type(value) is Decimal else truth_of(value)
    number = Decimal(value) if type(value) is bool else number_of(value)
    if number is UNSET:
        return UNSET
    if kind == "int":
        return settle(number.to_integral_value(ROUND_FLOOR))
    return exact(float(number)) if kind == "double" else number


def divide(a: Value, b: Value, cut: bool) -> Value:
    """Apply / ; where `cut` is set, Int by Int is the quotient cut toward zero.

    A text that converts counts as Decimal, never as Int.
    """
    x, y = number_of(a), number_of(b)
    if x is UNSET or y is UNSET or y.is_zero():
        return UNSET
    ints = type(a) is Decimal and type(b) is Decimal and is_int(x) and is_int(y)
    if not (cut and ints):
        return settle(DECIMAL.divide(x, y))
    quotient = abs(int(x)) // abs(int(y))
    return settle(DECIMAL.create_decimal(quotient if (x < 0) == (y < 0) else -quotient))


def remainder(a: Value, b: Value) -> Value:
    """Apply % : the result has the sign of the dividend, also for Decimals."""
    x, y = number_of(a), number_of(b)
    if x is UNSET or y is UNSET or y.is_zero():
        return UNSET
    # Decimal's own remainder fails where the quotient has more digits than the context.
    shift = min(_exponent(x), _exponent(y), 0)
    rest = abs(int(_EXACT.scaleb(x, -shift))) % abs(int(_EXACT.scaleb(y, -shift)))
    return settle(DECIMAL.create_decimal(_EXACT.scaleb(Decimal(-rest if x < 0 else rest), shift)))


_EXACT = Context(3 * exponent_max, Emin=-10 * exponent_max, Emax=10 * exponent_max)


def _exponent(number: Decimal) -> int:
    exponent = number.as_tuple().exponent
    assert isinstance(exponent, int)  # finite
    return exponent


def subtract(a: Value, b: Value) -> Value:
    """Apply the binary minus."""
    return _numeric(DECIMAL.subtract, a, b)


def multiply(a: Value, b: Value) -> Value:
    """Apply * ."""
    return _numeric(DECIMAL.multiply, a, b)


def _numeric(apply: Callable[[Decimal, Decimal], Decimal], a: Value, b: Value) -> Value:
    x, y = number_of(a), number_of(b)
    return UNSET if x is UNSET or y is UNSET else settle(apply(x, y))
