"""Statements from anybody: each is compiled or refused with a ConfigError, at small cost."""

import sys
from typing import Any

import pytest
from effort import examples
from hypothesis import given, settings
from hypothesis import strategies as st
from messages import Message, batch_of

from streamgauge.engine.batch import Column
from streamgauge.engine.errors import ConfigError
from streamgauge.rules import regex
from streamgauge.rules.check import patterns_max
from streamgauge.rules.compile import Compiled, compile_rule
from streamgauge.rules.draft import problems_max
from streamgauge.rules.sql import depth_max, nodes_max, parse
from streamgauge.rules.tokens import excerpt_chars_max, statement_chars_max, tokens_max

MANY = statement_chars_max // 2


def where(text: str) -> str:
    return f"SELECT * FROM '#' WHERE {text}"


DEEP = {
    "parentheses": where("(" * 5000),
    "closed parentheses": where("(" * 2500 + "a" + ")" * 2500),
    "not": where("NOT " * 3000 + "a"),
    "minus": where("- " * 3000 + "a"),
    "calls": where("f(" * 1500 + ")" * 1500),
    "arrays": where("[" * 2500 + "]" * 2500),
    "objects": where("{'a':" * 1000 + "1" + "}" * 1000),
    "case": where("CASE " * 3000),
    "queries": where("(SELECT " * 1500),
    "from": "SELECT * FROM " + "(" * MANY,
    "exists": where("EXISTS (SELECT * WHERE " * 500),
    "sum": where("1" + "+1" * 1500),
    "sum of paths": where("a" + "+a" * 1500 + " > 1"),
    "members": where("f()" + ".a" * 2500),
    "mixed logic": where("a" + " AND (b OR a" * 800 + ")" * 800),
    "right sums": where("(1+" * 1000 + "1" + ")" * 1000),
}
BROAD = {
    "items": "SELECT a" + ",a" * (MANY - 10) + " FROM '#'",
    "functions": "SELECT " + "lower(a) AS b," * 1000 + "a FROM '#'",
    "warnings": where("topic(1,2) = 1 AND " * 500 + "lower(a)"),
    "or": where("a" + " OR a" * 3000),
    "arguments": where("f(a" + ",a" * MANY),
    "variables": "SET @a = 1" + ", @a = 1" * 1500 + " SELECT *",
}
LONG = {
    "blank": " " * (1 << 20),
    "quote": "'" * (1 << 20),
    "statement": "SELECT * FROM '#' WHERE " + "a = 1 OR " * 120_000 + "a = 1",
    "nul": "\0" * (1 << 20),
}
ODD = {
    "open quote": where("'" + "''" * (MANY - 50)),
    "surrogate": where("a = '\ud800' OR \ud800"),
    "surrogate filter": "SELECT * FROM '#\ud800" + "x" * 300 + "'",
    "nul": "SELECT \0",
    "controls": "SELECT \x1b[2J\x07",
    "right to left": "SELECT \u202e\u2066a",
    "no-break space": "SELECT\u00a0* FROM '#'",
    "line separators": "SELECT *\u2028FROM\x0b'#'\x0c\x85",
    "combining": "SELECT a\u0301\u0301\u0301",
    "digits of another script": where("a = \u0663"),
    "digits": where("a = " + "9" * 10_000),
    "fraction": where("a = 0." + "0" * 10_000 + "1"),
    "exponent": where("a = 1e" + "9" * 10_000),
    "word": "SELECT " + "a" * 10_000 + "(1)",
    "foreign word": "SELECT a " + "SELCT" * 2000,
    "filter": "SELECT * FROM '" + "+/" * 5000 + "#/a'",
    "path": "SELECT " + "a." * 5000,
}


def refused(text: str) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        compile_rule(text, "a", has_topic=True)
    return caught.value


def check_problems(error: ConfigError) -> None:
    """What is shown of a hostile text is short, and printable on a terminal."""
    assert 1 <= len(error.problems) <= problems_max
    for problem in error.problems:
        assert len(problem.message) + len(problem.hint) < 300
        assert all(len(line) <= 2 * excerpt_chars_max + 4 for line in problem.excerpt.split("\n"))
        assert (problem.message + problem.hint + problem.excerpt.replace("\n", "")).isprintable()
        str(problem).encode()


@pytest.mark.parametrize("name", DEEP)
def test_deep_text_is_refused(name: str) -> None:
    error = refused(DEEP[name])
    check_problems(error)
    assert any(f"{depth_max} levels" in problem.message for problem in error.problems) or (
        name in ("from", "case", "queries")
    )


@pytest.mark.parametrize("name", {**BROAD, **LONG, **ODD})
def test_odd_text_is_refused(name: str) -> None:
    check_problems(refused({**BROAD, **LONG, **ODD}[name]))


