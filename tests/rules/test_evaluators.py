"""The columnar and the exact evaluator say the same of every row, and the quick one says most."""

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import numpy as np
from effort import examples
from hypothesis import example, given, settings
from hypothesis import strategies as st
from messages import Message, batch_of, exact_verdicts
from msgspec import UNSET

from streamgauge.rules import tree
from streamgauge.rules.compile import Compiled, compile_rule
from streamgauge.rules.interpret import Dialect, evaluate
from streamgauge.rules.sql import parse

PATHS = ("a", "b", "c")
LITERALS = (
    "0 1 2 3 5 9 10 100 0.1 0.2 0.3 0.7 1.5 2.5 1.8 9007199254740992 9007199254740993 1E300 1E-7 "
    "0.1000000000000000055511151231257827 0.30000000000000004 123456789012345678901234567890"
).split()
TEXTS = ("true", "FALSE", "5", "0.1", "-2", "1e3", "abc", "", "0.30000000000000004")
SPECIAL = (
    *(0.0, 0.1, 0.2, 0.3, 0.30000000000000004, 0.7, 5e-324, 1e-310, 1e23, 1e300, 1.7e308),
    *(9007199254740991, 9007199254740992, 9007199254740993, 2**60 + 1, 10**40, 10**300),
)

grid = st.integers(-60, 60).map(lambda n: n / 10)
numbers = st.one_of(
    st.sampled_from(SPECIAL),
    st.sampled_from(SPECIAL).map(lambda value: -value),
    grid,
    grid.map(lambda value: float(np.nextafter(value, 100))),
    st.integers(-12, 12),
    st.integers(-(2**60), 2**60),
    st.floats(allow_nan=False, allow_infinity=False),
)
anything = st.one_of(
    numbers,
    st.sampled_from(TEXTS),
    st.sampled_from([True, False, None, UNSET, [], [1], [1.0], {}, {"x": 1}, {"x": 1.0}]),
)
value_columns = st.one_of(
    st.lists(grid, min_size=6, max_size=6),
    st.lists(st.integers(-12, 12), min_size=6, max_size=6),
    st.lists(numbers, min_size=6, max_size=6),
    st.lists(anything, min_size=6, max_size=6),
)


def number_forms(inner: st.SearchStrategy[tree.Node]) -> st.SearchStrategy[tree.Node]:
    signs = st.sampled_from(["+", "-", "*", "/", "%"])
    return st.one_of(
        st.builds(tree.Binary, st.just(0), signs, inner, inner),
        st.builds(tree.Unary, st.just(0), st.just("-"), inner),
    )


def truth_forms(inner: st.SearchStrategy[tree.Node]) -> st.SearchStrategy[tree.Node]:
    operands = st.lists(inner, min_size=2, max_size=3).map(tuple)
    return st.one_of(
        st.builds(tree.Logic, st.just(0), st.sampled_from(["AND", "OR"]), operands),
        st.builds(tree.Unary, st.just(0), st.just("NOT"), inner),
    )


paths = st.sampled_from(PATHS).map(lambda name: tree.Path(0, (name,)))
number_literals = st.sampled_from(LITERALS).map(lambda text: tree.Literal(0, Decimal(text)))
literals = st.one_of(
    number_literals,
    st.sampled_from([*TEXTS, True, False, None]).map(lambda value: tree.Literal(0, value)),
)
topics = st.one_of(
    st.just(tree.Call(0, "topic", ())),
    st.sampled_from(["1", "2", "9"]).map(
        lambda n: tree.Call(0, "topic", (tree.Literal(0, Decimal(n)),))
    ),
)
arithmetic = st.recursive(st.one_of(paths, paths, number_literals), number_forms, max_leaves=4)
operands = st.one_of(paths, literals, arithmetic, arithmetic, topics)
comparisons = st.builds(
    tree.Binary,
    st.just(0),
    st.sampled_from(["=", "<>", "<", "<=", ">", ">="]),
    operands,
    operands,
)
conditions = st.recursive(
    st.one_of(comparisons, comparisons, comparisons, paths, literals), truth_forms, max_leaves=4
)
dialects = st.builds(
    Dialect, st.sampled_from(["int", "decimal"]), st.sampled_from(["strict", "kleene"])
)


def agree(where: tree.Node, rows: list[list[Any]], topics: list[Any], dialect: Dialect) -> Compiled:
    """Check that the compiled filter says of every row what the exact evaluator says."""
    sql = f"SELECT a, b, c FROM '#' WHERE {where.alone}"
    messages = [
        Message(dict(zip(PATHS, row, strict=True)), topic)
        for row, topic in zip(rows, topics, strict=True)
    ]
    expected = exact_verdicts(sql, messages, dialect)
    rule = compile_rule(
        sql, "a", has_topic=False, int_division=dialect.int_division,
        undefined_logic=dialect.undefined_logic,
    )  # fmt: skip
    batch = batch_of(messages, rule.reads)
    assert list(rule.filter(batch)) == expected, sql
    for column in batch.columns.values():
        # A decoder may leave out what the float64 tells already.
        if column.other is not None:
            other = [None if type(value) is float else value for value in column.other]
            column.other = other if other.count(None) < len(other) else None
    assert list(rule.filter(batch)) == expected, sql
    return rule


