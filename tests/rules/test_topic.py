"""Topic filters and topic(n) as AWS IoT rules read them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamgauge.rules.topic import FilterError, beyond_limits, compile_filter, level, visible

MATCHES = [
    ("a/b", "a/b", True),
    ("a/b", "a/B", False),
    ("a/b", "a/b/", False),
    ("+", "a", True),
    ("+", "", True),
    ("+", "a/", False),
    ("+/+", "/", True),
    ("a/+/c", "a//c", True),
    ("a/+/c", "a/b/b/c", False),
    ("a/+", "a", False),
    ("#", "a", True),
    ("#", "/", True),
    ("sensor/#", "sensor/", True),
    ("sensor/#", "sensor/x/y", True),
    ("sensor/#", "sensor", False),
    ("sensor/#", "sensory/x", False),
    ("+/#", "a/", True),
    ("+/#", "a", False),
    ("a/+/#", "a/b/c", True),
    ("a/+/#", "a/b", False),
    ("#", "$aws/x", False),
    ("+/x", "$aws/x", False),
    ("$aws/#", "$aws/x", True),
    ("$aws/things/+/shadow", "$aws/things/t/shadow", True),
    ("a/+", "a/$b", True),
    ("a/#", "a/$b/c", True),
]


@pytest.mark.parametrize(("text", "topic", "expected"), MATCHES)
def test_a_filter_matches_as_in_aws(text: str, topic: str, expected: bool) -> None:
    assert compile_filter(text)(topic) is expected


@pytest.mark.parametrize(
    ("text", "offset"), [("", 0), ("a/#/b", 2), ("#/#", 0), ("a+", 1), ("a/b+/c", 3), ("a#", 1)]
)
def test_what_is_no_filter_is_refused_at_its_fault(text: str, offset: int) -> None:
    with pytest.raises(FilterError) as caught:
        compile_filter(text)
    assert caught.value.offset == offset


def test_a_zero_character_is_refused() -> None:
    with pytest.raises(FilterError, match=r"U\+0000"):
        compile_filter("a/\0")


def naive(levels: list[str], topic: list[str]) -> bool:
    """The same rule, written as a recursion over the levels."""
    if levels == ["#"]:
        return bool(topic)
    if not levels or not topic:
        return not levels and not topic
    return levels[0] in ("+", topic[0]) and naive(levels[1:], topic[1:])


@given(
    st.lists(st.sampled_from(["a", "b", "", "+", "$a"]), min_size=1, max_size=4),
    st.booleans(),
    st.lists(st.sampled_from(["a", "b", "", "$a"]), min_size=1, max_size=5),
)
def test_a_filter_agrees_with_a_naive_one(levels: list[str], deep: bool, topic: list[str]) -> None:
    levels = [*levels, "#"] if deep else levels
    text = "/".join(levels)
    hidden = topic[0].startswith("$") and levels[0] in ("+", "#")
    if text:
        assert compile_filter(text)("/".join(topic)) is (naive(levels, topic) and not hidden)


@pytest.mark.parametrize(
    ("topic", "n", "expected"),
    [
        ("a/b", 1, "a"),
        ("a/b", 2, "b"),
        ("a/b", 3, None),
        ("a/b", 0, None),
        ("a/b", -1, None),
        ("a/b", 10**100, None),
        ("/a", 1, ""),
        ("a/", 2, ""),
        ("", 1, ""),
        ("$aws/rules/r/x/y", 1, "x"),
        ("$aws/rules/r/x/y", 3, None),
        ("$aws/things/t", 1, "$aws"),
    ],
)
def test_levels_count_from_one(topic: str, n: int, expected: str | None) -> None:
    assert level(topic, n) == expected


def test_the_prefix_of_basic_ingest_is_hidden() -> None:
    assert visible("$aws/rules/r/x/y") == "x/y"
    assert visible("$aws/rules/r") == "$aws/rules/r"
    assert visible("x/y") == "x/y"


def test_limits_of_aws_are_told() -> None:
    assert beyond_limits("a/b/c/d/e/f/g/h") == ""
    assert "8" in beyond_limits("a/b/c/d/e/f/g/h/i")
    assert beyond_limits("$aws/rules/r/a/b/c/d/e/f/g/h") == ""
    assert beyond_limits("a" * 256) == ""
    assert "257" in beyond_limits("a" * 257)
    assert "258" in beyond_limits("é" * 129)
