"""The functions of IoT SQL with regular expressions (see regex.py for what these may be).

Semantics: the AWS IoT Core developer guide. Where the guide is silent, the choice is made here:
`regexp_substr` without a match is Undefined; a replacement that names a group that is not there
makes `regexp_replace` Undefined, whether there is a match or not; a search that could take more
than `regex.steps_max` steps is Undefined, and so are more than `replacements_max` replacements and
those that could take more than `replacing_steps_max` steps.
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
_BYTES_MAX = 4 * text_chars_max


def _prepared(whole: str, regex: str, captures: bool = False) -> tuple[Pattern, bytes] | None:
    """What finds and where, None where it cannot be had within bounds."""
    pattern, data = pattern_for(regex, whole, captures), utf8(whole)
    if pattern is None or data is None or pattern.size * len(data) > steps_max:
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
    done: list[bytes] = []
    size = steps = copied = start = 0
    for _ in range(replacements_max + 1):
        found = _found(pattern, data, start) if start <= len(data) else None
        steps += _steps(pattern, data, start, found)
        if steps > replacing_steps_max:
            return UNSET
        if found is None:
            return (b"".join(done) + data[copied:]).decode()
        first, last = found.span()
        done.append(data[copied:first])
        done += [found.group(part) or b"" if isinstance(part, int) else part for part in parts]
        size += first - copied + sum(map(len, done[len(done) - len(parts) :]))
        if size > _BYTES_MAX:
            return UNSET
        copied = last
        start = last if last > first else _following(data, last)
    return UNSET


def _steps(pattern: Pattern, data: bytes, start: int, found: Any) -> int:
    """How many steps a search may have taken: bytes seen, times the size of the program.

    RE2 may look beyond a match for a better one. How far, to the end of the text at worst, depends:
    without loops as far as the program is long; and where nothing branches, what is looked through
    for one match is not looked through in vain again for the next.
    """
    seen = max(len(data) - start, 0)
    translation = pattern.translation
    if found is not None and not (translation.looped and translation.branching):
        seen = min(seen, found.end() - start + pattern.size * (not translation.looped))
    return seen * pattern.size


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
