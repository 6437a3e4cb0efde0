"""Ctrl-C as a wish: the work at hand is ended in order, and nothing is waited for any more."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Self


class Interrupt:
    """Takes over SIGINT inside `with`: `asked` is True from the first Ctrl-C on.

    Work looks at `asked` between two steps. KeyboardInterrupt is raised only where nothing can be
    left half done: inside `waiting()`, or by a second Ctrl-C.
    """

    def __init__(self) -> None:
        """Nothing is asked yet."""
        self.asked = False
        self._waiting = False

    def __enter__(self) -> Self:
        """Take over; outside the main thread Python leaves nothing to take over."""
        if threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGINT, self._ask)
        return self

    def __exit__(self, *_: object) -> None:
        """Give SIGINT back."""
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, self._before)

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Around a call that may block: Ctrl-C ends it at once, also one that came just before."""
        self._waiting = True
        try:
            if self.asked:
                raise KeyboardInterrupt
            yield
        finally:
            self._waiting = False

    def _ask(self, number: int, frame: FrameType | None) -> None:
        again, self.asked = self.asked, True
        if again or self._waiting:
            raise KeyboardInterrupt
