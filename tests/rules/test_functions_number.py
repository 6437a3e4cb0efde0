"""The functions of IoT SQL on numbers, against rational numbers, Python's integers and numpy."""

import math
from decimal import Context, Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from effort import examples
from hypothesis import given, settings
from hypothesis import strategies as st
from language_values import anything, ints, is_value, no_numbers, numbers, numeric_texts, small
from msgspec import UNSET

from streamgauge.rules.number_functions import FUNCTIONS, INT_RESULTS
from streamgauge.rules.values import number_of, settle

ONE = frozenset(
    """
    abs acos asin atan bitnot ceil cos cosh exp floor ln log round sign sin sinh sqrt tan tanh
    """.split()
)
TWO = frozenset("atan2 bitand bitor bitxor mod power remainder trunc".split())
BITS = {"bitand": int.__and__, "bitor": int.__or__, "bitxor": int.__xor__}

each_function = pytest.mark.parametrize("name", sorted(FUNCTIONS))


def call(name: str, *arguments: Any) -> Any:
    return FUNCTIONS[name](None, arguments)


def rounded(value: Fraction) -> Any:
    """The decimal of 34 digits nearest to a fraction."""
    context = Context(34, "ROUND_HALF_EVEN", -999, 999, traps=[])
    return settle(context.divide(Decimal(value.numerator), Decimal(value.denominator)))


def exponent(number: Decimal) -> Any:
    return number.as_tuple().exponent


def test_every_function_is_here() -> None:
    assert set(FUNCTIONS) == ONE | TWO
    assert INT_RESULTS <= set(FUNCTIONS)


@each_function
@given(data=st.data())
@settings(max_examples=examples(200))
def test_any_arguments_give_a_value_and_no_error(name: str, data: st.DataObject) -> None:
    count = 1 if name in ONE else 2
    any_count = st.lists(anything, max_size=4)
    arguments = data.draw(st.one_of(st.lists(anything, min_size=count, max_size=count), any_count))
    found = call(name, *arguments)
    assert is_value(found) and (found is UNSET or type(found) is Decimal)
    if len(arguments) != count:
        assert found is UNSET


@each_function
@given(number=numbers, other=no_numbers)
@settings(max_examples=examples(50))
def test_what_is_no_number_gives_undefined(name: str, number: Decimal, other: Any) -> None:
    if name in ONE:
        assert call(name, other) is UNSET
    else:
        assert call(name, other, number) is UNSET
        assert call(name, number, other) is UNSET


@pytest.mark.parametrize("name", sorted(FUNCTIONS.keys() - {"trunc"}))
@given(a=numeric_texts, b=numeric_texts)
@settings(max_examples=examples(50))
def test_a_text_that_converts_counts_as_its_number(name: str, a: str, b: str) -> None:
    arguments = [a] if name in ONE else [a, b]
    assert call(name, *arguments) == call(name, *map(number_of, arguments))


@given(numbers)
@settings(max_examples=examples(500))
def test_rounding_is_that_of_rational_numbers(number: Decimal) -> None:
    exact = Fraction(number)
    half = Fraction(1, 2)
    away = math.floor(exact + half) if exact >= 0 else math.ceil(exact - half)
    assert call("floor", number) == rounded(Fraction(math.floor(exact)))
    assert call("ceil", number) == rounded(Fraction(math.ceil(exact)))
    assert call("round", number) == rounded(Fraction(away))
    assert call("sign", number) == (exact > 0) - (exact < 0)
    assert call("abs", number) == number.copy_abs()


@given(numbers, st.one_of(small, numbers))
@settings(max_examples=examples(500))
def test_cutting_is_that_of_rational_numbers(number: Decimal, places: Decimal) -> None:
    unit = 10 ** min(max(math.floor(Fraction(places)), 0), 34)
    scaled = Fraction(number) * unit
    found = call("trunc", number, places)
    assert found == rounded(Fraction(math.trunc(scaled), unit))
    assert exponent(found) >= 0 or found.as_tuple().digits[-1] != 0


@pytest.mark.parametrize("name", sorted(BITS))
@given(a=numbers, b=numbers)
def test_bits_are_those_of_floored_integers(name: str, a: Decimal, b: Decimal) -> None:
    x, y = math.floor(Fraction(a)), math.floor(Fraction(b))
    assert call(name, a, b) == rounded(Fraction(BITS[name](x, y)))
    assert call("bitnot", a) == rounded(Fraction(-1 - x))


@given(numbers, numbers)
def test_the_rest_has_the_sign_of_the_dividend(a: Decimal, b: Decimal) -> None:
    x, y = Fraction(a), Fraction(b)
    expected = rounded(x - y * math.trunc(x / y)) if y else UNSET
    assert call("mod", a, b) == call("remainder", a, b) == expected


