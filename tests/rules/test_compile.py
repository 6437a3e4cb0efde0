"""Compiled rules: the corpus of filter.sql, and what a rule tells about itself."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from messages import Message, batch_of, exact_verdicts
from msgspec import UNSET

from streamgauge.engine.batch import Column, Kind, Verdict
from streamgauge.engine.errors import ConfigError
from streamgauge.rules import columns
from streamgauge.rules.compile import PASSES, compile_rule
from streamgauge.rules.interpret import Dialect
from streamgauge.rules.values import exact

VERDICTS = {
    "pass": Verdict.PASS,
    "no_topic": Verdict.TOPIC_MISSING,
    "other_topic": Verdict.TOPIC_MISMATCH,
    "false": Verdict.WHERE_FALSE,
    "undefined": Verdict.WHERE_UNDEFINED,
}


# The corpus.


@dataclass
class Case:
    """One block of filter.sql."""

    sql: str
    measure: str | None = None
    options: dict[str, str] = field(default_factory=dict)
    messages: list[Message] = field(default_factory=list)
    verdicts: list[Verdict] = field(default_factory=list)
    measures: list[Any] = field(default_factory=list)


def corpus() -> Iterator[Case]:
    """Read filter.sql."""
    text = (Path(__file__).parent / "filter.sql").read_text(encoding="utf-8")
    for block in text.split("\n\n"):
        lines = [line for line in block.splitlines() if line and not line.startswith("--")]
        statement = [line for line in lines if line.split()[0] not in ("|", "measure", "option")]
        if not statement:
            continue
        case = Case("\n".join(statement))
        for line in lines[len(statement) :]:
            read_line(case, line)
        yield case


def read_line(case: Case, line: str) -> None:
    word, *rest = line.split()
    if word == "measure":
        case.measure = rest[0]
    elif word == "option":
        case.options[rest[0]] = rest[1]
    else:
        _, topic, payload, verdict, *measure = map(str.strip, line.split("|"))
        case.messages.append(Message(json.loads(payload), None if topic == "-" else topic))
        case.verdicts.append(VERDICTS[verdict])
        assert bool(measure) == (case.measure is not None)
        case.measures += [UNSET if text == "-" else json.loads(text) for text in measure]


@pytest.mark.parametrize("case", list(corpus()), ids=lambda case: case.sql[:70])
def test_corpus(case: Case) -> None:
    rule = compile_rule(case.sql, case.measure or "m", has_topic=True, **case.options)
    together = batch_of(case.messages, rule.reads)
    assert list(rule.filter(together)) == case.verdicts
    for message, verdict in zip(case.messages, case.verdicts, strict=True):
        assert list(rule.filter(batch_of([message], rule.reads))) == [verdict]
    if case.measure is not None:
        column = rule.measure(together)
        assert [column.value(row) for row in range(len(column))] == case.measures


@pytest.mark.parametrize("case", list(corpus()), ids=lambda case: case.sql[:70])
def test_corpus_through_the_exact_evaluator(case: Case) -> None:
    if "WHERE" not in case.sql.upper():
        return
    found = exact_verdicts(case.sql, case.messages, Dialect(**case.options))
    of_topic = (Verdict.TOPIC_MISSING, Verdict.TOPIC_MISMATCH)
    for verdict, expected in zip(found, case.verdicts, strict=True):
        assert expected in (verdict, *of_topic)


def test_the_corpus_is_read_whole() -> None:
    cases = list(corpus())
    assert len(cases) > 80
    assert all(case.messages for case in cases)
    found = {verdict for case in cases for verdict in case.verdicts}
    assert found == set(Verdict) - {Verdict.COSTLY}


# What a compiled rule tells about itself.


def test_the_passes_stand_in_order() -> None:
    assert [step.__name__ for step in PASSES] == ["parse", "check", "bind", "emit"]


@pytest.mark.parametrize(
    ("sql", "measure", "reads"),
    [
        ("SELECT * FROM '#'", "t", ("t",)),
        ("SELECT * FROM '#'", "my-key.x", ("my-key.x",)),
        ("SELECT device, ts, r.t AS t FROM '#' WHERE q = 1", "t", ("device", "q", "r.t", "ts")),
        ("SELECT r FROM '#' WHERE r.q > topic(2)", "r.t", ("r", "r.q", "r.t")),
        ("SELECT * AS m FROM '#'", "m.t", ("t",)),
        ("SELECT *, a AS t FROM '#'", "t", ("a", "t")),
        ("SELECT a AS t, * FROM '#'", "t", ("a", "t")),
        ("SELECT a FROM '#'", "b", ("a",)),
    ],
)
def test_paths_that_are_read(sql: str, measure: str, reads: tuple[str, ...]) -> None:
    assert compile_rule(sql, measure, has_topic=True).reads == reads


@pytest.mark.parametrize(
    ("sql", "reads_topic", "from_filter"),
    [
        ("SELECT *", False, None),
        ("SELECT * FROM '#'", True, "#"),
        ("SELECT a, topic(1) AS t", True, None),
        ("SELECT * WHERE a = topic()", True, None),
    ],
)
def test_the_topic_is_read_where_it_is_named(
    sql: str, reads_topic: bool, from_filter: str | None
) -> None:
    rule = compile_rule(sql, "a", has_topic=True)
    assert (rule.reads_topic, rule.from_filter) == (reads_topic, from_filter)


@pytest.mark.parametrize(
    ("sql", "measure", "message", "hint"),
    [
        ("SELECT temp FROM '#'", "temo", "the SELECT does not output temo", "did you mean temp?"),
        ("SELECT a.b, c FROM '#'", "xyz", "the SELECT does not output xyz", "it outputs b, c"),
        ("SELECT a AS o.t FROM '#'", "o",
         "o is an object that the SELECT builds, not a number", "did you mean o.t?"),
        ("SELECT * AS m FROM '#'", "m", "m is the whole message, not a number", ""),
        ("SELECT topic(1) AS r FROM '#'", "r", "r is text, not a number", ""),
    ],
)  # fmt: skip
def test_a_measure_without_number_is_a_warning(
    sql: str, measure: str, message: str, hint: str
) -> None:
    rule = compile_rule(sql, measure, where="x.toml: rules.hot", has_topic=True)
    (warning,) = rule.warnings
    assert (warning.where, warning.severity) == ("x.toml: rules.hot.measure", "warning")
    assert (warning.message, warning.hint) == (message, hint)
    batch = batch_of([Message({"a": 1}, "a")] * 2, rule.reads)
    assert rule.measure(batch).kind.tolist() == [Kind.UNDEFINED] * 2


def test_from_is_not_applied_to_messages_without_topics() -> None:
    rule = compile_rule("SELECT * FROM 'a/+' WHERE t > 1 OR topic(1) = 'a'", "t", has_topic=False)
    assert [warning.message for warning in rule.warnings] == [
        "FROM 'a/+' is not applied: no topic is declared for the messages",
        "topic() is Undefined: no topic is declared for the messages",
    ]
    batch = batch_of([Message({"t": 2})], rule.reads, topics=False)
    assert rule.filter(batch).tolist() == [Verdict.WHERE_UNDEFINED]
    assert compile_rule("SELECT * FROM '#'", "t", has_topic=False).warnings == ()


def test_a_topic_that_is_no_text_is_missing() -> None:
    rule = compile_rule("SELECT * FROM '#' WHERE t > 1 OR topic() = 'a'", "t", has_topic=True)
    batch = batch_of([Message({"t": 2})] * 6, rule.reads)
    for values in ([5, None, True, [1], {}, "a"], [5] * 6, [UNSET] * 6):
        batch.topic = Column.of(values)
        expected = [Verdict.PASS if value == "a" else Verdict.TOPIC_MISSING for value in values]
        assert rule.filter(batch).tolist() == expected
    batch.topic = None
    assert rule.filter(batch).tolist() == [Verdict.TOPIC_MISSING] * 6


def test_an_empty_batch_has_no_verdicts() -> None:
    for where in ("", " WHERE t > 1", " WHERE TRUE", " WHERE t + 'x' = u OR topic() = 'a'"):
        rule = compile_rule(f"SELECT * FROM 'a'{where}", "t", has_topic=True)
        batch = batch_of([], rule.reads)
        assert rule.filter(batch).tolist() == []
        assert len(rule.measure(batch)) == 0


def test_verdicts_of_a_batch_do_not_change_its_columns() -> None:
    values = [0.5, "7", None, 2**60 + 1]
    rule = compile_rule("SELECT * FROM '#' WHERE t = 5 OR NOT t <> 7 OR t > 1", "t", has_topic=True)
    batch = batch_of([Message({"t": value}, "a") for value in values], rule.reads)
    first = rule.filter(batch).tolist()
    assert [batch.columns["t"].value(row) for row in range(4)] == values
    assert rule.filter(batch).tolist() == first


def test_remembered_topics_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(columns, "topics_max", 10)
    asked: list[str] = []
    known = columns.Remembered(lambda topic: asked.append(topic) or len(topic))
    for number in range(100):
        assert known[str(number)] == known[str(number)] == len(str(number))
        assert len(known) <= 10
    assert len(asked) == 100
    long = "x" * (columns.topic_chars_max + 1)
    assert known[long] == len(long) and long not in known


def test_every_problem_is_told() -> None:
    with pytest.raises(ConfigError) as caught:
        compile_rule("SELECT", "a..b", where="r", has_topic=True, int_division="integer",
                     undefined_logic="x", version="2015")  # fmt: skip
    assert [(problem.where, problem.message) for problem in caught.value.problems] == [
        ("r.sql: line 1, column 7",
         "expected *, a path or an expression after SELECT, found the end"),
        ("r", "version: expected 2016-03-23 or 2015-10-08, found 2015"),
        ("r", "int_division: expected int or decimal, found integer"),
        ("r", "undefined_logic: expected strict or kleene, found x"),
        ("r.measure", "expected a dotted path in the output of the SELECT, such as temperature, "
         'found "a..b"'),
    ]  # fmt: skip


def test_exact_values_of_json_numbers() -> None:
    assert exact(0.1) == Decimal("0.1")
    assert exact(10.0) == exact(10) == Decimal(10)
    assert exact(1e23) == Decimal("1E23")
    assert exact(True) is True
