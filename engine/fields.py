"""The quick reading of payloads: the values at a few paths, without building the whole message.

msgspec decodes each payload by itself into a struct made for just those paths. It checks the syntax
of what it skips, but neither its UTF-8 nor its depth, and a wrong type at a path ends the reading
even where a later duplicate of the key would be right. So a row whose decoding fails for any
reason, and a row that `unproven` names, is only called doubtful: the exact reading in payload.py
decides about it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from operator import attrgetter
from typing import Any

import msgspec

from .payload import unproven, walk

PAYLOADS_AT_ONCE = 1024  # their bytes and structs stay in the processor's cache
_UNREAD = msgspec.UNSET

# Twice as fast as attrgetter, for the first fields at the top of a message.
_COLUMNS: tuple[Callable[[list[Any]], list[Any]], ...] = (
    lambda messages: [message.f0 for message in messages],
    lambda messages: [message.f1 for message in messages],
    lambda messages: [message.f2 for message in messages],
    lambda messages: [message.f3 for message in messages],
    lambda messages: [message.f4 for message in messages],
    lambda messages: [message.f5 for message in messages],
    lambda messages: [message.f6 for message in messages],
    lambda messages: [message.f7 for message in messages],
)


class Fields:
    """A decoder for a set of dotted paths, each with the msgspec type that its value must have."""

    __slots__ = ("_blank", "_columns", "_decode", "_unguarded")

    def __init__(self, types: Mapping[str, Any]) -> None:
        """Make the struct types.

        Args:
            types: path to type. `object` takes any value and none (UNSET); a value that is missing
                or not of another type makes its row doubtful.
        """
        tree: dict[Any, Any] = {}
        for path in types:
            node = tree
            for key in path.split("."):
                node = node.setdefault(key, {})
            node[_LEAF] = path
        self._columns = {path: _column(tree, path.split(".")) for path in types}
        # Below a path that is read itself the decoder meets no type of ours.
        self._unguarded = {
            path: kind
            for path, kind in types.items()
            if kind is not object and any(path.startswith(other + ".") for other in types)
        }
        try:
            message, self._blank = _struct(tree, types)
            self._decode: Callable[[bytes], Any] = msgspec.json.Decoder(message).decode
        except ValueError:  # msgspec takes no quotes, backslashes and control characters in names
            _, self._blank = _struct(tree, types, named=False)
            self._decode = _doubt

    def read(self, payloads: Sequence[bytes]) -> tuple[dict[str, list[Any]], list[int]]:
        """The values of every path, one list a path, and the rows that are doubtful.

        The value of a doubtful row means nothing; UNSET stands for a missing one.
        """
        messages: list[Any] = []
        doubtful: set[int] = set()
        for first in range(0, len(payloads), PAYLOADS_AT_ONCE):
            some = payloads[first : first + PAYLOADS_AT_ONCE]
            doubtful.update(first + row for row in unproven(some))
            decoded = map(self._decode, some)
            while True:
                try:
                    messages.extend(decoded)
                    break
                except Exception:  # DecodeError, UnicodeDecodeError, RecursionError, ...
                    # `extend` has kept what came before the payload that failed, and the iterator
                    # goes on behind it.
                    doubtful.add(len(messages))
                    messages.append(self._blank)
        values = {path: column(messages) for path, column in self._columns.items()}
        for path, kind in self._unguarded.items():
            doubtful.update(row for row, value in enumerate(values[path]) if not _is(value, kind))
        return values, sorted(doubtful)


def _is(value: Any, kind: Any) -> bool:
    try:
        msgspec.convert(value, kind)
    except msgspec.ValidationError:
        return False
    return True


def _doubt(payload: bytes) -> Any:
    raise ValueError("no quick reading")


_LEAF = object()  # in a node of the tree: the path that ends there


def _struct(tree: Mapping[Any, Any], types: Mapping[str, Any], named: bool = True) -> Any:
    """A struct type for a node of the tree, and an instance that stands for a row unread."""
    fields: list[tuple[str, Any, Any]] = []
    names: dict[str, str] = {}
    blank: dict[str, Any] = {}
    for key, node in tree.items():
        if key is _LEAF:
            continue
        name = f"f{len(fields)}"
        names[name] = key
        if _LEAF in node:
            kind, blank[name] = types[node[_LEAF]], _UNREAD
            optional = kind is object
        else:
            kind, blank[name] = _struct(node, types, named)
            optional = not _required(node, types)
            if optional:
                kind = kind | str | float | bool | list | None
        fields.append((name, kind, _UNREAD if optional else msgspec.NODEFAULT))
    made = msgspec.defstruct(
        "Message", fields, gc=False, kw_only=True, rename=names if named else None
    )
    return made, made(**blank)


def _required(tree: Mapping[Any, Any], types: Mapping[str, Any]) -> bool:
    """Whether some path in a part of the tree has a type of its own, so that it must be there."""
    return any(
        types[node] is not object if key is _LEAF else _required(node, types)
        for key, node in tree.items()
    )


def _column(tree: Mapping[Any, Any], keys: list[str]) -> Callable[[list[Any]], list[Any]]:
    """A function from decoded messages to the values at one path."""
    names: list[str] = []
    node: Any = tree
    while len(names) < len(keys) and not (names and _LEAF in node):
        numbers = {key: n for n, key in enumerate(k for k in node if k is not _LEAF)}
        names.append(f"f{numbers[keys[len(names)]]}")
        node = node[keys[len(names) - 1]]
    inside = keys[len(names) :]  # below a path that is read itself: the value is a dict
    if len(names) == 1 and int(names[0][1:]) < len(_COLUMNS):
        column = _COLUMNS[int(names[0][1:])]
    else:
        column = _deep_column(names)
    if not inside:
        return column
    return lambda messages: [walk(value, inside) for value in column(messages)]


def _deep_column(names: list[str]) -> Callable[[list[Any]], list[Any]]:
    value_of = attrgetter(".".join(names))

    def column(messages: list[Any]) -> list[Any]:
        try:
            return list(map(value_of, messages))
        except AttributeError:  # some message has no object on the way
            return [_value(message, names) for message in messages]

    return column


def _value(value: Any, names: list[str]) -> Any:
    for name in names:
        value = getattr(value, name, _UNREAD)
    return value
