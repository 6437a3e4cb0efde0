"""The exact evaluator: one expression, one message, decimals of 34 digits.

It defines what a statement means; columns.py is the quick one and hands over to this one whatever
it cannot prove.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from . import values
from .functions import FUNCTIONS, Message
from .tree import Binary, Call, Literal, Logic, Node, Path, Unary
from .values import Value, exact


@dataclass(frozen=True, slots=True)
class Dialect:
    """What the guide leaves open or contradicts itself about, as the user chose it.

    int_division: "int" cuts Int / Int toward zero, "decimal" does not. undefined_logic: "strict" or
    "kleene" (see values.combine).
    """

    int_division: str = "int"
    undefined_logic: str = "strict"


def evaluate(node: Node, message: Message, dialect: Dialect) -> Value:
    """Return the value of one expression for one message."""
    return _EVALUATE[type(node)](node, message, dialect)


def _literal(node: Literal, message: Message, dialect: Dialect) -> Value:
    return node.value


def _path(node: Path, message: Message, dialect: Dialect) -> Value:
    return exact(message.value(".".join(node.names)))


def _call(node: Call, message: Message, dialect: Dialect) -> Value:
    arguments = [evaluate(argument, message, dialect) for argument in node.arguments]
    return FUNCTIONS[node.name](message, arguments)


def _unary(node: Unary, message: Message, dialect: Dialect) -> Value:
    operand = evaluate(node.operand, message, dialect)
    return values.invert(operand) if node.sign == "NOT" else values.negate(operand)


def _logic(node: Logic, message: Message, dialect: Dialect) -> Value:
    operands = [evaluate(operand, message, dialect) for operand in node.operands]
    return values.combine(node.sign, operands, dialect.undefined_logic == "kleene")


def _binary(node: Binary, message: Message, dialect: Dialect) -> Value:
    a = evaluate(node.left, message, dialect)
    b = evaluate(node.right, message, dialect)
    if node.sign in values.ORDER:
        return values.compare(node.sign, a, b)
    if node.sign == "/":
        return values.divide(a, b, dialect.int_division == "int")
    return _BINARY[node.sign](a, b)


def _unequal(a: Value, b: Value) -> Value:
    return values.invert(values.equal(a, b))


_BINARY: dict[str, Callable[[Value, Value], Value]] = {
    "=": values.equal,
    "<>": _unequal,
    "+": values.add,
    "-": values.subtract,
    "*": values.multiply,
    "%": values.remainder,
}

# The forms that can be evaluated; the check of compile.py lets no other through.
_EVALUATE: dict[type[Node], Callable[[Any, Message, Dialect], Value]] = {
    Literal: _literal,
    Path: _path,
    Call: _call,
    Unary: _unary,
    Logic: _logic,
    Binary: _binary,
}
