"""The readers of single fields of a time, each from one place of a text on.

A reader is called with what was read so far, the text, a place in it and the end of the text. It
returns the place after what it took, or -1 where it cannot read on. Semantics: java.time's
DateTimeFormatter, parsing strictly.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import cache
from typing import Protocol

from .time_zones import UTC_ZONE, Zone, fixed, id_chars_max, zone_ids, zone_of

failed = -1
offset_seconds_max = 18 * 3600  # of a zone, as java has it
_long_max = 2**63 - 1
_DIGITS = re.compile(r"[0-9]*")
_DIGIT_PAIR = re.compile(r"[0-9]{2}")

# Short names that mean a place, not an offset: summer time is then that place's own. Where two
# places share one, the name means what java has long taken it for.
NAMES = {
    "Europe/Paris": "CET CEST", "Europe/Bucharest": "EET EEST", "Europe/Lisbon": "WET WEST",
    "Europe/London": "BST", "Europe/Moscow": "MSK MSD", "America/New_York": "EST EDT ET",
    "America/Chicago": "CST CDT CT", "America/Denver": "MST MDT",
    "America/Los_Angeles": "PST PDT PT", "America/Anchorage": "AKST AKDT",
    "Pacific/Honolulu": "HST HDT", "America/Halifax": "AST ADT", "America/St_Johns": "NST NDT",
    "America/Sao_Paulo": "BRT", "America/Argentina/Buenos_Aires": "ART", "Asia/Kolkata": "IST",
    "Asia/Tokyo": "JST", "Asia/Seoul": "KST", "Asia/Hong_Kong": "HKT", "Asia/Singapore": "SGT",
    "Asia/Karachi": "PKT", "Africa/Johannesburg": "SAST", "Africa/Nairobi": "EAT",
    "Africa/Lagos": "WAT", "Africa/Maputo": "CAT", "Australia/Sydney": "AEST AEDT",
    "Australia/Adelaide": "ACST ACDT", "Australia/Perth": "AWST", "Pacific/Auckland": "NZST NZDT",
}  # fmt: skip
_PLACES = {name: place for place, names in NAMES.items() for name in names.split()}


@cache
def _starts() -> frozenset[str]:
    """Return what ids and names begin with: most of what is no zone is told by it."""
    return frozenset(name[:2] for name in {*zone_ids(), *_PLACES})


@dataclass
class Parsed:
    """The fields that were read, by name, and the zone."""

    fields: dict[str, int] = field(default_factory=dict)
    zone: Zone | None = None

    def put(self, name: str, value: int, end: int) -> int:
        """Note a field; fails where it was read before, as another number."""
        return end if self.fields.setdefault(name, value) == value else failed


class Element(Protocol):
    """Reads one part of a pattern."""

    def parse(self, parsed: Parsed, text: str, at: int, end: int) -> int:
        """Read on; returns the place after it, or -1."""


@dataclass
class Exact:
    """A text that stands for itself."""

    text: str

    def parse(self, parsed: Parsed, text: str, at: int, end: int) -> int:
        """Read on; returns the place after it, or -1."""
        return at + len(self.text) if text.startswith(self.text, at, end) else failed


@dataclass
class Digits:
    """A number of `least` .. `most` digits, and of what the fixed numbers right after it leave."""

    field: str
    least: int
    most: int
    signed: bool = False  # a minus may stand before it
    exceeds: bool = False  # a plus must stand before it if it has more than the least digits
    base: int = 0  # is added
    fraction: bool = False  # of a second
    following: int = 0  # digits of the fixed numbers right after it

    @property
    def fixed(self) -> bool:
        """Whether the number of digits is known, and no sign stands before them."""
        return self.least == self.most and not self.signed

    def parse(self, parsed: Parsed, text: str, at: int, end: int) -> int:
        """Read on; returns the place after it, or -1."""
        mark = text[at : min(at + 1, end)]
        negative = mark == "-" and self.signed
        positive = mark == "+" and self.exceeds
        start = at + (negative or positive)
        last = self._last(text, start, end)
        if last - start < self.least:
            return failed
        number = int(text[start:last])
        if self.exceeds and not negative and positive != (last - start > self.least):
            return failed
        if negative and number == 0:
            return failed
        if number > _long_max:  # java leaves the last digit, too
            number, last = number // 10, last - 1
        number = -number if negative else number
        if self.fraction:
            number *= 10 ** (9 - (last - start))
        return parsed.put(self.field, number + self.base, last)

    def _last(self, text: str, start: int, end: int) -> int:
        """Return where the digits end that are this number's own."""
        most = self.most if self.fraction else self.most + self.following
        last = start + len(_digits(text, start, min(start + most, end)))
        if self.following and not self.fraction:
            own = max(self.least, last - start - self.following)
            last = min(last, start + own)
        return last


def _digits(text: str, start: int, end: int) -> str:
    found = _DIGITS.match(text, start, end)
    return found[0] if found else ""


@dataclass
class Words:
    """One of some names; none of ours begins with another."""

    field: str
    numbers: dict[str, int]

    def parse(self, parsed: Parsed, text: str, at: int, end: int) -> int:
        """Read on; returns the place after it, or -1."""
        for name, number in self.numbers.items():
            if text.startswith(name, at, end):
                return parsed.put(self.field, number, at + len(name))
        return failed


