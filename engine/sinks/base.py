"""What a sink promises, and the loop around it that outlasts an outage.

A sink is called by one thread at a time, in this order: any number of `deliver` and `flush`, then
`close` once. The order around it is always: every sink has acknowledged -> the state object is
written -> the host's checkpoint.

At least once. Rows come again
- after `deliver` raised UnavailableError: the same rows, all of them, in the same order, although
  some may have arrived;
- after a restart: all rows since the last *state object*, not since the last row delivered, and
  cut into other batches. So a sink keys what it writes by the alert's id or the row's position and
  rule, never by the batch it came in.

Mind the ends. That a row is acknowledged does not make its position one to go on after: other rules
reject the same position again, other sinks have not answered, and of an aggregate the next user
record has the same sequence number. Only the position that a whole push hands back is.
"""

from __future__ import annotations

import random as random_module
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

import msgspec

from ..batch import Alert, Rejected
from ..errors import UnavailableError

RETRY_SECONDS_MAX = 900.0  # longer than the outages that pass by themselves
RETRY_ATTEMPTS_MAX = 2000  # of one call, should the clock stand still
PAUSE_SECONDS_FIRST = 0.1
PAUSE_SECONDS_MAX = 5.0  # what an outage that has ended may cost at most

Row_contra = TypeVar("Row_contra", contravariant=True)
Result = TypeVar("Result")


class Sink(Protocol[Row_contra]):
    """Where rows go: `Sink[Alert]` for alerts, `Sink[Rejected]` for the error stream."""

    def deliver(self, rows: Sequence[Row_contra]) -> None:
        """Return once all rows are safe, that is, once they outlast a crash of this process.

        The rows are all those of one push. None is dropped: a row that the sink can never take is
        a bug or a setting to be mended, and raises each time.

        Raises:
            UnavailableError: not all rows are known to be safe; call again with the same rows.
        """
        ...

    def flush(self) -> None:
        """Write out what was held back for speed only; called before a state object is written."""
        ...

    def close(self) -> None:
        """Flush and release; may be called twice. No row is lost if it is never called."""
        ...


def ndjson(rows: Sequence[Alert | Rejected]) -> bytes:
    """Rows as lines of JSON in the stable formats, each with its line end."""
    lines = [
        msgspec.json.encode(row if isinstance(row, Alert) else row.line()) + b"\n" for row in rows
    ]
    return b"".join(lines)


@dataclass(slots=True)
class RetryCounts:
    """What a Patience has gone through since it was made, for metrics."""

    retries: int = 0  # calls that were refused and made again
    given_up: int = 0  # calls that were refused up to the limit
    waited_seconds: float = 0.0
    failing: bool = False  # the last answer was a refusal
    cause: str = ""  # the last refusal


class Patience:
    """Makes a call that is refused again, with growing pauses, up to a limit.

    Pauses have full jitter: each is uniform between 0 and a bound that doubles from
    PAUSE_SECONDS_FIRST to PAUSE_SECONDS_MAX. After `seconds_max` the last UnavailableError leaves.

    Every exception other than UnavailableError leaves at once, also one that `sleep` raises: so a
    host that is told to stop gets out of a pause.
    """

    def __init__(
        self,
        *,
        seconds_max: float = RETRY_SECONDS_MAX,
        now: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], object] = time.sleep,
        random: Callable[[], float] = random_module.random,
    ) -> None:
        """Take `now`, `sleep` (seconds) and `random` (0 to 1), which tests hand in."""
        self.seconds_max = seconds_max
        self.counts = RetryCounts()
        self._now = now
        self._sleep = sleep
        self._random = random

    def insist(self, call: Callable[[], Result]) -> Result:
        """Call until that is not refused and give the answer; UnavailableError after the limit."""
        start = self._now()
        bound = PAUSE_SECONDS_FIRST
        for attempt in range(1, RETRY_ATTEMPTS_MAX + 1):
            try:
                answer = call()
            except UnavailableError as error:
                self.counts.failing = True
                self.counts.cause = str(error)
                left = start + self.seconds_max - self._now()
                if left <= 0 or attempt == RETRY_ATTEMPTS_MAX:
                    self.counts.given_up += 1
                    raise
                self._pause(min(self._random() * bound, left))
                bound = min(2 * bound, PAUSE_SECONDS_MAX)
                self.counts.retries += 1
            else:
                self.counts.failing = False
                return answer
        raise AssertionError("the last attempt returns or raises")

    def _pause(self, seconds: float) -> None:
        self.counts.waited_seconds += seconds
        self._sleep(seconds)