DOUBLES = {
    name: getattr(np, {"ln": "log", "log": "log10"}.get(name, name.replace("ac", "arcc")), None)
    for name in ("cos", "cosh", "exp", "ln", "log", "sin", "sinh", "sqrt", "tan", "tanh")
} | {"acos": np.arccos, "asin": np.arcsin, "atan": np.arctan}


@pytest.mark.parametrize("name", sorted(DOUBLES))
@given(number=st.one_of(small, small.map(lambda n: n / 125), numbers))
@settings(max_examples=examples(200))
def test_doubles_are_those_of_numpy(name: str, number: Decimal) -> None:
    with np.errstate(all="ignore"):
        expected = float(DOUBLES[name](np.float64(float(number))))
    found = call(name, number)
    if math.isfinite(expected):
        assert math.isclose(float(found), expected, rel_tol=1e-12, abs_tol=1e-300)
        assert found == Decimal(repr(float(found)))  # a double, as short as it goes
    else:
        assert found is UNSET


@pytest.mark.parametrize(("name", "apply"), [("atan2", np.arctan2), ("power", np.power)])
@given(a=st.one_of(small, numbers), b=st.one_of(small, numbers))
@settings(max_examples=examples(200))
def test_doubles_of_two_are_those_of_numpy(name: str, apply: Any, a: Decimal, b: Decimal) -> None:
    with np.errstate(all="ignore"):
        expected = float(apply(np.float64(float(a)), np.float64(float(b))))
    found = call(name, a, b)
    if math.isfinite(expected):
        assert math.isclose(float(found), expected, rel_tol=1e-12, abs_tol=1e-300)
    else:
        assert found is UNSET


@given(ints, st.integers(0, 40).map(Decimal))
def test_an_int_is_told_by_its_exponent(number: Decimal, places: Decimal) -> None:
    for name in sorted(INT_RESULTS & ONE):
        assert (
            exponent(call(name, number / 8)) == 0 and exponent(call(name, f"{number / 8:f}")) == 0
        )
    for name in BITS:
        found = call(name, number, number / 8)
        assert exponent(found) == 0 or abs(found) >= 10**33
    assert exponent(call("abs", number)) == exponent(call("trunc", number, places)) == 0
    assert exponent(call("mod", number, Decimal(7))) == 0


@pytest.mark.parametrize(
    ("name", "arguments", "expected"),
    [
        ("bitnot", ["13"], "-14"),
        ("round", ["-1.5"], "-2"),
        ("round", ["-0.4"], "0"),
        ("ceil", ["-0.4"], "0"),
        ("power", ["2", "5"], "32"),
        ("atan2", ["1", "0"], "1.5707963267948966"),
        ("sqrt", ["2"], "1.4142135623730951"),
        ("atan", ["1E+999"], "1.5707963267948966"),
        ("exp", ["-1E+999"], "0"),
        ("trunc", ["2.00", "5"], "2"),
        ("trunc", ["-2.3123", "2.9"], "-2.31"),
        ("trunc", ["2.3123", "-1"], "2"),
        ("ceil", ["999999999999999999999999999999999.9"], "1E33"),
    ],
)
def test_known_results(name: str, arguments: list[str], expected: str) -> None:
    assert call(name, *map(Decimal, arguments)) == Decimal(expected)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("ln", [0]),
        ("log", [0]),
        ("sqrt", [-1]),
        ("acos", [2]),
        ("asin", ["-1.1"]),
        ("exp", [710]),
        ("cosh", [711]),
        ("power", [0, -1]),
        ("power", [-8, "0.5"]),
        ("power", [10, 309]),
        ("sin", ["1E999"]),
        ("ln", ["1E-999"]),
        ("mod", [5, 0]),
        ("trunc", ["2.5"]),
    ],
)
def test_what_has_no_result_is_undefined(name: str, arguments: list[Any]) -> None:
    assert call(name, *map(Decimal, arguments)) is UNSET


def test_places_may_not_be_a_text() -> None:
    assert call("trunc", "2.3123", Decimal(2)) == Decimal("2.31")
    assert call("trunc", Decimal("2.3123"), "2") is UNSET


@pytest.mark.parametrize("special", ["NaN", "-NaN", "Infinity", "-Infinity"])
@each_function
def test_what_is_no_value_of_the_language_does_no_harm(name: str, special: str) -> None:
    number = Decimal(special)
    assert call(name, *[number] * (1 if name in ONE else 2)) is UNSET
