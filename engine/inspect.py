"""What is known of one device right now, read without changing anything.

For people and programs that ask a running pipeline; no answer of the engine comes from here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from . import exact
from .alert import AlertStates
from .batch import NO_TIME, Floats
from .judge import Rule
from .memory import Memory
from .threshold import Thresholds
from .window import Window

OK, PENDING, FIRING = "ok", "pending", "firing"


def device(
    name: str, rules: Sequence[Rule], memory: Memory, thresholds: Thresholds
) -> list[dict[str, Any]]:
    """One row for each rule that has a sample or a state of the device; [] for an unknown one.

    Keys: rule, device, time (newest event time of a sample, int ms, or None), value (the statistic
    over the window that ends there; None where there is none, or a sum beyond float64), samples,
    threshold, threshold_version, clear_margin, stale (all None where the limit is not read yet),
    state (ok, pending or firing), since (int ms, of the last firing or resolved, or since when it
    is pending), seen (arrival of the last record, int ms, or None).

    A device that is silent is told as it was last: forgetting comes with its next record.
    """
    number = memory.devices.ids.get(name)
    if number is None or number in memory.devices.free:
        return []
    seen = int(memory.seen[number]) if number < len(memory.seen) else NO_TIME
    rows = []
    for index, rule in enumerate(rules):
        known = memory.rules[rule.name]
        time, value, samples = latest(known.window, number)
        state, since = _state(known.alerts, number)
        if time is None and since is None:
            continue
        limit = _limit(thresholds, index, number, time, seen)
        rows.append(
            {"rule": rule.name, "device": name, "time": time, "value": value, "samples": samples,
             **limit, "state": state, "since": since, "seen": _or_none(seen)}
        )  # fmt: skip
    return rows


def latest(window: Window, number: int) -> tuple[int | None, float | None, int]:
    """The newest event time of a device, the statistic of the window there, and its samples.

    All retained samples in the window count, those too that came after the newest: where nothing
    came out of order, this is the last answer of the engine, to the bit.
    """
    if number >= len(window.newest) or window.newest[number] == NO_TIME:
        return None, None, 0
    newest, rings = int(window.newest[number]), window.rings
    place = np.arange(rings.head[number], rings.end[number])
    slot = rings.slots(np.full(len(place), number), place)
    inside = slot[rings.time[slot] >= newest - window.length]
    if not len(inside):
        return newest, None, 0
    return newest, _statistic(window.statistic, rings.value[inside]), len(inside)


def _statistic(name: str, values: Floats) -> float | None:
    if name == "count":
        return float(len(values))
    value = float(_STATISTICS[name](values))
    return value if math.isfinite(value) else None


def _state(alerts: AlertStates, number: int) -> tuple[str, int | None]:
    if number >= len(alerts.firing):
        return OK, None
    if alerts.firing[number]:
        return FIRING, int(alerts.changed[number])
    if alerts.pending[number] != NO_TIME:
        return PENDING, int(alerts.pending[number])
    return OK, _or_none(int(alerts.changed[number]))


def _limit(
    thresholds: Thresholds, index: int, number: int, time: int | None, seen: int
) -> dict[str, Any]:
    """The limit by which a sample of that time is judged that comes with the last record."""
    names = ("threshold", "clear_margin", "threshold_version", "stale")
    if time is None or not thresholds.known(number):
        return dict.fromkeys(names)
    decided = time if seen == NO_TIME else min(time, seen)
    found = thresholds.limits(index, np.array([number]), np.array([decided]))
    return {
        "threshold": float(found.value[0]),
        "clear_margin": float(found.margin[0]),
        "threshold_version": found.version[0],
        "stale": bool(found.stale[0]),
    }


_STATISTICS: dict[str, Callable[[Floats], float]] = {
    "last": lambda values: float(values[-1]),
    "min": lambda values: float(values.min()),
    "max": lambda values: float(values.max()),
    "mean": exact.mean,
    "sum": exact.total,
    "stddev": exact.deviation,
}


def _or_none(time: int) -> int | None:
    return None if time == NO_TIME else time
