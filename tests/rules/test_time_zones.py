"""Zones at any time, against the same data in Python's own hands."""

from datetime import UTC, datetime, timedelta
from importlib.resources import files
from zoneinfo import ZoneInfo, available_timezones, reset_tzpath

import pytest
from effort import examples
from hypothesis import given, settings
from hypothesis import strategies as st

from streamgauge.rules.time_calendar import cycle_days, date_of, day_of, is_leap
from streamgauge.rules.time_zones import Zone, fixed, offset_text, zone_ids, zone_of

EPOCH = datetime(1970, 1, 1)
CYCLE = cycle_days * 86_400
names = st.sampled_from(
    ["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Europe/Dublin", "Asia/Kathmandu"]
)


def python_zone(name: str) -> ZoneInfo:
    """Of the same data: this machine's own may be older."""
    with files("tzdata").joinpath("zoneinfo", name).open("rb") as data:
        return ZoneInfo.from_file(data, name)


def utcoffset(time: datetime) -> int:
    offset = time.utcoffset()
    assert offset is not None
    return offset // timedelta(seconds=1)


def known(name: str) -> Zone:
    zone = zone_of(name)
    assert zone is not None
    return zone


@given(names, st.datetimes(datetime(3, 1, 1), datetime(9990, 1, 1)))
@settings(max_examples=examples(300))
def test_an_offset_is_that_of_the_data(name: str, at: datetime) -> None:
    at = at.replace(microsecond=0, fold=0)
    second = (at - EPOCH) // timedelta(seconds=1)
    local = at.replace(tzinfo=UTC).astimezone(python_zone(name))
    assert known(name).at(second) == (utcoffset(local), local.tzname())
    assert known(name).offset_of_local(second) == utcoffset(at.replace(tzinfo=local.tzinfo))


@given(names, st.integers(4102444800, 10**11), st.integers(0, 10**6))
def test_the_last_rules_go_on_for_ever(name: str, second: int, cycles: int) -> None:
    assert known(name).at(second) == known(name).at(second + cycles * CYCLE)


@given(names, st.integers(-(10**17), -(10**11)))
def test_long_ago_the_first_offset_holds(name: str, second: int) -> None:
    assert known(name).at(second) == known(name).at(-(10**11))


@pytest.mark.parametrize(
    ("local", "hours"),
    [
        ("2021-03-28 02:30", 1),  # left out: counts from before the gap
        ("2021-03-28 03:00", 2),
        ("2021-10-31 02:30", 2),  # comes twice: the first one
        ("2021-10-31 03:00", 1),
    ],
)
def test_a_local_time_that_is_none_or_two(local: str, hours: int) -> None:
    second = (datetime.fromisoformat(local) - EPOCH) // timedelta(seconds=1)
    assert known("Europe/Berlin").offset_of_local(second) == 3600 * hours


def test_every_id_that_python_finds_is_known() -> None:
    reset_tzpath(to=())  # the package's alone
    try:
        found = available_timezones()
    finally:
        reset_tzpath()
    assert len(found) > 500
    assert zone_ids() == found - {"Factory"}
    assert all(zone_of(name) for name in found - {"Factory"})


@given(st.integers(-86_399, 86_399))
def test_an_offset_reads_back_as_it_is_written(seconds: int) -> None:
    assert known(offset_text(seconds)) == fixed(seconds)
    assert known(offset_text(seconds, colons=False)) == fixed(seconds)
    assert fixed(seconds).at(0)[0] == seconds


@given(st.integers(-(10**12), 10**12))
def test_a_day_is_the_same_there_and_back(day: int) -> None:
    date, years = date_of(day)
    assert years % 400 == 0 and 1 <= date.year <= 400
    assert day_of(date.year + years, date.month, date.day) == day
    assert day_of(date.year + years + 1, 1, 1) - day_of(date.year + years, 1, 1) == 365 + is_leap(
        date.year + years
    )
