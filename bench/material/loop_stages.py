"""The stages of a loop written by hand, one function each: the baselines of the single stages.

Each takes a list of rows and gives the next one, as a loop cut into steps would.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable

from .loops import Change, Loads
from .telemetry import LENGTH, LIMIT, MARGIN, MIN_SAMPLES

Row = tuple[str, int, float]  # device, time, value
Seen = tuple[str, int, float, int]  # device, time, statistic, samples


def decoded(payloads: Iterable[bytes], loads: Loads) -> list[Row]:
    """The three fields that the rule reads, of messages decoded whole."""
    rows = []
    for payload in payloads:
        message = loads(payload)
        rows.append((message["device"], message["ts"], message["temperature"]))
    return rows


def filtered(rows: Iterable[Row]) -> list[Row]:
    """The rows that pass two comparisons."""
    return [row for row in rows if row[2] > -40 and row[2] < 200]


class Windows:
    """A deque a device with running float sums; for extremes a deque that only falls or rises."""

    def __init__(self, statistic: str) -> None:
        """Start with no device."""
        self.statistic = statistic
        self.held: dict[str, tuple[deque[tuple[int, float]], list[float]]] = {}
        self.extremes: dict[str, deque[tuple[int, float]]] = {}

    def take(self, rows: Iterable[Row]) -> list[Seen]:
        """The statistic of each row's window."""
        if self.statistic in ("min", "max"):
            return self._extreme(rows, 1 if self.statistic == "min" else -1)
        seen, held, which = [], self.held, self.statistic
        for device, time, value in rows:
            pair = held.get(device)
            if pair is None:
                pair = held[device] = (deque(), [0.0, 0.0])
            window, sums = pair
            window.append((time, value))
            total, squares = sums[0] + value, sums[1] + value * value
            oldest = time - LENGTH
            while window[0][0] < oldest:
                old = window.popleft()[1]
                total -= old
                squares -= old * old
            sums[0], sums[1] = total, squares
            count = len(window)
            if which == "mean":
                result = total / count
            elif which == "stddev":
                mean = total / count
                result = math.sqrt(max(0.0, squares / count - mean * mean))
            elif which == "sum":
                result = total
            else:
                result = float(count) if which == "count" else value
            seen.append((device, time, result, count))
        return seen

    def _extreme(self, rows: Iterable[Row], sign: int) -> list[Seen]:
        seen = []
        for device, time, value in rows:
            pair = self.held.get(device)
            if pair is None:
                pair = self.held[device] = (deque(), [])
                self.extremes[device] = deque()
            window, best = pair[0], self.extremes[device]
            window.append((time, value))
            while best and (best[-1][1] - value) * sign >= 0:
                best.pop()
            best.append((time, value))
            oldest = time - LENGTH
            while window[0][0] < oldest:
                window.popleft()
            while best[0][0] < oldest:
                best.popleft()
            seen.append((device, time, best[0][1], len(window)))
        return seen


class States:
    """Which devices fire."""

    def __init__(self) -> None:
        """Start with every device ok."""
        self.firing: set[str] = set()

    def take(self, seen: Iterable[Seen]) -> list[Change]:
        """The changes of state."""
        firing, changes = self.firing, []
        for device, time, value, samples in seen:
            if device in firing:
                if value <= LIMIT - MARGIN:
                    firing.discard(device)
                    changes.append((device, time, "resolved"))
            elif value > LIMIT and samples >= MIN_SAMPLES:
                firing.add(device)
                changes.append((device, time, "firing"))
        return changes
