"""The functions on texts: what they say of chosen values, and what holds of all texts."""

import tracemalloc
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET

from streamgauge.rules.text_functions import FUNCTIONS, pad_blanks_max
from streamgauge.rules.values import exact, text_chars_max

whole_texts = st.text(max_size=20)
indexes = st.one_of(st.integers(-30, 30), st.integers(), st.integers(-80, 80).map(lambda n: n / 8))
short_integers = st.integers(-(10**33), 10**33)  # of at most 34 digits
LONG = "x" * text_chars_max


def call(name: str, *arguments: Any) -> Any:
    return FUNCTIONS[name](None, [exact(argument) for argument in arguments])


@pytest.mark.parametrize(
    ("name", "arguments", "result"),
    [
        ("concat", ["con", "cat"], "concat"),
        ("concat", [1, "hello"], "1hello"),
        ("concat", [[1], {"a": 1}, None, True], [1, {"a": 1}, None, True]),
        ("concat", ["a", {"k": [1.0, "é"]}], 'a{"k":[1,"é"]}'),
        ("length", ["𝄞é"], Decimal(2)),
        ("numbytes", ["€𝄞"], Decimal(7)),
        ("upper", ["straße"], "STRASSE"),
        ("lower", ["ΣΑΣ"], "σας"),
        ("lower", ["İ"], "i̇"),
        ("ltrim", ["\t \nx "], "\nx "),
        ("rtrim", [" x\n\t "], " x\n"),
        ("trim", [" \t\n\v\f\rx\u00a0\r\f\v\n\t "], "x\u00a0"),
        ("substring", ["𝄞ab", 1, 2], "a"),
        ("substring", [123, 2], "3"),
        ("substring", [False, "-2.411E247"], "false"),
        ("indexof", ["𝄞ab", "b"], Decimal(2)),
        ("indexof", ["abc", ""], Decimal(0)),
        ("indexof", ["abc", "x"], Decimal(-1)),
        ("replace", ["aaa", "aa", "b"], "ba"),
        ("replace", ["ab", "", "-"], "-a-b-"),
        ("replace", [110, 1, 2.5], "2.52.50"),
        ("chr", [127.9], "\x7f"),
        ("chr", [0], "\0"),
        ("chr", [128], UNSET),
        ("chr", [-0.5], UNSET),
    ],
)
def test_results(name: str, arguments: list[Any], result: Any) -> None:
    assert call(name, *arguments) == result


@given(whole_texts, indexes, indexes)
def test_substring_takes_the_characters_between(whole: str, start: float, end: float) -> None:
    between = [c for at, c in enumerate(whole) if exact(start).__floor__() <= at < end // 1]
    assert call("substring", whole, start, end) == "".join(between)
    after = [c for at, c in enumerate(whole) if exact(start).__floor__() <= at]
    assert call("substring", whole, start) == "".join(after)


@given(whole_texts, indexes)
def test_padding_adds_blanks(whole: str, count: float) -> None:
    blanks = " " * int(min(max(count // 1, 0), pad_blanks_max))
    assert call("lpad", whole, count) == blanks + whole
    assert call("rpad", whole, count) == whole + blanks


@given(st.text("ab", max_size=12), st.text("ab", max_size=3), st.text("abc", max_size=3))
def test_replace_agrees_with_indexof(whole: str, old: str, new: str) -> None:
    if not old:
        return
    parts, rest = [], whole
    while (at := int(call("indexof", rest, old))) >= 0:
        parts += [rest[:at], new]
        rest = rest[at + len(old) :]
    assert call("replace", whole, old, new) == "".join(parts) + rest


@given(st.lists(st.one_of(short_integers, whole_texts, st.lists(st.integers(), max_size=3))))
def test_concat_keeps_all_in_order(arguments: list[Any]) -> None:
    result = call("concat", *arguments)
    if len(arguments) < 2:
        assert result == (arguments[0] if arguments else UNSET)
    elif any(type(argument) is list for argument in arguments):
        flat = [a if type(a) is list else [a] for a in arguments]
        assert result == [item for part in flat for item in part]
    elif any(type(argument) is str for argument in arguments):
        assert result == "".join(map(str, arguments))
    else:
        assert result is UNSET


def test_growth_ends_at_the_longest_text() -> None:
    assert len(call("concat", LONG[1:], "x")) == text_chars_max
    assert call("concat", LONG, "x") is UNSET
    assert call("lpad", LONG, 1) is UNSET
    assert call("lpad", LONG, 0) == LONG
    assert call("rpad", LONG[1:], 1) == LONG[1:] + " "
    half = text_chars_max // 2
    assert len(call("replace", "a" * half, "a", "bb")) == text_chars_max
    assert call("replace", "a" * half + "c", "a", "bb") is UNSET
    assert call("replace", LONG, "", LONG) is UNSET
    assert call("upper", "ß" * half) == "SS" * half
    assert call("upper", "ß" * (half + 1)) is UNSET
    assert call("length", LONG) == text_chars_max
    assert call("length", LONG + "x") is UNSET


def test_what_would_be_too_long_is_not_built() -> None:
    tracemalloc.start()
    try:
        assert call("replace", LONG, "", LONG[:1000]) is UNSET
        assert call("concat", *[LONG] * 500) is UNSET
        assert call("concat", [1], *[LONG] * 500) is UNSET
        assert tracemalloc.get_traced_memory()[1] < 20 * text_chars_max
    finally:
        tracemalloc.stop()


def test_arrays_end_at_as_many_bytes() -> None:
    whole = [1] * (text_chars_max // 2 - 10)
    assert len(call("concat", whole, 1)) == len(whole) + 1
    assert call("concat", whole, whole) is UNSET
    assert call("concat", *[[LONG[:1000]]] * 1000) is UNSET
