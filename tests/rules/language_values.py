"""Values of IoT SQL of every type, drawn; and each type's share of what a function must refuse."""

from decimal import Decimal
from typing import Any

from hypothesis import strategies as st
from msgspec import UNSET

from streamgauge.rules.values import DECIMAL, exact, settle

ints = st.integers(-(10**34) + 1, 10**34 - 1).map(exact)
decimals = st.builds(
    lambda digits, exponent: settle(DECIMAL.create_decimal(Decimal(digits).scaleb(exponent))),
    st.integers(-(10**28), 10**28),
    st.one_of(st.integers(-30, 10), st.integers(-950, 950)),
).filter(lambda number: number is not UNSET)
small = st.integers(-1000, 1000).map(lambda n: Decimal(n) / 8)
edges = st.sampled_from(
    [Decimal(text) for text in ("0", "0.0", "1E+999", "-9.99E+999", "1E-999", "-1E-999", "1E+3")]
)
numbers = st.one_of(small, ints, decimals, edges)
numeric_texts = numbers.map(lambda number: str(number).replace("E+", "E"))
texts = st.one_of(
    numeric_texts,
    st.sampled_from(["", "abc", "+1", " 1", ".5", "5.", "0x1F", "NaN", "Infinity", "true"]),
    st.text(max_size=20),
)
plain = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5))
arrays = st.lists(st.one_of(plain, numbers), max_size=4)
objects = st.dictionaries(st.text(max_size=3), plain, max_size=4)
no_numbers = st.one_of(
    st.just(UNSET),
    st.none(),
    st.booleans(),
    st.sampled_from(["", "abc", "+1", " 1", ".5", "5.", "0x1F", "NaN", "Infinity", "1E+5", "١"]),
    arrays,
    objects,
)
anything = st.one_of(numbers, texts, no_numbers)


def is_value(value: Any) -> bool:
    """Whether a result is a value of the language: numbers are finite and in range."""
    if type(value) is Decimal:
        return value.is_finite() and settle(value) == value and len(value.as_tuple().digits) <= 34
    return value is UNSET or value is None or type(value) in (bool, str, list, dict)
