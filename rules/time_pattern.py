"""Patterns of java.time's DateTimeFormatter, made into readers of text.

    y year of era, u year (yy, uu: 2000-2099) | G era | M L month | d day | D day of year
    E day of week by name, e c by number from Sunday 1 (from three letters on: by name)
    a AM or PM | H hour 0-23 | k 1-24 | K 0-11 | h 1-12 | m minute | s second | S its fraction
    n nanosecond | A ms of the day | N ns of the day
    VV id of a zone | z its id or short name | X x Z O offsets | 'text' | '' a quote
    [ ] what may be absent | p pads with blanks

Reading is strict, as java's is by default: names in English and in the case they are written in, no
blanks but those of the pattern, all of the text. Numbers side by side share their digits as there:
the first one takes what the fixed ones after it leave. Choices where java's own answer depends on
its version or a locale, or could only mislead:

- names are those of Locale.US; the narrow ones of five letters are refused, for J is three months;
- fields of the week and quarter (Y w W F g q Q), v and B are refused, and zzzz, the full name;
- brackets may be nested 32 deep, a pattern has 256 characters at most.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from .time_calendar import DAYS, ERAS, HALVES, MONTHS, SHORT
from .time_fields import (
    Digits,
    Element,
    Exact,
    LocalOffset,
    Offset,
    Optional,
    Padded,
    Words,
    ZoneName,
)

pattern_chars_max = 256
nesting_max = 32
_any_width = 19  # digits of java's long

FIELDS: Mapping[str, str] = {
    "A": "ms_of_day", "D": "day_of_year", "E": "weekday", "G": "era", "H": "hour",
    "K": "hour_of_half", "L": "month", "M": "month", "N": "ns_of_day", "S": "ns", "a": "half",
    "c": "us_weekday", "d": "day", "e": "us_weekday", "h": "clock_hour_of_half",
    "k": "clock_hour", "m": "minute", "n": "ns", "s": "second", "u": "year", "y": "year_of_era",
}  # fmt: skip
ZONES = "OVXZxz"
REFUSED = {letter: "weeks and quarters are not known" for letter in "FQWYgqw"} | {
    letter: "there is no such name in English alone" for letter in "Bv"
}
_OFFSETS = {1: (False, 1, 0), 2: (False, 2, 0), 3: (True, 2, 0), 4: (False, 2, 1), 5: (True, 2, 1)}
_ERA_NAMES = ("Before Christ", "Anno Domini")
_RUN = re.compile(r"([A-Za-z])\1*")


class PatternError(ValueError):
    """A pattern that cannot be read by: what is wrong, and at which offset."""

    @classmethod
    def at(cls, offset: int, problem: str) -> PatternError:
        """Say where the problem stands, in characters from 0."""
        return cls(f"{problem} at offset {offset} of a time pattern")


def read(pattern: str) -> tuple[Element, ...]:
    """Return the readers of a pattern, in order; raises PatternError."""
    if len(pattern) > pattern_chars_max:
        raise PatternError.at(pattern_chars_max, f"more than {pattern_chars_max} characters")
    builder = _Builder()
    at = 0
    while at < len(pattern):
        char = pattern[at]
        if run := _RUN.match(pattern, at):
            at = builder.letters(pattern, run)
        elif char == "'":
            at = builder.quoted(pattern, at)
        else:
            builder.sign(char, at)
            at += 1
    return builder.finish()


class _Builder:
    """What is read of a pattern so far; one list for each bracket that is open."""

    def __init__(self) -> None:
        self._open: list[list[Element]] = [[]]
        self._first: Element | None = None  # of the numbers side by side that end here
        self._pad = 0

    def finish(self) -> tuple[Element, ...]:
        """Close what is open, as java does."""
        while len(self._open) > 1:
            self._close()
        return tuple(self._open[0])

    def sign(self, char: str, offset: int) -> None:
        """Take what is neither letter nor quote."""
        if char == "[":
            if len(self._open) > nesting_max:
                raise PatternError.at(offset, f"'[' more than {nesting_max} deep")
            self._first = None
            self._open.append([])
        elif char == "]":
            if len(self._open) == 1:
                raise PatternError.at(offset, "']' without a '['")
            self._close()
        elif char in "{}#":
            raise PatternError.at(offset, f"{char!r}, which is reserved,")
        else:
            self._add(Exact(char))

    def _close(self) -> None:
        inner = self._open.pop()
        if inner:
            self._add(Optional(tuple(inner)))
        else:
            self._first = None

    def quoted(self, pattern: str, start: int) -> int:
        """Take a quoted text; returns the offset after it."""
        end = pattern.find("'", start + 1)
        while end >= 0 and pattern[end + 1 : end + 2] == "'":
            end = pattern.find("'", end + 2)
        if end < 0:
            raise PatternError.at(start, "a quote that is not closed")
        text = pattern[start + 1 : end].replace("''", "'")
        self._add(Exact(text or "'"))
        return end + 1

    def letters(self, pattern: str, run: re.Match[str]) -> int:
        """Take a run of one letter; returns the offset after it."""
        letter, offset = run[1], run.start()
        if letter != "p":
            self._field(letter, len(run[0]), offset)
            return run.end()
        padded = _RUN.match(pattern, run.end())
        if padded is None:
            raise PatternError.at(offset, "'p' without letters after it")
        self._pad, self._first = len(run[0]), None
        self._field(padded[1], len(padded[0]), padded.start())
        return padded.end()

    def _field(self, letter: str, count: int, offset: int) -> None:
        if letter in REFUSED:
            raise PatternError.at(offset, f"letter {letter!r}, {REFUSED[letter]},")
        if letter not in FIELDS and letter not in ZONES:
            known = "".join(sorted([*FIELDS, *ZONES, "p"]))
            raise PatternError.at(offset, f"unknown letter {letter!r} (known: {known})")
        element = _zone(letter, count) if letter in ZONES else _of_field(letter, count)
        if element is None:
            raise PatternError.at(
                offset, f"{letter * count!r}, a number of letters with no meaning,"
            )
        if isinstance(element, Digits):
            self._number(element, offset)
        else:
            self._add(element)

    def _number(self, digits: Digits, offset: int) -> None:
        first = self._first
        if first is None:
            self._first = self._add(digits)
            return
        if not isinstance(first, Digits):
            raise PatternError.at(offset, "a number side by side with a padded one")
        if digits.fixed:
            first.following += digits.most
            self._add(digits)
            self._first = first
        else:
            first.following = 0
            self._first = self._add(digits)

    def _add(self, element: Element) -> Element:
        if self._pad:
            element = Padded(element, self._pad)
            self._pad = 0
        self._open[-1].append(element)
        self._first = None
        return element


def _of_field(letter: str, count: int) -> Element | None:
    """Return the reader of a field; None where java knows no such number of letters."""
    field = FIELDS[letter]
    if count > _any_width:
        return None
    if letter in "uy":
        if count == 2:
            return Digits(field, 2, 2, base=2000)
        return Digits(field, count, _any_width, signed=True, exceeds=count >= 4)
    if letter in "ANn":
        return Digits(field, count, _any_width)
    if letter == "S":
        return Digits(field, count, count, fraction=True) if count <= 9 else None
    if letter == "a":
        return _words(field, HALVES) if count == 1 else None
    if letter == "G":
        names = ERAS if count <= SHORT else _ERA_NAMES
        return _words(field, names) if count <= 4 else None
    if letter in "MLEec":
        return _named(letter, field, count)
    if count > (3 if letter == "D" else 2):
        return None
    if letter == "D" and count == 2:
        return Digits(field, 2, 3)
    return _plain(field, count)


def _plain(field: str, count: int) -> Digits:
    if count == 1:
        return Digits(field, 1, _any_width, signed=True)
    return Digits(field, count, count)


def _named(letter: str, field: str, count: int) -> Element | None:
    if count > 4:
        return None
    if letter in "ec" and count < SHORT:
        return Digits(field, count, count) if letter == "e" or count == 1 else None
    if letter in "ML" and count < SHORT:
        return _plain(field, count)
    names, field = (MONTHS, field) if letter in "ML" else (DAYS, "weekday")
    return _words(field, names if count == 4 else [name[:SHORT] for name in names], first=1)


def _words(field: str, names: Sequence[str], first: int = 0) -> Words:
    return Words(field, {name: number for number, name in enumerate(names, first)})


def _zone(letter: str, count: int) -> Element | None:
    if letter == "V":
        return ZoneName(by_name=False) if count == 2 else None
    if letter == "z":
        return ZoneName(by_name=True) if count <= SHORT else None
    if letter == "O":
        return LocalOffset(full=count == 4) if count in (1, 4) else None
    if count > 5:
        return None
    if letter == "Z":
        if count == 4:
            return LocalOffset(full=True)
        return Offset("Z", True, 2, 1) if count == 5 else Offset("+0000", False, 2, 0)
    zero = "Z" if letter == "X" else ("+00" if count == 1 else ("+0000", "+00:00")[count % 2])
    return Offset(zero, *_OFFSETS[count])
