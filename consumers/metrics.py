"""What is counted and measured while a pipeline runs: one table, from which all else is made.

The exposition is Prometheus's text format 0.0.4. Labels are shard, rule, state and step, never a
device, so the number of series does not grow with the fleet.

One thread writes, and the server's threads read, without a lock: a series is a dict whose keys are
tuples of text, which Python copies in one step, and a gauge that is dropped gets a new dict. So a
reader sees each series as it was at one moment; two series need not be of the same one.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable
from typing import Literal, NamedTuple

from .. import __version__
from ..engine.alert import FIRING, RESOLVED
from ..engine.pipeline import Outcome

PREFIX = "streamgauge_"


class Metric(NamedTuple):
    """One row of the table.

    merged: how the values of several processes become one: their sum, or the least of them. A
    shard is read by one process at a time, so of its gauges there is one value to add up.
    """

    name: str
    kind: Literal["counter", "gauge"]
    labels: tuple[str, ...]
    unit: str
    meaning: str
    merged: Literal["sum", "min"] = "sum"


def _counter(name: str, labels: tuple[str, ...], unit: str, meaning: str) -> Metric:
    return Metric(name, "counter", labels, unit, meaning)


def _gauge(name: str, labels: tuple[str, ...], unit: str, meaning: str) -> Metric:
    return Metric(name, "gauge", labels, unit, meaning)


def _least(name: str, labels: tuple[str, ...], unit: str, meaning: str) -> Metric:
    return Metric(name, "gauge", labels, unit, meaning, "min")


_SHARD, _RULE = ("shard",), ("rule",)
METRICS = (
    _least("build_info", ("version",), "1", "the label says which version runs"),
    _least("start_timestamp_seconds", (), "s since 1970", "when the process started"),
    _least(
        "last_turn_timestamp_seconds",
        (),
        "s since 1970",
        "when the loop last turned; of several workers, the one that is furthest behind",
    ),
    _counter("worker_deaths_total", (), "processes", "of several workers, that died; replaced"),
    _counter("shard_records_total", _SHARD, "user records", "read and applied"),
    _counter("shard_reads_total", _SHARD, "reads", "answers of the stream, empty ones too"),
    _gauge("shard_lag_seconds", _SHARD, "s", "how far the last read was from the tip"),
    _gauge("shard_waiting", _SHARD, "0 or 1", "1 while a step of the shard is refused"),
    _counter(
        "refused_total",
        ("shard", "step"),
        "steps",
        "refused, and made again: load (state), read (stream), apply (thresholds), deliver (sinks),"
        " save (state), roll (archive)",
    ),
    _counter("fenced_total", _SHARD, "times", "that another owner's state was found"),
    _gauge(
        "checkpoint_timestamp_seconds",
        _SHARD,
        "s since 1970",
        "when the shard's last state object was written, or loaded; how old it is: time() - this",
    ),
    _gauge("stale_threshold_devices", _SHARD, "devices", "whose limits are too old"),
    _counter("archive_records_total", _SHARD, "user records", "staged for the archive"),
    _counter("archive_objects_total", _SHARD, "objects", "of the archive, made of staged ones"),
    _counter("archive_bytes_total", _SHARD, "bytes", "of these objects, compressed"),
    _gauge("archive_staged_bytes", _SHARD, "bytes", "compressed, that wait for an object"),
    _counter("repeated_total", (), "user records", "skipped, as they were applied before"),
    _counter("unread_total", (), "user records", "rejected before any rule saw them"),
    _counter("samples_total", _RULE, "records", "that became samples"),
    _counter("filtered_total", _RULE, "records", "that FROM or WHERE held back"),
    _counter("duplicates_total", _RULE, "records", "that a producer had sent before"),
    _counter("rejected_total", _RULE, "records", "that the rule rejected, late ones too"),
    _counter("late_total", _RULE, "records", "that came too late; within rejected"),
    _counter(
        "interpreted_total",
        _RULE,
        "records",
        "whose WHERE or measure columns could not prove: they were evaluated one by one",
    ),
    _counter("forwarded_total", _RULE, "records", "that the rule put out for another stream"),
    _counter("alerts_total", ("rule", "state"), "alerts", "changes of state: firing, resolved"),
    _gauge("alerts_firing", ("shard", "rule"), "devices", "that are firing"),
)
_BY_NAME = {metric.name: metric for metric in METRICS}
Series = dict[tuple[str, ...], float]
Snapshot = dict[str, Series]


class Metrics:
    """The values of one process: by name, then by the values of the labels."""

    def __init__(self, now: float | None = None) -> None:
        """Start at zero; `now` is in seconds since 1970."""
        self._values: Snapshot = {
            metric.name: {(): 0} if metric.kind == "counter" and not metric.labels else {}
            for metric in METRICS
        }
        started = time.time() if now is None else now
        self.set("build_info", 1, version=__version__)
        self.set("start_timestamp_seconds", started)
        self.set("last_turn_timestamp_seconds", started)

    def add(self, name: str, value: float = 1, **labels: str) -> None:
        """Add to a counter; a name or label that the table has not is a bug."""
        assert 0 <= value < math.inf, (name, value)
        series, key = self._series(name, "counter", labels)
        series[key] = series.get(key, 0) + value

    def set(self, name: str, value: float, **labels: str) -> None:
        """Set a gauge; a name or label that the table has not is a bug."""
        assert math.isfinite(value), (name, value)
        series, key = self._series(name, "gauge", labels)
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
            self.add("interpreted_total", of.interpreted, rule=rule)
            for state in (FIRING, RESOLVED):  # a series begins at 0, so that its first step is seen
                self.add("alerts_total", 0, rule=rule, state=state)
        for row in outcome.forwarded:
            self.add("forwarded_total", rule=row.rule)
        for alert in outcome.alerts:
            self.add("alerts_total", rule=alert.rule, state=alert.state)

    def snapshot(self) -> Snapshot:
        """All values, as a copy that stays as it is; can be handed to another process."""
        return {name: dict(series) for name, series in self._values.items()}

    def _series(
        self, name: str, kind: str, labels: dict[str, str]
    ) -> tuple[Series, tuple[str, ...]]:
        metric = _BY_NAME.get(name)
        assert metric is not None and metric.kind == kind, (kind, name)
        assert labels.keys() == set(metric.labels), (name, labels)
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


def exposition(snapshot: Snapshot, table: Iterable[Metric] = METRICS) -> str:
    """The values in Prometheus's text format 0.0.4."""
    lines = []
    for metric in table:
        name = PREFIX + metric.name
        told = _help(f"{metric.unit}: {metric.meaning}")
        lines += [f"# HELP {name} {told}", f"# TYPE {name} {metric.kind}"]
        for key, value in sorted(snapshot[metric.name].items()):
            pairs = zip(metric.labels, key, strict=True)
            labels = ",".join(f'{label}="{_label(text)}"' for label, text in pairs)
            lines.append(f"{name}{{{labels}}} {value}" if labels else f"{name} {value}")
    return "\n".join(lines) + "\n"


def _help(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n")


def _label(text: str) -> str:
    return _help(text).replace('"', '\\"')
