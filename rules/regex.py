"""Patterns compiled for use: RE2 behind Java's syntax, with every cost bounded.

A pattern that is refused (regex_java.py), or whose program is too large for `memory_bytes_max`,
is no pattern. Searches are bounded in steps, bytes of text times the size of the program, which is
what RE2 takes at worst: nothing else depends on what the pattern and the text are.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from .arguments import utf8
from .regex_java import END, Translation, pattern_chars_max, translate
from .regex_reader import Refused

memory_bytes_max = 1 << 19  # of each program with its automaton
patterns_max = 128  # compiled and kept: more than one statement may have
steps_max = 1 << 22  # of one search; usually far fewer are taken
_DIGITS = tuple("0123456789")
_REPLACEMENT = re.compile(r"\\(.)|\$([0-9])|\$\{([a-zA-Z][a-zA-Z0-9]*)\}|([^\\$]+)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Pattern:
    """A compiled pattern, which finds spans of bytes in UTF-8; size: of its program."""

    search: Callable[[bytes, int], Any]
    size: int
    translation: Translation


@lru_cache(maxsize=patterns_max)
def refusal(pattern: str) -> str | None:
    """Say why a pattern cannot be used, with the construct and its offset; None where it can."""
    try:
        _compile(pattern, "\\z", False)
    except Refused as error:
        return str(error)
    return None


def pattern_for(pattern: str, text: str, captures: bool = False) -> Pattern | None:
    """Return what finds a pattern in a text; None where there is no such pattern.

    captures: whether the spans of groups are wanted, which takes more time.
    """
    if len(pattern) > pattern_chars_max:
        return None
    # `$` stands before a last line feed too. RE2 has that only as the end of every line, which is
    # the same where there is no other line feed.
    last_only = text.endswith("\n") and text.find("\n") == len(text) - 1
    end = "(?m:$)" if last_only and not text.endswith("\r\n") else "\\z"
    return _kept(pattern, end, captures)


@lru_cache(maxsize=patterns_max)
def _kept(pattern: str, end: str, captures: bool) -> Pattern | None:
    try:
        return _compile(pattern, end, captures)
    except Refused:
        return None


def _compile(pattern: str, end: str, captures: bool) -> Pattern:
    import re2  # loaded by the first rule with a pattern, not by everyone who has none

    translation = translate(pattern)
    options = re2.Options()
    options.max_mem = memory_bytes_max
    options.log_errors = False
    options.never_capture = not captures
    try:
        compiled = re2.compile(translation.text.replace(END, end).encode(), options)
    except re2.error as error:
        reason = error.args[0]
        shown = reason.decode("utf-8", "replace") if isinstance(reason, bytes) else str(reason)
        raise Refused(f"RE2 does not take the pattern: {shown}") from None
    return Pattern(compiled.search, compiled.programsize, translation)


def replacement(template: str, groups: int, names: Mapping[str, int]) -> list[bytes | int] | None:
    r"""Return the parts of a Java replacement: texts in UTF-8, and numbers of groups.

    `$1` and `${name}` are groups, a backslash makes the next character one as any other. None where
    a group is not there, or the text is none.
    """
    parts: list[bytes | int] = []
    at = 0
    while at < len(template):
        found = _REPLACEMENT.match(template, at)
        if found is None:
            return None
        at = found.end()
        part: str | int | None = found[1] or found[4]
        if found[3]:
            part = names.get(found[3])
        elif found[2]:
            part = int(found[2])
            # Further digits belong to the number as long as there is such a group.
            while template[at : at + 1] in _DIGITS and 10 * part + int(template[at]) <= groups:
                part = 10 * part + int(template[at])
                at += 1
        encoded = utf8(part) if isinstance(part, str) else part
        if encoded is None or (isinstance(encoded, int) and encoded > groups):
            return None
        parts.append(encoded)
    return parts
