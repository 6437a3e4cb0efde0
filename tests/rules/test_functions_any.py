"""Functions of texts, hashes, codings and collections over values of every type, in any number."""

import copy
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import pytest
from effort import examples
from hypothesis import example, given, settings
from hypothesis import strategies as st
from msgspec import UNSET

from streamgauge.rules import (
    coding_functions,
    collection_functions,
    hash_functions,
    regex_functions,
    text_functions,
)
from streamgauge.rules.arguments import Function
from streamgauge.rules.values import exact, text_chars_max

FUNCTIONS: Mapping[str, Function] = {
    **text_functions.FUNCTIONS,
    **hash_functions.FUNCTIONS,
    **regex_functions.FUNCTIONS,
    **coding_functions.FUNCTIONS,
    **collection_functions.FUNCTIONS,
}
COUNTS = {
    **dict.fromkeys(FUNCTIONS, {1}),
    **dict.fromkeys("decode encode endswith get indexof lpad nanvl rpad startswith".split(), {2}),
    **dict.fromkeys("regexp_matches regexp_substr".split(), {2}),
    **dict.fromkeys("regexp_replace replace transform".split(), {3}),
    "concat": set(range(1, 9)),
    "get_or_default": {1, 2},
    "substring": {2, 3},
}
LONG = "x" * text_chars_max
DEEP: Any = "x"
for _ in range(128):
    DEEP = [DEEP]


def is_set(value: Any) -> bool:
    return value is not UNSET


texts = st.one_of(
    st.text(max_size=8),
    st.text(st.characters(), max_size=8),  # halves of surrogate pairs too
    st.sampled_from(["", "1", "-1", "2.5", "1E999", "base64", "enrichArray", "eyJhIjoxfQ==", LONG]),
)
json_numbers = st.one_of(st.integers(-3, 9), st.integers(), st.floats())
decimals = json_numbers.map(exact).filter(is_set)
json_values = st.recursive(
    st.one_of(
        st.none(), st.booleans(), json_numbers, json_numbers.map(exact).filter(is_set), texts
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=2), inner, max_size=3)
    ),
    max_leaves=6,
)
anything = st.one_of(
    st.just(UNSET), st.none(), st.booleans(), json_numbers.map(exact), texts, json_values,
    st.binary(max_size=8), st.lists(st.dictionaries(texts, json_values, max_size=2), max_size=3),
)  # fmt: skip


def check_result(result: Any) -> None:
    assert result is UNSET or type(result) in (type(None), bool, Decimal, str, list, dict)
    if type(result) is Decimal:
        assert result.is_finite()


@pytest.mark.parametrize("name", FUNCTIONS)
@settings(max_examples=examples(200))
@given(arguments=st.lists(anything, max_size=4))
@example(arguments=[DEEP])
@example(arguments=[LONG + "x", LONG, LONG])
@example(arguments=[LONG, "x", LONG])
@example(arguments=[LONG, "", LONG])
@example(arguments=[[LONG], LONG, [LONG]])
@example(arguments=["enrichArray", {"k": LONG}, [{}] * 1000])
@example(arguments=[["\ud800"], {"\ud800": "\udfff"}])
@example(arguments=["\ud800", "base64"])
@example(arguments=[float("inf"), 1])
def test_any_arguments_give_a_value(name: str, arguments: list[Any]) -> None:
    before = copy.deepcopy(arguments)
    result = FUNCTIONS[name](None, arguments)
    if not any(result is argument for argument in arguments):
        check_result(result)
    assert repr(arguments) == repr(before)
    again = FUNCTIONS[name](None, arguments)
    assert repr(again) == repr(result)
    if len(arguments) not in COUNTS[name]:
        assert result is UNSET


@pytest.mark.parametrize("name", sorted(FUNCTIONS.keys() - {"encode", "get", "transform"}))
@given(arguments=st.lists(texts, max_size=4))
def test_texts_that_come_out_are_not_too_long(name: str, arguments: list[Any]) -> None:
    for given_texts in (arguments, arguments * 2):
        result = FUNCTIONS[name](None, given_texts)
        assert type(result) is not str or len(result) <= text_chars_max


@pytest.mark.parametrize("name", sorted(FUNCTIONS.keys() - set(collection_functions.FUNCTIONS)))
@pytest.mark.parametrize("missing", [None, UNSET])
def test_what_is_missing_gives_undefined_in_any_place(name: str, missing: Any) -> None:
    fitting: dict[str, list[Any]] = {
        "lpad": ["x", Decimal(1)], "rpad": ["x", Decimal(1)], "chr": [Decimal(65)],
        "substring": ["x", Decimal(0), Decimal(1)], "replace": ["x", "x", "y"],
        "encode": ["x", "base64"], "decode": ["eA", "base64"],
    }  # fmt: skip
    arguments = fitting.get(name, ["x"] * (max(COUNTS[name]) if name != "concat" else 3))
    assert FUNCTIONS[name](None, arguments) is not UNSET
    for at in range(len(arguments)):
        found = FUNCTIONS[name](None, [*arguments[:at], missing, *arguments[at + 1 :]])
        assert found is UNSET, at
