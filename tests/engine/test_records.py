"""What hosts hand over, made ready: arrival times, and the log of positions."""

from datetime import UTC, datetime, timedelta
from fractions import Fraction

import numpy as np
import pytest
from effort import examples
from hypothesis import given, settings
from hypothesis import strategies as st

from streamgauge.engine.batch import SUB_BITS, Position
from streamgauge.engine.positions import PositionLog
from streamgauge.engine.records import arrival_ms


@given(st.floats(-1e12, 1e12) | st.integers(0, 4 * 10**12).map(lambda n: n / 2000))
@settings(deadline=None, max_examples=examples(500))
def test_seconds_are_rounded_once_half_to_even(seconds):
    assert arrival_ms(seconds) == round(Fraction(seconds) * 1000)


@given(st.datetimes(datetime(1960, 1, 1), datetime(2200, 1, 1)))
@settings(deadline=None, max_examples=examples(300))
def test_a_date_time_is_rounded_once_half_to_even(stamp):
    aware = stamp.replace(tzinfo=UTC)
    micro = (aware - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
    expected = round(Fraction(micro, 1000))
    assert arrival_ms(aware) == arrival_ms(stamp) == expected
    assert arrival_ms(aware.astimezone(datetime.now().astimezone().tzinfo)) == expected


@pytest.mark.parametrize("width", [1, 2])
def test_positions_survive_pruning_and_restoring(width):
    log, expected = PositionLog(), {}
    for turn in range(40):
        shard = f"s{turn // 15}"
        names = [str(10 ** (width * (turn % 3) + 3) + turn * 100 + n) for n in range(7)]
        if turn % 11 == 0:
            names[3] += "0"
        first = log.add(shard, names)
        for number, name in enumerate(names, first):
            expected[number] = Position(shard, name, number % 5)
    live = np.array(sorted(n for n in expected if n % 3 == 0 or n > 250))
    log.prune(live)
    restored = PositionLog()
    restored.restore(log.save(live), log.next)
    assert restored.next == log.next == len(expected)
    for number in live.tolist():
        serial = (number << SUB_BITS) | (number % 5)
        assert log.position(serial) == restored.position(serial) == expected[number]
