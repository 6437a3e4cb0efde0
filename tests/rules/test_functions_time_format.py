"""parse_time(), against Python's own calendar and clock, and against results of Joda-Time."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from effort import examples
from hypothesis import given, settings
from hypothesis import strategies as st
from language_values import anything, is_value, no_numbers
from msgspec import UNSET

from streamgauge.rules.time_calendar import cycle_days, day_ms
from streamgauge.rules.time_format import LETTERS, parse_time, refusal

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# Their rules have not changed for long: any machine's data will do.
ZONES = ("UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata", "Australia/Lord_Howe")
LAST_MS = 2**63 - 1

known_patterns = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(sorted(LETTERS)), st.integers(1, 6)).map(
            lambda run: run[0] * run[1]
        ),
        st.sampled_from(["-", ":", " ", "'T'", "''", "'o''clock'", "é", "5"]),
    ),
    min_size=1,
    max_size=8,
).map("".join)
patterns = st.one_of(known_patterns, st.text(max_size=12), st.text("yMdHmsSzZ'[]x ", max_size=300))
times = st.one_of(st.integers(-LAST_MS - 1, LAST_MS), st.integers(-(10**14), 10**14)).map(Decimal)


def call(*arguments: Any) -> Any:
    return parse_time(None, arguments)


def written(pattern: str, time_ms: int, *zone: str) -> Any:
    return call(pattern, Decimal(time_ms), *zone)


@given(st.lists(st.one_of(patterns, times, anything, st.sampled_from(ZONES)), max_size=4))
@settings(max_examples=examples(300))
def test_any_arguments_give_a_text_or_undefined(arguments: list[Any]) -> None:
    found = call(*arguments)
    assert is_value(found) and (found is UNSET or type(found) is str)


@given(patterns, times, st.one_of(st.sampled_from(ZONES), anything))
@settings(max_examples=examples(300))
def test_a_pattern_is_refused_if_and_only_if_it_gives_nothing(
    pattern: str, time: Decimal, zone: Any
) -> None:
    found = call(pattern, time)
    assert (found is UNSET) == (refusal(pattern) is not None)
    if found is UNSET:
        assert call(pattern, time, zone) is UNSET
    if zone in ZONES and found is not UNSET:
        assert type(call(pattern, time, zone)) is str


@given(times, no_numbers)
def test_wrong_types_are_undefined(time: Decimal, other: Any) -> None:
    assert call("yyyy", other) is UNSET
    assert call("yyyy", other, "UTC") is UNSET
    if type(other) is not str:
        assert call(other, time) is UNSET
        assert call("yyyy", time, other) is UNSET


@pytest.mark.parametrize("count", [0, 1, 4])
def test_wrong_counts_are_undefined(count: int) -> None:
    assert call(*["yyyy", Decimal(0), "UTC", "UTC"][:count]) is UNSET


@given(
    st.one_of(
        st.tuples(st.datetimes(datetime(1971, 1, 1), datetime(2037, 1, 1)), st.sampled_from(ZONES)),
        st.tuples(st.datetimes(datetime(1000, 1, 1), datetime(9999, 12, 30)), st.just("UTC")),
    ),
    st.integers(0, 999),
)
@settings(max_examples=examples(500))
def test_it_writes_what_strftime_writes(when: tuple[datetime, str], ms: int) -> None:
    utc, zone = when
    at = utc.replace(tzinfo=UTC, microsecond=1000 * ms)
    local = at.astimezone(ZoneInfo(zone))
    found = written(
        "yyyy MM dd HH mm ss SSS|DDD e EEE EEEE MMM MMMM yy|hh a|xxxx ww|ZZZ",
        (at - EPOCH) // timedelta(milliseconds=1),
        zone,
    )
    expected = local.strftime("%Y %m %d %H %M %S ") + f"{ms:03}"
    expected += local.strftime("|%j %u %a %A %b %B %y|%I %p|%G %V|") + zone
    assert found == expected


@given(times, st.integers(-5, 5), st.sampled_from(["yyyy MM dd e HH:mm:ss.SSS", "xxxx ww D"]))
def test_the_calendar_repeats_after_400_years(time: Decimal, cycles: int, pattern: str) -> None:
    later = time + cycles * cycle_days * day_ms
    if not -LAST_MS <= later <= LAST_MS:
        return
    year, _, rest = call(pattern, time).partition(" ")
    later_year, _, later_rest = call(pattern, later).partition(" ")
    assert later_rest == rest
    assert int(later_year) == int(year) + 400 * cycles


@pytest.mark.parametrize(
    ("pattern", "time_ms", "zone", "expected"),
    [
        ("yyyy.MM.dd G 'at' HH:mm z", 10**8, "America/Belize", "1970.01.01 AD at 21:46 CST"),
        ("Z ZZ ZZZ z", 0, "UTC", "+0000 +00:00 UTC UTC"),
        ("Z ZZ ZZZ z", 0, "+05:30", "+0530 +05:30 +05:30 +05:30"),
        ("Z ZZZ", 0, "-0330", "-0330 -03:30"),
        ("ZZZ ZZ", 0, "+01:30:15", "+01:30:15 +01:30"),
        ("ZZZ", 0, "+00:00", "UTC"),
        ("z ZZ", 0, "America/Sao_Paulo", "-03:00 -03:00"),
        ("z", 1_593_561_600_000, "Europe/London", "BST"),
        ("y yyy yyyyy", 0, "UTC", "1970 1970 01970"),
        ("MMM MMMM MMMMMM EEE EEEEEE aa G", 0, "UTC", "Jan January January Thu Thursday AM AD"),
        ("S SS SSS SSSS", 123, "UTC", "1 12 123 1230"),
        ("S" * 20, 123, "UTC", "12300000000000000000"),
        ("G yyyy YYYY CC yy YY", -62_198_755_200_000, "UTC", "BC -0001 0002 00 01 01"),
        ("x w e EEEE", -62_198_755_200_000, "UTC", "-2 53 5 Friday"),
        ("y Y C G yy", -62_167_219_200_001, "UTC", "-1 2 0 BC 01"),
        ("y Y G YY", -62_167_219_200_000, "UTC", "0 1 BC 00"),
        ("yyyy Y C G yy", LAST_MS, "UTC", "292278994 292278994 2922789 AD 94"),
        ("yyyy-MM-dd HH:mm:ss.SSS", -LAST_MS - 1, "UTC", "-292275055-05-16 16:47:04.192"),
        ("K h H k", 0, "UTC", "0 12 0 24"),
        ("K h H k a", 43_200_000, "UTC", "0 12 12 12 PM"),
        ("'''' ''a'' 'it''s'", 0, "UTC", "'' 'AM' it's"),
        ("d'T'H 'open", 0, "UTC", "1T0 open"),
        ("é5-M", 0, "UTC", "é5-1"),
        ("HH:mm:ss ZZ", -9_000_000_000_000, "Europe/Berlin", "08:53:28 +00:53"),
    ],
)  # fmt: skip
def test_results_of_joda_time(pattern: str, time_ms: int, zone: str, expected: str) -> None:
    assert written(pattern, time_ms, zone) == expected


@pytest.mark.parametrize(
    "zone",
    ["", "utc", "PST", "UTC+1", "-1", "+1:30", "+24:00", "+0:00", "Europe", "Factory", "localtime",
     "../UTC", "/etc/localtime", "posix/UTC", "Europe/Berlin\0", "x" * 100_000],
)  # fmt: skip
def test_unknown_zones_are_undefined(zone: str) -> None:
    assert written("yyyy", 0, zone) is UNSET


@pytest.mark.parametrize(
    ("time", "expected"),
    [
        (Decimal(LAST_MS), "292278994"),
        (Decimal(LAST_MS + 1), UNSET),
        (Decimal("9.99E+999"), UNSET),
        (Decimal("-9.99E+999"), UNSET),
        (Decimal("1E-999"), "1970"),
        (Decimal("-1E-999"), "1969"),
        ("86400000", "1970"),
        (Decimal("NaN"), UNSET),
        (Decimal("Infinity"), UNSET),
    ],
)
def test_times_are_floored_and_held_in_a_long(time: Any, expected: Any) -> None:
    assert call("yyyy", time) == expected


@pytest.mark.parametrize(
    ("pattern", "told"),
    [
        ("", "empty"),
        ("'", "empty"),
        ("yyyy-MM-ddTHH", "unknown letter 'T' at offset 10 of a time pattern; known: CDE"),
        ("yyyy 'T' b", "unknown letter 'b' at offset 9"),
        ("zzz zzzz", "'zzzz' at offset 4 of a time pattern: full zone names are not known"),
        ("y" * 257, "a time pattern has 257 characters; 256 are allowed"),
    ],
)
def test_a_refusal_says_what_and_where(pattern: str, told: str) -> None:
    assert told in (refusal(pattern) or "")
    assert written(pattern, 0) is UNSET


def test_no_argument_is_kept_but_those_that_may_be_read() -> None:
    assert written("y" * 1_000_000, 0) is UNSET
    assert written("y" * 256, 0) == "1970".zfill(256)
