"""Pauses between tries of one thing that is refused, for loops that do not sleep themselves."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from ..engine.errors import UnavailableError
from ..engine.sinks.base import PAUSE_SECONDS_FIRST, PAUSE_SECONDS_MAX, RETRY_SECONDS_MAX


class Refusal(NamedTuple):
    """A step that was refused, again and again `since` (seconds on the clock of the host)."""

    step: str
    since: float
    cause: str


class Backoff:
    """Pauses between tries of one thing, with full jitter and a limit.

    Each pause is uniform between 0 and a bound that doubles from PAUSE_SECONDS_FIRST to
    PAUSE_SECONDS_MAX.
    """

    def __init__(self, now: Callable[[], float], random: Callable[[], float]) -> None:
        """Start with the last try having gone well."""
        self._now = now
        self._random = random
        self.clear()

    def clear(self) -> None:
        """Note that a try has gone well."""
        self.since: float | None = None  # the first refusal in a row
        self._bound = PAUSE_SECONDS_FIRST

    def pause(self, error: UnavailableError) -> float:
        """Seconds to wait after a try that was refused; the error, RETRY_SECONDS_MAX on."""
        now = self._now()
        if self.since is None:
            self.since = now
        if now - self.since >= RETRY_SECONDS_MAX:
            raise error
        seconds = self._random() * self._bound
        self._bound = min(2 * self._bound, PAUSE_SECONDS_MAX)
        return seconds
