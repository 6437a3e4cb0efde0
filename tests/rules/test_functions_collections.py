"""The functions on collections and on what is missing."""

import json
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET

from streamgauge.rules.collection_functions import FUNCTIONS
from streamgauge.rules.values import exact, text_chars_max

EACH = [Decimal(1), Decimal("1.5"), True, "", "x", [], [1], {}, {"a": 1}, None, UNSET]
objects = st.dictionaries(st.text("ab", max_size=2), st.integers(), max_size=3)


def call(name: str, *arguments: Any) -> Any:
    return FUNCTIONS[name](None, [exact(argument) for argument in arguments])


@given(st.one_of(st.lists(st.integers()), st.text()), st.integers(-3, 12))
def test_get_counts_from_zero(whole: Any, index: int) -> None:
    expected = exact(whole[index]) if 0 <= index < len(whole) else UNSET
    assert call("get", whole, index) == expected
    assert call("get", whole, str(index)) == expected
    assert call("get", whole, index + 0.75) == expected


@given(objects, st.text("ab", max_size=2))
def test_get_of_an_object_is_its_member(whole: dict[str, int], key: str) -> None:
    assert call("get", whole, key) == exact(whole.get(key, UNSET))


def test_get_converts_no_key_and_no_whole() -> None:
    for key in (1, True, None, UNSET, [1]):
        assert call("get", {"1": 2, "true": 3}, key) is UNSET
    for whole in (12, 1.5, True, None, UNSET, b"ab"):
        assert call("get", whole, 0) is UNSET
    for index in ("x", True, None, UNSET, [0], {}, 10**400, "1E999"):
        assert call("get", [1], index) is UNSET


def test_members_come_out_as_values() -> None:
    assert type(call("get", [0.1], 0)) is Decimal
    assert call("get", {"k": 0.1}, "k") == Decimal("0.1")
    assert call("get", [None], 0) is None
    assert call("get", {"k": float("inf")}, "k") is UNSET


@pytest.mark.parametrize("value", EACH)
def test_what_is_missing_is_told_apart(value: Any) -> None:
    missing = value is None or value is UNSET
    assert call("isnull", value) is (value is None)
    assert call("isundefined", value) is (value is UNSET)
    assert call("nanvl", value, "d") == ("d" if missing else value)
    assert call("get_or_default", value, "d") == ("d" if missing else value)
    assert call("get_or_default", value) == (UNSET if missing else value)
    assert call("get_or_default", None, value) == value


@given(objects, st.lists(objects, max_size=4))
def test_each_element_is_enriched(added: dict[str, int], elements: list[dict[str, int]]) -> None:
    assert call("transform", "enrichArray", added, elements) == [{**e, **added} for e in elements]


def test_nothing_else_is_enriched() -> None:
    assert call("transform", "EnrichArray", {}, []) is UNSET
    assert call("transform", "enrichArray", {"k": "\ud800"}, [{}]) is UNSET
    for value in EACH:
        if type(value) is not dict:
            assert call("transform", "enrichArray", value, []) is UNSET
            assert call("transform", "enrichArray", {}, [{}, value]) is UNSET
        if type(value) is not list:
            assert call("transform", "enrichArray", {}, value) is UNSET
        assert call("transform", value, {}, []) is UNSET


@given(st.integers(900, 1100), st.integers(100, 130), st.sampled_from(["k", "v"]))
def test_what_is_enriched_has_an_end(size: int, count: int, key: str) -> None:
    """Exactly at the limit, also where the Object's members take the place of longer ones."""
    added, elements = {"v": "x" * size}, [{key: "y" * 50}] * count
    expected = [{**element, **added} for element in elements]
    fits = len(json.dumps(expected, separators=(",", ":"))) <= text_chars_max
    assert call("transform", "enrichArray", added, elements) == (expected if fits else UNSET)


@pytest.mark.parametrize("spare", [-1, 0, 1])
def test_what_is_enriched_ends_at_the_byte(spare: int) -> None:
    element, added = {"v": "y" * 90, "w": ""}, {"v": "x" * 100}
    count = (text_chars_max - 3000) // len(json.dumps({**element, **added}, separators=(",", ":")))
    elements = [dict(element) for _ in range(count)]
    expected = [{**element, **added} for element in elements]
    rest = text_chars_max - len(json.dumps(expected, separators=(",", ":")))
    elements[-1]["w"] = expected[-1]["w"] = "z" * (rest - spare)
    assert len(json.dumps(expected, separators=(",", ":"))) == text_chars_max - spare
    result = call("transform", "enrichArray", added, elements)
    assert result == (expected if spare >= 0 else UNSET)
