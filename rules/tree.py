"""The tree of a rule's statement: one frozen class for each form of the language.

`at` is the offset of the character in the statement that an error about the node points to; two
trees are equal whatever the positions. `str(node)` is the canonical text: parsed again it gives an
equal tree.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal

from msgspec import UNSET

from .values import Value, number_text

# How tight an operator binds; what binds less tight than its surroundings needs parentheses.
OR, AND, NOT, COMPARISON, SUM, PRODUCT, MINUS, ATOM = range(1, 9)
BINDING = {
    **dict.fromkeys(("=", "<>", "<", "<=", ">", ">=", "IN"), COMPARISON),
    **dict.fromkeys(("+", "-"), SUM),
    **dict.fromkeys(("*", "/", "%"), PRODUCT),
}


@dataclass(frozen=True, slots=True)
class Node:
    """What all forms share."""

    at: int = field(compare=False)

    @property
    def parts(self) -> tuple[Node, ...]:
        """The nodes directly below, in the order of the text."""
        return ()

    @property
    def binding(self) -> int:
        """How tight the form binds in the text."""
        return ATOM

    def within(self, binding: int) -> str:
        """Return the text, in parentheses where the form binds less tight than its surroundings."""
        return f"({self})" if self.binding < binding else str(self)

    @property
    def alone(self) -> str:
        """Return the text for a place that commas or keywords bound; only a query needs more."""
        return self.within(OR)


@dataclass(frozen=True, slots=True)
class Literal(Node):
    """A number, text, Boolean or NULL; after folding any constant, also Undefined."""

    value: Value

    def __str__(self) -> str:
        """Write a text in single quotes."""
        if type(self.value) is Decimal:
            return number_text(self.value)
        if type(self.value) is str:
            return "'" + self.value.replace("'", "''") + "'"
        if self.value is UNSET:
            return "UNDEFINED"
        return "NULL" if self.value is None else str(self.value).upper()


@dataclass(frozen=True, slots=True)
class Path(Node):
    """A value of the payload: names joined with dots."""

    names: tuple[str, ...]

    def __str__(self) -> str:
        """Write the dotted path."""
        return ".".join(self.names)


@dataclass(frozen=True, slots=True)
class Star(Node):
    """The whole payload."""

    def __str__(self) -> str:
        """Write the star."""
        return "*"


@dataclass(frozen=True, slots=True)
class Variable(Node):
    """The value that SET gave to a name."""

    name: str

    def __str__(self) -> str:
        """Write the name with its sign."""
        return "@" + self.name


@dataclass(frozen=True, slots=True)
class Call(Node):
    """A function applied to arguments; the name is in lower case."""

    name: str
    arguments: tuple[Node, ...]

    @property
    def parts(self) -> tuple[Node, ...]:
        """The arguments."""
        return self.arguments

    def __str__(self) -> str:
        """Write the call."""
        return f"{self.name}({', '.join(node.alone for node in self.arguments)})"


@dataclass(frozen=True, slots=True)
class Cast(Node):
    """CAST of a value to a type, named in lower case."""

    operand: Node
    type: str

    @property
    def parts(self) -> tuple[Node, ...]:
        """The operand."""
        return (self.operand,)

    def __str__(self) -> str:
        """Write the cast."""
        return f"CAST({self.operand.alone} AS {self.type})"


@dataclass(frozen=True, slots=True)
class Unary(Node):
    """NOT or a minus before a value."""

    sign: str
    operand: Node

    @property
    def parts(self) -> tuple[Node, ...]:
        """The operand."""
        return (self.operand,)

    @property
    def binding(self) -> int:
        """NOT binds less tight than a comparison, the minus tighter than a product."""
        return NOT if self.sign == "NOT" else MINUS

    def __str__(self) -> str:
        """Write a blank where two minus signs would begin a comment."""
        text = self.operand.within(self.binding)
        return f"{self.sign} {text}" if self.sign == "NOT" or text[0] == "-" else "-" + text


@dataclass(frozen=True, slots=True)
class Binary(Node):
    """Two operands with a sign of arithmetic or comparison, or IN, between them."""

    sign: str
    left: Node
    right: Node

    @property
    def parts(self) -> tuple[Node, ...]:
        """Both operands."""
        return self.left, self.right

    @property
    def binding(self) -> int:
        """As the sign binds."""
        return BINDING[self.sign]

    def __str__(self) -> str:
        """Write both operands; arithmetic groups to the left, comparisons do not chain."""
        left = self.left.within(self.binding + (self.binding == COMPARISON))
        return f"{left} {self.sign} {self.right.within(self.binding + 1)}"


@dataclass(frozen=True, slots=True)
class Logic(Node):
    """AND or OR of two or more operands."""

    sign: str
    operands: tuple[Node, ...]

    @property
    def parts(self) -> tuple[Node, ...]:
        """The operands."""
        return self.operands

    @property
    def binding(self) -> int:
        """AND binds tighter than OR."""
        return AND if self.sign == "AND" else OR

    def __str__(self) -> str:
        """Write the operands with the sign between them."""
        return f" {self.sign} ".join(node.within(self.binding + 1) for node in self.operands)


@dataclass(frozen=True, slots=True)
class Member(Node):
    """A member of a computed value, as in `get(list, 0).name`."""

    whole: Node
    name: str

    @property
    def parts(self) -> tuple[Node, ...]:
        """The value that holds the member."""
        return (self.whole,)

    def __str__(self) -> str:
        """Write the value, a dot and the name."""
        whole = self.whole.within(ATOM)
        return (
            f"({whole}).{self.name}" if isinstance(self.whole, Literal) else f"{whole}.{self.name}"
        )


@dataclass(frozen=True, slots=True)
class Case(Node):
    """CASE: the result of the first WHEN that equals the subject, else `otherwise`."""

    subject: Node
    whens: tuple[tuple[Node, Node], ...]
    otherwise: Node | None

    @property
    def parts(self) -> tuple[Node, ...]:
        """Subject, tests and results."""
        last = () if self.otherwise is None else (self.otherwise,)
        return (self.subject, *(node for pair in self.whens for node in pair), *last)

    def __str__(self) -> str:
        """Write all branches on one line."""
        whens = " ".join(f"WHEN {test.alone} THEN {result.alone}" for test, result in self.whens)
        last = "" if self.otherwise is None else f" ELSE {self.otherwise.alone}"
        return f"CASE {self.subject.alone} {whens}{last} END"


@dataclass(frozen=True, slots=True)
class ArrayLiteral(Node):
    """An array written in the statement."""

    items: tuple[Node, ...]

    @property
    def parts(self) -> tuple[Node, ...]:
        """The items."""
        return self.items

    def __str__(self) -> str:
        """Write the items in brackets."""
        return f"[{', '.join(node.alone for node in self.items)}]"


@dataclass(frozen=True, slots=True)
class ObjectLiteral(Node):
    """An object written in the statement."""

    members: tuple[tuple[Literal, Node], ...]

    @property
    def parts(self) -> tuple[Node, ...]:
        """The members' values."""
        return tuple(value for _, value in self.members)

    def __str__(self) -> str:
        """Write the members in braces."""
        return "{" + ", ".join(f"{key}: {value.alone}" for key, value in self.members) + "}"


