"""The fields of a text to one time, as java.time's default style resolves them.

- A year and a month with a day, or a year with a day of the year, make a date; without one there is
  no time. Day 29 to 31 of a shorter month is its last day.
- Fields that say the same must agree: a weekday with the date, 13 o'clock with PM.
- 24:00 is the end of the day. An offset wins over a zone; without either it is UTC. A local time
  that comes twice is the first one, one that is left out counts from before the gap.
- What is missing of the time of day is 0, wherever it stands: 10 PM or AM are hours too, and an
  hour of the half day without a half is before noon.
"""

from __future__ import annotations

from collections.abc import Mapping

from .time_calendar import date_of, day_ms, day_of, day_of_year, is_leap, time_ms_max
from .time_fields import Parsed, offset_seconds_max

hour_ns = 3_600_000_000_000
minute_ns = 60_000_000_000
second_ns = 1_000_000_000
ms_ns = 1_000_000
year_max = 999_999_999

_RANGES: Mapping[str, tuple[int, int]] = {
    "year": (-year_max, year_max), "year_of_era": (1, year_max + 1), "era": (0, 1),
    "month": (1, 12), "day": (1, 31), "day_of_year": (1, 366),
    "weekday": (1, 7), "us_weekday": (1, 7), "half": (0, 1), "hour": (0, 24),
    "hour_of_half": (0, 11), "clock_hour": (0, 24), "clock_hour_of_half": (0, 12),
    "minute": (0, 59), "second": (0, 59), "ns": (0, second_ns - 1),
    "ms_of_day": (0, day_ms - 1), "ns_of_day": (0, day_ms * ms_ns - 1),
    "offset": (-offset_seconds_max, offset_seconds_max),
}  # fmt: skip
_EARLIER_ERA = 0
_SHORT_MONTHS = (4, 6, 9, 11)


class UnresolvedError(ValueError):
    """Fields that are out of range, disagree or make no date."""


def time_ms(parsed: Parsed) -> int:
    """Return the time in ms since 1970, floored; raises UnresolvedError."""
    fields = dict(parsed.fields)
    for name, value in fields.items():
        least, most = _RANGES[name]
        if not least <= value <= most:
            raise UnresolvedError(name)
    day = _day(fields)
    ms = _ns_of_day(fields) // ms_ns
    local_ms = day * day_ms + ms
    offset = fields.get("offset")
    if offset is None:
        offset = parsed.zone.offset_of_local(local_ms // 1000) if parsed.zone else 0
    found = local_ms - 1000 * offset
    if not -time_ms_max - 1 <= found <= time_ms_max:
        raise UnresolvedError("too far away")
    return found


def _put(fields: dict[str, int], name: str, value: int) -> None:
    if fields.setdefault(name, value) != value:
        raise UnresolvedError(name)


def _day(fields: dict[str, int]) -> int:
    """Return the days since 1970-01-01, with every field of the date checked against it."""
    _resolve_year(fields)
    if "us_weekday" in fields:
        _put(fields, "weekday", (fields["us_weekday"] + 5) % 7 + 1)
    year, month, day_of_month = map(fields.get, ("year", "month", "day"))
    if year is None:
        raise UnresolvedError("no year")
    if month is not None and day_of_month is not None:
        day = day_of(year, month, min(day_of_month, _length(year, month)))
        del fields["day"]
    elif "day_of_year" in fields:
        day = day_of(year, 1, 1) + fields["day_of_year"] - 1
    else:
        raise UnresolvedError("no date")
    _check(fields, day)
    return day


def _check(fields: dict[str, int], day: int) -> None:
    date, years = date_of(day)
    _put(fields, "year", date.year + years)
    _put(fields, "era", int(date.year + years > 0))
    _put(fields, "month", date.month)
    _put(fields, "day", date.day)
    _put(fields, "day_of_year", day_of_year(date))
    _put(fields, "weekday", date.isoweekday())


def _length(year: int, month: int) -> int:
    if month == 2:
        return 28 + is_leap(year)
    return 30 if month in _SHORT_MONTHS else 31


def _resolve_year(fields: dict[str, int]) -> None:
    """Turn the year of an era into a year; without an era it is that of the year, or AD."""
    of_era = fields.get("year_of_era")
    if of_era is None:
        return
    era = fields.get("era", int(fields.get("year", 1) > 0))
    _put(fields, "year", 1 - of_era if era == _EARLIER_ERA else of_era)
    least, most = _RANGES["year"]
    if not least <= fields["year"] <= most:
        raise UnresolvedError("year")


def _ns_of_day(fields: dict[str, int]) -> int:
    """Return the ns since midnight, a whole day at 24:00."""
    if "clock_hour" in fields:
        _put(fields, "hour", fields["clock_hour"] % 24)
    if "clock_hour_of_half" in fields:
        _put(fields, "hour_of_half", fields["clock_hour_of_half"] % 12)
    if "ms_of_day" in fields:
        _split(fields, fields["ms_of_day"] * ms_ns, ms_ns)
    if "ns_of_day" in fields:
        _split(fields, fields["ns_of_day"], 1)
    if "hour" not in fields:
        fields["hour"] = 12 * fields.get("half", 0) + fields.get("hour_of_half", 0)
    hour, minute, second, ns = (fields.get(name, 0) for name in ("hour", "minute", "second", "ns"))
    if hour == 24 and minute + second + ns > 0:
        raise UnresolvedError("hour")
    _put(fields, "half", hour % 24 // 12)
    _put(fields, "hour_of_half", hour % 12)
    return hour * hour_ns + minute * minute_ns + second * second_ns + ns


def _split(fields: dict[str, int], ns_of_day: int, unit_ns: int) -> None:
    """Turn the time of day into its fields; a fraction that was read may be finer than the unit."""
    _put(fields, "hour", ns_of_day // hour_ns)
    _put(fields, "minute", ns_of_day % hour_ns // minute_ns)
    _put(fields, "second", ns_of_day % minute_ns // second_ns)
    ns = ns_of_day % second_ns
    if fields.setdefault("ns", ns) // unit_ns != ns // unit_ns:
        raise UnresolvedError("ns")
