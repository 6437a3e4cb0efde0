"""A route of the bridge: a statement to a function from one message to what is sent on.

    topic, payload  >  FROM and WHERE  >  the payload that SELECT puts out, and its partition key

Values that come from the payload are sent on as their own text: a number keeps its digits. `SELECT
*` alone sends the payload's own bytes. Of two items with one name the later counts; an item without
value is left out. One message at a time: columns pay where windows are, not here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, NamedTuple

import msgspec
from msgspec import UNSET, Raw

from ..engine.errors import ConfigError, Problem
from ..engine.payload import message_of, walk
from .compile import Draft, check, folded, item_key, parse
from .interpret import Dialect, evaluate
from .topic import compile_filter
from .tree import Item, Node, Path, Star
from .values import Value, number_text

KEY_CHARACTERS_MAX = 256  # of a partition key
_TEMPLATE = re.compile(r"\$\{([^}]*)\}")
_raw_object = msgspec.json.Decoder(dict[str, Raw]).decode
_quoted = msgspec.json.encode

# A member of the output: its JSON text, or the members of an object that items build.
Members = dict[str, "bytes | Members"]


class RouteError(Exception):
    """A route cannot take a message; `reason` is the code of the rejected record."""

    def __init__(self, reason: str, message: str) -> None:
        """Keep the code beside the text."""
        super().__init__(message)
        self.reason = reason


class Sent(NamedTuple):
    """What goes on: partition key and payload."""

    partition_key: str
    data: bytes


@dataclass
class Seen:
    """One message as expressions see it."""

    topic: str | None
    message: Mapping[str, Any]

    def value(self, path: str) -> Value:
        """The value at a dotted path, Undefined where there is none."""
        found: Value = walk(self.message, path.split("."))
        return found


class Output:
    """What one statement puts out of a message, and its partition key: SELECT alone.

    filter: the topic filter of FROM, None where there is none.
    """

    def __init__(
        self,
        sql: str,
        partition_key: str | None,
        *,
        where: str = "route",
        key_name: str = "partition_key",
        int_division: str = "int",
        undefined_logic: str = "strict",
        version: str = "2016-03-23",
    ) -> None:
        """Compile; `where` is the place of the statement in what the user wrote.

        Args:
            partition_key: a template; None: the key is the caller's affair. key_name: its name in
                what the user wrote.

        Raises:
            ConfigError: with every problem of the statement and of the template.
        """
        self._choices = {
            "version": version,
            "int_division": int_division,
            "undefined_logic": undefined_logic,
        }
        self._dialect = Dialect(int_division, undefined_logic)
        draft = self._checked(sql, where)
        self.filter = draft.from_filter
        self._query = draft.query
        only = self._query.items[0]
        star = isinstance(only.value, Star) and not only.alias
        self._whole = len(self._query.items) == 1 and star
        key_place = f"{where}.{key_name}"
        self._key = None if partition_key is None else self._template(partition_key, key_place)

    def of(self, topic: str | None, payload: bytes) -> Sent:
        """What a message becomes, whatever WHERE says; the key is empty without a template.

        Raises:
            Unreadable: the payload is none.
            RouteError: it has no partition key.
        """
        return self._sent(Seen(topic, message_of(payload)), payload)

    def _sent(self, seen: Seen, payload: bytes) -> Sent:
        key = ""
        if self._key is not None:
            key = self._key(seen)
            if not 1 <= len(key) <= KEY_CHARACTERS_MAX:
                expected = f"expected 1 to {KEY_CHARACTERS_MAX} characters"
                raise RouteError("partition_key", f"partition key: {expected}, found {len(key)}")
        return Sent(key, payload if self._whole else self._output(seen, payload))

    def _checked(self, sql: str, place: str) -> Draft:
        """A statement of which every part can be evaluated."""
        draft = Draft(sql, "value", place, True, self._choices)
        for apply in (parse, check):
            apply(draft)
            draft.stop_at_errors()
        return draft

    def _template(self, text: str, place: str) -> Callable[[Seen], str]:
        """The function that fills in a template."""
        parts: list[str | Node] = []
        done = 0
        for found in _TEMPLATE.finditer(text):
            parts += [text[done : found.start()], self._expression(found[1], place)]
            done = found.end()
        parts.append(text[done:])

        def fill(seen: Seen) -> str:
            return "".join(
                part if isinstance(part, str) else _text(evaluate(part, seen, self._dialect), text)
                for part in parts
            )

        return fill

    def _expression(self, text: str, place: str) -> Node:
        """An expression within a template, with the same language as a SELECT's item."""
        items = self._checked(f"SELECT {text} FROM '#'", place).query.items
        if len(items) != 1 or isinstance(items[0].value, Star):
            raise ConfigError([Problem(place, f"expected one value in ${{{text}}}")])
        return folded(items[0].value, self._dialect)

    def _output(self, seen: Seen, payload: bytes) -> bytes:
        members: Members = {}
        for item in self._query.items:
            self._put(item, seen, payload, members)
        return _text_of(members)

    def _put(self, item: Item, seen: Seen, payload: bytes, members: Members) -> None:
        """Put the value of an item into the output, where it has one."""
        value = item.value
        if isinstance(value, Star) and not item.alias:
            members |= {name: bytes(raw) for name, raw in _raw_object(payload).items()}
            return
        if isinstance(value, Star):
            text: bytes | None = payload
        elif isinstance(value, Path):
            text = _raw_at(payload, value.names)
        else:
            found = evaluate(value, seen, self._dialect)
            text = None if found is UNSET else _quoted(found)
        if text is not None:
            _set(members, item.alias or item_key(value), text)


