"""The operators of IoT SQL on single values, against rational numbers."""

import copy
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from effort import examples
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import UNSET

from streamgauge.rules import values
from streamgauge.rules.values import exact, fractional, number_of, text_of

json_numbers = st.one_of(
    st.integers(-(10**36), 10**36),
    st.integers(-20, 20),
    st.floats(allow_nan=False, allow_infinity=False),
    st.integers(-100, 100).map(lambda n: n / 8),
)
numbers = json_numbers.map(exact)
short = st.integers(-(10**15), 10**15).map(lambda n: exact(n / 1024 if n % 2 else n))


def rounded(value: Fraction) -> Any:
    """The nearest decimal of 34 digits."""
    return values.settle(
        values.DECIMAL.divide(Decimal(value.numerator), Decimal(value.denominator))
    )


def near(found: Any, expected: Fraction) -> bool:
    """Whether a decimal is the fraction, rounded to 34 digits; tiny ones are 0."""
    if abs(expected) < Fraction(1, 10**999):
        return bool(found == 0)
    return abs(Fraction(found) - expected) <= abs(expected) / 10**33 / 2


@given(numbers, numbers)
def test_arithmetic_is_that_of_rational_numbers(a: Decimal, b: Decimal) -> None:
    x, y = Fraction(a), Fraction(b)
    assert near(values.add(a, b), x + y)
    assert near(values.subtract(a, b), x - y)
    assert near(values.multiply(a, b), x * y)
    if y:
        assert near(values.divide(a, b, False), x / y)


@given(short, short)
def test_results_that_fit_are_exact(a: Decimal, b: Decimal) -> None:
    assert Fraction(values.add(a, b)) == Fraction(a) + Fraction(b)
    assert Fraction(values.subtract(a, b)) == Fraction(a) - Fraction(b)


@given(st.integers(), st.integers().filter(bool))
def test_int_by_int_is_cut_toward_zero(a: int, b: int) -> None:
    x, y = Fraction(exact(a)), Fraction(exact(b))
    found = values.divide(exact(a), exact(b), True)
    assert found == rounded(Fraction(int(x / y)))


@given(numbers, numbers.filter(bool))
def test_the_remainder_completes_the_quotient(a: Decimal, b: Decimal) -> None:
    x, y = Fraction(a), Fraction(b)
    expected = x - y * int(x / y)
    assert near(values.remainder(a, b), expected)
    assert expected == 0 or (expected < 0) == (x < 0)


def test_remainders_of_far_apart_numbers() -> None:
    large, small = Decimal("9.99E999"), Decimal("7E-999")
    assert near(values.remainder(large, small), Fraction(large) % Fraction(small))
    assert values.remainder(small, large) == small
    assert values.remainder(-small, large) == -small


@given(json_numbers, json_numbers)
def test_comparisons_see_the_decimal_text_of_a_float(a: Any, b: Any) -> None:
    x, y = Fraction(exact(a)), Fraction(exact(b))
    assert values.compare("<", exact(a), exact(b)) is (x < y)
    assert values.compare(">=", exact(a), exact(b)) is (x >= y)
    assert values.equal(exact(a), exact(b)) is (x == y)


@given(numbers)
def test_a_number_comes_back_from_its_text(number: Decimal) -> None:
    assert number_of(text_of(number)) == number


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (exact(5.0), "5"),
        (exact(5.00), "5"),
        (fractional(Decimal(5)), "5.0"),
        (Decimal("1.50"), "1.5"),
        (Decimal("1E3"), "1000"),
        (exact(1e-7), "1E-7"),
        (True, "true"),
        ("x", "x"),
        (["a", 1, 2.5, 3.0, None, True, {"k": []}], '["a",1,2.5,3,null,true,{"k":[]}]'),
        ({"a": {"é": '"'}}, '{"a":{"é":"\\""}}'),
        (None, UNSET),
        (UNSET, UNSET),
    ],
)
def test_texts_of_values(value: Any, text: Any) -> None:
    assert text_of(value) == text


@pytest.mark.parametrize(
    ("value", "integer"),
    [
        (exact(2.9), 2),
        (exact(-2.1), -3),
        ("7.5", 7),
        ("x", None),
        (True, None),
        (None, None),
        (UNSET, None),
    ],
)
def test_integers_of_values(value: Any, integer: int | None) -> None:
    assert values.integer_of(value) == integer


def test_magnitudes_have_ends() -> None:
    large, small = Decimal("9.99E999"), Decimal("1E-999")
    assert values.multiply(large, Decimal(1)) == large
    assert values.multiply(large, Decimal(2)) is UNSET
    assert values.negate(Decimal(0)).is_signed() is False
    assert values.multiply(small, Decimal("0.1")) == 0
    assert values.number_of("1E1000") is UNSET
    assert exact(float("inf")) is UNSET
    assert exact(float("nan")) is UNSET


def test_texts_have_an_end() -> None:
    half = "x" * (values.text_chars_max // 2)
    assert len(values.add(half, half)) == values.text_chars_max
    assert values.add(half, half + "x") is UNSET


@pytest.mark.parametrize("kleene", [False, True])
def test_logic_of_three_values(kleene: bool) -> None:
    for sign, decisive in (("AND", False), ("OR", True)):
        for a in (True, False, UNSET):
            for b in (True, False, UNSET):
                both = values.combine(sign, [a, b], kleene)
                if UNSET not in (a, b):
                    assert both is ((a and b) if sign == "AND" else (a or b))
                else:
                    assert both is (decisive if kleene and decisive in (a, b) else UNSET)


close = st.sampled_from(
    [0, -0.0, 1, 1.0, True, None, "1", 2**53, 2.0**53, 2**53 + 1, 0.1, 1e22, 10**22, 1e23, 10**23]
    + [10**34, 10**34 + 1, -(10**34) - 1, 1e34, float("inf"), 10**400, 5e-324, [], {}]
)
cells = st.recursive(
    close | st.integers() | st.floats(allow_nan=False) | st.text(max_size=2),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.just("k"), inner, max_size=1),
    max_leaves=4,
)


def same(a: Any, b: Any) -> bool:
    """Equality by its definition: all numbers as Decimals, nothing of another type."""
    a, b = exact(a), exact(b)
    if type(a) is not type(b):
        return False
    if type(a) is list:
        return len(a) == len(b) and all(map(same, a, b))
    if type(a) is dict:
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    return bool(a == b)


@settings(max_examples=examples(300))
@given(cells, st.lists(cells, max_size=6))
def test_an_item_is_in_an_array_where_one_equals_it(a: Any, items: list[Any]) -> None:
    a = exact(a)
    for array in (items, [exact(item) for item in items]):
        found = [values.equal(a, item) for item in array if a is not UNSET and item is not UNSET]
        assert found == [same(a, item) for item in array if a is not UNSET and item is not UNSET]
        assert values.within(a, array) is (UNSET if a is UNSET else any(found))
    assert values.within(a, "abc") is UNSET


@pytest.mark.parametrize("item", [2**53 + 1, 10**33 + 1, 10**34 + 1, 10**400, 0.1, 1e23, -0.0, [1]])
def test_every_number_is_in_its_own_array(item: Any) -> None:
    assert values.within(exact(item), [1, "x", item]) is True
    assert values.within(exact(item), [exact(item)]) is True


@given(cells)
def test_an_array_equals_its_copy(items: Any) -> None:
    assert values.equal([items], [copy.deepcopy(items)]) is True
