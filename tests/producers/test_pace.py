"""The schedule on a clock handed in: what is due when, how far behind, and never giving way."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from streamgauge.producers.pace import IDLE_SECONDS_MAX, PART_MESSAGES_MAX, TICK_SECONDS, Pace


class Clock:
    """Stands still but for sleeps, and for what `spend` takes."""

    def __init__(self) -> None:
        self.seconds = 1_000.0
        self.slept: list[float] = []

    def now(self) -> float:
        return self.seconds

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.seconds += seconds

    def spend(self, seconds: float) -> None:
        self.seconds += seconds


def pace_of(clock: Clock) -> Pace:
    return Pace(now=clock.now, sleep=clock.sleep)


def sent_at(clock: Clock, parts: Iterator[slice]) -> list[tuple[float, int, int]]:
    return [(clock.seconds - 1_000.0, part.start, part.stop) for part in parts]


@pytest.mark.parametrize("rate", [3.0, 100.0, 2_000.0, 250_000.0])
def test_a_rate_is_kept(rate: float) -> None:
    clock = Clock()
    pace = pace_of(clock)
    done = 0
    for count in (int(rate), int(2 * rate), int(rate)):
        for at, first, last in sent_at(clock, pace.at_rate(count, rate)):
            assert last - first <= PART_MESSAGES_MAX
            # Never early; never later than a tick, for nothing else takes time here.
            assert (done + last - 1) / rate <= at + 1e-9
            assert at <= (done + first) / rate + TICK_SECONDS + 1e-9
        done += count
    assert pace.sent == done
    assert pace.rate == pytest.approx(rate, rel=0.02)
    assert pace.lag_max <= TICK_SECONDS + 1e-9
    assert all(TICK_SECONDS <= seconds <= IDLE_SECONDS_MAX for seconds in clock.slept)


def test_what_was_missed_is_caught_up_with() -> None:
    clock = Clock()
    pace = pace_of(clock)
    lags = []
    for number, _ in enumerate(pace.at_rate(10_000, 1_000.0)):
        if number == 100:
            clock.spend(3.0)  # the destination stalls
        lags.append(pace.lag)
    assert pace.lag_max == pytest.approx(3.0, abs=0.05)
    assert lags[-1] < 0.02  # back on the schedule, which has not moved
    assert clock.seconds - 1_000.0 == pytest.approx(10.0, abs=0.05)
    assert pace.rate == pytest.approx(1_000.0, rel=0.01)


def test_a_destination_that_is_too_slow_is_told_by_rate_and_lag() -> None:
    clock = Clock()
    pace = pace_of(clock)
    for part in pace.at_rate(1_000, 1_000.0):
        clock.spend((part.stop - part.start) / 500.0)
    assert 495 < pace.rate < 505
    assert 1.4 < pace.lag_max < 1.6  # half of all went in the last part


def test_seconds_are_kept_whatever_they_hold() -> None:
    clock = Clock()
    pace = pace_of(clock)
    starts = []
    for count in (50, 0, 5, 0):
        for at, first, _ in sent_at(clock, pace.within(count, 1.0)):
            if first == 0:
                starts.append(at)
    assert starts == pytest.approx([0.0, 2.0], abs=TICK_SECONDS)
    assert clock.seconds - 1_000.0 == pytest.approx(2.8, abs=0.05)  # of five the last is due at 0.8


def test_without_a_rate_nothing_waits() -> None:
    clock = Clock()
    pace = pace_of(clock)
    parts = list(pace.at_rate(12_000, None))
    assert [(part.start, part.stop) for part in parts] == [
        (0, 5_000), (5_000, 10_000), (10_000, 12_000),
    ]  # fmt: skip
    assert clock.slept == [] and pace.sent == 12_000


def test_messages_are_handed_out_when_they_are_due() -> None:
    clock = Clock()
    due = np.array([0.0, 0.0, 0.5, 0.5, 0.503, 9.0])
    found = sent_at(clock, pace_of(clock).at(due))
    assert [(first, last) for _, first, last in found] == [(0, 2), (2, 5), (5, 6)]
    assert [at for at, *_ in found] == pytest.approx([0.0, 0.505, 9.0], abs=TICK_SECONDS)


def test_nothing_is_handed_out_once_it_is_to_stop() -> None:
    clock, wishes = Clock(), [False]
    idle = [0]

    def tend() -> None:
        idle[0] += 1

    pace = Pace(stopping=lambda: wishes[0], idle=tend, now=clock.now, sleep=clock.sleep)
    for part in pace.at_rate(100, 100.0):
        if part.stop >= 30:
            wishes[0] = True
    assert 30 <= pace.sent < 40
    assert idle[0] > 30  # between parts and in pauses alike
    assert list(pace.at_rate(5, None)) == list(pace.at(np.zeros(3))) == []
