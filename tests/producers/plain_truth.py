"""The alerts that must come of a fleet's messages, in plain Python and by the definition alone.

It is told every message exactly as it was sent, in the order sent, and knows nothing else: neither
the simulator's plans nor the engine, with which it shares no code. For one mean rule with FROM and
a range in WHERE; a run is shorter than `forget_after`, so no device is forgotten.
"""

from __future__ import annotations

import bisect
import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

ONE = 1 << 1074  # every float64 is a whole number of 1/ONE
LAST_TIME = 253402300799999  # ms: the end of the year 9999
NESTED_MAX = 128

EVALUATED, FILTERED, DUPLICATE, REJECTED = "evaluated", "filtered", "duplicates", "rejected"


@dataclass(frozen=True)
class Rule:
    """What decides: times in int ms; `low` < measure < `high` is the WHERE clause."""

    pipeline: str
    name: str
    threshold: float
    clear_margin: float
    min_samples: int
    severity: str
    window: int = 60_000
    lateness: int = 10_000
    skew: int = 300_000
    hold: int = 0
    low: float = -40.0
    high: float = 200.0
    measure: str = "temperature"


@dataclass
class _Device:
    newest: int = -1
    times: list[int] = field(default_factory=list)
    values: list[float] = field(default_factory=list)
    wholes: list[int] = field(default_factory=list)  # the values in units of 1/ONE
    firing: bool = False
    pending: int | None = None
    moved: int = -1
    changed: int | None = None


class Truth:
    """Takes messages; alerts, counts of verdicts, and the rejected payloads are there to be read.

    An alert has the keys of the alert format but id, positions and stale.
    """

    def __init__(self, rule: Rule, thresholds: Iterable[Mapping[str, Any]]) -> None:
        """Take the rule and the lines of a thresholds file."""
        self.alerts: list[dict[str, Any]] = []
        self.counts: Counter[str] = Counter()
        self.rejected: Counter[bytes] = Counter()
        self._rule = rule
        self._devices: dict[str, _Device] = {}
        self._limits: dict[str, list[Mapping[str, Any]]] = {}
        for line in thresholds:
            if line["rule"] == rule.name:
                self._limits.setdefault(line["device"], []).append(line)
        for lines in self._limits.values():
            lines.sort(key=lambda line: line.get("effective_from", 0))

    def take(self, data: bytes, arrival: int | None = None) -> str:
        """Take one message; its verdict. `arrival` is int ms, where it is known."""
        verdict = self._verdict(data, arrival)
        self.counts[verdict] += 1
        if verdict == REJECTED:
            self.rejected[data] += 1
        return verdict

    def _verdict(self, data: bytes, arrival: int | None) -> str:
        rule = self._rule
        message = parsed(data)
        if message is None:
            return REJECTED
        name, time = message.get("device"), message.get("ts")
        if type(name) is int:
            name = str(name)
        if type(name) is not str or not name:
            return REJECTED
        if type(time) is not int or not 0 <= time <= LAST_TIME:
            return REJECTED
        if arrival is not None and time > arrival + rule.skew:
            return REJECTED
        if not matches(message.get("topic")) or not self._within(message.get(rule.measure)):
            return FILTERED
        value = message[rule.measure]
        if type(value) not in (int, float):
            return REJECTED
        return self._sample(name, time, float(value) + 0.0, arrival)

    def _within(self, value: Any) -> bool:
        """WHERE: a text that is a number counts as that number, anything else as Undefined."""
        if type(value) is str:
            try:
                value = float(value)
            except ValueError:
                return False
        if type(value) not in (int, float):
            return False
        return bool(self._rule.low < value < self._rule.high)

    def _sample(self, name: str, time: int, value: float, arrival: int | None) -> str:
        rule = self._rule
        device = self._devices.setdefault(name, _Device())
        if device.newest >= 0 and time < device.newest - rule.window - rule.lateness:
            return REJECTED
        first = bisect.bisect_left(device.times, time)
        last = bisect.bisect_right(device.times, time)
        if value in device.values[first:last]:
            return DUPLICATE
        device.times.insert(last, time)
        device.values.insert(last, value)
        device.wholes.insert(last, whole(value))
        device.newest = max(device.newest, time)
        kept = bisect.bisect_left(device.times, device.newest - rule.window - rule.lateness)
        del device.times[:kept], device.values[:kept], device.wholes[:kept]
        begin = bisect.bisect_left(device.times, time - rule.window)
        window = device.wholes[begin : bisect.bisect_right(device.times, time)]
        self._judge(name, device, time, window, arrival)
        return EVALUATED

    def _judge(
        self, name: str, device: _Device, time: int, window: list[int], arrival: int | None
    ) -> None:
        rule = self._rule
        if time < device.moved or time == device.changed:
            return
        device.moved = time
        limit, margin, version = self._limit(name, time if arrival is None else min(time, arrival))
        value = mean(window)
        beyond = value > limit and len(window) >= rule.min_samples
        if device.firing:
            if value <= limit - margin:
                self._change(name, device, "resolved", time, value, len(window), limit, version)
        elif not beyond:
            device.pending = None
        else:
            device.pending = time if device.pending is None else device.pending
            if time - device.pending >= rule.hold:
                self._change(name, device, "firing", time, value, len(window), limit, version)

    def _limit(self, name: str, time: int) -> tuple[float, float, Any]:
        rule, lines = self._rule, self._limits.get(name)
        if not lines:
            return rule.threshold, rule.clear_margin, None
        in_force = [line for line in lines if line.get("effective_from", 0) <= time]
        line = in_force[-1] if in_force else lines[0]
        return line["value"], line.get("clear_margin", rule.clear_margin), line.get("version")

    def _change(
        self, name: str, device: _Device, state: str, time: int, value: float, samples: int,
        limit: float, version: Any,
    ) -> None:  # fmt: skip
        rule = self._rule
        device.firing, device.changed, device.pending = state == "firing", time, None
        self.alerts.append(
            {
                "pipeline": rule.pipeline, "rule": rule.name, "device": name, "state": state,
                "time": time, "value": value, "samples": samples, "threshold": limit,
                "threshold_version": version, "window_start": time - rule.window,
                "window_end": time, "severity": rule.severity,
            }
        )  # fmt: skip


def whole(value: float) -> int:
    """A float64 in units of 1/ONE, exactly."""
    top, bottom = value.as_integer_ratio()
    return top * (ONE // bottom)


def mean(wholes: list[int]) -> float:
    """The exact mean, rounded once: the quotient of two integers is."""
    return sum(wholes) / (len(wholes) * ONE)


def matches(topic: Any) -> bool:
    """Whether a topic matches `home/+/thermostat`."""
    parts = topic.split("/") if type(topic) is str else []
    return len(parts) == 3 and parts[0] == "home" and parts[2] == "thermostat"


def parsed(data: bytes) -> dict[str, Any] | None:
    """The object that a payload is, None where it is none (RFC 8259, and no lone surrogate)."""
    try:
        text = data.decode("utf-8")
        if text.startswith("\ufeff") or text.count("{") + text.count("[") > NESTED_MAX:
            return None
        message = json.loads(text, parse_constant=_refuse)
        json.dumps(message, ensure_ascii=False).encode("utf-8")
    except (ValueError, RecursionError):
        return None
    if type(message) is not dict:
        return None
    read = (message.get(name) for name in ("ts", "temperature"))
    finite = all(type(value) is not float or math.isfinite(value) for value in read)
    return message if finite else None


def _refuse(name: str) -> None:
    raise ValueError(name)
