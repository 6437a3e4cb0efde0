"""Substitution templates: text with `${expression}` in it, filled in for each message.

An expression has the language of a SELECT's item and is evaluated over the message as it came; the
names that SELECT gives are not seen, the variables of SET are. What stands around is literal, and
`$` alone too. A value is converted to text; Undefined and Null give an empty one.

A value can come from anyone who may publish. Where the text becomes a path or a header, `encode`
makes it harmless: `path_segment` leaves no slash and no dot segment, so that a value never leaves
the prefix that it was put behind, `header_value` no control character.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from urllib.parse import quote

from msgspec import UNSET

from .interpret import Dialect, evaluate
from .message import Scope
from .tree import Node
from .values import Value, text_of

Compile = Callable[[str, int], Node]  # the text of an expression, and its offset in the template


class TemplateError(ValueError):
    """A template that is none; `offset` is the character at which that shows."""

    def __init__(self, message: str, offset: int) -> None:
        """Keep both."""
        super().__init__(message)
        self.offset = offset


class Template:
    """A template, ready for messages."""

    def __init__(self, text: str, dialect: Dialect, expression: Compile) -> None:
        """Compile every expression with `expression`.

        Raises TemplateError where one is not closed, and what `expression` raises.
        """
        self._dialect = dialect
        self.parts: list[str | Node] = [
            part if at < 0 else expression(part, at) for part, at in pieces(text)
        ]

    def values(self, message: Scope) -> Iterator[tuple[str | None, Value]]:
        """Yield the literal texts, and the values between them with None before each."""
        for part in self.parts:
            if isinstance(part, str):
                yield part, part
            else:
                yield None, evaluate(part, message, self._dialect)

    def fill(self, message: Scope, encode: Callable[[str], str] = str) -> str:
        """Return the text for one message, each value converted and then encoded."""
        return "".join(
            encode(_text(value)) if literal is None else literal
            for literal, value in self.values(message)
        )


def pieces(text: str) -> Iterator[tuple[str, int]]:
    """Yield literal texts with -1, and the texts of expressions with their offsets.

    A brace inside a string or an object literal does not end an expression.
    """
    done = 0
    while (start := text.find("${", done)) >= 0:
        if start > done:
            yield text[done:start], -1
        end = _closing(text, start + 2)
        yield text[start + 2 : end], start + 2
        done = end + 1
    if done < len(text):
        yield text[done:], -1


def _closing(text: str, at: int) -> int:
    opened, start = 1, at - 2
    while at < len(text):
        c = text[at]
        if c in "'\"":
            at = text.find(c, at + 1)
            if at < 0:
                break
        opened += (c == "{") - (c == "}")
        if not opened:
            return at
        at += 1
    raise TemplateError("${ is not closed: expected } before the end", start)


def _text(value: Value) -> str:
    found = text_of(value)
    return "" if found is UNSET else str(found)


def path_segment(text: str) -> str:
    """Percent-encode a value for one segment of a path: no slash, no dot segment, ASCII alone."""
    encoded = quote(text, safe="")
    return encoded if encoded.strip(".") else encoded.replace(".", "%2E")


def header_value(text: str) -> str:
    """Percent-encode a value for a header: printable ASCII alone, and a % only as encoding."""
    return quote(text, safe=" !\"#$&'()*+,/:;<=>?@[\\]^`{|}~")
