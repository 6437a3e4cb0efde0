"""Ctrl-C and SIGTERM as a wish: what is at hand is delivered and saved, within a limit of time."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

STOP_SECONDS_MAX = 9.0  # from the wish to the end: those who stop us wait ten before they kill


class Overdue(BaseException):
    """What was asked to stop is not through in time; no Exception, so that nothing stops it."""


class Stop:
    """Says whether a signal asked for the end: `signal` is its number, None before the first.

    A second one raises KeyboardInterrupt where the work is, and after STOP_SECONDS_MAX Overdue is
    raised there: nothing is lost by either, it is read again by the next start.
    """

    def __init__(self, seconds_max: float = STOP_SECONDS_MAX) -> None:
        """No signal has come."""
        self.signal: int | None = None
        self.waiting = False  # for something that may never come, with nothing half done
        self._seconds_max = seconds_max

    def __call__(self) -> bool:
        """Whether one has come."""
        return self.signal is not None

    def take(self, number: int, frame: FrameType | None) -> None:
        """Note a signal, as a handler of it."""
        if self.signal is not None:
            raise KeyboardInterrupt
        self.signal = number
        signal.setitimer(signal.ITIMER_REAL, self._seconds_max)
        if self.waiting:
            raise KeyboardInterrupt

    def overdue(self, number: int, frame: FrameType | None) -> None:
        """Break off where the work is, as a handler of SIGALRM."""
        raise Overdue

    @contextmanager
    def wait(self) -> Iterator[None]:
        """Around a call that may block for ever: a signal ends it at once, with KeyboardInterrupt,
        also one that came just before."""
        self.waiting = True
        try:
            if self.signal is not None:
                raise KeyboardInterrupt
            yield
        finally:
            self.waiting = False


@contextmanager
def stop_signals(seconds_max: float = STOP_SECONDS_MAX) -> Iterator[Stop]:
    """Take over Ctrl-C and SIGTERM; outside the main thread Python leaves nothing to take over."""
    stop = Stop(seconds_max)
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    handlers: dict[int, Any] = {
        signal.SIGINT: stop.take,
        signal.SIGTERM: stop.take,
        signal.SIGALRM: stop.overdue,
    }
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield stop
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in before.items():
            signal.signal(number, handler)
