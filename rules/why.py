"""Why a message passed WHERE or did not: the condition part by part, with its values."""

from __future__ import annotations

from collections.abc import Iterator

from msgspec import UNSET

from .interpret import Dialect, evaluate
from .message import Scope
from .tokens import shown
from .tree import COMPARISON, Binary, Literal, Logic, Node, Unary
from .values import CostlyError, json_text

lines_max = 60
value_chars_max = 60


def why(condition: Node, message: Scope, dialect: Dialect) -> list[str]:
    """Return a line for each part of a condition, indented as the parts hold each other.

    A line says what the part gives; of a comparison also what its sides are, where these are not
    written in it.
    """
    lines = list(_lines(condition, message, dialect, 0))
    if len(lines) > lines_max:
        lines[lines_max:] = [f"... {len(lines) - lines_max} more"]
    return lines


def _lines(node: Node, message: Scope, dialect: Dialect, level: int) -> Iterator[str]:
    indent = "  " * level
    if isinstance(node, Logic):
        yield f"{indent}{node.sign}: {_value(node, message, dialect)}"
        for operand in node.operands:
            yield from _lines(operand, message, dialect, level + 1)
    elif isinstance(node, Unary) and node.sign == "NOT":
        yield f"{indent}NOT: {_value(node, message, dialect)}"
        yield from _lines(node.operand, message, dialect, level + 1)
    else:
        sides: list[Node] = []
        if isinstance(node, Binary) and node.binding == COMPARISON:
            sides = [node.left, node.right]
        told = [
            f"{shown(str(side), value_chars_max)} is {_value(side, message, dialect)}"
            for side in sides
            if not isinstance(side, Literal)
        ]
        because = f"  ({', '.join(told)})" if told else ""
        what = shown(str(node), value_chars_max)
        yield f"{indent}{what}: {_value(node, message, dialect)}{because}"


def _value(node: Node, message: Scope, dialect: Dialect) -> str:
    try:
        value = evaluate(node, message, dialect)
    except CostlyError as error:
        return str(error)
    return "Undefined" if value is UNSET else shown(str(json_text(value)), value_chars_max)
