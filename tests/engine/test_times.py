"""Times to ms: exact, rounded once half to even, the same read alone and read as a column."""

import datetime
import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from effort import examples
from hypothesis import example, given, settings
from hypothesis import strategies as st

from streamgauge.engine.batch import LAST_TIME, NO_TIME
from streamgauge.engine.times import time_of, times_of

MS = {"s": Fraction(1000), "ms": Fraction(1), "us": Fraction(1, 1000), "ns": Fraction(1, 10**6)}
UNITS = st.sampled_from(sorted(MS))


def exactly(value: Any, unit: str) -> int:
    """Half to even, on exact fractions; NO_TIME where it is out of range."""
    time = round(Fraction(value) * MS[unit])
    return time if 0 <= time <= LAST_TIME else NO_TIME


@st.composite
def numbers(draw: st.DrawFn, unit: str) -> Any:
    """Numbers near every border: ties, the ends of the range, 2**53 and 2**63."""
    ms = draw(
        st.one_of(
            st.integers(-3, 3),
            st.integers(0, LAST_TIME),
            st.integers(LAST_TIME - 3, LAST_TIME + 3),
            st.integers(1_500_000_000_000, 1_900_000_000_000),
        )
    )
    value = (ms + draw(st.sampled_from([0, Fraction(1, 2), Fraction(499, 1000)]))) / MS[unit]
    value += draw(st.integers(-2, 2))
    if draw(st.booleans()):
        return math.floor(value)
    number = float(value)
    for _ in range(draw(st.integers(0, 2))):
        number = math.nextafter(number, draw(st.sampled_from([-math.inf, math.inf])))
    return number


WILD = st.one_of(
    st.integers(),
    st.integers(-(1 << 70), 1 << 70),
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from([2**53, 2**53 + 1, 2.0**53, -0.0, 5e-324, 2**63, -(2**63), 2.0**63, 1.7e308]),
)


@settings(deadline=None, max_examples=examples(150))
@given(st.data(), UNITS)
def test_numbers_are_exact_alone_and_in_columns(data: st.DataObject, unit: str) -> None:
    values = data.draw(st.lists(st.one_of(numbers(unit), WILD), max_size=30))
    expected = [exactly(value, unit) for value in values]
    assert times_of(values, unit).tolist() == expected
    alone = [time_of(value, unit) for value in values]
    assert [t if t is not None and 0 <= t <= LAST_TIME else NO_TIME for t in alone] == expected
    for kind in (int, float):  # columns of one type take ways of their own
        some = [value for value in values if type(value) is kind]
        assert times_of(some, unit).tolist() == [exactly(value, unit) for value in some]


@settings(deadline=None, max_examples=examples(100))
@given(st.lists(st.floats(0, 3e11), min_size=1, max_size=200))
def test_float_seconds_round_as_if_the_product_were_exact(values: list[float]) -> None:
    assert times_of(values, "s").tolist() == [exactly(value, "s") for value in values]


def test_float_seconds_whose_product_looks_like_a_tie() -> None:
    # 1000 * value rounds to k + 1/2, while the exact product is just above or below it.
    values = [(k + 0.5) / 1000 for k in range(200_000)]
    products = np.array(values) * 1000
    assert (np.abs(products - np.rint(products)) == 0.5).mean() > 0.9
    assert times_of(values, "s").tolist() == [exactly(value, "s") for value in values]


