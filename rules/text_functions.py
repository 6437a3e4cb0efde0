"""The functions of IoT SQL on texts; what is no String is converted, as `values.text_of` does.

Semantics: the AWS IoT Core developer guide. Where the guide is silent, the choice is made here:

- characters are code points; `indexof` of what is not there is -1;
- `ltrim` and `rtrim` take off tabs and blanks, `trim` all of ASCII's white space;
- `replace` of the empty text puts its third argument before each character and at the end;
- `concat` with an Array gives an Array of at most `values.text_chars_max` bytes of JSON; an
  Undefined argument, which no Array can hold, makes it Undefined.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal

from msgspec import UNSET

from .arguments import Function, bounded, on_texts, text, utf8
from .values import Value, integer_of, json_length, text_chars_max

pad_blanks_max = 1000
ascii_last = 127
_TABS_AND_BLANKS = "\t "
_WHITE_SPACE = "\t\n\v\f\r "


def concat(message: object, arguments: Sequence[Value]) -> Value:
    """Join Arrays where there is one, else texts where there is one; one argument is the result."""
    if len(arguments) == 1:
        return arguments[0]
    if any(type(argument) is list for argument in arguments):
        return _spliced(arguments)
    if any(type(argument) is str for argument in arguments):
        return _joined(arguments)
    return UNSET


def _spliced(arguments: Sequence[Value]) -> Value:
    size = 0
    for argument in arguments:
        length_of_argument = json_length(argument)
        if length_of_argument is None:
            return UNSET
        size += length_of_argument
        if size > text_chars_max:
            return UNSET
    parts = (argument if type(argument) is list else [argument] for argument in arguments)
    return [item for part in parts for item in part]


def _joined(arguments: Sequence[Value]) -> Value:
    parts: list[str] = []
    size = 0
    for argument in arguments:
        part = text(argument)
        if part is None or (size := size + len(part)) > text_chars_max:
            return UNSET
        parts.append(part)
    return "".join(parts)


def substring(message: object, arguments: Sequence[Value]) -> Value:
    """Cut out the characters from the second argument to before the third, or to the end."""
    if len(arguments) not in (2, 3):
        return UNSET
    whole = text(arguments[0])
    places = [integer_of(argument) for argument in arguments[1:]]
    if whole is None:
        return UNSET
    ends = [min(max(place, 0), len(whole)) for place in places if place is not None]
    if len(ends) < len(places):
        return UNSET
    return whole[slice(*ends)] if len(ends) == 2 else whole[ends[0] :]


def lpad(message: object, arguments: Sequence[Value]) -> Value:
    """Put so many blanks before a text, 0 to `pad_blanks_max`."""
    padded = _padding(arguments)
    return UNSET if padded is None else bounded(padded[1] + padded[0])


def rpad(message: object, arguments: Sequence[Value]) -> Value:
    """Put so many blanks after a text, 0 to `pad_blanks_max`."""
    padded = _padding(arguments)
    return UNSET if padded is None else bounded(padded[0] + padded[1])


def _padding(arguments: Sequence[Value]) -> tuple[str, str] | None:
    if len(arguments) != 2:
        return None
    found, count = text(arguments[0]), integer_of(arguments[1])
    if found is None or count is None:
        return None
    return found, " " * min(max(count, 0), pad_blanks_max)


def chr_(message: object, arguments: Sequence[Value]) -> Value:
    """Return the ASCII character of a code."""
    code = integer_of(arguments[0]) if len(arguments) == 1 else None
    return UNSET if code is None or not 0 <= code <= ascii_last else chr(code)


def _replace(whole: str, old: str, new: str) -> Value:
    growth = whole.count(old) * (len(new) - len(old))
    return UNSET if len(whole) + growth > text_chars_max else whole.replace(old, new)


def _numbytes(characters: str) -> Value:
    encoded = utf8(characters)
    return UNSET if encoded is None else Decimal(len(encoded))


FUNCTIONS: Mapping[str, Function] = {
    "chr": chr_,
    "concat": concat,
    "endswith": on_texts(2, str.endswith),
    "indexof": on_texts(2, lambda whole, part: Decimal(whole.find(part))),
    "length": on_texts(1, lambda whole: Decimal(len(whole))),
    "lower": on_texts(1, str.lower),
    "lpad": lpad,
    "ltrim": on_texts(1, lambda whole: whole.lstrip(_TABS_AND_BLANKS)),
    "numbytes": on_texts(1, _numbytes),
    "replace": on_texts(3, _replace),
    "rpad": rpad,
    "rtrim": on_texts(1, lambda whole: whole.rstrip(_TABS_AND_BLANKS)),
    "startswith": on_texts(2, str.startswith),
    "substring": substring,
    "trim": on_texts(1, lambda whole: whole.strip(_WHITE_SPACE)),
    "upper": on_texts(1, str.upper),
}
