"""What a shard's process tells over the daemon's log: lines of JSON, and reports of its metrics.

The daemon copies each line of standard error into its own log; the supervisor takes it from there.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from .metrics import METRICS, Metrics, Snapshot

REPORT = "report"  # the event of a line that holds metrics
REPORT_SECONDS = 1.0  # between two reports
_NAMES = {metric.name for metric in METRICS}


def log(event: str, **fields: object) -> None:
    """Write one line of JSON to standard error: what happened, and where; never a payload."""
    stamp = datetime.now(UTC).isoformat(timespec="milliseconds")
    sys.stderr.write(json.dumps({"time": stamp, "event": event, **fields}) + "\n")
    sys.stderr.flush()


class Reports:
    """Tells the metrics of this process, now and then."""

    def __init__(self, metrics: Metrics) -> None:
        """Tell nothing yet."""
        self._metrics = metrics
        self._due = 0.0

    def __call__(self) -> None:
        """Tell them, if it is time."""
        if time.monotonic() < self._due:
            return
        self._due = time.monotonic() + REPORT_SECONDS
        self._metrics.set("last_turn_timestamp_seconds", time.time())
        log(REPORT, pid=os.getpid(), metrics=listed(self._metrics.snapshot()))


def listed(snapshot: Snapshot) -> list[list[Any]]:
    """A snapshot as JSON can hold it: name, values of the labels, value."""
    return [[name, list(key), value] for name, of in snapshot.items() for key, value in of.items()]


def unlisted(report: Mapping[str, Any]) -> Snapshot:
    """The snapshot of a report; what this version does not know is left out."""
    found: Snapshot = {name: {} for name in _NAMES}
    for name, key, value in report["metrics"]:
        if name in _NAMES:
            found[name][tuple(key)] = value
    return found
