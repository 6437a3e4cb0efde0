"""A rule's statement to functions over a batch, in four passes: parse > check > bind > emit.

Each pass is a plain function that adds to the draft; PASSES is their order. A pass tells every
error that it finds, and the next one then does not run.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ..engine.batch import Filter, Measure
from ..engine.errors import Problem
from .check import check, topic_calls
from .columns import nothing, source_of
from .draft import Draft
from .filter import FilterCounts, RuleFilter
from .fold import folded, inlined, paths
from .interpret import item_key
from .measure import RuleMeasure
from .parse import parse
from .tokens import nearest, shown
from .tree import Call, Case, Literal, Member, Node, Path, Star


@dataclass(frozen=True)
class Compiled:
    """One rule, ready for the engine.

    sql: the statement as given. reads: the dotted paths named in SELECT, in WHERE and by the
    measure, sorted, each once. filter: a `Verdict` for each row of a batch. measure: the column of
    the value to smooth, Undefined throughout where the SELECT does not output it. reads_topic:
    whether FROM or topic() occurs. from_filter: the topic filter, None without FROM. warnings: what
    is legal but hardly meant. counts: what the filter has seen since it was compiled.
    """

    sql: str
    reads: tuple[str, ...]
    filter: Filter
    measure: Measure
    reads_topic: bool
    from_filter: str | None
    warnings: tuple[Problem, ...]
    counts: FilterCounts

    def interpreted(self) -> int:
        """Return how many rows filter and measure have evaluated one by one."""
        return self.counts.interpreted + getattr(self.measure, "interpreted", 0)


def compile_rule(
    sql: str,
    measure: str,
    *,
    where: str = "rule",
    has_topic: bool,
    int_division: str = "int",
    undefined_logic: str = "strict",
    version: str = "2016-03-23",
    rule_name: str = "",
) -> Compiled:
    """Compile one rule.

    Args:
        sql: the statement, AWS IoT SQL.
        measure: dotted path in the output of the SELECT.
        where: the place of the rule in what the user wrote, with which every problem begins.
        has_topic: whether messages carry a topic. Without one FROM is not applied.
        int_division: "int" cuts Int / Int toward zero, "decimal" does not.
        undefined_logic: "strict" or "kleene", what AND and OR make of Undefined.
        version: of AWS IoT SQL.
        rule_name: the name under which messages of Basic Ingest reach the rule.

    Raises:
        ConfigError: with every problem of the statement, the measure and the choices.
    """
    choices = {
        "version": version,
        "int_division": int_division,
        "undefined_logic": undefined_logic,
    }
    draft = Draft(sql, measure, where, has_topic, choices, rule_name)
    for apply in PASSES:
        apply(draft)
        draft.stop_at_errors()
    assert draft.filter is not None
    return Compiled(
        sql=sql,
        reads=draft.reads,
        filter=draft.filter,
        measure=_measure(draft),
        reads_topic=draft.from_filter is not None or bool(topic_calls(draft.query)),
        from_filter=draft.from_filter,
        warnings=draft.problems,
        counts=draft.filter.counts,
    )


# Pass 3: names to columns, constants to their values.


def bind(draft: Draft) -> None:
    """Find out which paths of the payload matter, and what the measure is."""
    query = draft.query
    assert draft.statement is not None
    parts = [item.value for item in query.items if not isinstance(item.value, Star)]
    parts += [value for _, value in draft.statement.variables]
    if query.where is not None:
        parts.append(query.where)
        draft.where = bound(draft, query.where)
    measured = _measured(draft)
    if measured is not None:
        parts.append(measured)
        draft.measured = bound(draft, measured)
    draft.reads = tuple(sorted({str(path) for part in parts for path in paths(part)}))


def bound(draft: Draft, node: Node) -> Node:
    """Return an expression without variables and constants, as far as it can do without."""
    return folded(inlined(node, draft.definitions), draft.dialect)


def _measured(draft: Draft) -> Node | None:
    """Return the expression of the measure: the last item that gives it a value."""
    measure = tuple(draft.measure.split("."))
    found: Node | None = None
    for item in draft.query.items:
        key = () if draft.query.bare else item_key(item)
        if key[: len(measure)] == measure and len(key) > len(measure):
            message = f"{draft.measure} is an object that the SELECT builds, not a number"
            draft.tell_of("measure", message, f"did you mean {'.'.join(key)}?", "warning")
            return None
        if measure[: len(key)] == key:
            found = _followed(found, item.value, measure[len(key) :])
    if found is None:
        outputs = sorted({".".join(item_key(item)) for item in draft.query.items})
        hint = nearest(draft.measure, outputs) or f"it outputs {shown(', '.join(outputs))}"
        draft.tell_of("measure", f"the SELECT does not output {draft.measure}", hint, "warning")
        return None
    if draft.query.bare and not isinstance(draft.query.items[0].value, Star | Path):
        message = f"{draft.measure} is looked for inside the one value of SELECT VALUE"
        draft.tell_of("measure", message, f"SELECT ... AS {draft.measure}", "warning")
    return _number(draft, found)


def _number(draft: Draft, found: Node) -> Node | None:
    """Tell where a measure can never be a number."""
    kind = ""
    if isinstance(found, Star):
        kind = "the whole message"
    elif isinstance(found, Call) and found.name == "topic":
        kind = "text"
    if kind:
        draft.tell_of("measure", f"{draft.measure} is {kind}, not a number", "", "warning")
    return None if kind else found


def _followed(before: Node | None, value: Node, rest: tuple[str, ...]) -> Node:
    """Return what a path below an item gives, or what stood there before where it has no value."""
    if isinstance(value, Star) and rest:
        there: Node = Path(value.at, rest[:1])
        found: Node = Path(value.at, rest)
    elif isinstance(value, Path):
        there, found = value, Path(value.at, (*value.names, *rest))
    else:
        there = found = value
        for name in rest:
            found = Member(value.at, found, name)
    if before is None:
        return found
    missing = Call(value.at, "isundefined", (there,))
    return Case(value.at, missing, ((Literal(value.at, True), before),), found)


# Pass 4: the tree to functions.


def emit(draft: Draft) -> None:
    """Make the filter."""
    draft.filter = RuleFilter(draft.matches, draft.where, draft.dialect, draft.definitions)


def _measure(draft: Draft) -> Measure:
    if draft.measured is None:
        return nothing
    source = source_of(draft.measured)
    if source is not None:
        return source.read
    return RuleMeasure(draft.measured, draft.dialect, draft.definitions)


PASSES: tuple[Callable[[Draft], None], ...] = (parse, check, bind, emit)
