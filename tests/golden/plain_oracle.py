"""The plain oracle: the ordered mode once more, slow and obvious, sharing no code with the engine.

`Oracle(pipeline file, thresholds)` reads user records one by one in position order and keeps every
answer: statistics, alerts, rejected records and counts. Only one shape of statement is read:
SELECT of `*` or paths with AS, FROM one topic filter, WHERE comparisons of a path with a number
joined by AND. Exactness comes from Python's integers: every float64 is a whole multiple of
2**-1074, so a sum is an integer and each statistic is rounded once, at its end.
"""

from __future__ import annotations

import bisect
import math
import re
import tomllib
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, NamedTuple

from plain_kpl import User
from plain_payload import (
    MISSING,
    device_of,
    finite,
    from_passes,
    is_number,
    look_up,
    parse,
    time_of,
    where_passes,
)

STEPS = 1 << 1074  # steps of the finest float64 in 1.0
DURATIONS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}


# What the user declares.
def duration(text: str) -> int:
    number, unit = re.fullmatch(r"(\d+)(ms|s|m|h|d)", text).groups()
    return int(number) * DURATIONS[unit]


@dataclass
class Rule:
    name: str
    source: str
    where: list[tuple[str, str, float]]
    measure: str  # the path in the message
    reads: set[str]
    window: int
    statistic: str
    sign: int  # 1: fires above, -1: fires below
    threshold: float
    clear_margin: float
    min_samples: int
    hold: int
    severity: str


def rule_of(table: dict[str, Any]) -> Rule:
    statement = re.fullmatch(r"SELECT (.+?) FROM '([^']*)'(?: WHERE (.+))?", table["sql"])
    items, source = statement.group(1, 2)
    comparisons = re.findall(r"(\S+) ([<>]) (\S+)", statement.group(3) or "")
    outputs = {}
    for item in items.split(", "):
        path, _, alias = item.partition(" AS ")
        outputs[alias or path.split(".")[-1]] = path
    first, *rest = table["measure"].split(".")
    measure = ".".join([outputs.get(first, first), *rest])
    reads = {*outputs.values(), *(path for path, _, _ in comparisons), measure} - {"*"}
    return Rule(
        name=table["name"],
        source=source,
        where=[(path, operator, float(number)) for path, operator, number in comparisons],
        measure=measure,
        reads=reads,
        window=duration(table.get("window", "60s")),
        statistic=table.get("statistic", "mean"),
        sign={"above": 1, "below": -1}[table.get("fire_when", "above")],
        threshold=float(table["threshold"]),
        clear_margin=float(table.get("clear_margin", 0.0)),
        min_samples=table.get("min_samples", 1),
        hold=duration(table.get("hold", "0s")),
        severity=table.get("severity", "warning"),
    )


# What a window says.
class Sample(NamedTuple):
    time: int
    arrival: int  # number in the order of arrival
    value: float
    steps: int  # the value in multiples of 2**-1074
    position: str


