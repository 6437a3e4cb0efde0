"""One message as expressions see it: payload, topic, and what is known of how it came.

`Message` holds a message's bytes; `Row` is one row of a batch. Both can be put behind `Element`,
the message as a nested SELECT sees it: names are those of one element, all else is the message's.

What a message on a stream does not tell is Undefined: `context` holds what the caller knows, under
the names of the functions that show it (`clientid`, `principal`, `accountid`, `timestamp`,
`traceid`, `sourceip`, `mqtt_properties`, `user_properties`). Nothing here reads a clock or draws by
chance, so that a replay gives the same answer: for a row of a batch `timestamp()` is its arrival
time, and `rand()` and `newuuid()` are drawn from its position.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, Protocol

from msgspec import UNSET

from ..engine.batch import NO_TIME, Batch, Column, Kind
from ..engine.payload import Unreadable, message_of, walk
from .values import CostlyError, Value

steps_max = 5_000  # parts of nested SELECTs that are evaluated for one message


class Scope(Protocol):
    """What an expression is evaluated in.

    variables: the values of SET, as far as they have been computed. definitions: what SET gives.
    """

    topic: str | None
    variables: dict[str, Value]
    definitions: Mapping[str, Any]

    @property
    def context(self) -> Mapping[str, Any]:
        """What is known of the message besides payload and topic."""

    @property
    def payload(self) -> bytes:
        """The bytes of the message."""

    def value(self, path: str) -> Value:
        """Return the value at a dotted path, Undefined where there is none."""

    def whole(self) -> Value:
        """Return what `*` stands for: an object; Undefined where the message is none."""

    def draw(self, at: int) -> bytes:
        """Return 16 bytes by chance for the call at one offset of the statement."""

    def spend(self, steps: int) -> None:
        """Count steps; raise CostlyError where there were too many."""

    @property
    def root(self) -> Scope:
        """Return the message itself, which the variables of SET see."""


class _Counted:
    """The part that messages and rows share."""

    __slots__ = ("definitions", "steps", "variables")

    def __init__(self, definitions: Mapping[str, Any]) -> None:
        self.definitions = definitions
        self.variables: dict[str, Value] = {}
        self.steps = 0

    def spend(self, steps: int) -> None:
        self.steps += steps
        if self.steps > steps_max:
            raise CostlyError(f"a message may take {steps_max:,} steps of nested SELECTs, not more")


class Message(_Counted):
    """A message by itself.

    seed: what `rand()` and `newuuid()` are drawn from; a caller that wants chance hands in random
    bytes.
    """

    __slots__ = ("_body", "context", "payload", "seed", "topic")

    def __init__(
        self,
        payload: bytes,
        topic: str | None = None,
        context: Mapping[str, Any] | None = None,
        *,
        definitions: Mapping[str, Any] | None = None,
        seed: bytes = b"",
        body: Mapping[str, Any] | None = None,
    ) -> None:
        """Take the bytes; `body` is the object in them where it is known already."""
        super().__init__(definitions or {})
        self.payload = payload
        self.topic = topic
        self.context = context or {}
        self.seed = seed
        self._body: Any = body

    @property
    def root(self) -> Message:
        """This is it."""
        return self

    def whole(self) -> Value:
        """The object of the payload; Undefined where it is no JSON object."""
        if self._body is None:
            try:
                self._body = message_of(self.payload)
            except Unreadable:
                self._body = UNSET
        return self._body

    def value(self, path: str) -> Value:
        """The value at a dotted path, as the JSON decoder gave it."""
        found: Value = walk(self.whole(), path.split("."))
        return found

    def draw(self, at: int) -> bytes:
        """Bytes drawn from the seed."""
        return _drawn(self.seed, at)


class Row(_Counted):
    """One row of a batch; `move` goes to another one.

    Values come from the columns; where `raw` is set, from the payload: columns do not tell 10.0
    from 10, as version 2015-10-08 does.
    """

    __slots__ = ("_body", "batch", "raw", "row", "topic", "topics")

    def __init__(
        self, batch: Batch, definitions: Mapping[str, Any] | None = None, raw: bool = False
    ) -> None:
        """Begin before the first row."""
        super().__init__(definitions or {})
        self.raw = raw
        self.batch = batch
        self.topics = topic_texts(batch)
        self.row = -1
        self.topic: str | None = None
        self._body: Any = None

    def move(self, row: int) -> None:
        """Go to one row."""
        self.row = row
        self.topic = self.topics[row]
        self.steps = 0
        self._body = None
        if self.variables:
            self.variables.clear()

    def value(self, path: str) -> Value:
        """The value at a path, as the JSON decoder gave it."""
        if self.raw:
            found: Value = walk(self.whole(), path.split("."))
            return found
        return cell(self.batch.columns[path], self.row)

    @property
    def root(self) -> Row:
        """This is it."""
        return self

    @property
    def payload(self) -> bytes:
        """The bytes of the user record."""
        data: bytes = self.batch.users.data[self.batch.row[self.row]]
        return data

    @property
    def context(self) -> Mapping[str, Any]:
        """The arrival time, where it is known."""
        arrival = int(self.batch.arrival[self.row])
        return {} if arrival == NO_TIME else {"timestamp": arrival}

    def whole(self) -> Value:
        """The object of the payload."""
        if self._body is None:
            self._body = message_of(self.payload)
        return self._body

    def draw(self, at: int) -> bytes:
        """Bytes drawn from the record's position."""
        position = self.batch.users.position(int(self.batch.row[self.row]))
        return _drawn(str(position).encode(), at)