@pytest.mark.parametrize(("unit", "tie"), [("us", 500), ("ns", 500_000)])
def test_floats_next_to_a_tie(unit: str, tie: int) -> None:
    values = []
    for power in range(0, 53):
        middle = float((1 << power) // (2 * tie) * 2 * tie + tie)
        values += [middle, math.nextafter(middle, math.inf), math.nextafter(middle, 0)]
    values += [value + 2.0 * tie for value in values]
    assert times_of(values, unit).tolist() == [exactly(value, unit) for value in values]


def test_random_seconds_of_now() -> None:
    random = np.random.default_rng(1)
    values = (1.7e9 + random.integers(0, 10**7, 5_000) / 1e4 + 0.0005).tolist()
    assert times_of(values, "s").tolist() == [exactly(value, "s") for value in values]


@pytest.mark.parametrize(
    ("value", "unit"),
    [("21", "ms"), (True, "ms"), (None, "s"), ([], "us"), ({}, "ns"), (1, "iso8601")],
)
def test_other_types_are_no_time(value: Any, unit: str) -> None:
    assert time_of(value, unit) is None


GOOD_TEXTS = {
    "1970-01-01T00:00:00Z": 0,
    "2026-01-31T10:11:12.345Z": 1769854272345,
    "2026-01-31 10:11:12.345Z": 1769854272345,
    "2026-01-31t10:11:12.345z": 1769854272345,
    "2026-01-31T10:11:12,345Z": 1769854272345,
    "2026-01-31T10:11:12.345": 1769854272345,
    "2026-01-31T10:11:12.345+00:00": 1769854272345,
    "2026-01-31T10:11:12.345-00:00": 1769854272345,
    "2026-01-31T12:11:12.345+02:00": 1769854272345,
    "2026-01-31T12:11:12.345+0200": 1769854272345,
    "2026-01-31T12:11:12.345+02": 1769854272345,
    "2026-01-31T04:41:12.345-05:30": 1769854272345,
    "20260131T101112.345Z": 1769854272345,
    "2026-01-31T10:11Z": 1769854260000,
    "2026-01-31T10:11": 1769854260000,
    "20260131T1011": 1769854260000,
    "2024-02-29T00:00:00Z": 1709164800000,
    "2026-01-31T10:11:12.3455Z": 1769854272346,
    "2026-01-31T10:11:12.3445Z": 1769854272344,
    "2026-01-31T10:11:12.34450000000000000000001Z": 1769854272345,
    "2026-01-31T10:11:12.344499999999999999999999Z": 1769854272344,
    "2026-01-31T10:11:12.9995Z": 1769854273000,
    "2026-01-31T10:11:12." + "3" * 10_000 + "Z": 1769854272333,
    "1969-12-31T23:59:59.9995Z": 0,
    "1970-01-01T00:59:59.9995+01:00": 0,
    "9999-12-31T23:59:59.9994Z": LAST_TIME,
    "9999-12-31T23:59:59.999Z": LAST_TIME,
}
OUT_OF_RANGE = [
    "1969-12-31T23:59:59.9994Z",
    "9999-12-31T23:59:59.9995Z",
    "9999-12-31T23:59:59-00:01",
    "0001-01-01T00:00:00+23:59",
    "1970-01-01T00:00:00+00:01",
]
NO_TEXTS = [
    "",
    "now",
    "2026-01-31",
    "10:11:12",
    "2026-01-31T",
    "2026-01-31T10",
    "2026-1-31T10:11:12Z",
    "2026-01-31T10:11:12.Z",
    "2026-01-31T10:11.5Z",
    "2026-01-31  10:11:12Z",
    " 2026-01-31T10:11:12Z",
    "2026-01-31T10:11:12Z\n",
    "2026-01-31T10:11:12 Z",
    "2026-01-31T10:11:12UTC",
    "2026-01-31T10:11:12+2",
    "2026-01-31T10:11:12+24:00",
    "2026-01-31T10:11:12+02:60",
    "2026-01-31T24:00:00Z",
    "2026-01-31T10:60:00Z",
    "2026-01-31T10:11:60Z",
    "2026-02-29T10:11:12Z",
    "2026-13-01T10:11:12Z",
    "2026-00-01T10:11:12Z",
    "2026-01-00T10:11:12Z",
    "0000-01-01T10:11:12Z",
    "20260131T10:11:12Z",
    "2026-01-31T101112Z",
    "2026-W05-6T10:11:12Z",
    "+2026-01-31T10:11:12Z",
    "2026-01-31T10:11:12.\uff11Z",
    "\uff12\uff10\uff12\uff16-01-31T10:11:12Z",
    "1769854272345",
]


@pytest.mark.parametrize("text", GOOD_TEXTS)
def test_a_date_time_is_read(text: str) -> None:
    assert time_of(text, "iso8601") == GOOD_TEXTS[text]
    assert times_of([text], "iso8601").tolist() == [GOOD_TEXTS[text]]
    assert times_of([text] * 3, "iso8601").tolist() == [GOOD_TEXTS[text]] * 3


@pytest.mark.parametrize("text", OUT_OF_RANGE)
def test_a_date_time_out_of_range_is_told_from_none(text: str) -> None:
    time = time_of(text, "iso8601")
    assert time is not None and not 0 <= time <= LAST_TIME
    assert times_of([text, text], "iso8601").tolist() == [NO_TIME] * 2


@pytest.mark.parametrize("text", NO_TEXTS)
def test_other_text_is_no_time(text: str) -> None:
    assert time_of(text, "iso8601") is None
    assert times_of([text, text], "iso8601").tolist() == [NO_TIME] * 2


def test_texts_of_every_kind_in_one_column() -> None:
    texts = [*GOOD_TEXTS, *OUT_OF_RANGE, *NO_TEXTS]
    expected = [*GOOD_TEXTS.values(), *[NO_TIME] * (len(OUT_OF_RANGE) + len(NO_TEXTS))]
    assert times_of(texts, "iso8601").tolist() == expected
    assert times_of(texts[::-1], "iso8601").tolist() == expected[::-1]


def test_a_text_between_others_of_its_length() -> None:
    good = "2026-01-31T10:11:12Z"
    for at in range(len(good)):
        for mark in " /:;T-0Zz\x00\u00e9":
            text = good[:at] + mark + good[at + 1 :]
            time = time_of(text, "iso8601")
            expected = NO_TIME if time is None or time < 0 else time
            assert times_of([good, text], "iso8601").tolist()[1] == expected, text


@settings(deadline=None, max_examples=examples(100))
@given(
    st.lists(
        st.tuples(
            st.datetimes(datetime.datetime(1960, 1, 1)),
            st.integers(-1439, 1439),
            st.sampled_from(["T", " "]),
        ),
        max_size=20,
    ),
    st.sampled_from(["seconds", "milliseconds", "microseconds", "auto"]),
    st.booleans(),
)
@example([(datetime.datetime(1970, 1, 1, microsecond=500), 0, "T")], "microseconds", True)
def test_texts_agree_with_the_standard_library(
    moments: list[tuple[datetime.datetime, int, str]], precision: str, zoned: bool
) -> None:
    texts, expected = [], []
    for moment, minutes, separator in moments:
        if zoned:
            zone = datetime.timezone(datetime.timedelta(minutes=minutes))
            text = moment.replace(tzinfo=zone).isoformat(separator, precision)
        else:
            minutes, text = 0, moment.isoformat(separator, precision)
        texts.append(text)
        read = datetime.datetime.fromisoformat(text).replace(tzinfo=None)
        microseconds = (read - datetime.datetime(1970, 1, 1)) // datetime.timedelta(microseconds=1)
        expected.append(exactly(microseconds - minutes * 60_000_000, "us"))
    assert times_of(texts, "iso8601").tolist() == expected


@settings(deadline=None, max_examples=examples(100))
@given(
    st.lists(
        st.text("0123456789-:.TZ+ ,tz", min_size=19, max_size=26)
        | st.from_regex(r"[12][90][0-9]{2}-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-6][0-9]:[0-6][0-9]Z?",
                        fullmatch=True),
        max_size=20,
    )
)  # fmt: skip
def test_columns_of_noise_are_read_as_each_text_alone(texts: list[str]) -> None:
    alone = [time_of(text, "iso8601") for text in texts]
    expected = [t if t is not None and 0 <= t <= LAST_TIME else NO_TIME for t in alone]
    assert times_of(texts, "iso8601").tolist() == expected