def in_steps(value: float) -> int:
    numerator, denominator = value.as_integer_ratio()
    return numerator * (STEPS // denominator)


def root(square: Fraction) -> float:
    """The square root, rounded once: a last bit stands for all that was cut off."""
    shifted, rest = divmod(square.numerator << 4400, square.denominator)
    floor = math.isqrt(shifted)
    inexact = rest != 0 or floor * floor != shifted
    return (2 * floor + inexact) / (1 << 2201)


def statistic(name: str, window: list[Sample]) -> float | None:
    """Of the samples in order of time, then arrival; None where it is beyond float64."""
    values, steps = [s.value for s in window], [s.steps for s in window]
    total, count = sum(steps), len(window)
    if name == "mean":
        return total / (count * STEPS)
    if name == "sum":
        try:
            return total / STEPS
        except OverflowError:
            return None
    if name == "stddev":
        squares = sum(step * step for step in steps)
        return root(Fraction(count * squares - total * total, (count * STEPS) ** 2))
    return {"min": min(values), "max": max(values), "count": float(count), "last": values[-1]}[name]


@dataclass
class Track:
    """What is kept of one (rule, device)."""

    held: list[Sample] = field(default_factory=list)  # retained, by time, then arrival
    newest: int | None = None
    firing: bool = False
    pending: int | None = None  # since when beyond
    moved: int | None = None  # event time of the last sample the state has seen
    changed: int | None = None  # event time of the last firing or resolved

    def forgotten(self) -> Track:
        if not self.firing:
            return Track()
        return Track(firing=True, moved=self.changed, changed=self.changed)


class Oracle:
    """Reads user records in position order; the answers grow in the lists below."""

    def __init__(self, toml: str, thresholds: Iterable[dict[str, Any]] = ()) -> None:
        tables = tomllib.loads(toml)
        record, delivery = tables["record"], tables.get("delivery", {})
        device = record["device"]
        self.pipeline = tables["pipeline"]["name"]
        self.device = [device] if isinstance(device, str) else device
        self.time, self.unit = record.get("time"), record.get("time_unit", "ms")
        self.topic = record.get("topic")
        self.lateness = duration(delivery.get("allowed_lateness", "10s"))
        self.skew = duration(delivery.get("max_clock_skew", "5m"))
        self.forget_after = duration(delivery.get("forget_after", "24h"))
        self.drop = delivery.get("duplicates", "drop") == "drop"
        self.rules = [rule_of(table) for table in tables["rules"]]
        self.reads = set.union(*(rule.reads for rule in self.rules), self.device)
        self.reads |= {path for path in (self.time, self.topic) if path}
        self.items: dict[tuple[str, str], list[dict[str, Any]]] = {}
        for item in thresholds:
            self.items.setdefault((item["device"], item["rule"]), []).append(item)
        self.tracks: dict[tuple[str, str], Track] = {}
        self.heard: dict[str, int | None] = {}  # arrival of each device's last decoded record
        self.applied: dict[str, tuple[int, int]] = {}
        self.statistics: list[dict[str, Any]] = []
        self.alerts: list[dict[str, Any]] = []
        self.rejected: list[dict[str, Any]] = []
        self.counts: Counter[str] = Counter()
        self.of_rule: dict[str, Counter[str]] = {rule.name: Counter() for rule in self.rules}

    def push(self, users: Iterable[User]) -> Oracle:
        for user in users:
            order = int(user.sequence), user.sub
            if order <= self.applied.get(user.shard, (-1, -1)):
                self.counts["repeated"] += 1
                continue
            self.applied[user.shard] = order
            self.counts["records"] += 1
            self.counts[self.verdict(user)] += 1
        return self

    def reject(self, user: User, reasons: list[str], rule: str | None = None) -> str:
        row = {"position": user.position, "rule": rule, "reason": reasons[0]}
        self.rejected.append(row | {"faults": reasons, "user": user})
        return "rejected"

    def verdict(self, user: User) -> str:
        """Of one user record: the first that holds of what its rules say."""
        if user.fault:
            return self.reject(user, [user.fault])
        message, faults = parse(user.data)
        device, time = "", 0
        if isinstance(message, dict):
            read = [look_up(message, path) for path in sorted(self.reads)]
            if any(is_number(value) and not finite(value) for value in read):
                faults.append("number_range")
            device, wrong = device_of(message, self.device)
            faults += wrong
            if self.time:
                time, wrong = time_of(look_up(message, self.time), self.unit)
            else:
                wrong = ["time_missing"] if user.arrival is None else []
                time = user.arrival or 0
            faults += wrong
        if faults:
            return self.reject(user, faults)
        if user.arrival is not None and time > user.arrival + self.skew:
            return self.reject(user, ["clock_skew"])
        self.forget(device, user.arrival)
        verdicts = [self.apply(rule, user, message, device, time) for rule in self.rules]
        self.counts["late"] += "late" in verdicts
        for name in ("rejected", "samples", "duplicates"):
            if name in verdicts or (name == "rejected" and "late" in verdicts):
                return "evaluated" if name == "samples" else name
        return "filtered"

    def forget(self, device: str, arrival: int | None) -> None:
        before = self.heard.get(device)
        self.heard[device] = arrival
        if before is None or arrival is None or arrival - before <= self.forget_after:
            return
        for key in [key for key in self.tracks if key[1] == device]:
            self.tracks[key] = self.tracks[key].forgotten()

    def apply(self, rule: Rule, user: User, message: Any, device: str, time: int) -> str:
        """One rule on one record: filtered, rejected, late, duplicates or samples."""
        verdict = self.admit(rule, user, message, device, time)
        counts = self.of_rule[rule.name]
        counts[verdict] += 1
        counts["rejected"] += verdict == "late"
        self.counts["samples"] += verdict == "samples"
        return verdict

    def admit(self, rule: Rule, user: User, message: Any, device: str, time: int) -> str:
        if self.topic and not from_passes(rule.source, look_up(message, self.topic)):
            return "filtered"
        if not where_passes(message, rule.where):
            return "filtered"
        raw = look_up(message, rule.measure)
        if not is_number(raw):
            reason = "measure_missing" if raw is MISSING else "measure_type"
            return self.reject(user, [reason], rule.name)
        track = self.tracks.setdefault((rule.name, device), Track())
        kept = rule.window + self.lateness
        if track.newest is not None and time < track.newest - kept:
            self.reject(user, ["late"], rule.name)
            return "late"
        value = float(raw) + 0.0  # negative zero is read as 0
        if self.drop and any(s.time == time and s.value == value for s in track.held):
            return "duplicates"
        sample = Sample(time, self.counts["records"], value, in_steps(value), user.position)
        held = [*track.held]
        bisect.insort(held, sample)
        window = [s for s in held if time - rule.window <= s.time <= time]
        result = statistic(rule.statistic, window)
        if result is None:
            return self.reject(user, ["overflow"], rule.name)
        track.newest = time if track.newest is None else max(track.newest, time)
        track.held = [s for s in held if s.time >= track.newest - kept]
        row = {"rule": rule.name, "device": device, "time": time, "value": result}
        self.statistics.append({**row, "samples": len(window)})
        self.advance(rule, track, user, device, time, result, window)
        return "samples"

    def limit(self, rule: Rule, device: str, time: int) -> tuple[float, float, Any]:
        """(threshold, clear margin, version) in force at a time."""
        items = sorted(
            self.items.get((device, rule.name), []),
            key=lambda item: -math.inf if item.get("effective_from") is None
            else item["effective_from"],
        )  # fmt: skip
        if not items:
            return rule.threshold, rule.clear_margin, None
        past = [item for item in items if (item.get("effective_from") or -math.inf) <= time]
        item = past[-1] if past else items[0]
        margin = item.get("clear_margin")
        margin = rule.clear_margin if margin is None else float(margin)
        return float(item["value"]), margin, item.get("version")

    def advance(
        self, rule: Rule, track: Track, user: User, device: str, time: int, value: float,
        window: list[Sample],
    ) -> None:  # fmt: skip
        """The alert state: forward in event time only, at most one change at one time."""
        if (track.moved is not None and time < track.moved) or time == track.changed:
            return
        track.moved = time
        decided = time if user.arrival is None else min(time, user.arrival)
        limit, margin, version = self.limit(rule, device, decided)
        if track.firing:
            cleared = limit - rule.sign * margin
            if not (value <= cleared if rule.sign > 0 else value >= cleared):
                return
        else:
            over = value > limit if rule.sign > 0 else value < limit
            if not (over and len(window) >= rule.min_samples):
                track.pending = None
                return
            if track.pending is None:
                track.pending = time
            if time - track.pending < rule.hold:
                return
        track.firing, track.pending, track.changed = not track.firing, None, time
        self.of_rule[rule.name]["alerts"] += 1
        self.counts["alerts"] += 1
        self.alerts.append({
            "pipeline": self.pipeline, "rule": rule.name, "device": device,
            "state": "firing" if track.firing else "resolved", "time": time, "value": value,
            "samples": len(window), "threshold": limit, "threshold_version": version,
            "window_start": time - rule.window, "window_end": time,
            "first_position": window[0].position, "last_position": user.position,
            "severity": rule.severity,
        })  # fmt: skip

    def totals(self) -> dict[str, Any]:
        """The counts of the summary, with those of each rule."""
        names = ("records", "evaluated", "filtered", "duplicates", "rejected", "late", "samples")
        per_rule = ("samples", "filtered", "duplicates", "rejected", "late", "alerts")
        return {
            **{name: self.counts[name] for name in (*names, "alerts", "repeated")},
            "rules": {r: {n: c[n] for n in per_rule} for r, c in self.of_rule.items()},
        }
