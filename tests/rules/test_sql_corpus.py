"""Every case of the corpus gives what it says, by the exact evaluator."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from sql_cases import CORPUS, EXAMPLES, SqlCase, cases, same

from streamgauge.engine.errors import ConfigError
from streamgauge.rules.functions import CLOUD, KNOWN
from streamgauge.rules.rule import Message, Rule

DOCUMENT = Path(__file__).parents[2] / "docs" / "iot-sql.md"


def outcome_of(case: SqlCase) -> tuple[str, Any, Message | None, Rule | None]:
    """The outcome, the output as JSON value or text, and what a template needs."""
    try:
        rule = Rule(case.line["sql"], **case.options)
    except ConfigError:
        return "refused", None, None, None
    message = Message(case.payload, case.line["topic"], case.line.get("context"))
    found = rule.apply(message)
    output: Any = None
    if found.kind == "output":
        try:
            output = json.loads(found.output)
        except ValueError:
            output = found.output.decode("utf-8", "surrogateescape")
    return found.kind, output, message, rule


def check(case: SqlCase) -> None:
    kind, output, message, rule = outcome_of(case)
    assert kind == case.line["outcome"], output
    if kind == "output":
        assert same(output, case.line["expected"]), output
    for template, text in case.line.get("templates", {}).items():
        assert rule is not None and message is not None
        assert rule.template(template, "template").fill(message) == text


@pytest.mark.parametrize("case", list(cases(*sorted(CORPUS.glob("*.jsonl")))), ids=lambda c: c.id)
def test_corpus(case: SqlCase) -> None:
    check(case)


given = list(cases(EXAMPLES)) if EXAMPLES.exists() else []


@pytest.mark.skipif(not given, reason="the examples are not beside the repository")
@pytest.mark.parametrize("case", given, ids=lambda c: c.id)
def test_examples(case: SqlCase) -> None:
    check(case)


def test_every_function_has_cases() -> None:
    statements = " ".join(case.line["sql"] for case in cases(*CORPUS.glob("*.jsonl"))).lower()
    assert [name for name in KNOWN if not re.search(rf"\b{name}\s*\(", statements)] == []


def test_every_function_is_documented() -> None:
    """Those that need a cloud too: nothing is silently ignored."""
    text = DOCUMENT.read_text().lower()
    assert [name for name in (*KNOWN, *CLOUD) if not re.search(rf"`{name}[(`]", text)] == []
