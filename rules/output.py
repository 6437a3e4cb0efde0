"""What a statement puts out of one message: the bytes that its SELECT makes.

Values that come from the payload are sent on as their own text: a number keeps its digits. `SELECT
*` alone sends the message's own bytes, whatever they are. Of two items with one name the later
counts; an item without value is left out. `SELECT VALUE` puts out the value itself, a text without
quotes, and nothing where it is Undefined.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import UNSET, Raw

from .fold import folded
from .interpret import OLDER, Dialect, evaluate, item_key
from .message import Scope
from .tree import Item, Node, Path, Query, Star
from .values import CostlyError, Value, json_text

OUTPUT_BYTES_MAX = 1 << 20  # a record of a stream holds no more

_raw_object = msgspec.json.Decoder(dict[str, Raw]).decode
_quoted = msgspec.json.encode

# A member of the output: its JSON text, or the members of an object that items build.
Members = dict[str, "bytes | Members"]


class OutputError(Exception):
    """A SELECT has no output for a message."""


class Output:
    """The SELECT of one statement, ready for messages."""

    def __init__(self, query: Query, dialect: Dialect) -> None:
        """Fold what depends on no message."""
        self._dialect = dialect
        self._items = [
            Item(item.at, folded(item.value, dialect), item_key(item)) for item in query.items
        ]
        self._bare = query.bare
        only = query.items[0]
        self._star = isinstance(only.value, Star) and not only.alias and len(query.items) == 1

    def of(self, message: Scope) -> bytes:
        """Return the bytes that go out.

        Raises:
            OutputError: `*` stands beside other items, and the message is no JSON object.
            CostlyError: they would be more than `OUTPUT_BYTES_MAX`, or take too many steps.
        """
        if self._star:
            return message.payload
        if self._bare:
            return self._value(self._items[0].value, message)
        members: Members = {}
        left = OUTPUT_BYTES_MAX
        for item in self._items:
            left -= self._put(item, message, members, left)
            if left < 0:
                raise CostlyError(
                    f"the output has too many bytes: expected at most {OUTPUT_BYTES_MAX}"
                )
        return _text_of(members)

    def _value(self, node: Node, message: Scope) -> bytes:
        found = evaluate(node, message, self._dialect)
        if found is UNSET or (type(found) is list and self._dialect.version == OLDER):
            return b""
        if type(found) is str:
            return found.encode()
        return _json(found, OUTPUT_BYTES_MAX)

    def _put(self, item: Item, message: Scope, members: Members, left: int) -> int:
        """Put the value of an item into the output, where it has one; the size it takes."""
        value, key = item.value, item.alias
        if isinstance(value, Star) and not key:
            raw = _members_of(message)
            members |= raw
            return len(message.payload)
        if isinstance(value, Star):
            text: bytes | None = message.payload if type(message.whole()) is dict else None
        elif isinstance(value, Path):
            text = _raw_at(message, value.names)
        else:
            found = evaluate(value, message, self._dialect)
            text = None if found is UNSET else _json(found, left)
        if text is None:
            return 0
        assert key is not None
        _set(members, key, text)
        return len(text)


def _too_large() -> CostlyError:
    return CostlyError(f"the output has too many bytes: expected at most {OUTPUT_BYTES_MAX}")


def _json(value: Value, chars_max: int) -> bytes:
    text = json_text(value, chars_max)
    if text is UNSET:
        raise _too_large()
    encoded: bytes = text.encode()
    return encoded


def _members_of(message: Scope) -> Mapping[str, bytes]:
    """The members of a message as JSON texts; an empty message has none."""
    if not message.payload:
        return {}
    if type(message.whole()) is not dict:
        raise OutputError("* beside other items needs a message that is a JSON object")
    return {name: bytes(raw) for name, raw in _raw_object(message.payload).items()}


def _raw_at(message: Scope, names: tuple[str, ...]) -> bytes | None:
    """The JSON text of the value at a path; None where there is none."""
    if type(message.whole()) is not dict:
        return None
    text = message.payload
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
        below: Any = members.get(name)
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
