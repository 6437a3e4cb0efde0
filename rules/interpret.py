"""The exact evaluator: one expression, one message, decimals of 34 digits.

It defines what a statement means; columns.py is the quick one and hands over to this one whatever
it cannot prove. Where the guide is silent, the choice is made at the form that it is about; all of
them stand in docs/iot-sql.md.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from msgspec import UNSET

from . import values
from .functions import DRAWN, FUNCTIONS, WHOLE_RESULTS
from .message import Element, Scope
from .tree import (
    ArrayLiteral,
    Binary,
    Call,
    Case,
    Cast,
    Exists,
    Item,
    Literal,
    Logic,
    Member,
    Node,
    ObjectLiteral,
    Path,
    Query,
    Star,
    Statement,
    Unary,
    Variable,
    walk,
)
from .values import CostlyError, Value, exact, fractional

CURRENT, OLDER = VERSIONS = ("2016-03-23", "2015-10-08")

CASTS = {
    **dict.fromkeys(("string", "nvarchar", "text", "ntext", "varchar"), "string"),
    **dict.fromkeys(("int", "integer"), "int"),
    "decimal": "decimal",
    "double": "double",
    **dict.fromkeys(("bool", "boolean"), "boolean"),
}


@dataclass(frozen=True, slots=True)
class Dialect:
    """What the guide leaves open or contradicts itself about, as the user chose it.

    int_division: "int" cuts Int / Int toward zero, "decimal" does not. undefined_logic: "strict" or
    "kleene" (see values.combine). version: of the language.
    """

    int_division: str = "int"
    undefined_logic: str = "strict"
    version: str = CURRENT


def evaluate(node: Node, message: Scope, dialect: Dialect) -> Value:
    """Return the value of one expression for one message.

    Raises CostlyError where nested SELECTs take too many steps.
    """
    return _EVALUATE[type(node)](node, message, dialect)


def definitions(statement: Statement) -> dict[str, Node]:
    """Return what SET gives each variable; `Scope.definitions` of every message."""
    return {variable.name: value for variable, value in statement.variables}


def _literal(node: Literal, message: Scope, dialect: Dialect) -> Value:
    if type(node.value) is Decimal and dialect.version != OLDER:
        return values.settle(node.value)
    return node.value


def _path(node: Path, message: Scope, dialect: Dialect) -> Value:
    found = message.value(".".join(node.names))
    return exact(found) if dialect.version != OLDER else _older(found)


def _older(value: Value) -> Value:
    """Return a decoded value as version 2015-10-08 has it: 10.0 is a Decimal, not the Int 10."""
    kind = type(value)
    if kind is float:
        return fractional(exact(value))
    if kind is list:
        return [_older(item) for item in value]
    if kind is dict:
        return {name: _older(item) for name, item in value.items()}
    return exact(value)


def _star(node: Star, message: Scope, dialect: Dialect) -> Value:
    whole = message.whole()
    return exact(whole) if dialect.version != OLDER else _older(whole)


def _variable(node: Variable, message: Scope, dialect: Dialect) -> Value:
    # Computed when one of them is first read: in the message itself, once and in their order, so
    # that a long chain of them needs no deep recursion.
    known = message.variables
    if not known:
        try:
            for name, value in message.definitions.items():
                known[name] = evaluate(value, message.root, dialect)
        except CostlyError:
            known.clear()  # half of them are none
            raise
    return known[node.name]


def _member(node: Member, message: Scope, dialect: Dialect) -> Value:
    whole = evaluate(node.whole, message, dialect)
    return exact(whole.get(node.name, UNSET)) if type(whole) is dict else UNSET


def _call(node: Call, message: Scope, dialect: Dialect) -> Value:
    name = node.name
    if name in DRAWN:
        return DRAWN[name](message.draw(node.at)) if not node.arguments else UNSET
    arguments = [evaluate(argument, message, dialect) for argument in node.arguments]
    if name == "encode" and arguments and type(node.arguments[0]) is Star:
        arguments[0] = message.payload
    result = FUNCTIONS[name](message, arguments)
    if name in _MAKERS and type(result) is list:
        result = values.bounded(result)
    if dialect.version == OLDER:
        return _older_result(name, arguments, result)
    return values.settle(result) if type(result) is Decimal else result


_MAKERS = frozenset(("concat", "transform"))  # of arrays that may be larger than what they are of


def _older_result(name: str, arguments: list[Value], result: Value) -> Value:
    if name == "sql_version":
        return OLDER
    if type(result) is not Decimal or name in WHOLE_RESULTS or name in _HANDED_ON:
        return result
    counting = arguments[:1] if name == "trunc" else arguments  # its places give it no type
    return result if all(map(_is_int, counting)) and name in _LIKE_OPERANDS else fractional(result)


# Of Ints an Int, else a Decimal; and what gives back a value that was there before, as it was.
_LIKE_OPERANDS = frozenset(("abs", "mod", "remainder", "trunc"))
_HANDED_ON = frozenset(("concat", "decode", "get", "get_or_default", "nanvl"))


def _is_int(value: Value) -> bool:
    return type(value) is Decimal and values.is_int(value)


def _cast(node: Cast, message: Scope, dialect: Dialect) -> Value:
    kind = CASTS[node.type]
    found = values.cast(evaluate(node.operand, message, dialect), kind)
    return (
        fractional(found) if kind in ("decimal", "double") and dialect.version == OLDER else found
    )


def _unary(node: Unary, message: Scope, dialect: Dialect) -> Value:
    operand = evaluate(node.operand, message, dialect)
    if node.sign == "NOT":
        return values.invert(operand)
    return _typed(values.negate(operand), (operand,), dialect)


def _logic(node: Logic, message: Scope, dialect: Dialect) -> Value:
    operands = [evaluate(operand, message, dialect) for operand in node.operands]
    return values.combine(node.sign, operands, dialect.undefined_logic == "kleene")


def _binary(node: Binary, message: Scope, dialect: Dialect) -> Value:
    a = evaluate(node.left, message, dialect)
    b = evaluate(node.right, message, dialect)
    if node.sign in values.ORDER:
        return values.compare(node.sign, a, b)
    if node.sign == "/":
        result = values.divide(a, b, dialect.int_division == "int")
    else:
        result = _BINARY[node.sign](a, b)
    return _typed(result, (a, b), dialect)


def _typed(result: Value, operands: tuple[Value, ...], dialect: Dialect) -> Value:
    """Give a result of arithmetic its type: of Ints an Int, else a Decimal, whole or not."""
    if dialect.version != OLDER or all(map(_is_int, operands)):
        return result
    return fractional(result)


def _unequal(a: Value, b: Value) -> Value:
    return values.invert(values.equal(a, b))


_BINARY: dict[str, Callable[[Value, Value], Value]] = {
    "=": values.equal,
    "<>": _unequal,
    "+": values.add,
    "-": values.subtract,
    "*": values.multiply,
    "%": values.remainder,
    "IN": values.within,
}


def _case(node: Case, message: Scope, dialect: Dialect) -> Value:
    subject = evaluate(node.subject, message, dialect)
    if subject is UNSET:
        return UNSET
    for test, result in node.whens:
        if values.equal(subject, evaluate(test, message, dialect)) is True:
            return evaluate(result, message, dialect)
    return UNSET if node.otherwise is None else evaluate(node.otherwise, message, dialect)


def _array(node: ArrayLiteral, message: Scope, dialect: Dialect) -> Value:
    # Leaving one item out would move the others, so one Undefined makes all of it Undefined.
    items = [evaluate(item, message, dialect) for item in node.items]
    return UNSET if any(item is UNSET for item in items) else values.bounded(items)


def _object(node: ObjectLiteral, message: Scope, dialect: Dialect) -> Value:
    made = {}
    for key, part in node.members:
        value = evaluate(part, message, dialect)
        if value is not UNSET:
            made[key.value] = value
    return values.bounded(made)


# Nested SELECTs.


def _query(node: Query, message: Scope, dialect: Dialect) -> Value:
    assert node.source is not None
    source = evaluate(node.source, message, dialect)
    if type(source) is list:
        return values.bounded(list(_results(node, message, source, dialect)))
    if type(source) is dict:
        return next(_results(node, message, [source], dialect), UNSET)
    return UNSET


def _exists(node: Exists, message: Scope, dialect: Dialect) -> Value:
    query = node.query
    assert query.source is not None
    source = evaluate(query.source, message, dialect)
    if type(source) is not list:
        source = [source] if type(source) is dict else []
    # Only whether an element passes matters, not what is selected of it.
    return any(True for _ in _passing(query, message, source, dialect))


def _results(node: Query, message: Scope, source: list[Value], dialect: Dialect) -> Iterator[Value]:
    """Yield what is selected of each element that passes; an Undefined result is left out."""
    for scope in _passing(node, message, source, dialect):
        found = selected(node, scope, dialect)
        if found is not UNSET:
            yield found


def _passing(
    node: Query, message: Scope, source: list[Value], dialect: Dialect
) -> Iterator[Element]:
    parts = sum(1 for _ in walk(node))
    for index, element in enumerate(source):
        message.spend(parts)
        scope = Element(message, node.name, index, element)
        if node.where is None or values.truth_of(evaluate(node.where, scope, dialect)) is True:
            yield scope


def selected(query: Query, scope: Scope, dialect: Dialect) -> Value:
    """Return what a SELECT puts out: an object, or the value itself with VALUE.

    Of two items with one key the later holds. An element that is no object has no members for `*`:
    alone it is the element, with others it makes the result Undefined.
    """
    first = query.items[0]
    if query.bare or (len(query.items) == 1 and type(first.value) is Star and first.alias is None):
        return evaluate(first.value, scope, dialect)
    made: dict[str, Value] = {}
    for item in query.items:
        value = evaluate(item.value, scope, dialect)
        key = item.alias or item_key(item)
        if not key:  # the star gives all keys
            if type(value) is not dict:
                return UNSET
            made |= value
        elif value is not UNSET:
            place(made, key, value)
    return made


def item_key(item: Item) -> tuple[str, ...]:
    """Return the output key of an item: its alias, else the last name.

    It is empty for `*`, which gives all keys, and for what has no name; check.py refuses that.
    """
    value = item.value
    if item.alias:
        return item.alias
    if isinstance(value, Path):
        return value.names[-1:]
    if isinstance(value, Member | Call):
        return (value.name,)
    return ("cast",) if isinstance(value, Cast) else ()


def place(made: dict[str, Any], key: tuple[str, ...], value: Any) -> None:
    """Put a value at a path of an output; objects on the way are opened, others replaced."""
    for name in key[:-1]:
        below = made.get(name)
        made[name] = below = dict(below) if type(below) is dict else {}
        made = below
    made[key[-1]] = value


# The forms, each with its evaluation.
_EVALUATE: Mapping[type[Node], Callable[[Any, Scope, Dialect], Value]] = {
    ArrayLiteral: _array,
    Binary: _binary,
    Call: _call,
    Case: _case,
    Cast: _cast,
    Exists: _exists,
    Literal: _literal,
    Logic: _logic,
    Member: _member,
    ObjectLiteral: _object,
    Path: _path,
    Query: _query,
    Star: _star,
    Unary: _unary,
    Variable: _variable,
}
