"""The functions of IoT SQL on Arrays and Objects, and those that tell what a value is.

Semantics: the AWS IoT Core developer guide. Where the guide is silent, the choice is made here:

- `get` counts the characters of a text from 0, as it does the items of an Array;
- `transform("enrichArray", ...)`: where element and Object have the same key, the Object's counts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

from msgspec import UNSET

from .arguments import Function
from .values import Value, exact, integer_of, json_length, text_chars_max

MODE = "enrichArray"


def get(message: object, arguments: Sequence[Value]) -> Value:
    """Return one item of an Array, one character of a String or one member of an Object."""
    if len(arguments) != 2:
        return UNSET
    whole, key = arguments
    if type(whole) is dict:
        return exact(whole.get(key, UNSET)) if type(key) is str else UNSET
    if type(whole) not in (list, str):
        return UNSET
    index = integer_of(key)
    return exact(whole[index]) if index is not None and 0 <= index < len(whole) else UNSET


def isnull(message: object, arguments: Sequence[Value]) -> Value:
    """Tell whether a value is Null; of Undefined this is false."""
    return arguments[0] is None if len(arguments) == 1 else UNSET


def isundefined(message: object, arguments: Sequence[Value]) -> Value:
    """Tell whether there is no value; of Null this is false."""
    return arguments[0] is UNSET if len(arguments) == 1 else UNSET


def get_or_default(message: object, arguments: Sequence[Value]) -> Value:
    """Return the second argument, or Undefined, in place of Null and Undefined."""
    if len(arguments) not in (1, 2):
        return UNSET
    value, default = [*arguments, UNSET][:2]
    return default if _is_missing(value) else value


def nanvl(message: object, arguments: Sequence[Value]) -> Value:
    """Return the second argument in place of Null, Undefined and what is no number by IEEE 754."""
    if len(arguments) != 2:
        return UNSET
    value = arguments[0]
    if _is_missing(value) or (type(value) is Decimal and value.is_nan()):
        return arguments[1]
    return value


def _is_missing(value: Value) -> bool:
    return value is None or value is UNSET


def transform(message: object, arguments: Sequence[Value]) -> Value:
    """Put the members of an Object into each Object of an Array.

    Undefined where the result would be longer than `values.text_chars_max` characters of JSON.
    """
    if len(arguments) != 3 or arguments[0] != MODE:
        return UNSET
    added, elements = arguments[1:]
    if type(added) is not dict or type(elements) is not list:
        return UNSET
    if any(type(element) is not dict for element in elements):
        return UNSET
    return _enriched(added, elements)


def _enriched(added: dict[str, Any], elements: list[dict[str, Any]]) -> Value:
    length_of_added, size = json_length(added), json_length(elements)
    if length_of_added is None or size is None:
        return UNSET
    if size + len(elements) * length_of_added <= text_chars_max:
        return [element | added for element in elements]
    # Keys in common make it shorter than that: count, and build no more than there may be.
    enriched: list[dict[str, Any]] = []
    size = len("[]")
    for element in elements:
        enriched.append(element | added)
        size += (json_length(enriched[-1]) or 0) + (len(enriched) > 1)
        if size > text_chars_max:
            return UNSET
    return enriched


FUNCTIONS: Mapping[str, Function] = {
    "get": get,
    "get_or_default": get_or_default,
    "isnull": isnull,
    "isundefined": isundefined,
    "nanvl": nanvl,
    "transform": transform,
}
