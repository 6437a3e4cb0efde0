"""How the functions of IoT SQL take their arguments: counted, converted, and never too long.

A function gets the message and its arguments, already evaluated. A wrong number or wrong types of
arguments give Undefined. A text of more than `values.text_chars_max` characters is Undefined, as
argument and as result: what functions cost and hold is bounded by that.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from msgspec import UNSET

from .values import Value, text_chars_max, text_of

Function = Callable[[object, Sequence[Value]], Value]


def text(value: Value) -> str | None:
    """Convert to String; None where there is no such text, or a longer one than there may be."""
    if type(value) is bytes:  # the payload itself, which is text only once it is encoded
        return None
    found = text_of(value)
    return found if type(found) is str and len(found) <= text_chars_max else None


def utf8(characters: str) -> bytes | None:
    """Encode in UTF-8; None for half a surrogate pair, which has no such form."""
    try:
        return characters.encode()
    except UnicodeEncodeError:
        return None


def on_texts(count: int, apply: Callable[..., Value]) -> Function:
    """Make a function of `count` Strings out of one that never sees anything else."""

    def function(message: object, arguments: Sequence[Value]) -> Value:
        if len(arguments) != count:
            return UNSET
        texts = [text(argument) for argument in arguments]
        if None in texts:
            return UNSET
        return bounded(apply(*texts))

    return function


def bounded(value: Value) -> Value:
    """Return a result, Undefined where it is a text that is too long."""
    return UNSET if type(value) is str and len(value) > text_chars_max else value
