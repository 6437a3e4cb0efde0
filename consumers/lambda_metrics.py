"""What an invocation tells CloudWatch: one line of the embedded metric format for each shard.

CloudWatch Logs makes metrics of such a line by itself: no call, no agent, no permission. The only
dimension is the pipeline, so their number does not grow with the fleet, the shards or the rules;
shard and request stand beside them in the line, to be searched for. The format is that of "Embedded
metric format specification" in the Amazon CloudWatch User Guide.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

from ..engine.counts import Counts

NAMESPACE = "streamgauge"
DIMENSION = "pipeline"


class Embedded(NamedTuple):
    """One metric, with the unit as CloudWatch calls it."""

    name: str
    unit: Literal["Count", "Milliseconds", "Bytes"]
    meaning: str


METRICS = (
    Embedded("records", "Count", "user records that were read and applied"),
    Embedded("evaluated", "Count", "of these, those that became samples of a rule"),
    Embedded("filtered", "Count", "those that FROM or WHERE held back"),
    Embedded("duplicates", "Count", "those that a producer had sent before"),
    Embedded("rejected", "Count", "those in the error stream; late ones too"),
    Embedded("late", "Count", "those that came too late; within rejected"),
    Embedded("repeated", "Count", "outside `records`: those that an invocation before had applied"),
    Embedded("alerts", "Count", "changes of state that the sink has taken"),
    Embedded("iterator_age", "Milliseconds", "from the arrival of the last record done until now"),
    Embedded("state_bytes", "Bytes", "size of the state object that was written"),
    Embedded("save", "Milliseconds", "time that writing it took"),
    Embedded("failed", "Count", "1 where records were reported that must come again"),
    Embedded("fenced", "Count", "1 where another invocation had gone on with the shard"),
)
_UNITS = {metric.name: metric.unit for metric in METRICS}


def counted(counts: Counts) -> dict[str, float]:
    """The metrics that are counts of user records."""
    return {name: getattr(counts, name) for name in Counts.__slots__ if name in _UNITS} | {
        "alerts": counts.alerts
    }


def embedded(values: dict[str, float], at: float) -> dict[str, Any]:
    """What makes a log line with these values one of the format.

    Args:
        values: by the names of METRICS; those that are missing are not measured.
        at: seconds since 1970.
    """
    named: Sequence[dict[str, str]] = [{"Name": name, "Unit": _UNITS[name]} for name in values]
    directive = {"Namespace": NAMESPACE, "Dimensions": [[DIMENSION]], "Metrics": named}
    return {"_aws": {"Timestamp": int(at * 1000), "CloudWatchMetrics": [directive]}, **values}
