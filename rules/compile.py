"""A rule's statement to functions over a batch, in four passes: parse > check > bind > emit.

Each pass is a plain function that adds to the draft; PASSES is their order. A pass tells every
error that it finds, and the next one then does not run.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field

from ..engine.batch import Filter, Measure
from ..engine.errors import ConfigError, Problem
from . import sql as grammar
from . import tree
from .columns import Source, nothing, path_source, source_of
from .filter import FilterCounts, RuleFilter
from .functions import AGGREGATES, CLOUD, FUNCTIONS, LATER
from .interpret import Dialect, evaluate
from .tokens import nearest, problem, shown
from .topic import FilterError, beyond_limits, compile_filter
from .tree import Binary, Call, Item, Literal, Logic, Node, Path, Query, Star, Statement, Unary

problems_max = 20

_CHOICES = {
    "version": ("2016-03-23",),
    "int_division": ("int", "decimal"),
    "undefined_logic": ("strict", "kleene"),
}

# Forms that the parser knows and the evaluators do not, as an error names them.
_NOT_YET: dict[type[Node], str] = {
    tree.ArrayLiteral: "an array literal",
    tree.Case: "CASE",
    tree.Cast: "CAST",
    tree.Exists: "EXISTS",
    tree.Member: "a member of a computed value",
    tree.ObjectLiteral: "an object literal",
    tree.Query: "a nested SELECT",
    tree.Star: "* inside an expression",
    tree.Variable: "a variable",
}
_OPAQUE = (tree.Query, tree.Exists, tree.Case)  # what is inside matters only once they are here


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


@dataclass
class Draft:
    """A rule on its way through the passes; what a pass adds is named after it."""

    sql: str
    measure: str
    place: str
    has_topic: bool
    choices: dict[str, str]
    found: list[tuple[int, Problem]] = field(default_factory=list)  # with offsets, to sort by
    # parse
    statement: Statement | None = None
    # check
    from_filter: str | None = None
    matches: Callable[[str], bool] | None = None
    # bind
    where: Node | None = None
    source: Source | None = None
    reads: tuple[str, ...] = ()
    # emit
    filter: RuleFilter | None = None

    @property
    def query(self) -> Query:
        """The SELECT of the message."""
        assert self.statement is not None
        return self.statement.query

    @property
    def dialect(self) -> Dialect:
        """The semantics that were chosen."""
        return Dialect(self.choices["int_division"], self.choices["undefined_logic"])

    def tell(self, at: int, message: str, hint: str = "", severity: str = "error") -> None:
        """Add a problem at one offset of the statement."""
        where = f"{self.place}.sql"
        self.found.append((at, problem(self.sql, at, where, message, hint, severity)))

    def tell_of(self, key: str, message: str, hint: str = "", severity: str = "error") -> None:
        """Add a problem of another key of the rule than its statement."""
        place = f"{self.place}.{key}" if key == "measure" else self.place
        self.found.append((len(self.sql), Problem(place, message, hint, severity=severity)))

    @property
    def problems(self) -> tuple[Problem, ...]:
        """All problems, errors first, in the order of the text, up to a limit."""
        self.found.sort(key=lambda pair: (pair[1].severity != "error", pair[0]))
        return tuple(found for _, found in self.found[:problems_max])

    def stop_at_errors(self) -> None:
        """Raise ConfigError with all problems where one of them is an error."""
        problems = self.problems
        if problems and problems[0].severity == "error":
            raise ConfigError(problems)


def compile_rule(
    sql: str,
    measure: str,
    *,
    where: str = "rule",
    has_topic: bool,
    int_division: str = "int",
    undefined_logic: str = "strict",
    version: str = "2016-03-23",
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

    Raises:
        ConfigError: with every problem of the statement, the measure and the choices.
    """
    choices = {
        "version": version,
        "int_division": int_division,
        "undefined_logic": undefined_logic,
    }
    draft = Draft(sql, measure, where, has_topic, choices)
    for apply in PASSES:
        apply(draft)
        draft.stop_at_errors()
    assert draft.filter is not None
    return Compiled(
        sql=sql,
        reads=draft.reads,
        filter=draft.filter,
        measure=draft.source.read if draft.source else nothing,
        reads_topic=draft.from_filter is not None or bool(_topic_calls(draft.query)),
        from_filter=draft.from_filter,
        warnings=draft.problems,
        counts=draft.filter.counts,
    )