class Element:
    """The message, with the names of one element of an array or object."""

    __slots__ = ("definitions", "element", "index", "name", "outer", "topic", "variables")

    def __init__(self, outer: Scope, name: str | None, index: int, element: Value) -> None:
        """Let `name` stand for the element itself, where the statement gives one."""
        self.outer = outer
        self.topic = outer.topic
        self.variables = outer.variables
        self.definitions = outer.definitions
        self.name = name
        self.index = index
        self.element = element

    def value(self, path: str) -> Value:
        """The value at a path inside the element; there is no way back to the message."""
        first, _, rest = path.partition(".")
        if first == self.name:
            return walk(self.element, rest.split(".")) if rest else self.element
        return walk(self.element, path.split("."))

    @property
    def root(self) -> Scope:
        """The message around it."""
        return self.outer.root

    @property
    def context(self) -> Mapping[str, Any]:
        """That of the message."""
        return self.outer.context

    @property
    def payload(self) -> bytes:
        """The bytes of the message."""
        return self.outer.payload

    def whole(self) -> Value:
        """The element."""
        return self.element

    def draw(self, at: int) -> bytes:
        """Bytes of their own for each element."""
        return _drawn(self.outer.draw(at), self.index)

    def spend(self, steps: int) -> None:
        """Count for the message."""
        self.outer.spend(steps)


def topic_texts(batch: Batch) -> list[str | None]:
    """Return the topic of each row, None where it is missing or no text."""
    column = batch.topic
    if column is None or column.other is None:
        return [None] * len(batch)
    if (column.kind == Kind.STRING).all():
        return column.other
    return [text if type(text) is str else None for text in column.other]


_NUMBER = int(Kind.NUMBER)  # the names of an enumeration take long to look up in a loop


def cell(column: Column, row: int) -> Any:
    """Return the value of one row; a number as float64 stays one, so that its text is the shortest.

    The integer that is equal to a float64 above 2**53 has another decimal text.
    """
    if column.kind[row] == _NUMBER and (column.other is None or column.other[row] is None):
        return float(column.number[row])
    return column.value(row)


def _drawn(seed: bytes, at: int) -> bytes:
    return hashlib.blake2b(b"%d:%b" % (at, seed), digest_size=16).digest()
