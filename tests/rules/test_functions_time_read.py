"""time_to_epoch(), against Python's datetime, parse_time() and results of java.time."""

from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest
from effort import examples
from hypothesis import given, settings
from hypothesis import strategies as st
from language_values import anything, is_value
from msgspec import UNSET

from streamgauge.rules.time_format import parse_time
from streamgauge.rules.time_read import refusal, time_to_epoch

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
ms = timedelta(milliseconds=1)
LETTERS = "yuGMLdDEecaHkKhmsSnANVzXxZO"

patterns = st.one_of(
    st.lists(
        st.one_of(
            st.tuples(st.sampled_from(LETTERS), st.integers(1, 5)).map(lambda run: run[0] * run[1]),
            st.sampled_from(["-", ":", " ", "'T'", "''", "[", "]", "p", "pp"]),
        ),
        max_size=8,
    ).map("".join),
    st.text(max_size=12),
    st.text("yMdHmsSzVX'[]p ", max_size=300),
)
readable = st.one_of(
    st.text(max_size=12),
    st.text("0123456789-+:TZ UCGMadPA", max_size=30),
    st.datetimes().map(str),
)


# Java takes +00:00:01 for +00:00 and cannot read on.
offsets = st.integers(-64_799, 64_799).filter(lambda seconds: seconds == 0 or abs(seconds) >= 60)


def call(*arguments: Any) -> Any:
    return time_to_epoch(None, arguments)


def since_epoch(time: datetime) -> int:
    return (time - EPOCH) // ms


@given(st.lists(st.one_of(patterns, readable, anything), max_size=3))
@settings(max_examples=examples(500))
def test_any_arguments_give_a_time_or_undefined(arguments: list[Any]) -> None:
    found = call(*arguments)
    assert found is UNSET or (is_value(found) and found == int(found) and abs(found) <= 2**63)
    if len(arguments) != 2 or not all(type(argument) is str for argument in arguments):
        assert found is UNSET


@given(patterns, readable)
@settings(max_examples=examples(500))
def test_nothing_is_read_by_a_refused_pattern(pattern: str, text: str) -> None:
    if refusal(pattern) is not None:
        assert call(text, pattern) is UNSET


@given(st.datetimes(datetime(1000, 1, 1)), offsets, st.integers(0, 999))
@settings(max_examples=examples(300))
def test_it_reads_what_python_writes(at: datetime, seconds: int, fraction: int) -> None:
    at = at.replace(microsecond=1000 * fraction)
    zoned = at.replace(tzinfo=timezone(timedelta(seconds=seconds)))
    utc = at.replace(tzinfo=UTC)
    offset = zoned.isoformat()[-9:] if seconds % 60 else zoned.isoformat()[-6:]
    text = at.strftime("%Y-%m-%d %H:%M:%S") + f".{fraction:03}"
    assert call(f"{text} {offset}", "yyyy-MM-dd HH:mm:ss.SSS xxxxx") == since_epoch(zoned)
    assert call(text, "yyyy-MM-dd HH:mm:ss.SSS") == since_epoch(utc)
    packed = at.strftime("%Y%m%d%H%M%S") + f"{fraction:03}"
    assert call(packed, "yyyyMMddHHmmssSSS") == since_epoch(utc)
    spelled = at.strftime("%A %d %B %Y, %I:%M:%S %p")
    assert call(spelled, "EEEE dd MMMM yyyy, hh:mm:ss a") == since_epoch(utc) - fraction
    assert call(at.strftime("%j/%Y"), "DDD/yyyy") == since_epoch(utc) // 86_400_000 * 86_400_000


@given(
    st.integers(-(2**63) + 10**9, 2**63 - 10**9),
    st.sampled_from(["UTC", "+05:30", "-00:20:15", "Asia/Tokyo", "America/Bogota"]),
)
def test_it_reads_what_parse_time_writes(time: int, zone: str) -> None:
    time = time // 1000 * 1000 if time % 2 else time % 10**14
    year = parse_time(None, ["y", Decimal(time), zone])
    local = f"{year} " + parse_time(None, ["DDD HH:mm:ss.SSS", Decimal(time), zone])
    assert call(f"{local} {zone}", "u DDD HH:mm:ss.SSS VV") == time


