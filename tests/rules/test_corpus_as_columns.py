"""Every case of the corpus through columns: WHERE and the measure are what the case says.

A case's message stands three times in its batch, and the row in the middle is looked at. Left out
are payloads that a decoder of telemetry refuses (no object), and of measures what columns never
hold as a number or a text: objects, lists, a topic by itself, and what only the host of a rule
knows (`context`).
"""

from __future__ import annotations

import json
from typing import Any

import pytest
from messages import batch_of
from msgspec import UNSET
from sql_cases import CORPUS, EXAMPLES, SqlCase, cases, same

from streamgauge.engine.batch import Kind, Verdict
from streamgauge.engine.errors import ConfigError
from streamgauge.rules.compile import Compiled, compile_rule
from streamgauge.rules.message import Message
from streamgauge.rules.sql import parse
from streamgauge.rules.tree import Call

FILES = [*sorted(CORPUS.glob("*.jsonl")), *([EXAMPLES] if EXAMPLES.exists() else [])]
PASSED = {"output", "error"}  # what WHERE lets pass, though the SELECT may fail


def is_object(case: SqlCase) -> bool:
    try:
        return isinstance(json.loads(case.payload), dict)
    except ValueError:
        return False


ALL = [case for case in cases(*FILES) if is_object(case)]


def compiled(case: SqlCase, measure: str) -> Compiled:
    return compile_rule(case.line["sql"], measure, has_topic=True, **case.options)


def scalars(case: SqlCase) -> dict[str, Any]:
    """The items of the expected output that can be compared as a measure."""
    expected = case.line.get("expected")
    if case.line["outcome"] != "output" or "context" in case.line or not isinstance(expected, dict):
        return {}
    called = [item.value for item in parse(case.line["sql"]).query.items]
    if any(isinstance(value, Call) and value.name == "topic" for value in called):
        return {}
    return {name: value for name, value in expected.items() if not isinstance(value, dict | list)}


@pytest.mark.parametrize("case", ALL, ids=lambda case: case.id)
def test_columns_say_the_same(case: SqlCase) -> None:
    message = Message(case.payload, case.line["topic"], case.line.get("context"))
    measures = scalars(case)
    if case.line["outcome"] == "refused":
        with pytest.raises(ConfigError):
            compiled(case, "m")
        return
    for name in measures or ["m"]:
        rule = compiled(case, name)
        batch = batch_of([message] * 3, rule.reads)
        passed = rule.filter(batch)[1] == Verdict.PASS
        assert passed == (case.line["outcome"] in PASSED)
        if name in measures:
            column = rule.measure(batch)
            number = column.kind[1] == Kind.NUMBER
            found = float(column.number[1]) if number else column.value(1)
            assert found is not UNSET and same(found, measures[name]), (name, found)
