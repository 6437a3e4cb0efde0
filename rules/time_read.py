"""time_to_epoch(): a text to a time in ms since 1970, by a pattern of java.time's letters.

The letters are in time_pattern.py, what their fields mean together in time_resolve.py. Whatever
does not fit is Undefined. Where the AWS IoT Core developer guide is silent, the choice is made
here: text and pattern must be texts; a text without a date is no time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from functools import lru_cache

from msgspec import UNSET

from .time_fields import Element, Parsed, failed
from .time_pattern import PatternError, pattern_chars_max, read
from .time_resolve import UnresolvedError, time_ms
from .values import Value

Function = Callable[[object, Sequence[Value]], Value]

patterns_max = 256  # that are kept, read


def refusal(pattern: str) -> str | None:
    """Say what is wrong with a pattern and where; None if a text can be read by it."""
    try:
        read(pattern)
    except PatternError as error:
        return str(error)
    return None


@lru_cache(patterns_max)
def _elements(pattern: str) -> tuple[Element, ...] | None:
    try:
        return read(pattern)
    except PatternError:
        return None


def time_to_epoch(message: object, arguments: Sequence[Value]) -> Value:
    """Apply time_to_epoch(text, pattern); text without a zone is in UTC."""
    if len(arguments) != 2 or not all(type(argument) is str for argument in arguments):
        return UNSET
    text, pattern = arguments
    elements = _elements(pattern) if len(pattern) <= pattern_chars_max else None
    parsed = Parsed()
    at = 0
    for element in elements or ():
        at = element.parse(parsed, text, at, len(text))
        if at == failed:
            return UNSET
    if elements is None or at != len(text):
        return UNSET
    try:
        return Decimal(time_ms(parsed))
    except UnresolvedError:
        return UNSET


FUNCTIONS: Mapping[str, Function] = {"time_to_epoch": time_to_epoch}
