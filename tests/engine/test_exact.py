"""Exact sums and roundings against fractions.Fraction."""

import math
from fractions import Fraction

import numpy as np
import pytest
from effort import examples
from hypothesis import given, settings
from hypothesis import strategies as st

from streamgauge.engine import exact

plain = st.floats(min_value=-1e6, max_value=1e6).map(lambda v: round(v, 3) + 0.0)
wide = st.floats(allow_nan=False, allow_infinity=False).map(lambda v: v + 0.0)
near = st.builds(lambda base, low: base + low * 2.0**-40, st.integers(-9, 9), st.integers(-9, 9))
windows = st.one_of(
    st.lists(plain, min_size=1, max_size=70),
    st.lists(near, min_size=1, max_size=70),
    st.lists(wide, min_size=1, max_size=12),
    st.builds(lambda v, n: [v] * n, plain, st.integers(1, 70)),
)


def fraction_mean(values):
    return float(sum(map(Fraction, values)) / len(values))


def fraction_deviation(values):
    mean = sum(map(Fraction, values)) / len(values)
    square = sum((Fraction(v) - mean) ** 2 for v in values) / len(values)
    scale = 1 << 2200
    root = math.isqrt(square.numerator * scale * scale // square.denominator)
    return float(Fraction(root, scale))


def limbs(values, unit):
    high, low, fits = exact.split(np.array(values), np.full(len(values), unit))
    return np.array([high.sum()]), np.array([low.sum()]), fits


@given(windows, st.booleans())
@settings(deadline=None, max_examples=examples(400))
def test_a_quotient_of_limbs_that_is_proven_is_the_fraction_rounded_once(values, tight):
    largest = max(map(abs, values)) or 1.0
    unit = exact.scale_for(np.array([largest]), tight)
    high, low, fits = limbs(values, unit[0])
    if not fits.all():
        return
    mean, proven = exact.rounded(high, low, np.array([len(values)]), unit)
    if proven[0]:
        assert mean[0].hex() == fraction_mean(values).hex()
    total, proven = exact.rounded(high, low, None, unit)
    if proven[0] and math.isfinite(total[0]):
        assert total[0].hex() == float(sum(map(Fraction, values))).hex()


@pytest.mark.parametrize("values", [[58.54] * 11, [0.1] * 10, [71.4, 71.6] * 30, [1e16, 1.0, -2.0]])
def test_ordinary_windows_are_proven_without_the_slow_path(values):
    unit = exact.scale_for(np.array([max(map(abs, values))]), tight=True)
    high, low, fits = limbs(values, unit[0])
    assert fits.all()
    mean, proven = exact.rounded(high, low, np.array([len(values)]), unit)
    assert proven[0]
    assert mean[0] == fraction_mean(values)


@given(windows)
@settings(deadline=None, max_examples=examples(200))
def test_the_slow_functions_round_the_exact_result_once(values):
    array = np.array(values)
    assert exact.mean(array) == fraction_mean(values)
    assert exact.deviation(array) == fraction_deviation(values)
    try:
        expected = float(sum(map(Fraction, values)))
    except OverflowError:
        expected = math.inf if sum(map(Fraction, values)) > 0 else -math.inf
    assert exact.total(array) == expected


@given(wide, wide)
def test_a_value_that_does_not_fit_its_unit_is_reported_and_not_rounded(value, other):
    unit = exact.scale_for(np.array([abs(other) or 1.0]))
    high, low, fits = exact.split(np.array([value]), unit)
    told = (Fraction(int(high[0])) + Fraction(int(low[0]), 1 << 42)) * Fraction(unit[0])
    assert told == Fraction(value) if fits[0] else told == 0


def test_prefix_sums_may_wrap_and_their_differences_still_hold():
    start = np.array([2**63 - 5], np.int64)
    with np.errstate(over="ignore"):
        end = start + np.array([100])
        assert (end - start)[0] == 100
