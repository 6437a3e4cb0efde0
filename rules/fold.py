"""Trees rewritten: variables in their places, constants as their values, what reads what."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from decimal import Decimal
from typing import Any

from msgspec import UNSET

from . import tree
from .functions import CONTEXT, DRAWN
from .interpret import Dialect, evaluate
from .message import Message
from .sql import depth_max, nodes_max
from .tree import Literal, Node
from .values import CostlyError

_NO_MESSAGE = Message(b"")
_SCALARS = (Decimal, str, bool, type(None), type(UNSET))


def folded(node: Node, dialect: Dialect) -> Node:
    """Return the expression with every part that depends on no message replaced by its value.

    What is inside a nested SELECT stays as it is.
    """
    if isinstance(node, tree.Query | tree.Exists):
        return node
    node = _mapped(node, lambda part: folded(part, dialect))
    constant = node.parts and all(isinstance(part, Literal) for part in node.parts)
    if isinstance(node, tree.Call):
        constant = node.name not in CONTEXT and node.name not in DRAWN
        constant = constant and all(isinstance(part, Literal) for part in node.parts)
    if not (constant or isinstance(node, Literal)):
        return node
    try:
        value = evaluate(node, _NO_MESSAGE, dialect)
    except CostlyError:
        return node
    return Literal(node.at, value) if isinstance(value, _SCALARS) else node


def inlined(node: Node, definitions: Mapping[str, Node]) -> Node:
    """Return the expression with the variables of SET replaced by what they stand for.

    Not inside nested SELECTs, where names mean something else, and not where it would grow beyond
    the size of a statement; a variable that is left is looked up as it is evaluated.
    """
    sizes: dict[str, tuple[int, int]] = {}
    for name, value in definitions.items():
        sizes[name] = _size(value, sizes)
    nodes, depth = _size(node, sizes)
    if nodes > nodes_max or depth > depth_max:
        return node

    def replaced(part: Node) -> Node:
        if isinstance(part, tree.Query | tree.Exists):
            return part
        if isinstance(part, tree.Variable) and part.name in definitions:
            return replaced(definitions[part.name])
        return _mapped(part, replaced)

    return replaced(node)


def _size(node: Node, variables: Mapping[str, tuple[int, int]]) -> tuple[int, int]:
    """How many nodes and levels an expression has when variables of known size stand for theirs."""
    if isinstance(node, tree.Variable):
        return variables.get(node.name, (1, 1))
    sizes = [_size(part, variables) for part in node.parts]
    return sum((n for n, _ in sizes), 1), max((d for _, d in sizes), default=0) + 1


def _mapped(node: Node, change: Callable[[Node], Node]) -> Node:
    """Return the node with every node directly below it changed."""
    changes: dict[str, Any] = {}
    for name in node.__slots__:
        value = getattr(node, name)
        if isinstance(value, Node):
            changes[name] = change(value)
        elif isinstance(value, tuple):
            changes[name] = tuple(_mapped_item(item, change) for item in value)
    return dataclasses.replace(node, **changes) if changes else node


def _mapped_item(item: Any, change: Callable[[Node], Node]) -> Any:
    if isinstance(item, tuple):  # a pair: WHEN and THEN, or key and value
        return tuple(change(part) for part in item)
    return change(item) if isinstance(item, Node) else item


def paths(node: Node) -> Iterator[tree.Path]:
    """Yield every path of the message that an expression reads.

    Names inside a nested SELECT are those of an element; only its source is the message's.
    """
    waiting = [node]
    while waiting:
        node = waiting.pop()
        if isinstance(node, tree.Path):
            yield node
        elif isinstance(node, tree.Exists):
            waiting.append(node.query)
        elif isinstance(node, tree.Query):
            waiting += () if node.source is None else (node.source,)
        else:
            waiting += reversed(node.parts)
