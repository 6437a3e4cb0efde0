"""Regular expressions: what Java finds is found, what is refused says why, and nothing is slow.

java-patterns.jsonl holds what java.util.regex of OpenJDK 17 says of patterns, half of them drawn at
random: `matches`, `substr` (absent: no match) and `replaced` (absent: a bad replacement), or
`invalid`.
"""

import json
import re
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
import re2
from effort import examples
from hypothesis import example, given, settings
from hypothesis import strategies as st
from msgspec import UNSET

from streamgauge.rules import regex
from streamgauge.rules.regex import patterns_max, refusal, steps_max
from streamgauge.rules.regex_functions import FUNCTIONS, inside_bytes_max, replacements_max
from streamgauge.rules.regex_java import pattern_chars_max
from streamgauge.rules.regex_sets import Characters
from streamgauge.rules.values import text_chars_max

JAVA = [
    json.loads(line)
    for line in (Path(__file__).parent / "java-patterns.jsonl").read_text().splitlines()
]
DIFFERENT = {"(a*)*"}  # a loop over what may be empty, a difference that is documented
LONG = "a" * text_chars_max


def matches(text: Any, pattern: Any) -> Any:
    return FUNCTIONS["regexp_matches"](None, [text, pattern])


def substr(text: Any, pattern: Any) -> Any:
    return FUNCTIONS["regexp_substr"](None, [text, pattern])


def replace(text: Any, pattern: Any, template: Any) -> Any:
    return FUNCTIONS["regexp_replace"](None, [text, pattern, template])


@pytest.mark.parametrize("case", JAVA, ids=lambda case: ascii(case["pattern"]))
def test_what_java_finds_is_found(case: dict[str, Any]) -> None:
    text, pattern, template = case["text"], case["pattern"], case["replacement"]
    found = (matches(text, pattern), substr(text, pattern), replace(text, pattern, template))
    if case.get("invalid"):
        assert refusal(pattern) is not None
        assert found == (UNSET, UNSET, UNSET)
        return
    assert refusal(pattern) is None
    if pattern in DIFFERENT:
        assert found[2] != case["replaced"]
        return
    assert found[0] is case["matches"]
    assert found[1] == case.get("substr", UNSET)
    # Java looks at a replacement only where there is a match; here it is Undefined in any case.
    if case["matches"] or found[2] is not UNSET:
        assert found[2] == case.get("replaced", UNSET)


@pytest.mark.parametrize(
    ("pattern", "construct", "offset"),
    [
        ("ab++", "possessive quantifier ++", 2),
        ("a?+", "possessive quantifier ?+", 1),
        ("a{2,3}+", "possessive quantifier {2,3}+", 1),
        ("x(?>a)", "atomic group (?>", 1),
        ("(?=a)", "lookahead (?=", 0),
        ("a(?!a)", "lookahead (?!", 1),
        ("(?<=a)b", "lookbehind (?<=", 0),
        ("(?<!a)b", "lookbehind (?<!", 0),
        ("(a)\\1", "back reference \\1", 3),
        ("(?<n>a)\\k<n>", "back reference \\k", 7),
        ("\\Ga", "\\G", 0),
        ("\\X", "\\X", 0),
        ("\\b{g}", "\\b{", 0),
        ("(?x)a b", "flag x", 0),
        ("(?U)\\w", "flag U", 0),
        ("a\\p{InGreek}", "{InGreek}", 1),
        ("[\\w&&\\p{L}]", "Unicode", 0),
        ("(?iu)[a\\w]", "mode (?iu)", 5),
        ("(?iu)[a[^b]]", "mode (?iu)", 5),
        ("(?i)x\\P{Lu}", "one case alone", 5),
        ("[a[^\\p{L}b]]", "Unicode", 0),
        ("a\\ud800", "surrogate", 1),
        ("a\\ud800\\u0041", "surrogate", 1),
        ("[\\udc00]", "surrogate", 1),
        ("[\ud800]", "surrogate", 1),
        ("a{1001}", "1,000 repetitions", 1),
        ("(?:a{999}){999}", "RE2", None),
        ("\\p{L}" * 21, "20 sets of Unicode", 100),
        ("a{1000}b{1000}c{2}", "2,000 repetitions", 15),
        ("a" * (pattern_chars_max + 1), "1,000 characters", None),
        ("a**", "nothing to repeat", 2),
        ("a(b", "not closed", 1),
        ("[a", "without ]", 0),
    ],
)
def test_a_refusal_names_construct_and_offset(
    pattern: str, construct: str, offset: int | None
) -> None:
    message = refusal(pattern)
    assert message is not None
    assert construct in message
    found = re.search(r"\(offset (\d+)\)", message)
    assert (int(found[1]) if found else None) == offset
    assert matches("aaa", pattern) is UNSET


@pytest.mark.parametrize(
    ("pattern", "text", "found"),
    [("\\Bx", "éx", False), ("\\B", "éé", True), ("é\\B", "é", True), ("^\\B$", "é", False)],
)
def test_matches_are_never_within_a_character(pattern: str, text: str, found: bool) -> None:
    assert matches(text, pattern) is found
    assert replace(text, pattern, "").encode() in (text.encode(), b"")


def test_boundaries_see_what_stands_before() -> None:
    assert replace("foo foofoo", "\\bfoo", "x") == "x xfoo"
    assert replace("aaa", "^a", "x") == "xaa"
    assert replace("ab", "\\b", "|") == "|ab|"
    assert replace("a\nb\n", "$", "|") == "a\nb\n|"


sampled = st.text(st.sampled_from("ab1 \n.é"), max_size=12)


