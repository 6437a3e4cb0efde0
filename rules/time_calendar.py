"""The ISO calendar for any year: days since 1970-01-01 to year, month and day, and back.

It is proleptic: today's leap years hold for all times, year 0 is 1 BC. Everything repeats after 400
years, weekdays too, so Python's own calendar serves once a day is brought into its first 400 years.
"""

from __future__ import annotations

from datetime import date

MONTHS = (
    "January", "February", "March", "April", "May", "June",
    "July", "August", "September", "October", "November", "December",
)  # fmt: skip
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
SHORT = 3  # letters of a month's or a day's short name
HALVES = ("AM", "PM")
ERAS = ("BC", "AD")

day_ms = 86_400_000
cycle_years = 400
cycle_days = 146_097
time_ms_max = 2**63 - 1  # of either sign: what Java holds in a long

_EPOCH = date(1970, 1, 1).toordinal()


def date_of(day: int) -> tuple[date, int]:
    """Return the date of a day since 1970-01-01 within the years 1 .. 400, and what is left out.

    The latter is a multiple of 400, to be added to each of its years.
    """
    cycle, rest = divmod(day + _EPOCH - 1, cycle_days)
    return date.fromordinal(rest + 1), cycle * cycle_years


def day_of(year: int, month: int, day: int) -> int:
    """Return the days since 1970-01-01; raises ValueError where there is no such date."""
    cycle, rest = divmod(year - 1, cycle_years)
    return date(rest + 1, month, day).toordinal() - _EPOCH + cycle * cycle_days


def is_leap(year: int) -> bool:
    """Tell whether a year has a 29 February."""
    return year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)


def day_of_year(day: date) -> int:
    """Return the number of a day in its year, from 1."""
    return day.timetuple().tm_yday