class Route(Output):
    """One statement and the template of its partition key, ready for messages.

    filter: the topic filter of FROM, which is to be subscribed to. passed: how many messages went
    on, filtered: how many WHERE left out.
    """

    filter: str

    def __init__(self, sql: str, partition_key: str, *, where: str = "route", **choices: str):
        """Compile, as `Output` does; a route needs FROM."""
        super().__init__(sql, partition_key, where=where, **choices)
        if self.filter is None:
            draft = Draft(sql, "value", where, True, self._choices)
            draft.tell(len(sql), "expected FROM with a topic filter: it is what is subscribed to")
            draft.stop_at_errors()
        self.passed = self.filtered = 0
        self._matches = compile_filter(self.filter)
        condition = self._query.where
        self._where = None if condition is None else folded(condition, self._dialect)

    def matches(self, topic: str) -> bool:
        """Whether FROM matches a topic, as AWS IoT has it."""
        return self._matches(topic)

    def send(self, topic: str, payload: bytes) -> Sent | None:
        """What a message becomes; None where WHERE is not true of it.

        Raises:
            Unreadable: the payload is none.
            RouteError: it has no partition key.
        """
        seen = Seen(topic, message_of(payload))
        if self._where is not None and evaluate(self._where, seen, self._dialect) is not True:
            self.filtered += 1
            return None
        sent = self._sent(seen, payload)
        self.passed += 1
        return sent


def _raw_at(payload: bytes, names: tuple[str, ...]) -> bytes | None:
    """The JSON text of the value at a path; None where there is none."""
    text = payload
    for name in names:
        if not text.lstrip().startswith(b"{"):
            return None
        found = _raw_object(text).get(name)
        if found is None:
            return None
        text = bytes(found)
    return text


def _set(members: Members, path: tuple[str, ...], text: bytes) -> None:
    """Put a value at a path of the output; objects on the way are opened, others replaced."""
    for name in path[:-1]:
        below = members.get(name)
        if isinstance(below, bytes):
            opened = _raw_object(below) if below.lstrip().startswith(b"{") else {}
            below = {key: bytes(raw) for key, raw in opened.items()}
        members[name] = below = {} if below is None else below
        members = below
    members[path[-1]] = text


def _text_of(members: Members) -> bytes:
    parts = (
        _quoted(name) + b":" + (_text_of(value) if isinstance(value, dict) else value)
        for name, value in members.items()
    )
    return b"{" + b",".join(parts) + b"}"


def _text(value: Value, template: str) -> str:
    """A value as it stands in a key: text as it is, numbers and Booleans as JSON has them."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Decimal):
        return number_text(value)
    found = "nothing" if value is UNSET else "null" if value is None else "an object or array"
    raise RouteError("partition_key", f"partition key {template}: expected a value, found {found}")
