"""The second pass of a rule: what is in the tree but cannot be evaluated, or is not in AWS."""

from __future__ import annotations

from . import tree
from .coding_functions import SCHEME
from .draft import Draft
from .functions import AGGREGATES, CLOUD, KNOWN, PATTERNS
from .interpret import CASTS, CURRENT, OLDER, item_key
from .lint import findings
from .tokens import nearest, shown
from .topic import FilterError, beyond_limits, compile_filter, reaches
from .tree import Call, Cast, Literal, Node, Query, Star, Variable

patterns_max = 64  # different regular expressions in one statement

# Forms that came to the language with its second version.
_NEWER: dict[type[Node], str] = {
    tree.ArrayLiteral: "an array literal",
    tree.Exists: "EXISTS",
    tree.ObjectLiteral: "an object literal",
    tree.Query: "a nested SELECT",
}


def check(draft: Draft) -> None:
    """Find everything that cannot be evaluated, and a FROM that is no topic filter."""
    assert draft.statement is not None
    _check_patterns(draft, draft.statement)
    draft.stop_at_errors()  # before any of them is compiled
    known: set[str] = set()
    for variable, value in draft.statement.variables:
        if variable.name in known:
            draft.tell(variable.at, f"@{variable.name} is set twice", "each name is set once")
        _check_expression(draft, value, known)
        known.add(variable.name)
    query = draft.query
    _check_query(draft, query, known)
    for found in findings(draft.statement):
        draft.tell(found.at, found.message, found.hint, "warning")
    if isinstance(query.source, Literal):
        _check_from(draft, query.source)
    if not draft.has_topic:
        for call in topic_calls(draft.statement)[:1]:
            message = "topic() is Undefined: no topic is declared for the messages"
            draft.tell(call.at, message, "set topic in [record]", "warning")


def topic_calls(node: Node) -> list[Call]:
    """Return every call of topic(), in the order of the text."""
    return [part for part in tree.walk(node) if isinstance(part, Call) and part.name == "topic"]


def _check_query(draft: Draft, query: Query, known: set[str]) -> None:
    if query.bare and len(query.items) > 1:
        message = "SELECT VALUE puts out one value"
        draft.tell(query.items[1].at, message, "leave VALUE out, or the other items")
    for item in query.items:
        _check_expression(draft, item.value, known)
        if query.bare and item.alias:
            draft.tell(item.at, "SELECT VALUE puts out the value itself: a name after AS is lost")
        if not (query.bare or item_key(item) or isinstance(item.value, Star)):
            message = "this item has no name in the output"
            draft.tell(item.value.at, message, f"{shown(str(item.value))} AS name")
    if query.where is not None:
        _check_expression(draft, query.where, known)


def _check_expression(draft: Draft, node: Node, known: set[str]) -> None:
    if draft.choices["version"] == OLDER and type(node) in _NEWER:
        message = f"{_NEWER[type(node)]} does not exist in version {OLDER}"
        draft.tell(node.at, message, f"version {CURRENT} has it")
    if isinstance(node, Variable) and node.name not in known:
        hint = nearest(node.name, sorted(known)) or "SET gives it its value, before it is used"
        draft.tell(node.at, f"@{node.name} has no value here", hint)
    if isinstance(node, Cast) and node.type not in CASTS:
        hint = nearest(node.type, sorted(CASTS)) or "String, Int, Decimal or Boolean"
        draft.tell(node.at, f"CAST to {shown(node.type)} does not exist", hint)
    if isinstance(node, Call):
        _check_call(draft, node)
    if isinstance(node, Query):
        _check_nested(draft, node, known)
        return
    for part in node.parts:
        _check_expression(draft, part, known)


def _check_nested(draft: Draft, query: Query, known: set[str]) -> None:
    _check_query(draft, query, known)
    if query.source is None:
        message = "a nested SELECT needs FROM and an array or object"
        draft.tell(query.at, message, "(SELECT ... FROM readings)")
    elif isinstance(query.source, Literal):
        message = "a nested SELECT is of a value of the message, not of a topic"
        draft.tell(query.source.at, message, "FROM readings, without quotes")
    else:
        _check_expression(draft, query.source, known)


def _check_call(draft: Draft, call: Call) -> None:
    name = shown(call.name)
    if call.name in PATTERNS and len(call.arguments) > PATTERNS[call.name].argument:
        _check_pattern(draft, call)
    if call.name == "topic" and len(call.arguments) > 1:
        message = f"{name}() takes at most one argument: the result is Undefined"
        draft.tell(call.at, message, "", "warning")
    if call.name in ("decode", "encode"):
        _check_scheme(draft, call)
    if call.name in KNOWN:
        return
    if call.name in CLOUD:
        message = f"function {name}() is not supported: it asks AWS about every message"
        draft.tell(call.at, message, CLOUD[call.name])
    elif call.name in AGGREGATES:
        hint = "a statement sees one message; the rule's statistic and window sum messages up"
        draft.tell(call.at, f"function {name}() does not exist in AWS IoT SQL", hint)
    else:
        hint = nearest(call.name, sorted(KNOWN))
        draft.tell(call.at, f"function {name}() does not exist in AWS IoT SQL", hint)


def _check_scheme(draft: Draft, call: Call) -> None:
    """Refuse what AWS can decode and this package cannot; another scheme does not exist at all."""
    scheme = call.arguments[1] if len(call.arguments) > 1 else None
    if not isinstance(scheme, Literal) or scheme.value == SCHEME:
        return
    if scheme.value == "proto" and call.name == "decode":
        message = "decode() of 'proto' is not supported: its descriptor is kept in AWS"
        draft.tell(scheme.at, message, "let devices send JSON")
    else:
        message = f"{call.name}() has the scheme '{SCHEME}' alone: the result is Undefined"
        draft.tell(scheme.at, message, "", "warning")


def _check_pattern(draft: Draft, call: Call) -> None:
    """Refuse a pattern that is written in the statement and can never be applied."""
    pattern = PATTERNS[call.name]
    argument = call.arguments[pattern.argument]
    if isinstance(argument, Literal) and type(argument.value) is str:
        if refusal := pattern.refusal(argument.value):
            draft.tell(argument.at, f"{call.name}(): {refusal}", "", pattern.severity)


def _check_patterns(draft: Draft, statement: Node) -> None:
    """Refuse more regular expressions than are kept compiled: each takes its time to compile."""
    seen: set[str] = set()
    for call in tree.walk(statement):
        if isinstance(call, Call) and call.name.startswith("regexp_"):
            for pattern in call.arguments[1:2]:
                seen |= {str(pattern)} if isinstance(pattern, Literal) else set()
                if len(seen) > patterns_max:
                    message = f"a statement has at most {patterns_max} regular expressions"
                    draft.tell(pattern.at, message, "join some of them with |")
                    return


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
        draft.matches = reaches(matches, draft.rule_name)
    elif text != "#":
        message = f"FROM '{shown(text)}' is not applied: no topic is declared for the messages"
        draft.tell(source.at, message, "set topic in [record], or write FROM '#'", "warning")