# Pass 1: the text to a tree, the choices to known ones.


def parse(draft: Draft) -> None:
    """Read the statement, the measure and the choices, each by itself."""
    for name, known in _CHOICES.items():
        found = draft.choices[name]
        if found not in known:
            message = f"{name}: expected {' or '.join(known)}, found {shown(found)}"
            hint = ""
            if found == "2015-10-08":
                hint = "that version tells 10.0 from 10, which is not supported yet"
            draft.tell_of(name, message, hint or nearest(found, known))
    if not all(draft.measure.split(".")):
        message = "expected a dotted path in the output of the SELECT, such as temperature"
        draft.tell_of("measure", f'{message}, found "{shown(draft.measure)}"')
    try:
        draft.statement = grammar.parse(draft.sql, f"{draft.place}.sql")
    except ConfigError as error:
        draft.found += [(0, found) for found in error.problems]


# Pass 2: what is in the tree, but not in this package or not in the language.


def check(draft: Draft) -> None:
    """Find everything that cannot be evaluated, and a FROM that is no topic filter."""
    assert draft.statement is not None
    if draft.statement.variables:
        draft.tell(draft.statement.at, "SET is not supported yet")
    query = draft.query
    if query.bare:
        draft.tell(query.items[0].at, "SELECT VALUE is not supported yet")
    for item in query.items:
        _check_item(draft, item)
    if query.where is not None:
        _check_expression(draft, query.where)
    if isinstance(query.source, Literal):
        _check_from(draft, query.source)
    if not draft.has_topic:
        for call in _topic_calls(query)[:1]:
            message = "topic() is Undefined: no topic is declared for the messages"
            draft.tell(call.at, message, "set topic in [record]", "warning")


def _check_item(draft: Draft, item: Item) -> None:
    if isinstance(item.value, Star):
        return
    before = len(draft.found)
    _check_expression(draft, item.value)
    if len(draft.found) == before and source_of(folded(item.value, Dialect())) is None:
        message = "a computed value in SELECT is not supported yet"
        draft.tell(item.value.at, message, "expected *, a path, topic() or topic(n)")


def _check_expression(draft: Draft, node: Node) -> None:
    if name := _NOT_YET.get(type(node)):
        draft.tell(node.at, f"{name} is not supported yet")
    if isinstance(node, Binary) and node.sign == "IN":
        draft.tell(node.at, "IN is not supported yet", "write x = 1 OR x = 2")
    if isinstance(node, Call):
        _check_call(draft, node)
    if not isinstance(node, _OPAQUE):
        for part in node.parts:
            _check_expression(draft, part)


def _check_call(draft: Draft, call: Call) -> None:
    name = shown(call.name)
    if call.name in FUNCTIONS:
        if len(call.arguments) > 1:
            message = f"{name}() takes at most one argument: the result is Undefined"
            draft.tell(call.at, message, "", "warning")
    elif call.name in LATER:
        draft.tell(call.at, f"function {name}() is not supported yet")
    elif call.name in CLOUD:
        message = f"function {name}() is not supported: it asks AWS about every message"
        draft.tell(call.at, message, "add what it would tell to the messages themselves")
    elif call.name in AGGREGATES:
        hint = "a statement sees one message; the rule's statistic and window sum messages up"
        draft.tell(call.at, f"function {name}() does not exist in AWS IoT SQL", hint)
    else:
        hint = nearest(call.name, sorted({*FUNCTIONS, *LATER}))
        draft.tell(call.at, f"function {name}() does not exist in AWS IoT SQL", hint)


