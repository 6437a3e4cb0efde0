"""Sending to a schedule: what is due when, on a clock handed in, and how far behind it runs.

The schedule is fixed at the start. A destination that stalls is caught up with afterwards, and the
lag is told; the schedule never gives way.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

TICK_SECONDS = 0.01  # between two sends at least: a few messages each are dearer than many together
IDLE_SECONDS_MAX = 0.05  # without a look at what else there is to do
PART_MESSAGES_MAX = 5_000  # sent at once


class Pace:
    """Hands out parts of what is to be sent when they are due; seconds count from the first call.

    lag, lag_max: seconds by which the last part, and the latest one, was sent after it was due.
    """

    def __init__(
        self,
        *,
        stopping: Callable[[], bool] = lambda: False,
        idle: Callable[[], object] = lambda: None,
        now: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        """Start no clock yet.

        Args:
            stopping: asked between two parts; from then on nothing more is handed out.
            idle: called between two parts and while nothing is due, for whoever has to tend
                something.
            now, sleep: handed in by tests.
        """
        self.lag = self.lag_max = 0.0
        self.sent = 0
        self._stopping, self._idle, self._now, self._sleep = stopping, idle, now, sleep
        self._started: float | None = None
        self._last = 0.0  # when the last part was sent, or its time was over
        self._scheduled = 0.0  # what `at_rate` has planned so far

    @property
    def elapsed(self) -> float:
        """Seconds since the schedule began; it begins now if it has not."""
        if self._started is None:
            self._started = self._now()
        return self._now() - self._started

    @property
    def rate(self) -> float:
        """Messages a second, until the last part was sent."""
        return self.sent / self._last if self._last > 0 else 0.0

    def at_rate(self, count: int, rate: float | None) -> Iterator[slice]:
        """Parts of the next `count` messages, evenly at `rate` a second; None: at once."""
        if rate is None:
            yield from self._at_once(count)
            return
        due: Floats = self._scheduled + np.arange(count, dtype=np.float64) / rate
        self._scheduled += count / rate
        yield from self._planned(due)

    def within(self, count: int, seconds: float) -> Iterator[slice]:
        """Parts of the next `count` messages, evenly over the next `seconds` of the schedule."""
        each = seconds / max(1, count)
        due: Floats = self._scheduled + np.arange(count, dtype=np.float64) * each
        self._scheduled += seconds
        yield from self._planned(due)

    def _planned(self, due: Floats) -> Iterator[slice]:
        yield from self.at(due)
        if not self._stopping():
            self._last = max(self._last, self._scheduled)

    def at(self, due: Floats) -> Iterator[slice]:
        """Parts of messages that are due at float64 (count,) seconds, none before the last one."""
        done = 0
        while done < len(due) and not self._stopping():
            elapsed = self.elapsed
            last = int(np.searchsorted(due, elapsed, "right"))
            last = min(last, done + PART_MESSAGES_MAX)
            if last > done:
                self.sent += last - done
                yield slice(done, last)
                self._idle()
                self._last = self.elapsed
                self.lag = self._last - float(due[done])
                self.lag_max = max(self.lag_max, self.lag)
                done = last
                continue
            self._idle()
            wait = float(due[done]) - self.elapsed
            if wait > 0:
                self._sleep(min(max(wait, TICK_SECONDS), IDLE_SECONDS_MAX))

    def _at_once(self, count: int) -> Iterator[slice]:
        self._last = self.elapsed  # the schedule begins, if it has not
        for first in range(0, count, PART_MESSAGES_MAX):
            if self._stopping():
                return
            last = min(count, first + PART_MESSAGES_MAX)
            self.sent += last - first
            yield slice(first, last)
            self._idle()
            self._last = self.elapsed
