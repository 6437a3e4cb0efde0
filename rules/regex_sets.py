"""Sets of characters as Java's patterns name them, and their form in RE2's syntax.

A set is kept as ranges of code points, with which union, intersection and complement are exact; the
Unicode categories and scripts that RE2 knows by name stay names.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

LAST = 0x10FFFF
Ranges = list[tuple[int, int]]

LINE_ENDS: Ranges = [(0x0A, 0x0A), (0x0D, 0x0D), (0x85, 0x85), (0x2028, 0x2029)]
_DIGITS: Ranges = [(0x30, 0x39)]
_UPPER: Ranges = [(0x41, 0x5A)]
_LOWER: Ranges = [(0x61, 0x7A)]
_SPACE: Ranges = [(0x09, 0x0D), (0x20, 0x20)]
_PUNCTUATION: Ranges = [(0x21, 0x2F), (0x3A, 0x40), (0x5B, 0x60), (0x7B, 0x7E)]

# Escapes of one letter; the capital letter is the complement.
LETTERS: dict[str, Ranges] = {
    "d": _DIGITS,
    "w": [*_DIGITS, *_UPPER, (0x5F, 0x5F), *_LOWER],
    "s": _SPACE,
    "h": [(0x09, 0x09), (0x20, 0x20), (0xA0, 0xA0), (0x1680, 0x1680), (0x180E, 0x180E),
          (0x2000, 0x200A), (0x202F, 0x202F), (0x205F, 0x205F), (0x3000, 0x3000)],
    "v": [(0x0A, 0x0D), (0x85, 0x85), (0x2028, 0x2029)],
}  # fmt: skip

# \p{...} of POSIX, which Java holds to ASCII.
POSIX: dict[str, Ranges] = {
    "ASCII": [(0, 0x7F)],
    "Alnum": [*_DIGITS, *_UPPER, *_LOWER],
    "Alpha": [*_UPPER, *_LOWER],
    "Blank": [(0x09, 0x09), (0x20, 0x20)],
    "Cntrl": [(0, 0x1F), (0x7F, 0x7F)],
    "Digit": _DIGITS,
    "Graph": [(0x21, 0x7E)],
    "Lower": _LOWER,
    "Print": [(0x20, 0x7E)],
    "Punct": _PUNCTUATION,
    "Space": _SPACE,
    "Upper": _UPPER,
    "XDigit": [*_DIGITS, (0x41, 0x46), (0x61, 0x66)],
}
CATEGORIES = frozenset(
    """
    C Cc Cf Co Cs L Ll Lm Lo Lt Lu M Mc Me Mn N Nd Nl No P Pc Pd Pe Pf Pi Po Ps S Sc Sk Sm So Z Zl
    Zp Zs
    """.split()
)


class NamesCombined(Exception):
    """A set with names of Unicode was to be complemented inside another, or intersected."""


@dataclass
class Characters:
    """A set: ranges, and names such as `p{L}` or, for all others than those, `P{L}`."""

    ranges: Ranges = field(default_factory=list)
    names: list[str] = field(default_factory=list)

    def add(self, ranges: Iterable[tuple[int, int]], ascii_case: bool) -> None:
        """Add ranges; with `ascii_case` also the other case of each ASCII letter."""
        for first, last in ranges:
            self.ranges.append((first, last))
            if ascii_case:
                self.ranges += _shifted(first, last, _UPPER[0], 0x20)
                self.ranges += _shifted(first, last, _LOWER[0], -0x20)

    def join(self, other: Characters) -> None:
        """Add another set."""
        self.ranges += other.ranges
        self.names += other.names

    def complement(self) -> Characters:
        """Return all other characters; raises NamesCombined where that has no form."""
        if not self.names:
            return Characters(_others(self.ranges))
        if self.ranges or len(self.names) > 1:
            raise NamesCombined
        name = self.names[0]
        return Characters([], [("P" if name[0] == "p" else "p") + name[1:]])

    def intersection(self, other: Characters) -> Characters:
        """Return the characters of both; raises NamesCombined where that has no form."""
        if self.names or other.names:
            raise NamesCombined
        return Characters(_others(_others(self.ranges) + _others(other.ranges)))

    def re2(self, negated: bool = False) -> str:
        """Return the set in RE2's syntax, always one atom."""
        ranges = _merged(self.ranges)
        if not ranges and not self.names:
            ranges, negated = [(0, LAST)], not negated
        inside = "".join(
            literal(first) if first == last else f"{literal(first)}-{literal(last)}"
            for first, last in ranges
        )
        names = "".join("\\" + name for name in self.names)
        return f"[{'^' if negated else ''}{inside}{names}]"


def literal(point: int) -> str:
    """Return one character in RE2's syntax, inside a set or outside."""
    character = chr(point)
    plain = character.isascii() and character.isalnum()
    return character if plain else f"\\x{{{point:x}}}"


def _shifted(first: int, last: int, letters: tuple[int, int], by: int) -> Ranges:
    low, high = max(first, letters[0]), min(last, letters[1])
    return [(low + by, high + by)] if low <= high else []


def _merged(ranges: Ranges) -> Ranges:
    merged: Ranges = []
    for first, last in sorted(ranges):
        if merged and first <= merged[-1][1] + 1:
            merged[-1] = (merged[-1][0], max(merged[-1][1], last))
        else:
            merged.append((first, last))
    return merged


def _others(ranges: Ranges) -> Ranges:
    others: Ranges = []
    at = 0
    for first, last in _merged(ranges):
        if at < first:
            others.append((at, first - 1))
        at = last + 1
    return [*others, (at, LAST)] if at <= LAST else others
