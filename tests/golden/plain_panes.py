"""The fan-out mode in plain Python, by its definition: every window summed anew, as fractions.

Takes what a stream holds, in the order of each shard; the shards' order among each other does not
matter, and there are no chunks. It shares no code with the engine.
"""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

PANE = 1000


@dataclass(frozen=True)
class PaneSetup:
    """The rule that is judged by; times in int ms."""

    window: int
    statistic: str
    fire_when: str
    threshold: float
    margin: float
    min_samples: int
    hold: int
    lateness: int
    forget_after: int = 86_400_000


@dataclass
class PlainPanes:
    """alerts: (device, time, state, value, samples). late: payloads."""

    setup: PaneSetup
    samples: dict[str, dict[int, list[float]]] = field(
        default_factory=lambda: defaultdict(lambda: defaultdict(list))
    )
    late: list[bytes] = field(default_factory=list)

    def shard(self, records: list[tuple[bytes, int | None]]) -> None:
        """Take all user records of one shard: payload and arrival time."""
        before = None
        for data, arrival in records:
            message = json.loads(data)
            pane = message["ts"] // PANE * PANE
            if before is not None and pane + PANE + self.setup.lateness < before:
                self.late.append(data)
            else:
                self.samples[message["device"]][pane].append(message["v"])
            if arrival is not None:
                before = arrival if before is None else max(before, arrival)

    def alerts(self, until: int | None = None) -> list[tuple[str, int, str, float, int]]:
        """The alerts of all windows; those that end by `until` where that is given."""
        found = []
        for device, panes in self.samples.items():
            first, last = min(panes), max(panes)
            ends = range(first + PANE, last + self.setup.window + 1, PANE)
            for end in ends if until is None else [end for end in ends if end <= until]:
                found += [(device, end)]
        return [row for device in sorted(self.samples) for row in self._of(device, [
            end for name, end in found if name == device])]  # fmt: skip

    def _of(self, device: str, ends: list[int]) -> list[tuple[str, int, str, float, int]]:
        setup, panes = self.setup, self.samples[device]
        firing, since, seen, found = False, None, None, []
        for end in ends:
            values = [
                value
                for begin, of in panes.items()
                if end - setup.window <= begin < end
                for value in of
            ]
            if not values:
                continue
            if seen is not None and end - seen > setup.forget_after:
                since = None
            seen = end
            value = self._value(values)
            sign = 1 if setup.fire_when == "above" else -1
            beyond = value * sign > setup.threshold * sign and len(values) >= setup.min_samples
            clear = value * sign <= setup.threshold * sign - setup.margin
            if firing:
                if clear:
                    firing, since = False, None
                    found.append((device, end, "resolved", value, len(values)))
            elif not beyond:
                since = None
            else:
                since = end if since is None else since
                if end - since >= setup.hold:
                    firing, since = True, None
                    found.append((device, end, "firing", value, len(values)))
        return found

    def _value(self, values: list[float]) -> float:
        exact = [Fraction(value) for value in values]
        return {
            "mean": lambda: float(sum(exact) / len(exact)),
            "sum": lambda: float(sum(exact)),
            "count": lambda: float(len(values)),
            "min": lambda: min(values),
            "max": lambda: max(values),
        }[self.setup.statistic]()


def order(alerts: list[tuple[str, int, str, float, int]]) -> list[Any]:
    """Alerts as two lists can be compared."""
    return sorted(alerts)
