"""The loop around a call of a sink: it outlasts an outage, has a limit, and never skips."""

from collections.abc import Sequence
from typing import Any

import pytest

from streamgauge.engine.batch import Alert, Position, Rejected
from streamgauge.engine.errors import UnavailableError
from streamgauge.engine.sinks.base import (
    PAUSE_SECONDS_FIRST,
    PAUSE_SECONDS_MAX,
    RETRY_ATTEMPTS_MAX,
    Patience,
)
from streamgauge.engine.sinks.local import MemorySink

ROWS = [
    Rejected(
        stage="decode",
        reason="bad_json",
        message="no JSON",
        rule=None,
        at=Position("s", sequence, 0),
        arrival_time=None,
        partition_key="k",
        data=b"",
    )
    for sequence in ("1", "2")
]


class Clock:
    """Time that passes only where something sleeps."""

    def __init__(self) -> None:
        self.seconds = 50.0
        self.slept: list[float] = []

    def now(self) -> float:
        return self.seconds

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.seconds += seconds


class Insisting:
    """A sink, and the patience of its caller."""

    def __init__(self, sink: Any, clock: Clock, random: float = 1.0, **limits: Any) -> None:
        self.sink = sink
        self.patience = Patience(now=clock.now, sleep=clock.sleep, random=lambda: random, **limits)

    def deliver(self) -> None:
        self.patience.insist(lambda: self.sink.deliver(ROWS))


def test_pauses_double_up_to_a_bound_and_have_full_jitter() -> None:
    for random in (1.0, 0.25, 0.0):
        sink, clock = MemorySink(), Clock()
        sink.fail_next = 8
        Insisting(sink, clock, random).deliver()
        bounds = [min(PAUSE_SECONDS_FIRST * 2**n, PAUSE_SECONDS_MAX) for n in range(8)]
        assert clock.slept == pytest.approx([random * bound for bound in bounds])
        assert bounds[-1] == PAUSE_SECONDS_MAX
        assert sink.rows == ROWS


def test_after_the_limit_the_shard_waits_and_nothing_is_skipped() -> None:
    sink, clock = MemorySink(), Clock()
    sure = Insisting(sink, clock, seconds_max=60.0)
    sink.fail_next = 10**9
    with pytest.raises(UnavailableError, match="refused as asked"):
        sure.deliver()
    assert clock.seconds == 110.0
    counts = sure.patience.counts
    assert counts.waited_seconds == pytest.approx(60.0)
    assert sink.rows == []
    assert (counts.given_up, counts.failing) == (1, True)
    assert counts.retries == len(clock.slept)
    assert counts.cause == "memory: refused as asked"
    sink.fail_next = 3
    sure.deliver()
    assert sink.rows == ROWS
    assert not counts.failing


def test_an_outage_of_minutes_is_outlasted() -> None:
    clock = Clock()
    sink = MemorySink()

    class Down(MemorySink):
        def deliver(self, rows: Sequence[Alert | Rejected]) -> None:
            if clock.seconds < 50.0 + 300.0:
                raise UnavailableError("down")
            sink.deliver(rows)

    Insisting(Down(), clock, 0.5).deliver()
    assert sink.rows == ROWS
    assert clock.seconds < 50.0 + 300.0 + PAUSE_SECONDS_MAX


def test_calls_are_limited_where_the_clock_stands_still() -> None:
    sink, clock = MemorySink(), Clock()
    sink.fail_next = 10**9
    with pytest.raises(UnavailableError):
        Insisting(sink, clock, 0.0).deliver()
    assert sink.fail_next == 10**9 - RETRY_ATTEMPTS_MAX


def test_a_lost_answer_gives_the_same_rows_again() -> None:
    sink = MemorySink()
    sink.lose_next = 2
    Insisting(sink, Clock()).deliver()
    assert sink.rows == ROWS * 3


def test_other_errors_and_a_host_that_stops_leave_at_once() -> None:
    class Stopping(Exception):
        pass

    def stop(_: float) -> None:
        raise Stopping

    class Broken(MemorySink):
        def deliver(self, rows: Sequence[Alert | Rejected]) -> None:
            raise BrokenPipeError

    clock = Clock()
    with pytest.raises(BrokenPipeError):
        Insisting(Broken(), clock).deliver()
    assert clock.slept == []
    sink = MemorySink()
    sink.fail_next = 1
    with pytest.raises(Stopping):
        Patience(sleep=stop).insist(lambda: sink.deliver(ROWS))
    assert sink.rows == []


def test_the_answer_of_a_call_is_given() -> None:
    answers = iter([UnavailableError("no"), UnavailableError("no"), 7])

    def call() -> int:
        answer = next(answers)
        if isinstance(answer, UnavailableError):
            raise answer
        return answer

    clock = Clock()
    patience = Patience(now=clock.now, sleep=clock.sleep, random=lambda: 0.5)
    assert patience.insist(call) == 7
    assert (patience.counts.retries, patience.counts.failing) == (2, False)