@pytest.mark.parametrize(
    ("text", "pattern", "expected"),
    [
        ("2020-04-03 09:45:18 UTC+01:00", "yyyy-MM-dd HH:mm:ss VV", 1585903518000),
        ("18 December 2015", "dd MMMM yyyy", 1450396800000),
        ("2015-02-31", "yyyy-MM-dd", 1425081600000),  # the last day
        ("2020-02-30", "yyyy-MM-dd", 1582934400000),
        ("2015-12-18 24:00", "yyyy-MM-dd HH:mm", 1450483200000),
        ("2015-12-18 24", "yyyy-MM-dd kk", 1450396800000),
        ("20151218", "yMMdd", 1450396800000),
        ("+120151218", "yyyyMMdd", 317019916800000),
        ("70-1-1", "yy-M-d", 3155760000000),  # 2070
        ("2 BC 1 1", "y G M d", -62198755200000),
        ("0-1-1", "u-M-d", -62167219200000),
        ("1 Anno Domini 1", "y GGGG D", -62135596800000),
        ("2020-01- 5", "yyyy-MM-ppd", 1578182400000),
        ("Sun 2020-01-05", "E yyyy-MM-dd", 1578182400000),
        ("1 2020-01-05", "e yyyy-MM-dd", 1578182400000),
        ("2020-01-05T10", "yyyy-MM-dd['T'HH[:mm]]", 1578218400000),
        ("2020-01-05", "yyyy-MM-dd['T'HH[:mm]]", 1578182400000),
        ("2020-01-05 0.123456789", "yyyy-MM-dd s.SSSSSSSSS", 1578182400123),
        ("1969-12-31 23:59:59.9999", "yyyy-MM-dd HH:mm:ss.SSSS", -1),  # floored
        ("2020-01-05 86399999", "yyyy-MM-dd A", 1578268799999),
        ("2020-01-05 86399999 999500000", "yyyy-MM-dd A n", 1578268799999),
        ("2020-01-05 10:30", "yyyy-MM-dd [HH:ss.]HH:mm", 1578220200000),  # nothing stays of [ ]
        ("-1 2 1", "u y D", -62198755200000),  # 2 BC
        ("2020-01-05Z", "yyyy-MM-ddX", 1578182400000),
        ("2020-01-05+01", "yyyy-MM-ddX", 1578178800000),
        ("2020-01-05+0130", "yyyy-MM-ddX", 1578177000000),
        ("2020-01-05 GMT+8", "yyyy-MM-dd O", 1578153600000),
        ("2020-01-05 GMT+08:00", "yyyy-MM-dd OOOO", 1578153600000),
        ("2020-01-05 GMT", "yyyy-MM-dd O", 1578182400000),
        ("2020-07-05 EST", "yyyy-MM-dd z", 1593921600000),  # New York, where it is summer
        ("2020-07-05 IST", "yyyy-MM-dd z", 1593887400000),
        ("2021-03-28 02:30 Europe/Berlin", "yyyy-MM-dd HH:mm VV", 1616895000000),  # left out
        ("2021-10-31 02:30 Europe/Berlin", "yyyy-MM-dd HH:mm VV", 1635640200000),  # the first
        ("2020-01-05 00 Europe/Berlin +05:00", "yyyy-MM-dd HH VV XXX", 1578164400000),  # the offset
        ("it's 2020 o'clock 1", "'it''s' yyyy 'o''clock' D", 1577836800000),
    ],
)
def test_results_of_java(text: str, pattern: str, expected: int) -> None:
    assert call(text, pattern) == expected


@pytest.mark.parametrize(
    ("text", "pattern", "expected"),
    [
        ("2020-01-05 12", "yyyy-MM-dd mm", 1578183120000),
        ("2020-01-05 10", "yyyy-MM-dd hh", 1578218400000),  # before noon
        ("2020-01-05 12", "yyyy-MM-dd hh", 1578182400000),
        ("2020-01-05 PM", "yyyy-MM-dd a", 1578225600000),
        ("2020-01-05 AM", "yyyy-MM-dd a", 1578182400000),
    ],
)
def test_what_is_missing_of_the_time_of_day_is_nought(
    text: str, pattern: str, expected: int
) -> None:
    assert call(text, pattern) == expected