def test_the_caps_are_where_they_are_said_to_be() -> None:
    fits = where("a = 1" + " " * (statement_chars_max - len(where("a = 1"))))
    assert parse(fits)
    assert f"{statement_chars_max:,}" in refused(fits + " ").problems[0].message
    assert parse(where("a" + " OR a" * (nodes_max - 10)))
    assert f"{nodes_max:,} parts" in refused(where("a" + " OR a" * nodes_max)).problems[0].message
    signs = refused(where("f" + "()" * tokens_max)).problems[0].message
    assert f"{tokens_max:,} words and signs" in signs
    nested = depth_max - 1
    assert parse(where("(" * nested + "a" + ")" * nested))
    assert parse(where("a" + " + a" * (depth_max - 5)))
    assert "levels" in refused(where("(" * depth_max + "a" + ")" * depth_max)).problems[0].message


def test_what_is_accepted_needs_little_of_the_stack() -> None:
    """A host may call from deep inside; a statement at the caps must not need it all."""
    limit = sys.getrecursionlimit()
    texts = [
        where("(" * (depth_max - 2) + "a" + ")" * (depth_max - 2)),
        where("NOT " * (depth_max - 5) + "a > 1"),
        where("- " * (depth_max - 5) + "a > 1"),
        where("1" + "+ 'x'" * (depth_max - 6) + " = a"),
        where("a" + "+ a" * (depth_max - 6) + " = a"),
    ]
    frame, depth = sys._getframe(), 0
    while frame.f_back is not None:
        frame, depth = frame.f_back, depth + 1
    try:
        sys.setrecursionlimit(depth + 400)
        rules = [compile_rule(text, "a", has_topic=True) for text in texts]
        verdicts = [run(rule, [1, "2", 0.5, None, True]) for rule in rules]
    finally:
        sys.setrecursionlimit(limit)
    assert all(len(found) == 5 for found in verdicts)


def run(rule: Compiled, values: list[Any]) -> list[int]:
    """The verdicts over messages in which every path holds the same value."""
    topics = [value if type(value) is str else f"a/{value}" for value in values]
    batch = batch_of([Message({}, topic) for topic in topics], ())
    batch.columns = {path: Column.of(values) for path in rule.reads}
    verdicts: list[int] = rule.filter(batch).tolist()
    return verdicts


VOCABULARY = st.sampled_from(
    "SELECT VALUE FROM WHERE AS AND OR NOT TRUE FALSE NULL CASE WHEN THEN ELSE END IN EXISTS SET "
    "CAST LIKE topic lower a b.c value '#' 'x' '' \"y\" 1 0 2.5 1e9 9007199254740993 @v . , ( ) [ ]"
    " { } : = <> != < <= > >= + - * / % -- ; ! ' \"".split(" ")
)
PAYLOADS = [0, -1, 0.5, 1e300, 5e-324, 2**60 + 1, 10**300, "", "7", "true", "x" * 70_000,
            True, False, None, [], [1, [2]], {}, {"a": {"b": 0.1}}]  # fmt: skip


def check_any(text: str) -> None:
    try:
        rule = compile_rule(text, "a", has_topic=True)
    except ConfigError as error:
        check_problems(error)
    else:
        assert len(run(rule, PAYLOADS)) == len(PAYLOADS)


@settings(max_examples=examples(300))
@given(st.text(max_size=200))
def test_any_text_is_compiled_or_refused(text: str) -> None:
    check_any(text)
    check_any(where(text))


@settings(max_examples=examples(500))
@given(st.lists(VOCABULARY, max_size=30).map(" ".join))
def test_any_words_are_compiled_or_refused(text: str) -> None:
    check_any(text)
    check_any(where(text))
    check_any(where(f"a + {text} > 1"))


def test_long_values_stay_small() -> None:
    rule = compile_rule(where("a" + " + a" * 50 + " = 'x' OR a = 1"), "a", has_topic=True)
    assert len(run(rule, PAYLOADS)) == len(PAYLOADS)
    deep: Any = 1
    for _ in range(127):
        deep = [deep]
    rule = compile_rule(where("'' + a = 'x' OR a = a"), "a", has_topic=True)
    assert len(run(rule, [deep, {"k": deep}])) == 2


def patterns(count: int) -> str:
    return where(" OR ".join(f"regexp_matches(a, 'x{{1,300}}y{n}')" for n in range(count)))


def test_a_statement_has_no_more_patterns_than_are_kept() -> None:
    error = refused(patterns(patterns_max + 1))
    assert f"at most {patterns_max} regular expressions" in error.problems[0].message
    assert 2 * patterns_max <= regex.patterns_max  # each in two forms, by how the text ends
    rule = compile_rule(
        patterns(patterns_max) + " OR regexp_matches(b, 'x{1,300}y0')", "a", has_topic=True
    )
    run(rule, ["y", "y\n"])
    misses = regex._kept.cache_info().misses
    run(rule, ["yy", "yy\n"])
    assert regex._kept.cache_info().misses == misses
