"""Compiled rules: the corpus of filter.sql, the measure, and the two evaluators that must agree."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from msgspec import UNSET

from streamgauge.engine.batch import Batch, Column, Devices, Kind, UserRecords, Verdict
from streamgauge.engine.errors import ConfigError
from streamgauge.rules import columns, tree
from streamgauge.rules.compile import PASSES, Compiled, compile_rule
from streamgauge.rules.filter import verdict_of
from streamgauge.rules.interpret import Dialect, evaluate
from streamgauge.rules.sql import parse
from streamgauge.rules.values import exact

VERDICTS = {
    "pass": Verdict.PASS,
    "no_topic": Verdict.TOPIC_MISSING,
    "other_topic": Verdict.TOPIC_MISMATCH,
    "false": Verdict.WHERE_FALSE,
    "undefined": Verdict.WHERE_UNDEFINED,
}


@dataclass
class Message:
    """A payload and its topic, as the exact evaluator sees it."""

    payload: Any
    topic: str | None = None

    def value(self, path: str) -> Any:
        found = self.payload
        for name in path.split("."):
            found = found.get(name, UNSET) if isinstance(found, dict) else UNSET
        return found


def batch_of(messages: Sequence[Message], reads: Sequence[str], topics: bool = True) -> Batch:
    """A batch of these messages with one column for each path."""
    users = UserRecords("shard", [], *[np.zeros(0, np.int64)] * 2, [], [],
                        np.zeros(0, np.int64), np.zeros(0, np.bool_))  # fmt: skip
    values = {path: [message.value(path) for message in messages] for path in reads}
    topic = [UNSET if message.topic is None else message.topic for message in messages]
    numbers = np.arange(len(messages))
    return Batch(
        users, Devices(), numbers, numbers, numbers, numbers,
        {path: Column.of(found) for path, found in values.items()},
        Column.of(topic) if topics else None,
    )  # fmt: skip


def exact_verdicts(sql: str, messages: Sequence[Message], dialect: Dialect) -> list[Verdict]:
    """What WHERE says by the exact evaluator alone, of the tree as it was parsed."""
    where = parse(sql).query.where
    assert where is not None
    return [verdict_of(evaluate(where, message, dialect)) for message in messages]


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
    assert {verdict for case in cases for verdict in case.verdicts} == set(Verdict)


# The two evaluators.

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


@settings(max_examples=300)
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


@settings(max_examples=100)
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
    assert share("'x' + a = 'x1'", a=[1, 2] * 500) == 1


def test_rows_of_other_topics_are_not_interpreted() -> None:
    rule = compile_rule("SELECT * FROM 'a' WHERE t > 1", "t", has_topic=True)
    messages = [Message({"t": "2"}, "a"), Message({"t": "2"}, "b"), Message({"t": "2"})]
    rule.filter(batch_of(messages, rule.reads))
    assert rule.counts.interpreted == 1


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
        ("SELECT *, a AS t FROM '#'", "t", ("a",)),
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
                     undefined_logic="x", version="2015-10-08")  # fmt: skip
    assert [(problem.where, problem.message) for problem in caught.value.problems] == [
        ("r.sql: line 1, column 7",
         "expected *, a path or an expression after SELECT, found the end"),
        ("r", "version: expected 2016-03-23, found 2015-10-08"),
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