@given(sampled, sampled)
def test_a_quotation_finds_what_replace_finds(text: str, part: str) -> None:
    pattern = f"\\Q{part}\\E"
    assert matches(text, pattern) is (part in text)
    assert replace(text, pattern, "<\\$0>") == text.replace(part, "<$0>")


@given(sampled, st.lists(st.sampled_from(["a", "b+", "(1)", "[ab]?", ".", "\\d", "(?:a|é)"])))
def test_whole_matches_put_back_change_nothing(text: str, parts: list[str]) -> None:
    pattern = "".join(parts)
    assert replace(text, pattern, "$0") == text
    found = substr(text, pattern)
    assert matches(text, pattern) is (found is not UNSET)
    assert found is UNSET or found in text


signs = st.text(st.sampled_from("a(b)[]{},1*+?|\\^$.&-:<>=!ipLQEdu"), max_size=14)


@settings(max_examples=examples(500))
@given(
    st.text(max_size=8), st.text(st.sampled_from("a(b)[]{},1*+?|\\^$.&-:<>=!ipLQEdu"), max_size=14)
)
@example("", "\ud800")
@example("a\0b", "\0")
@example("é", "(?i)é")
@example("x", "(" * pattern_chars_max)
@example("x", "[" * pattern_chars_max)
@example("x", "[^" * 499)
@example("x", "(?:" * 300 + "a" + "?)" * 300 + "x")
@example("x", "a{0,1000}a{0,1000}")
def test_any_pattern_is_used_or_refused(text: str, pattern: str) -> None:
    message = refusal(pattern)
    for found in (matches(text, pattern), substr(text, pattern), replace(text, pattern, "$0")):
        assert (found is UNSET) or message is None
    if message is None:
        assert type(matches(text, pattern)) is bool
    else:
        assert len(message) < 200


@given(st.text(), st.text(st.sampled_from("$\\{}n019ax"), max_size=8))
def test_any_replacement_is_used_or_undefined(text: str, template: str) -> None:
    found = replace(text, "(?<n>.)(b)?", template)
    assert found is UNSET or type(found) is str


@pytest.mark.parametrize(
    "pattern", ["(a+)+$", "(a|aa)+$", "(a*)*b", "(.*)(.*)b", "(a|ab?)+$", "(?:a+a+)+y"]
)
def test_patterns_that_stop_backtracking_engines_are_answered(pattern: str) -> None:
    text = LONG[:-1] + "!"
    assert matches(text, pattern) is False
    assert matches(LONG, pattern) is pattern.endswith("$")


def test_steps_are_bounded() -> None:
    """What could take long is Undefined, whatever the engine would have made of it."""
    wide = "(?:a?){500}b"
    size = regex.pattern_for(wide, "").size  # type: ignore[union-attr]
    fits = steps_max // size
    assert matches("a" * fits, wide) is False
    assert matches("a" * (fits + 1), wide) is UNSET
    assert replace("a" * 4000, wide + "|a", "x") is UNSET
    assert replace(LONG, "a(?:.*b)?", "x") is UNSET


def test_the_inside_of_characters_is_looked_at_in_short_texts() -> None:
    text = "a\u00e9" * (inside_bytes_max // 3) + "a"
    assert matches(text, "\\B") is False
    assert replace(text, "\\b", "") == text
    assert matches(text + "\u00e9a", "\\B") is UNSET
    assert matches(LONG, "\\B") is True


def test_replacements_are_bounded() -> None:
    text = "a" * replacements_max
    assert replace(text + "b", "a", "c") == "c" * replacements_max + "b"
    assert replace(text + "a", "a", "c") is UNSET
    assert replace("ab" * 100, "a", "x" * (text_chars_max // 100 - 1)) is not UNSET
    assert replace("ab" * 100, "a", "x" * (text_chars_max // 100)) is UNSET
    assert replace("a" * 1000, "a", LONG) is UNSET


def test_what_would_be_too_long_is_not_built() -> None:
    tracemalloc.start()
    try:
        assert replace("a" * 8000, "a", LONG[:10_000]) is UNSET
        assert tracemalloc.get_traced_memory()[1] < 20 * text_chars_max
    finally:
        tracemalloc.stop()


ranges = st.lists(st.tuples(st.integers(0, 40), st.integers(0, 40)).map(sorted).map(tuple))


@given(ranges, ranges)
def test_sets_are_combined_as_sets(a: Any, b: Any) -> None:
    def points(found: Characters) -> set[int]:
        return {point for low, high in found.ranges for point in range(low, min(high, 50) + 1)}

    one, other = Characters(list(a)), Characters(list(b))
    assert points(one.complement()) == set(range(51)) - points(one)
    assert points(one.intersection(other)) == points(one) & points(other)
    text = "".join(map(chr, range(51)))
    found = re2.compile(one.re2().encode()).findall(text.encode())
    assert {ord(character) for character in found} == points(one)
    one.join(other)
    assert points(one) == points(Characters([*a, *b]))


def test_ordinary_replacing_in_long_texts_stays_within_bounds() -> None:
    words = "lorem ipsum-dolor " * 1500
    assert replace(words, "\\s+", "_") == words.replace(" ", "_")
    assert replace(words, "[^a-z]", "") == "loremipsumdolor" * 1500
    assert replace(words, "ipsum|dolor", "x") == words.replace("ipsum", "x").replace("dolor", "x")


def test_compiled_patterns_are_kept_in_small_number() -> None:
    regex._kept.cache_clear()
    for number in range(3 * patterns_max):
        assert matches(f"x{number}", f"x{number}$")
    assert regex._kept.cache_info().currsize == patterns_max
    assert matches("x", "y" * (10 * pattern_chars_max)) is UNSET
    assert regex._kept.cache_info().misses == 3 * patterns_max
