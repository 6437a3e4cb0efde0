"""The functions of IoT SQL with regular expressions (see regex.py for what these may be).

Semantics: the AWS IoT Core developer guide. Where the guide is silent, the choice is made here:
`regexp_substr` without a match is Undefined; a replacement that names a group that is not there
makes `regexp_replace` Undefined, whether there is a match or not; a search that could take more
than `regex.steps_max` steps is Undefined, and so are more than `replacements_max` replacements and
those that could take more than `replacing_steps_max` steps, and \\B in long texts beyond ASCII.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from msgspec import UNSET

from .arguments import Function, on_texts, utf8
from .regex import Pattern, pattern_for, replacement, steps_max
from .values import Value, text_chars_max

replacements_max = 1 << 13
replacing_steps_max = 1 << 24
inside_bytes_max = 1 << 13  # of a text with other than ASCII in which \B is looked for
_BYTES_MAX = 4 * text_chars_max


def _prepared(whole: str, regex: str, captures: bool = False) -> tuple[Pattern, bytes] | None:
    """What finds and where, None where it cannot be had within bounds."""
    pattern, data = pattern_for(regex, whole, captures), utf8(whole)
    if pattern is None or data is None or pattern.size * len(data) > steps_max:
        return None
    if pattern.translation.inside and len(data) > inside_bytes_max and not data.isascii():
        return None
    return pattern, data


def _found(pattern: Pattern, data: bytes, start: int) -> Any:
    """The first match from a place on.

    RE2 sees \\B between the bytes of one character too; what is found there is empty, and no match.
    """
    found = pattern.search(data, start)
    while found is not None and _is_inside(data, found.start()):
        found = pattern.search(data, _following(data, found.start()))
    return found


def _is_inside(data: bytes, at: int) -> bool:
    """Whether a place is within a character."""
    return at < len(data) and data[at] & 0xC0 == 0x80


def _matches(whole: str, regex: str) -> Value:
    prepared = _prepared(whole, regex)
    return UNSET if prepared is None else _found(*prepared, 0) is not None


def _substr(whole: str, regex: str) -> Value:
    prepared = _prepared(whole, regex)
    found = prepared and _found(*prepared, 0)
    return found.group().decode() if found else UNSET


def _replace(whole: str, regex: str, template: str) -> Value:
    prepared = _prepared(whole, regex)
    if prepared is None:
        return UNSET
    translation = prepared[0].translation
    parts = replacement(template, translation.groups, translation.names)
    if parts is None:
        return UNSET
    if any(type(part) is int and part for part in parts):
        prepared = _prepared(whole, regex, captures=True)
    return UNSET if prepared is None else _replaced(*prepared, parts)


def _replaced(pattern: Pattern, data: bytes, parts: list[bytes | int]) -> Value:
    fixed = b"".join(part for part in parts if isinstance(part, bytes))
    has_groups = any(isinstance(part, int) for part in parts)
    done: list[bytes] = []
    size = seen = copied = start = 0
    while start <= len(data) and (found := _found(pattern, data, start)) is not None:
        first, last = found.span()
        seen += _reach(pattern, data, last) - start
        new = _filled(parts, found) if has_groups else fixed
        done += (data[copied:first], new)
        size += first - copied + len(new)
        if len(done) > 2 * replacements_max or size > _BYTES_MAX:
            return UNSET
        if seen * pattern.size > replacing_steps_max:
            return UNSET
        copied = last
        start = last if last > first else _following(data, last)
    return (b"".join(done) + data[copied:]).decode()


def _filled(parts: list[bytes | int], found: Any) -> bytes:
    return b"".join(found.group(p) or b"" if isinstance(p, int) else p for p in parts)


def _reach(pattern: Pattern, data: bytes, last: int) -> int:
    """How far RE2 may have looked to be sure that a match ends where it does.

    Without loops that is as far as the program is long, and where nothing branches what is looked
    through for one match is not looked through in vain for the next: else to the end of the text.
    """
    translation = pattern.translation
    if translation.looped:
        return len(data) if translation.branching else last
    return min(last + pattern.size, len(data))


def _following(data: bytes, at: int) -> int:
    """Where the character after this one begins."""
    at += 1
    while _is_inside(data, at):
        at += 1
    return at


FUNCTIONS: Mapping[str, Function] = {
    "regexp_matches": on_texts(2, _matches),
    "regexp_replace": on_texts(3, _replace),
    "regexp_substr": on_texts(2, _substr),
}