def _check_from(draft: Draft, source: Literal) -> None:
    text: str = source.value
    try:
        matches = compile_filter(text)
    except FilterError as error:
        quote = draft.sql[source.at]  # doubled inside the string as it was written
        draft.tell(source.at + 1 + error.offset + text[: error.offset].count(quote), str(error))
        return
    draft.from_filter = text
    if limit := beyond_limits(text):
        draft.tell(source.at, limit, "", "warning")
    if draft.has_topic:
        draft.matches = matches
    elif text != "#":
        message = f"FROM '{shown(text)}' is not applied: no topic is declared for the messages"
        draft.tell(source.at, message, "set topic in [record], or write FROM '#'", "warning")


def _topic_calls(query: Query) -> list[Call]:
    return [node for node in tree.walk(query) if isinstance(node, Call) and node.name == "topic"]


# Pass 3: names to columns, constants to their values.


def bind(draft: Draft) -> None:
    """Find out which paths of the payload matter, and which of them is the measure."""
    query = draft.query
    reads = {str(node) for node in tree.walk(query) if isinstance(node, Path)}
    if query.where is not None:
        draft.where = folded(query.where, draft.dialect)
    draft.source = _measured(draft)
    if draft.source is not None and draft.source.path is not None:
        reads.add(draft.source.path)
    draft.reads = tuple(sorted(reads))


def _measured(draft: Draft) -> Source | None:
    """Return what the measure reads: the last item that gives it a value."""
    measure = tuple(draft.measure.split("."))
    for item in reversed(draft.query.items):
        key = item.alias or item_key(item.value)
        if measure[: len(key)] == key:
            return _member(draft, item.value, measure[len(key) :])
        if key[: len(measure)] == measure:
            message = f"{draft.measure} is an object that the SELECT builds, not a number"
            draft.tell_of("measure", message, f"did you mean {'.'.join(key)}?", "warning")
            return None
    outputs = sorted({".".join(item.alias or item_key(item.value)) for item in draft.query.items})
    hint = nearest(draft.measure, outputs) or f"it outputs {shown(', '.join(outputs))}"
    draft.tell_of("measure", f"the SELECT does not output {draft.measure}", hint, "warning")
    return None


def _member(draft: Draft, value: Node, rest: tuple[str, ...]) -> Source | None:
    """Return what a path below one item reads."""
    if isinstance(value, Path):
        return path_source(".".join((*value.names, *rest)))
    if isinstance(value, Star) and rest:
        return path_source(".".join(rest))
    kind = "the whole message" if isinstance(value, Star) else "text"
    draft.tell_of("measure", f"{draft.measure} is {kind}, not a number", "", "warning")
    return None


def item_key(value: Node) -> tuple[str, ...]:
    """Return the output key of an item without alias; that of * is empty: it gives all keys."""
    if isinstance(value, Path):
        return value.names[-1:]
    return (value.name,) if isinstance(value, Call) else ()


def folded(node: Node, dialect: Dialect) -> Node:
    """Return the expression with every part that depends on no message replaced by its value."""
    if isinstance(node, Unary):
        node = dataclasses.replace(node, operand=folded(node.operand, dialect))
    elif isinstance(node, Binary):
        left, right = folded(node.left, dialect), folded(node.right, dialect)
        node = dataclasses.replace(node, left=left, right=right)
    elif isinstance(node, Logic):
        operands = tuple(folded(operand, dialect) for operand in node.operands)
        node = dataclasses.replace(node, operands=operands)
    elif isinstance(node, Call):
        arguments = tuple(folded(argument, dialect) for argument in node.arguments)
        return dataclasses.replace(node, arguments=arguments)
    if node.parts and all(isinstance(part, Literal) for part in node.parts):
        return Literal(node.at, evaluate(node, _NO_MESSAGE, dialect))
    return node


class _NoMessage:
    topic: str | None = None

    def value(self, path: str) -> None:
        raise AssertionError("a constant reads nothing")


_NO_MESSAGE = _NoMessage()


# Pass 4: the tree to functions.


def emit(draft: Draft) -> None:
    """Make the filter; the measure is a source already."""
    draft.filter = RuleFilter(draft.matches, draft.where, draft.dialect)


PASSES: tuple[Callable[[Draft], None], ...] = (parse, check, bind, emit)
