"""parse_time(): a time as text, by a pattern of Joda-Time's letters, in English.

    G era | C century | y year, Y year of era (yy: two digits) | x weekyear | w week | D day of year
    M month (MMM short, MMMM full name) | d day | e day of week (Monday 1) | E its name (EEEE full)
    a AM or PM | K hour 0-11 | h 1-12 | H 0-23 | k 1-24 | m minute | s second | S its fraction
    z short name of the zone | Z -0800 | ZZ -08:00 | ZZZ id of the zone | 'text' | '' a quote

The number of letters is the least number of digits; S has as many digits as letters. As Joda-Time
does, years before 1 are numbered 0, -1 ... by y and counted 1, 2 ... BC by Y, and a quote that
nothing closes goes on to the end. Where that needs a choice, it is made here:

- a zone whose short name in the tz database is but an offset shows it as -03:00;
- zzzz, the zone's full name, is refused: the tz database has none;
- the time is floored to whole ms; beyond what Java's long holds it is Undefined;
- the pattern and the zone must be texts; a pattern has 256 characters at most.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from decimal import Decimal
from functools import lru_cache
from typing import NamedTuple

from msgspec import UNSET

from .time_calendar import (
    DAYS,
    ERAS,
    HALVES,
    MONTHS,
    SHORT,
    date_of,
    day_ms,
    day_of_year,
    time_ms_max,
)
from .time_zones import UTC_ZONE, Zone, offset_text, zone_of
from .values import Value, number_of

Function = Callable[[object, Sequence[Value]], Value]

pattern_chars_max = 256
patterns_max = 256  # that are kept, read


class Moment(NamedTuple):
    """One time in one zone, taken apart."""

    year: int
    month: int
    day: int
    day_of_year: int
    weekyear: int
    week: int
    weekday: int
    ms: int  # since midnight
    offset: int  # seconds
    zone_name: str
    zone_id: str

    @property
    def hour(self) -> int:
        """Hours since midnight."""
        return self.ms // 3_600_000


Writer = Callable[[Moment], str]


def moment(time_ms: int, zone: Zone) -> Moment:
    """Take a time in ms since 1970 apart."""
    offset, name = zone.at(time_ms // 1000)
    day, ms = divmod(time_ms + 1000 * offset, day_ms)
    date, years = date_of(day)
    weekyear, week, weekday = date.isocalendar()
    if not name.isalpha():
        name = offset_text(offset)
    return Moment(
        date.year + years, date.month, date.day, day_of_year(date),
        weekyear + years, week, weekday, ms, offset, name, zone.id,
    )  # fmt: skip


def _digits(number: int, width: int) -> str:
    return "-" * (number < 0) + str(abs(number)).zfill(width)


def _number(get: Callable[[Moment], int]) -> Callable[[int], Writer]:
    return lambda count: lambda at: _digits(get(at), count)


def _year(
    get: Callable[[Moment], int], of_two: Callable[[Moment], int] | None = None
) -> Callable[[int], Writer]:
    two = of_two or get

    def writer(count: int) -> Writer:
        if count == 2:
            return lambda at: f"{abs(two(at)) % 100:02}"
        return lambda at: _digits(get(at), count)

    return writer


def _name(names: Sequence[str], get: Callable[[Moment], int]) -> Callable[[int], Writer]:
    short = [name[:SHORT] for name in names]
    return lambda count: lambda at: (names if count > SHORT else short)[get(at)]


def _month(count: int) -> Writer:
    number = _number(lambda at: at.month)
    return (number if count < SHORT else _name(MONTHS, lambda at: at.month - 1))(count)


def _fraction(count: int) -> Writer:
    return lambda at: f"{at.ms % 1000:03}".ljust(count, "0")[:count]


def _zone(count: int) -> Writer:
    if count > 2:
        return lambda at: at.zone_id
    return lambda at: offset_text(at.offset, colons=count == 2, cut=True)


LETTERS: Mapping[str, Callable[[int], Writer]] = {
    "C": _number(lambda at: abs(at.year) // 100),
    "D": _number(lambda at: at.day_of_year),
    "E": _name(DAYS, lambda at: at.weekday - 1),
    "G": lambda count: lambda at: ERAS[at.year > 0],
    "H": _number(lambda at: at.hour),
    "K": _number(lambda at: at.hour % 12),
    "M": _month,
    "S": _fraction,
    # Joda-Time takes the two digits of YY from the year itself.
    "Y": _year(lambda at: at.year if at.year > 0 else 1 - at.year, lambda at: at.year),
    "Z": _zone,
    "a": lambda count: lambda at: HALVES[at.hour // 12],
    "d": _number(lambda at: at.day),
    "e": _number(lambda at: at.weekday),
    "h": _number(lambda at: (at.hour - 1) % 12 + 1),
    "k": _number(lambda at: (at.hour - 1) % 24 + 1),
    "m": _number(lambda at: at.ms // 60_000 % 60),
    "s": _number(lambda at: at.ms // 1000 % 60),
    "w": _number(lambda at: at.week),
    "x": _year(lambda at: at.weekyear),
    "y": _year(lambda at: at.year),
    "z": lambda count: lambda at: at.zone_name,
}


def _parts(pattern: str) -> Iterator[tuple[int, str, int]]:
    """Yield offset, text and number of letters (0: the text stands for itself) of each part."""
    quoted = False
    at = 0
    while at < len(pattern):
        start, char = at, pattern[at]
        if char == "'":
            doubled = pattern[at + 1 : at + 2] == "'"
            if doubled:
                yield start, "'", 0
            else:
                quoted = not quoted
            at += 1 + doubled
        elif quoted or not (char.isascii() and char.isalpha()):
            yield start, char, 0
            at += 1
        else:
            while pattern[at : at + 1] == char:
                at += 1
            yield start, char, at - start


def refusal(pattern: str) -> str | None:
    """Say what is wrong with a pattern and where; None if it can be written by."""
    if pattern in ("", "'"):
        return "a time pattern is empty"
    if len(pattern) > pattern_chars_max:
        return f"a time pattern has {len(pattern)} characters; {pattern_chars_max} are allowed"
    for offset, letter, count in _parts(pattern):
        if count and letter not in LETTERS:
            known = "".join(sorted(LETTERS))
            return f"unknown letter {letter!r} at offset {offset} of a time pattern; known: {known}"
        if letter == "z" and count > SHORT:
            return f"'zzzz' at offset {offset} of a time pattern: full zone names are not known"
    return None


@lru_cache(patterns_max)
def _writers(pattern: str) -> tuple[Writer, ...] | None:
    if refusal(pattern) is not None:
        return None
    return tuple(
        LETTERS[text](count) if count else lambda at, text=text: text
        for _, text, count in _parts(pattern)
    )


def parse_time(message: object, arguments: Sequence[Value]) -> Value:
    """Apply parse_time(pattern, ms[, zone]): the time as text, in UTC unless a zone is given."""
    if len(arguments) not in (2, 3):
        return UNSET
    pattern, time, *zones = arguments
    writers = _writers(pattern) if type(pattern) is str and _short(pattern) else None
    zone = zone_of(zones[0]) if zones and type(zones[0]) is str else None
    time_ms = _time_ms(time)
    if writers is None or time_ms is None or (zones and zone is None):
        return UNSET
    at = moment(time_ms, zone or UTC_ZONE)
    return "".join([write(at) for write in writers])


def _short(pattern: str) -> bool:
    """Tell whether a pattern may be read, and then kept."""
    return len(pattern) <= pattern_chars_max


def _time_ms(value: Value) -> int | None:
    number = number_of(value)
    if type(number) is not Decimal or not number.is_finite():
        return None
    time_ms = int(number.to_integral_value("ROUND_FLOOR")) if number.copy_abs() < 2**64 else 2**64
    return time_ms if -time_ms_max - 1 <= time_ms <= time_ms_max else None


FUNCTIONS: Mapping[str, Function] = {"parse_time": parse_time}