@dataclass(frozen=True, slots=True)
class Item(Node):
    """One item of a SELECT; `alias` is None where the text gives none."""

    value: Node
    alias: tuple[str, ...] | None

    @property
    def parts(self) -> tuple[Node, ...]:
        """The value."""
        return (self.value,)

    def __str__(self) -> str:
        """Write the value and its alias."""
        return self.value.alone + (f" AS {'.'.join(self.alias)}" if self.alias else "")


@dataclass(frozen=True, slots=True)
class Query(Node):
    """SELECT [VALUE] items [FROM source [AS name]] [WHERE condition]."""

    items: tuple[Item, ...]
    bare: bool  # SELECT VALUE: the value itself, not an object that holds it
    source: Node | None
    name: str | None
    where: Node | None

    @property
    def parts(self) -> tuple[Node, ...]:
        """Items, source and condition."""
        return (*self.items, *(part for part in (self.source, self.where) if part is not None))

    @property
    def binding(self) -> int:
        """A query inside an expression always stands in parentheses."""
        return 0

    def __str__(self) -> str:
        """Write the query on one line."""
        text = f"SELECT {'VALUE ' if self.bare else ''}{', '.join(map(str, self.items))}"
        if self.source is not None:
            text += f" FROM {self.source}" + (f" AS {self.name}" if self.name else "")
        return text if self.where is None else f"{text} WHERE {self.where.alone}"


@dataclass(frozen=True, slots=True)
class Exists(Node):
    """EXISTS of a nested SELECT."""

    query: Query

    @property
    def parts(self) -> tuple[Node, ...]:
        """The query."""
        return (self.query,)

    def __str__(self) -> str:
        """Write the query in parentheses."""
        return f"EXISTS ({self.query})"


@dataclass(frozen=True, slots=True)
class Statement(Node):
    """A whole rule: [SET @name = value, ...] and a query over the message."""

    variables: tuple[tuple[Variable, Node], ...]
    query: Query

    @property
    def parts(self) -> tuple[Node, ...]:
        """The variables' values and the query."""
        return (*(value for _, value in self.variables), self.query)

    def __str__(self) -> str:
        """Write the statement on one line."""
        sets = ", ".join(f"{variable} = {value.alone}" for variable, value in self.variables)
        return f"SET {sets} {self.query}" if sets else str(self.query)


def walk(node: Node) -> Iterator[Node]:
    """Yield a node and all below it, in the order of the text, without recursion."""
    waiting = [node]
    while waiting:
        node = waiting.pop()
        yield node
        waiting.extend(reversed(node.parts))