@pytest.mark.parametrize(
    ("text", "pattern"),
    [
        ("", ""),
        ("10:15", "HH:mm"),
        ("2020-01", "yyyy-MM"),
        ("2020", "yyyy"),
        ("2020-01-05 ", "yyyy-MM-dd"),
        (" 2020-01-05", "yyyy-MM-dd"),
        ("2020-1-5", "yyyy-MM-dd"),
        ("2020-13-01", "yyyy-MM-dd"),
        ("2020-00-01", "yyyy-MM-dd"),
        ("2020-04-32", "yyyy-MM-dd"),
        ("0000-01-01", "yyyy-MM-dd"),  # of an era
        ("12020-01-01", "yyyy-MM-dd"),  # needs a plus
        ("+2020-01-01", "yyyy-MM-dd"),
        ("-0-1-1", "u-M-d"),
        ("20200105", "yMMd"),  # where the year ends is not known
        ("20200105", "yMMppdd"),
        ("0501-2020", "dMMu"),
        ("2020-01-05 86399999 998500000", "yyyy-MM-dd A n"),
        ("2021 366", "yyyy DDD"),
        ("Mon 2020-01-05", "E yyyy-MM-dd"),
        ("2020-01-05 2020-02", "yyyy-MM-dd yyyy-MM"),
        ("2020-01-05 13 AM", "yyyy-MM-dd HH a"),
        ("2020-01-05 24:01", "yyyy-MM-dd HH:mm"),
        ("2020-01-05 25", "yyyy-MM-dd HH"),
        ("2020-01-05 23:59:60", "yyyy-MM-dd HH:mm:ss"),
        ("2020-01-05 10 pm", "yyyy-MM-dd hh a"),
        ("18 december 2015", "dd MMMM yyyy"),
        ("2020-01-05+19:00", "yyyy-MM-ddXXX"),
        ("2020-01-05 UTC+19:00", "yyyy-MM-dd VV"),
        ("2020-01-05 Europe/Nowhere", "yyyy-MM-dd VV"),
        ("2020-01-05 XYZ", "yyyy-MM-dd z"),
        ("٢٠٢٠-01-05", "yyyy-MM-dd"),
        ("+292278994-08-18", "yyyy-MM-dd"),
        ("999999999999999999999 1", "y D"),
    ],
)
def test_what_does_not_fit_is_undefined(text: str, pattern: str) -> None:
    assert refusal(pattern) is None
    assert call(text, pattern) is UNSET


@pytest.mark.parametrize(
    ("pattern", "told"),
    [
        ("yyyy 'T", "a quote that is not closed at offset 5 of a time pattern"),
        ("yyyy-MM-ddTHH", "unknown letter 'T' (known: ADEGHKLMNOSVXZacdehkmnpsuxyz) at offset 10"),
        ("dd]", "']' without a '[' at offset 2"),
        ("yyyy{", "'{', which is reserved, at offset 4"),
        ("YYYY-MM", "letter 'Y', weeks and quarters are not known, at offset 0"),
        ("yyyy-MMMMM", "'MMMMM', a number of letters with no meaning, at offset 5"),
        ("V", "'V', a number of letters with no meaning, at offset 0"),
        ("ddd", "'ddd', a number of letters with no meaning, at offset 0"),
        ("SSSSSSSSSS", "a number of letters with no meaning, at offset 0"),
        ("y" * 20, "a number of letters with no meaning, at offset 0"),
        ("yyyypp", "'p' without letters after it at offset 4"),
        ("ppHmm", "a number side by side with a padded one at offset 3"),
        ("[" * 33, "'[' more than 32 deep at offset 32"),
        ("-" * 257, "more than 256 characters at offset 256"),
    ],
)
def test_a_refusal_says_what_and_where(pattern: str, told: str) -> None:
    assert told in (refusal(pattern) or "")


def test_no_text_is_too_long() -> None:
    assert call("1" * 1_000_000, "yyyy") is UNSET
    assert call("x" * 1_000_000, "y" * 1_000_000) is UNSET
    assert call(" " * 1_000_000, "p" * 200 + "y") is UNSET
