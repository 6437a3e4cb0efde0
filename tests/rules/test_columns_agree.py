"""Columns and the exact evaluator give the same for every row, whatever the expression."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from drawn_sql import PATHS, ROWS, arithmetic, columns, dialects, expressions
from effort import examples
from hypothesis import example, given, settings
from hypothesis import strategies as st
from messages import Message, batch_of
from msgspec import UNSET

from streamgauge.engine.batch import Column, Kind, Verdict
from streamgauge.engine.errors import ConfigError
from streamgauge.rules import tree
from streamgauge.rules.compile import compile_rule
from streamgauge.rules.filter import verdict_of
from streamgauge.rules.interpret import Dialect, evaluate
from streamgauge.rules.sql import parse
from streamgauge.rules.values import CostlyError

TOPICS = [None, "a", "a/5", "true/0.1", "$aws/rules/r/2/abc", "x/y/z"]


def messages_of(values: tuple[list[Any], ...]) -> list[Message]:
    rows = zip(*values, strict=True)
    return [
        Message(dict(zip(PATHS, row, strict=True)), topic)
        for row, topic in zip(rows, TOPICS, strict=True)
    ]


def options(dialect: Dialect) -> dict[str, Any]:
    names = ("int_division", "undefined_logic", "version")
    return {"has_topic": True, **{name: getattr(dialect, name) for name in names}}


def seeded(message: Message, batch: Any, row: int) -> Message:
    """The message as the row of the batch, which draws from its position and tells its arrival."""
    message.seed = str(batch.users.position(row)).encode()
    message.context = {"timestamp": int(batch.arrival[row])}
    return message


@settings(max_examples=examples(500))
@given(expressions, columns, dialects)
def test_the_filter_is_what_the_exact_evaluator_says(
    where: tree.Node, values: tuple[list[Any], ...], dialect: Dialect
) -> None:
    sql = f"SELECT a, b, c FROM '#' WHERE {where.alone}"
    try:
        rule = compile_rule(sql, "a", **(options(dialect) | {"has_topic": False}))
    except ConfigError:  # as in the older version, or a pattern that RE2 does not take
        return
    messages = messages_of(values)
    batch = batch_of(messages, rule.reads)
    found = rule.filter(batch).tolist()
    condition = parse(sql).query.where
    assert condition is not None
    for row, message in enumerate(messages):
        try:
            expected = verdict_of(evaluate(condition, seeded(message, batch, row), dialect))
        except CostlyError:
            expected = Verdict.COSTLY
        assert found[row] == expected, (sql, message.payload)


def expected_cell(value: Any) -> Any:
    """A value as a measure holds it: UNSET, None, bool, float64, str, list or dict."""
    if type(value) is Decimal:
        number = float(value)
        return UNSET if number in (float("inf"), float("-inf")) else number
    return value


def cell(column: Column, row: int) -> Any:
    if column.kind[row] == Kind.NUMBER:
        return float(column.number[row])
    return column.value(row)


def check_measure(node: tree.Node, values: tuple[list[Any], ...], dialect: Dialect) -> float:
    """Compare every row of a measure; the share of rows that were interpreted."""
    sql = f"SELECT {node.alone} AS m FROM '#'"
    if isinstance(node, tree.Call) and node.name == "topic":
        return 1.0  # never a number: `check` warns, and every row is Undefined
    try:
        rule = compile_rule(sql, "m", **options(dialect))
    except ConfigError:
        return 1.0
    messages = messages_of(values)
    batch = batch_of(messages, rule.reads)
    column = rule.measure(batch)
    item = parse(sql).query.items[0].value
    for row, message in enumerate(messages):
        try:
            value = evaluate(item, seeded(message, batch, row), dialect)
        except CostlyError:
            value = UNSET
        found, expected = cell(column, row), expected_cell(value)
        if type(expected) in (bool, float):
            assert type(found) is type(expected), (sql, message.payload)
        assert found == expected, (sql, message.payload, found, expected)
    counts = getattr(rule.measure, "counts", None)
    return counts.interpreted / ROWS if counts is not None else 0.0


@settings(max_examples=examples(300))
@given(expressions, columns, dialects)
def test_the_measure_is_what_the_exact_evaluator_says(
    node: tree.Node, values: tuple[list[Any], ...], dialect: Dialect
) -> None:
    check_measure(node, values, dialect)


def sample(text: str, *values: list[Any]) -> Any:
    item = parse(f"SELECT {text} AS m").query.items[0].value
    return example(item, tuple([*values, [0] * ROWS, [0] * ROWS][:3]), Dialect())


@settings(max_examples=examples(500))
@given(arithmetic, columns, dialects)
@sample("(a - 32) * 5 / 9", [70.1, 21.37, 7, 212, -40, 0.3])
@sample("a * 9 / 5 + 32", [21.37, 18.4, 7, 0.1, 1e14, 99999999999.99])
@sample("a / 3 * 3", [1, 2, 0.1, 10, 0.7, 1e15])
@sample("-a / 7 / 9 / 11 / 13", [1, 2, 0.1, 10, 0.7, 123.456])
@sample("round(a * 10) / 10", [0.25, 0.35, 0.05, -0.25, 2.5, 1.449999])
@sample("a - b", [0.3, 0.1, 1.1, 2**53 - 1, 1e15, 5], [0.1, 0.3, 1.0, 1, 0.5, 5.0])
def test_arithmetic_of_columns_is_exact(
    node: tree.Node, values: tuple[list[Any], ...], dialect: Dialect
) -> None:
    check_measure(node, values, dialect)


temperatures = [round(18 + 0.37 * n, 2) for n in range(ROWS)]
words = ["heat", "cool", "heat", "off", "heat", "cool"]


@pytest.mark.parametrize(
    ("measure", "values"),
    [
        ("a * 9 / 5 + 32", (temperatures,)),
        ("(a - 32) * 5 / 9", (temperatures,)),
        ("CASE b WHEN 'heat' THEN a + 1 WHEN 'off' THEN 0 ELSE a - 1 END", (temperatures, words)),
        ("CASE a > c WHEN true THEN a ELSE c END", (temperatures, words, temperatures[::-1])),
        ("length(b)", (temperatures, words)),
        ("cast(b AS Decimal)", (temperatures, ["1.5", "2", "1.5", "2", "x", "2"])),
        ("nanvl(c, a)", (temperatures, words, [None, 1.5, UNSET, 2, 3, 4])),
        ("round(a * 10) / 10", (temperatures,)),
        ("abs(a - 19)", (temperatures,)),
    ],
)
def test_homogeneous_columns_are_not_interpreted(
    measure: str, values: tuple[list[Any], ...]
) -> None:
    node = parse(f"SELECT {measure} AS m").query.items[0].value
    rows = tuple([*values, [0] * ROWS, [0] * ROWS][:3])
    assert check_measure(node, rows, Dialect()) == 0.0


@settings(max_examples=examples(50))
@given(st.data())
def test_many_rows_of_few_values_are_evaluated_once_each(data: st.DataObject) -> None:
    """Batches larger than the spare groups: every row gets what its own values say."""
    rows = 300
    texts = data.draw(st.lists(st.sampled_from([*"abcde", None, UNSET, True, 1.5]),
                               min_size=rows, max_size=rows))  # fmt: skip
    others = data.draw(
        st.lists(st.sampled_from(["x", "y", 2, UNSET]), min_size=rows, max_size=rows)
    )
    sql = "SELECT a FROM '#' WHERE concat(a, b) <> 'ax' AND upper(a) IN ['A', 'B', 'TRUE', '1.5']"
    rule = compile_rule(sql, "a", has_topic=False)
    messages = [Message({"a": a, "b": b}) for a, b in zip(texts, others, strict=True)]
    where = parse(sql).query.where
    assert where is not None
    expected = [verdict_of(evaluate(where, message, Dialect())) for message in messages]
    assert rule.filter(batch_of(messages, rule.reads)).tolist() == expected
    assert rule.counts.interpreted == 0


def test_rows_that_were_interpreted_are_counted() -> None:
    sql = "SELECT a * 2 AS m FROM '#' WHERE b > 1"
    rule = compile_rule(sql, "m", has_topic=False)
    messages = [Message({"a": a, "b": b}) for a, b in [(1, 2), (0.1 + 0.2, 2), (1, "2"), ("1", 2)]]
    batch = batch_of(messages, rule.reads)
    rule.filter(batch)
    assert rule.interpreted() == 1  # the text of b may convert
    rule.measure(batch)
    assert rule.interpreted() == 1 + 2  # 17 digits, and a text
