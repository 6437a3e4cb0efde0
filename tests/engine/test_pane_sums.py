"""Sums of panes: exact for any values, in any order, also where units differ or none fits."""

from __future__ import annotations

from collections import deque
from fractions import Fraction

import numpy as np
from effort import examples
from hypothesis import example, given, settings
from hypothesis import strategies as st

from streamgauge.engine.alert import AlertStates
from streamgauge.engine.pane_rule import PaneRule
from streamgauge.engine.pane_sums import PaneSums, moved
from streamgauge.engine.panes import Panes, _added_up, _Rows

NEAR = st.integers(-20, 20).flatmap(
    lambda power: st.floats(1.0, 2.0).map(lambda value: value * 2.0**power)
)
VALUES = st.one_of(NEAR, NEAR.map(float.__neg__), st.floats(allow_nan=False, allow_infinity=False))
PANES = st.lists(st.lists(VALUES, min_size=1, max_size=4), min_size=1, max_size=12)


def panes_of(values: list[float], device: int = 0, begin: int = 0) -> Panes:
    rows = len(values)
    column = np.array(values, np.float64) + 0.0
    return _added_up([_Rows(np.full(rows, device), np.full(rows, begin), column)])


def rounded(value: Fraction) -> float:
    try:
        return float(value)
    except OverflowError:
        return float("inf") if value > 0 else float("-inf")


@settings(max_examples=examples(500))
@given(PANES, st.integers(1, 4))
@example([[3.0], [-3.0 * 2.0**-15], [1e-3], [7.1]], 1)
@example([[20_000.123], [0.1], [0.1]], 2)
def test_a_sliding_sum_is_exact(panes: list[list[float]], length: int) -> None:
    sums, held = PaneSums(), deque[list[float]]()
    for values in panes:
        sums.add(np.array([0]), panes_of(values))
        held.append(values)
        if len(held) > length:
            sums.take_away(np.array([0]), panes_of(held.popleft()))
        exact = [Fraction(value) for of in held for value in of]
        device = np.array([0])
        assert sums.count[0] == len(exact)
        assert sums.values(device, True)[0] == rounded(sum(exact) / len(exact))
        assert sums.values(device, False)[0] == rounded(sum(exact))
    while held:
        sums.take_away(np.array([0]), panes_of(held.popleft()))
    assert sums.count[0] == 0
    for value in (5e-324, 0.3, 1.5e200):  # the next window begins anew, in a unit of its own
        sums.add(np.array([0]), panes_of([value]))
        assert sums.values(np.array([0]), False)[0] == value
        sums.take_away(np.array([0]), panes_of([value]))


LIMBS = st.integers(-(1 << 60), 1 << 60)


@settings(max_examples=examples(500))
@given(LIMBS, LIMBS, st.integers(-25, 25))
def test_limbs_in_another_unit_are_the_same_number_or_said_not_to_be(
    high: int, low: int, shift: int
) -> None:
    new_high, new_low, exact = moved(np.array([high]), np.array([low]), np.array([shift]))
    before = Fraction((high << 42) + low) * Fraction(2) ** shift
    after = (int(new_high[0]) << 42) + int(new_low[0])
    if exact[0]:
        assert before == after
    else:
        whole = before.denominator == 1
        assert abs(shift) > 20 or not whole or abs(before) >= 1 << (42 + 60)


def test_who_was_silent_for_too_long_is_not_pending_any_more_and_fires_on() -> None:
    states = AlertStates("above", 1, 5_000)
    rule = PaneRule(1000, "mean", states, "x")
    device, high = np.array([0]), np.array([9.0])
    limit, margin = np.array([1.0]), np.array([0.0])

    def at(time: int) -> list[str]:
        rule.meet(device, time, 10_000)
        times, one = np.array([time]), np.array([1])
        return [new for _, new in states.advance(device, times, high, one, limit, margin)]

    assert at(1000) == [] and at(11_000) == ["firing"]  # 10 s of silence are not too long
    other = AlertStates("above", 1, 5_000)
    states, rule = other, PaneRule(1000, "mean", other, "x")
    assert at(1000) == [] and at(12_000) == []  # pending began anew
    assert at(17_000) == ["firing"]
    assert at(90_000) == [] and bool(states.firing[0])