@dataclass
class Offset:
    """An offset from UTC: a sign, two digits of hours, and perhaps minutes and seconds.

    minutes, seconds: 0 never, 1 perhaps, 2 always (seconds: 0 or 1).
    """

    zero: str  # what may stand for no offset
    colons: bool
    minutes: int
    seconds: int

    def parse(self, parsed: Parsed, text: str, at: int, end: int) -> int:
        """Read on; returns the place after it, or -1."""
        if text.startswith(self.zero, at, end):
            return parsed.put("offset", 0, at + len(self.zero))
        sign = text[at : min(at + 1, end)]
        hours, place = _pair(text, at + 1, end, "")
        if sign not in ("+", "-") or place == failed:
            return failed
        mark = ":" if self.colons else ""
        minutes, after = _pair(text, place, end, mark)
        if after == failed and self.minutes == 2:
            return failed
        place = place if after == failed else after
        seconds = 0
        if self.seconds and after != failed:
            seconds, after = _pair(text, place, end, mark)
            place = place if after == failed else after
        if hours > 23:
            return failed
        total = 3600 * hours + 60 * minutes + seconds
        return parsed.put("offset", total if sign == "+" else -total, place)


def _pair(text: str, at: int, end: int, mark: str) -> tuple[int, int]:
    """Read a mark and two digits, at most 59; (0, -1) where they do not stand there."""
    if not text.startswith(mark, at, end):
        return 0, failed
    found = _DIGIT_PAIR.match(text, at + len(mark), end)
    if found is None or int(found[0]) > 59:
        return 0, failed
    return int(found[0]), found.end()


_LOCAL_FULL = re.compile(r"GMT(?:([+-])([0-9]{2}):([0-9]{2})(?::([0-9]{2}))?)?")
_LOCAL_SHORT = re.compile(r"GMT(?:([+-])([0-9]{1,2})(?::([0-9]{2})(?::([0-9]{2}))?)?)?")


@dataclass
class LocalOffset:
    """GMT and an offset: GMT+8, in full GMT+08:00."""

    full: bool

    def parse(self, parsed: Parsed, text: str, at: int, end: int) -> int:
        """Read on; returns the place after it, or -1."""
        found = (_LOCAL_FULL if self.full else _LOCAL_SHORT).match(text, at, end)
        if found is None or (found[1] is None and text[found.end() : end][:1] in ("+", "-")):
            return failed
        sign, *parts = found.groups("0")
        hours, minutes, seconds = map(int, parts)
        total = 3600 * hours + 60 * minutes + seconds
        return parsed.put("offset", -total if sign == "-" else total, found.end())


@dataclass
class ZoneName:
    """The id of a zone, or an offset, alone or after UTC, GMT or UT; `by_name`: or a short name."""

    by_name: bool

    def parse(self, parsed: Parsed, text: str, at: int, end: int) -> int:
        """Read on; returns the place after it, or -1."""
        if text.startswith(("+", "-"), at, end):
            return _zone_at(Offset("Z", True, 2, 1), parsed, text, at, end)
        if text.startswith("GMT0", at, end):
            return _zone_put(parsed, UTC_ZONE, at + 4)
        for prefix in ("UTC", "GMT", "UT"):
            if text.startswith(prefix, at, end):
                place = at + len(prefix)
                offset = Offset("0", True, 2, 1)
                if offset.parse(Parsed(), text, place, end) > place + 1:
                    return _zone_at(offset, parsed, text, place, end)
                return _zone_put(parsed, UTC_ZONE, place)
        return self._of_database(parsed, text, at, end)

    def _of_database(self, parsed: Parsed, text: str, at: int, end: int) -> int:
        """Take the longest id or name that stands there."""
        if text[at : min(at + 2, end)] in _starts():
            for last in range(min(at + id_chars_max, end), at, -1):
                name = text[at:last]
                if self.by_name:
                    name = _PLACES.get(name, name)
                if name in zone_ids():
                    return _zone_put(parsed, zone_of(name), last)
        return _zone_put(parsed, UTC_ZONE, at + 1) if text.startswith("Z", at, end) else failed


def _zone_at(offset: Offset, parsed: Parsed, text: str, at: int, end: int) -> int:
    found = Parsed()
    after = offset.parse(found, text, at, end)
    if after == failed or abs(found.fields["offset"]) > offset_seconds_max:
        return failed
    return _zone_put(parsed, fixed(found.fields["offset"]), after)


def _zone_put(parsed: Parsed, zone: Zone | None, end: int) -> int:
    parsed.zone = zone
    return end


@dataclass
class Optional:
    """What may be absent: read whole or not at all."""

    elements: tuple[Element, ...]

    def parse(self, parsed: Parsed, text: str, at: int, end: int) -> int:
        """Read on; returns the place after it, or the same place."""
        fields, zone = dict(parsed.fields), parsed.zone
        place = at
        for element in self.elements:
            place = element.parse(parsed, text, place, end)
            if place == failed:
                parsed.fields, parsed.zone = fields, zone
                return at
        return place


@dataclass
class Padded:
    """Something with blanks before it, of a fixed width together."""

    element: Element
    width: int

    def parse(self, parsed: Parsed, text: str, at: int, end: int) -> int:
        """Read on; returns the place after it, or -1."""
        last = at + self.width
        if last > end:
            return failed
        start = at
        while start < last and text[start] == " ":
            start += 1
        return last if self.element.parse(parsed, text, start, last) == last else failed
