"""Time zones: those of the tz database, and fixed offsets such as +01:00.

The data is that of the package tzdata and not the machine's own: the same versions of the same
packages give the same answer everywhere. Times are not bound to the years that Python can hold:
before year 2 the first offset of a zone holds, and after year 9998 its last rules go on, which
repeat after 400 years.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from functools import cache, lru_cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import NamedTuple

from .time_calendar import cycle_days

id_chars_max = 64
zones_max = 1024  # that are kept

_EPOCH = datetime(1970, 1, 1)
_FIRST, _LAST = datetime(2, 1, 1), datetime(9998, 1, 1)
_CYCLE = timedelta(days=cycle_days)
_second = timedelta(seconds=1)
_FIRST_SECOND = (_FIRST - _EPOCH) // _second
_LAST_SECOND = (_LAST - _EPOCH) // _second
_OFFSET = re.compile(r"([+-])([01]\d|2[0-3])(?::?([0-5]\d)(?::?([0-5]\d))?)?", re.ASCII)


class Zone(NamedTuple):
    """One time zone, under the id that it was asked for."""

    id: str
    rules: tzinfo

    def at(self, second: int) -> tuple[int, str]:
        """Return the offset in seconds and the short name at a time in seconds since 1970."""
        local = _near(second).replace(tzinfo=UTC).astimezone(self.rules)
        return _seconds(local), local.tzname() or ""

    def offset_of_local(self, second: int) -> int:
        """Return the offset in seconds at a local time, given as seconds since 1970.

        A time that comes twice is the first one; one that is left out counts from before the gap.
        """
        return _seconds(_near(second).replace(tzinfo=self.rules))


def _near(second: int) -> datetime:
    """Return the time itself, or one within Python's years at which the same offset holds."""
    if second >= _LAST_SECOND:
        cycle = _CYCLE // _second
        second = _LAST_SECOND - cycle + (second - _LAST_SECOND) % cycle
    return _EPOCH + timedelta(seconds=max(second, _FIRST_SECOND))


def _seconds(time: datetime) -> int:
    return (time.utcoffset() or timedelta()) // _second


UTC_ZONE = Zone("UTC", UTC)


def zone_of(name: str) -> Zone | None:
    """Return the zone with an id of the tz database, or at a fixed offset; None if there is none.

    Ids are case-sensitive. Offsets are +hh, +hh:mm, +hh:mm:ss, also without colons, up to 23:59:59.
    """
    return None if len(name) > id_chars_max else _known(name)


def _data() -> Traversable:
    return files("tzdata")  # loaded with the first zone, not with the library


@cache
def zone_ids() -> frozenset[str]:
    """Return the ids of the tz database's zones."""
    named = _data().joinpath("zones").read_text("utf-8").split()
    return frozenset(named) - {"Factory"}  # which stands for a zone that was not set


@lru_cache(zones_max)
def _known(name: str) -> Zone | None:
    if name == UTC_ZONE.id:
        return UTC_ZONE
    if name in zone_ids():
        from zoneinfo import ZoneInfo  # the library starts without it

        with _data().joinpath("zoneinfo", *name.split("/")).open("rb") as data:
            return Zone(name, ZoneInfo.from_file(data, name))
    found = _OFFSET.fullmatch(name)
    if found is None:
        return None
    sign, *parts = found.groups("00")
    hours, minutes, seconds = map(int, parts)
    return fixed(int(f"{sign}1") * (3600 * hours + 60 * minutes + seconds))


def fixed(seconds: int) -> Zone:
    """Return the zone at one offset, of less than a day; at 0 it is UTC."""
    if seconds == 0:
        return UTC_ZONE
    return Zone(offset_text(seconds), timezone(timedelta(seconds=seconds)))


def offset_text(seconds: int, colons: bool = True, cut: bool = False) -> str:
    """Write an offset as +hh:mm, with its seconds where it has any, unless they are cut."""
    minutes, rest = divmod(abs(seconds), 60)
    parts = [*divmod(minutes, 60), *([rest] if rest and not cut else [])]
    return "-+"[seconds >= 0] + ":"[:colons].join(f"{part:02}" for part in parts)