some_topics = st.lists(
    st.sampled_from([None, "a", "a/5", "true/0.1", "$aws/rules/r/2/abc"]), min_size=6, max_size=6
)


@settings(max_examples=examples(300))
@given(conditions, st.tuples(*[value_columns] * 3), some_topics, dialects)
def test_both_evaluators_agree(
    where: tree.Node, values: tuple[list[Any], ...], topics: list[Any], dialect: Dialect
) -> None:
    agree(where, [list(row) for row in zip(*values, strict=True)], topics, dialect)


def tie(text: str, a: Any, b: Any) -> tuple[tree.Node, tuple[list[Any], ...], Dialect]:
    """An example of an expression that float64 gets wrong, or right by chance."""
    node = parse(f"SELECT * WHERE {text}").query.where
    assert node is not None
    return node, ([a] * 6, [b] * 6, [0] * 6), Dialect()


@settings(max_examples=examples(100))
@given(arithmetic, st.tuples(*[st.lists(grid, min_size=6, max_size=6)] * 3), dialects)
@example(*tie("a + b", 0.1, 0.2))
@example(*tie("a * 3", 0.1, 0.2))
@example(*tie("a * 3", 1e23, 0))
@example(*tie("a - 9007199254740993", 3, 0))
@example(*tie("a + b - 1", 9007199254740991, 2))
@example(*tie("a * b - 1", 3002399751580331, 3))
def test_both_evaluators_agree_on_ties(
    node: tree.Node, values: tuple[list[Any], ...], dialect: Dialect
) -> None:
    """Compare each expression with its own exact value, where rounding would show."""
    rows = [list(row) for row in zip(*values, strict=True)]
    message = Message(dict(zip(PATHS, rows[0], strict=True)))
    value = evaluate(node, message, dialect)
    if type(value) is Decimal:
        for sign in ("=", "<", ">=", "<>"):
            where = tree.Binary(0, sign, node, tree.Literal(0, value))
            agree(where, rows, [None] * 6, dialect)


def test_literals_of_the_grammar_are_what_the_property_takes_them_for() -> None:
    for text in LITERALS:
        (item,) = parse(f"SELECT {text} AS x").query.items
        assert item.value == tree.Literal(0, Decimal(text))


# How much is proven.


def share(where: str, **values: Sequence[Any]) -> float:
    """The share of rows that only the exact evaluator could tell."""
    rule = compile_rule(f"SELECT * FROM '#' WHERE {where}", "a", has_topic=False)
    rows = len(next(iter(values.values())))
    messages = [
        Message({name: found[row] for name, found in values.items()}) for row in range(rows)
    ]
    rule.filter(batch_of(messages, rule.reads))
    assert rule.counts.rows == rows
    return rule.counts.interpreted / rows


def test_homogeneous_rows_need_no_exact_evaluator() -> None:
    floats = [round(0.37 * n - 80, 2) for n in range(1000)]
    integers = list(range(-500, 500))
    words = ["on", "off"] * 500
    assert share("a > -40 AND a < 200", a=floats) == 0
    assert share("a = 0.1 OR a >= 0.3", a=floats) == 0
    assert share("a = b OR a < b", a=floats, b=integers) == 0
    assert share("a % 7 = 3 AND (a - 32) * 5 / 9 > 20", a=integers) == 0
    assert share("a * 1.8 + 32 > 100.001", a=floats) == 0
    assert share("a = 'on' AND b > 0", a=words, b=floats) == 0
    assert share("a = TRUE OR a = NULL OR b", a=[None, True] * 500, b=[True, False] * 500) == 0
    assert share("a > 1", a=[1.5, None, True, [1]] * 250) == 0


def test_only_rows_in_doubt_go_to_the_exact_evaluator() -> None:
    assert share("a > 1", a=[1.5, "2", "x", None] * 250) == 0.5
    assert share("a + b = 0.3", a=[0.1, 0.5] * 500, b=[0.2] * 1000) == 0.5
    assert share("a = 9007199254740993", a=[1.5, 9007199254740993] * 500) == 0.5
    assert share("'x' + a = 'x1'", a=[1, 2] * 500) == 0
    assert share("'x' + a = 'x1'", a=list(range(1000))) == 1


def test_rows_of_other_topics_are_not_interpreted() -> None:
    rule = compile_rule("SELECT * FROM 'a' WHERE t > 1", "t", has_topic=True)
    messages = [Message({"t": "2"}, "a"), Message({"t": "2"}, "b"), Message({"t": "2"})]
    rule.filter(batch_of(messages, rule.reads))
    assert rule.counts.interpreted == 1
