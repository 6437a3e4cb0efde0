"""Times as messages carry them, to int64 ms UTC, exactly.

The value meant is the integer itself, or the float64 nearest to a number with fraction or exponent,
or the date-time of a text; in ms it is rounded once, half to even, and only then compared with the
range 1970-01-01T00:00:00.000Z .. 9999-12-31T23:59:59.999Z. `time_of` is the plain reading of one
value; `times_of` reads a column with numpy and gives the same integers.

Text is ISO 8601 / RFC 3339: `2026-01-31T10:11:12.345Z`, or basic `20260131T101112Z`; the seconds,
and their fraction after a point or a comma, of any length, may be absent; a blank may stand for T;
no zone means UTC. A date alone, hour 24 and second 60 are refused.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import date
from fractions import Fraction
from typing import Any

import numpy as np

from .batch import LAST_TIME, NO_TIME, Floats, Ints

UNITS = ("s", "ms", "us", "ns", "iso8601")
_PER_MS = {"us": 1_000, "ns": 1_000_000}
_EXACT_BELOW = 2.0**53  # below this every integer is a float64
_SPLITTER = 2.0**27 + 1  # cuts the 53 digits of a float64 in two halves
_FRACTION_DIGITS_MAX = 15  # in a column; a longer fraction is read alone
_EPOCH_DAY = date(1970, 1, 1).toordinal()
_ISO = (
    r"(?P<year>[0-9]{4})-(?P<month>[0-9]{2})-(?P<day>[0-9]{2})[Tt ]"
    r"(?P<hour>[0-9]{2}):(?P<minute>[0-9]{2})"
    r"(?::(?P<second>[0-9]{2})(?:[.,](?P<fraction>[0-9]+))?)?"
    r"(?:[Zz]|(?P<sign>[+-])(?P<zone_hour>[0-9]{2})(?::?(?P<zone_minute>[0-9]{2}))?)?"
)
_EXTENDED = re.compile(_ISO)
_BASIC = re.compile(_ISO.replace("-(?P<", "(?P<").replace(":(?P<", "(?P<"))


def time_of(value: Any, unit: str) -> int | None:
    """The time of one value in ms, which may lie outside the range; None where it is no time.

    `value` is what a JSON decoder gave; a float is finite. A value of another type than `unit`
    asks for, and text that is no date-time, is no time.
    """
    if unit == "iso8601":
        return _time_of_text(value) if type(value) is str else None
    if type(value) is not int and type(value) is not float:
        return None
    if unit == "s":
        return round(Fraction(value) * 1000)
    return round(Fraction(value) / _PER_MS.get(unit, 1))


def times_of(values: Sequence[Any], unit: str) -> Ints:
    """The times of a column: int64 ms (rows,), NO_TIME where a value is no time or out of range.

    Args:
        values: int and float (each finite), or str where the unit is iso8601.
        unit: one of `UNITS`.
    """
    if unit == "iso8601":
        times = _times_of_texts(values)
    elif unit == "ns":
        times = _times_of_ns(values)
    else:
        times = _times_of_numbers(np.fromiter(values, np.float64, len(values)), unit)
    for row in np.flatnonzero(times == NO_TIME).tolist():
        time = time_of(values[row], unit)
        times[row] = NO_TIME if time is None or not 0 <= time <= LAST_TIME else time
    times[(times < 0) | (times > LAST_TIME)] = NO_TIME
    return times


def _times_of_numbers(value: Floats, unit: str) -> Ints:
    """Exact times of float64 values, NO_TIME where |value| >= 2**53 (an integer lost digits)."""
    sure = np.abs(value) < _EXACT_BELOW
    if not sure.all():
        value = np.where(sure, value, 0.0)
    if unit == "ms":
        time = np.rint(value)
    elif unit == "s":
        time = _thousandfold(value)
    else:
        # A divisor just under a power of two keeps the floats next to a tie off the quotient's tie,
        # so that rounding twice is rounding once.
        time = np.rint(value / _PER_MS[unit])
    times = time.astype(np.int64)
    times[~sure] = NO_TIME
    return times


def _thousandfold(value: Floats) -> Floats:
    """1000 * value rounded to an integer, half to even, as if the product were exact."""
    product = value * 1000.0
    whole = np.rint(product)
    tie = np.abs(product - whole) == 0.5
    if tie.any():
        # Only where the rounded product is a tie can the digits it lost decide: find them
        # (Dekker's product) and leave the tie on the side where the exact product lies.
        x = value[tie]
        high = x * _SPLITTER - (x * _SPLITTER - x)
        lost = (high * 1000.0 - product[tie]) + (x - high) * 1000.0
        side = product[tie] + 0.5 * np.sign(lost)
        whole[tie] = np.where(lost == 0.0, whole[tie], side)
    return whole


def _times_of_ns(values: Sequence[Any]) -> Ints:
    """Exact times of ns: present ones are beyond 2**53, so integers are read as integers."""
    kinds = set(map(type, values))
    if kinds == {float}:
        value = np.fromiter(values, np.float64, len(values))
        times = _times_of_numbers(value, "ns")
        large = (np.abs(value) >= _EXACT_BELOW) & (np.abs(value) < 2.0**63)
        times[large] = _quotients(value[large].astype(np.int64))
        return times
    if kinds == {int}:
        try:
            return _quotients(np.fromiter(values, np.int64, len(values)))
        except OverflowError:
            pass
    return np.full(len(values), NO_TIME, np.int64)


def _quotients(value: Ints) -> Ints:
    whole, rest = np.divmod(value, 1_000_000)
    up = (rest > 500_000) | ((rest == 500_000) & (whole % 2 == 1))
    quotients: Ints = whole + up
    return quotients


def _match(text: str) -> re.Match[str] | None:
    return _EXTENDED.fullmatch(text) or _BASIC.fullmatch(text)


def _time_of_text(text: str) -> int | None:
    found = _match(text)
    if found is None:
        return None
    part = {name: int(digits or 0) for name, digits in found.groupdict().items() if name in _PARTS}
    if part["hour"] > 23 or max(part["minute"], part["second"], part["zone_minute"]) > 59:
        return None
    if part["zone_hour"] > 23:
        return None
    try:
        day = date(part["year"], part["month"], part["day"]).toordinal() - _EPOCH_DAY
    except ValueError:
        return None
    zone = (part["zone_hour"] * 60 + part["zone_minute"]) * (-1 if found["sign"] == "-" else 1)
    minutes = day * 1440 + part["hour"] * 60 + part["minute"] - zone
    return (minutes * 60 + part["second"]) * 1000 + _fraction_ms(found["fraction"] or "")


_PARTS = ("year", "month", "day", "hour", "minute", "second", "zone_hour", "zone_minute")


def _fraction_ms(digits: str) -> int:
    """0.digits seconds in ms, half to even, for any number of digits."""
    whole = int(digits[:3].ljust(3, "0"))
    rest = digits[3:].rstrip("0")
    return whole + (rest > "5" or (rest == "5" and whole % 2 == 1))


def _times_of_texts(texts: Sequence[str]) -> Ints:
    """Times of ISO 8601 texts, in groups of one length; NO_TIME where a text must be read alone."""
    times = np.full(len(texts), NO_TIME, np.int64)
    lengths = np.fromiter(map(len, texts), np.int64, len(texts))
    for length in np.unique(lengths).tolist():
        rows = np.flatnonzero(lengths == length)
        group = [texts[row] for row in rows.tolist()]
        found = _match(group[0])
        if found is None or len(found["fraction"] or "") > _FRACTION_DIGITS_MAX:
            continue
        blob = "".join(group).encode("utf-8", "surrogatepass")
        if len(blob) == length * len(group):
            times[rows] = _times_of_layout(np.frombuffer(blob, np.uint8), found)
    return times


def _times_of_layout(blob: np.ndarray[Any, np.dtype[np.uint8]], found: re.Match[str]) -> Ints:
    """Times of texts that look like `found`, digit for digit; NO_TIME where one does not."""
    sample = np.frombuffer(found[0].encode(), np.uint8)
    grid = blob.reshape(-1, len(sample))
    is_digit = (sample >= 48) & (sample <= 57)
    digits = grid.astype(np.int64) - 48
    alike = (grid[:, ~is_digit] == sample[~is_digit]).all(axis=1)
    alike &= ((digits >= 0) & (digits <= 9))[:, is_digit].all(axis=1)
    digits[~alike] = 0

    def number(name: str) -> Ints:
        first, last = found.span(name)
        value = np.zeros(len(grid), np.int64)
        for column in range(first, last):  # an absent part has the span (-1, -1): no column
            value = value * 10 + digits[:, column]
        return value

    year, month, day, hour, minute, second, zone_hour, zone_minute = map(number, _PARTS)
    months = (year - 1970) * 12 + month - 1
    first_day = months.astype("datetime64[M]").astype("datetime64[D]").astype(np.int64)
    next_month = (months + 1).astype("datetime64[M]").astype("datetime64[D]").astype(np.int64)
    alike &= (month >= 1) & (month <= 12) & (day >= 1) & (day <= next_month - first_day)
    alike &= (year >= 1) & (hour <= 23) & (minute <= 59) & (second <= 59)
    alike &= (zone_hour <= 23) & (zone_minute <= 59)
    zone = (zone_hour * 60 + zone_minute) * (-1 if found["sign"] == "-" else 1)
    minutes = (first_day + day - 1) * 1440 + hour * 60 + minute - zone
    places = len(found["fraction"] or "")
    fraction = number("fraction")
    if places <= 3:
        fraction = fraction * 10 ** (3 - places)
    else:
        unit = 10 ** (places - 3)
        fraction, rest = np.divmod(fraction, unit)
        fraction += (2 * rest > unit) | ((2 * rest == unit) & (fraction % 2 == 1))
    times = (minutes * 60 + second) * 1000 + fraction
    times[~alike] = NO_TIME
    return times
