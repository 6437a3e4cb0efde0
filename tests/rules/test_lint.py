"""What is legal but cannot be meant is told, and only what is provably so."""

from __future__ import annotations

from typing import Any

import pytest
from drawn_sql import columns, expressions
from effort import examples
from hypothesis import given, settings
from messages import Message
from msgspec import UNSET

from streamgauge.rules import tree
from streamgauge.rules.compile import compile_rule
from streamgauge.rules.functions import FUNCTIONS, KNOWN
from streamgauge.rules.interpret import Dialect, evaluate
from streamgauge.rules.lint import ARGUMENTS, findings
from streamgauge.rules.sql import parse
from streamgauge.rules.values import CostlyError, truth_of


def told(text: str) -> list[str]:
    return [f"{text[found.at :][:6]}: {found.message}" for found in findings(parse(text))]


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("name > 'warm'", "'warm': > with the text 'warm' is always Undefined"),
        ("TRUE <= a", "TRUE <: <= with a Boolean is always Undefined"),
        ("a < NULL", "NULL: < with NULL is always Undefined"),
        ("a > [1]", "[1]: > with an array is always Undefined"),
        ("lower(a) = 1", "= 1: a text and a number are never equal, as nothing converts here"),
        ("length(a) = '5'", "= '5': a number and a text are never equal, as nothing converts here"),
        ("a IN 'x'", "'x': IN of a text is always Undefined: it takes an array"),
        ("a IN []", "[]: IN of an empty array is never true"),
        ("a - 'x' > 1", "'x' > : - with the text 'x' is always Undefined"),
        ("a * NULL > 1", "NULL >: * with NULL is always Undefined"),
        ("a / 0 > 1", "0 > 1: division by zero is always Undefined"),
        ("1 + '2' = b", "'2' = : + with a text joins texts, it does not add"),
        ("5 AND a", "5 AND : AND of a number is Undefined: it takes Booleans"),
        ("NOT 'x'", "'x': NOT of a text is Undefined: it takes Booleans"),
        ("a > 5 AND b AND a < 3", "< 3: no number is within these bounds of a: AND is never true"),
        ("a > 5 AND 5 >= a", ">= a: no number is within these bounds of a: AND is never true"),
        ("a = 5 AND a = 6", "= 6: no number is within these bounds of a: AND is never true"),
        ("FALSE", "FALSE: WHERE is never true: no message passes"),
        ("'yes'", "'yes': WHERE is never true: no message passes"),
        ("TRUE", "TRUE: WHERE is always true"),
        ("abs(a, b) > 1", "abs(a,: abs() takes one argument, this has 2: always Undefined"),
        ("substring(a) = 'x'", "substr: substring() takes 2 to 3 arguments, this has 1: always "
         "Undefined"),
    ],
)  # fmt: skip
def test_what_cannot_be_meant_is_told(where: str, message: str) -> None:
    assert told(f"SELECT * FROM '#' WHERE {where}") == [message]


@pytest.mark.parametrize(
    "where",
    [
        "a > '5'", "a > b", "a = 'x'", "a + 'x' = b", "'5' - 2 > 1", "a > 5 AND a < 6",
        "a >= 5 AND a <= 5", "a = 5 AND b = 6", "a > 5 OR a < 3", "'true' AND a", "NOT 'FALSE'",
        "a IN [1, 'x']", "a IN b", "lower(a) = 'x'", "cast(a AS Int) > 5", "a / 2 > 1",
        "substring(a, 1) = 'x'", "a <> NULL", "x + 1 = 5", "a + b > 5", "NOT isNull(a)",
    ],
)  # fmt: skip
def test_what_can_be_meant_is_not(where: str) -> None:
    assert told(f"SELECT * FROM '#' WHERE {where}") == []


def test_warnings_come_with_line_and_caret() -> None:
    rule = compile_rule("SELECT t FROM '#'\nWHERE t > 'warm'", "t", has_topic=False)
    (problem,) = rule.warnings
    assert (problem.severity, problem.where) == ("warning", "rule.sql: line 2, column 11")
    assert problem.hint == "compare texts with = or <>, or use startswith"


def test_every_function_takes_as_many_arguments_as_is_said() -> None:
    """With fewer or more than the table has, a function gives Undefined, whatever they are."""
    assert set(ARGUMENTS) | {"concat", "decode"} >= KNOWN - {"get_mqtt_property"}
    message = Message({"a": 1}, "a/b")
    for name, (least, most) in ARGUMENTS.items():
        for count in {least - 1, most + 1} - {-1}:
            for value in ("x", 1, "5"):
                if name in FUNCTIONS:
                    assert FUNCTIONS[name](message, [value] * count) is UNSET, name


def holding(part: tree.Node) -> tree.Statement:
    item = tree.Item(0, part, ("k",))
    return tree.Statement(0, (), tree.Query(0, (item,), False, None, None, None))


@settings(max_examples=examples(300))
@given(expressions, columns)
def test_what_is_called_never_true_never_is(node: tree.Node, values: tuple[list[Any], ...]) -> None:
    text = f"SELECT * FROM '#' WHERE {node.alone}"
    statement = parse(text)
    where = statement.query.where
    assert where is not None
    messages = [found.message for found in findings(statement)]
    below = [found.message for part in where.parts for found in findings(holding(part))]
    never = [m for m in messages if m not in below and ("never true" in m or "Undefined" in m)]
    if not never:
        return
    for row in zip(*values, strict=True):
        message = Message(dict(zip("abc", row, strict=True)), "a/b")
        try:
            assert truth_of(evaluate(where, message, Dialect())) is not True, (text, never)
        except CostlyError:
            pass
