"""What is counted and measured while a pipeline runs: one table, from which all else is made.

The exposition is Prometheus's text format 0.0.4. Labels are shard, rule, state and step, never a
device, so the number of series does not grow with the fleet.

One thread writes, and the server's threads read: a value is put into a dict that has all its keys
by then, in one step, so a reader sees the old or the new one.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Literal, NamedTuple

from .. import __version__
from ..engine.pipeline import Outcome

PREFIX = "streamgauge_"


class Metric(NamedTuple):
    """One row of the table.

    merged: how the values of several processes become one: their sum, or the least of them.
    """

    name: str
    kind: Literal["counter", "gauge"]
    labels: tuple[str, ...]
    meaning: str
    merged: Literal["sum", "min"] = "sum"


METRICS = (
    Metric("build_info", "gauge", ("version",), "1; the label says which version runs", "min"),
    Metric("start_timestamp_seconds", "gauge", (), "when the process started", "min"),
    Metric(
        "last_turn_timestamp_seconds",
        "gauge",
        (),
        "when the loop last turned; of several workers, the one that is furthest behind",
        "min",
    ),
    Metric("shard_records_total", "counter", ("shard",), "user records read and applied"),
    Metric("shard_reads_total", "counter", ("shard",), "answers of the stream, empty ones too"),
    Metric("shard_lag_seconds", "gauge", ("shard",), "how far the last read was from the tip"),
    Metric("shard_waiting", "gauge", ("shard",), "1 while a step of the shard is refused"),
    Metric(
        "refused_total",
        "counter",
        ("shard", "step"),
        "steps that were refused and are made again: load (state), read (stream), apply"
        " (thresholds), deliver (sinks), save (state)",
    ),
    Metric("fenced_total", "counter", ("shard",), "times that another owner's state was found"),
    Metric(
        "checkpoint_timestamp_seconds",
        "gauge",
        ("shard",),
        "when the shard's last state object was written, or loaded; how old it is: time() - this",
    ),
    Metric("stale_threshold_devices", "gauge", ("shard",), "devices whose limits are too old"),
    Metric("repeated_total", "counter", (), "user records skipped, as they were applied before"),
    Metric("unread_total", "counter", (), "user records rejected before any rule saw them"),
    Metric("samples_total", "counter", ("rule",), "records that became samples"),
    Metric("filtered_total", "counter", ("rule",), "records that FROM or WHERE held back"),
    Metric("duplicates_total", "counter", ("rule",), "records a producer had sent before"),
    Metric("rejected_total", "counter", ("rule",), "records a rule rejected, late ones too"),
    Metric("late_total", "counter", ("rule",), "records that came too late"),
    Metric("alerts_total", "counter", ("rule", "state"), "changes of alert state"),
    Metric("alerts_firing", "gauge", ("shard", "rule"), "devices that are firing"),
)
_BY_NAME = {metric.name: metric for metric in METRICS}
Series = dict[tuple[str, ...], float]
Snapshot = dict[str, Series]


class Metrics:
    """The values of one process: by name, then by the values of the labels."""

    def __init__(self, now: float | None = None) -> None:
        """Start at zero; `now` is in seconds since 1970."""
        self._values: Snapshot = {metric.name: {} for metric in METRICS}
        started = time.time() if now is None else now
        self.set("build_info", 1, version=__version__)
        self.set("start_timestamp_seconds", started)
        self.set("last_turn_timestamp_seconds", started)

    def add(self, name: str, value: float = 1, **labels: str) -> None:
        """Add to a counter."""
        series, key = self._series(name, labels)
        series[key] = series.get(key, 0) + value

    def set(self, name: str, value: float, **labels: str) -> None:
        """Set a gauge."""
        series, key = self._series(name, labels)
        series[key] = value

    def forget(self, shard: str) -> None:
        """Drop the gauges of a shard that is finished; what was counted stays."""
        for metric in METRICS:
            if metric.kind == "gauge" and metric.labels[:1] == ("shard",):
                series = self._values[metric.name]
                left = {key: value for key, value in series.items() if key[0] != shard}
                self._values[metric.name] = left

    def observe(self, shard: str, outcome: Outcome) -> None:
        """Count what a push gave."""
        counts = outcome.counts
        self.add("shard_records_total", counts.records, shard=shard)
        self.add("repeated_total", counts.repeated)
        self.add("unread_total", sum(row.rule is None for row in outcome.rejected))
        for rule, of in counts.rules.items():
            self.add("samples_total", of.samples, rule=rule)
            self.add("filtered_total", of.filtered, rule=rule)
            self.add("duplicates_total", of.duplicates, rule=rule)
            self.add("rejected_total", of.rejected, rule=rule)
            self.add("late_total", of.late, rule=rule)
        for alert in outcome.alerts:
            self.add("alerts_total", rule=alert.rule, state=alert.state)

    def snapshot(self) -> Snapshot:
        """All values, as a copy that stays as it is; can be handed to another process."""
        return {name: dict(series) for name, series in self._values.items()}

    def _series(self, name: str, labels: dict[str, str]) -> tuple[Series, tuple[str, ...]]:
        metric = _BY_NAME[name]
        assert len(labels) == len(metric.labels), (name, labels)
        return self._values[name], tuple(labels[label] for label in metric.labels)


def counters(snapshot: Snapshot) -> Snapshot:
    """What stays true of a process that is no more: its counters."""
    return {
        metric.name: snapshot[metric.name] if metric.kind == "counter" else {} for metric in METRICS
    }


def merged(snapshots: Iterable[Snapshot]) -> Snapshot:
    """The values of several processes as one; a shard is read by one of them at a time."""
    found: Snapshot = {metric.name: {} for metric in METRICS}
    for snapshot in snapshots:
        for name, series in snapshot.items():
            least = _BY_NAME[name].merged == "min"
            into = found[name]
            for key, value in series.items():
                if key in into:
                    value = min(into[key], value) if least else into[key] + value
                into[key] = value
    return found


def last_turn(snapshot: Snapshot) -> float:
    """When the loop last turned, in seconds since 1970."""
    return snapshot["last_turn_timestamp_seconds"][()]


def exposition(snapshot: Snapshot) -> str:
    """The values in Prometheus's text format 0.0.4."""
    lines = []
    for metric in METRICS:
        name = PREFIX + metric.name
        lines += [f"# HELP {name} {_help(metric.meaning)}", f"# TYPE {name} {metric.kind}"]
        for key, value in sorted(snapshot[metric.name].items()):
            pairs = zip(metric.labels, key, strict=True)
            labels = ",".join(f'{label}="{_label(text)}"' for label, text in pairs)
            lines.append(f"{name}{{{labels}}} {value!r}" if labels else f"{name} {value!r}")
    return "\n".join(lines) + "\n"


def reference() -> str:
    """The table as docs/metrics.md has it."""
    rows = ["| metric | kind | labels | what it says |", "|---|---|---|---|"]
    for metric in METRICS:
        labels = ", ".join(metric.labels) or "none"
        rows.append(f"| `{PREFIX}{metric.name}` | {metric.kind} | {labels} | {metric.meaning} |")
    return "\n".join(rows) + "\n"


def _help(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n")


def _label(text: str) -> str:
    return _help(text).replace('"', '\\"')
