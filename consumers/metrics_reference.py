"""Write the reference page of the metrics from the table that they are counted by.

`python -m streamgauge.consumers.metrics_reference` prints docs/metrics.md.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable

from .bridge_metrics import BRIDGE_METRICS
from .listen import (
    ANSWER_SECONDS_MAX,
    CONNECTIONS_MAX,
    LOOP_SECONDS_MAX,
    REFUSED_SECONDS_MAX,
    REQUEST_BYTES_MAX,
    REQUEST_SECONDS_MAX,
)
from .metrics import METRICS, PREFIX, Metric

_HEAD = f"""\
# Metrics, health and the state of a device

Generated from the table in `consumers/metrics.py` by
`python -m streamgauge.consumers.metrics_reference`.

`streamgauge run FILE --listen 127.0.0.1:9464` serves, to GET and HEAD:

- `/metrics`: the table below in Prometheus's text format 0.0.4. With several workers the values are
  of all of them; what one that died had counted stays.
- `/healthz`: 200, or 503 with the reasons where there is no progress: the loop (of several workers,
  any one) has not turned for {LOOP_SECONDS_MAX:g} s, or one step of a shard has been refused for
  {REFUSED_SECONDS_MAX:g} s. A shard that is refused waits and loses nothing; to start the process
  anew mends only the first of the two. A worker that dies is replaced at once, and counted.
- `/state?device=ID`: for each shard and rule that knows the device, the newest sample's `time`, the
  `value` of the window that ends there, its `samples`, the `threshold` with its
  `threshold_version` and `clear_margin`, `stale`, the `state` (`ok`, `pending`, `firing`) and
  `since` when, and when the device was last `seen`. 404 for an unknown device; 503 where the loop
  does not answer within {ANSWER_SECONDS_MAX:g} s, or the state of a shard is still being loaded.

There is no authentication: whoever reaches the address can ask what a device measures. It listens
at the one address given, `127.0.0.1` for this machine alone; where others may look, put what signs
users in before it. A request may have {REQUEST_BYTES_MAX // 1024} KiB and take
{REQUEST_SECONDS_MAX:g} s to come; beyond {CONNECTIONS_MAX} at once, connections are closed. No
request is logged.

## The table

Counters begin at 0 with the process. No label names a device, so the number of series grows with
shards and rules only.

"""

_TAIL = f"""
## What to be woken by

As Prometheus alerting rules; the numbers are a beginning.

```yaml
groups:
  - name: streamgauge
    rules:
      - alert: BehindTheStream   # Kinesis keeps records for a day unless told otherwise
        expr: max by (shard) ({PREFIX}shard_lag_seconds) > 60
        for: 5m
      - alert: NoProgress        # the process is there, its loop is not
        expr: time() - {PREFIX}last_turn_timestamp_seconds > 30
      - alert: Refused           # load, read, apply, deliver or save: the label says which
        expr: sum by (shard, step) (increase({PREFIX}refused_total[5m])) > 0
        for: 10m
      - alert: Waiting           # the same, while it lasts
        expr: max by (shard) ({PREFIX}shard_waiting) == 1
        for: 5m
      - alert: OldCheckpoint     # a crash now would make all of this be read again
        expr: |
          time() - {PREFIX}checkpoint_timestamp_seconds > 300
          and on (instance, shard) increase({PREFIX}shard_records_total[5m]) > 0
      - alert: OldLimits         # alerts carry stale: true until the table answers
        expr: sum({PREFIX}stale_threshold_devices) > 0
        for: 5m
      - alert: Rejected          # look into the error stream
        expr: |
          sum(rate({PREFIX}unread_total[5m])) + sum(rate({PREFIX}rejected_total[5m])) > 1
        for: 10m
      - alert: WorkersDie        # out of memory, mostly: look at the log of the machine
        expr: increase({PREFIX}worker_deaths_total[15m]) > 1
      - alert: NothingPasses     # a rule whose filter lets no record through
        expr: |
          rate({PREFIX}samples_total[15m]) == 0
          and rate({PREFIX}filtered_total[15m]) > 0
        for: 15m
```
"""


_BRIDGE = """
## The bridge

`streamgauge bridge FILE --listen 127.0.0.1:9464` serves `/metrics` with this table, and `/healthz`:
503 where its loop does not turn, there is no connection to the broker for a minute, or the error
stream takes nothing.

"""


def reference() -> str:
    """The text of docs/metrics.md."""
    return _HEAD + _rows(METRICS) + _TAIL + _BRIDGE + _rows(BRIDGE_METRICS)


def _rows(table: Iterable[Metric]) -> str:
    lines = ["| metric | kind | labels | unit | meaning |", "|---|---|---|---|---|"]
    for metric in table:
        labels = ", ".join(f"`{label}`" for label in metric.labels)
        lines.append(
            f"| `{PREFIX}{metric.name}` | {metric.kind} | {labels} | {metric.unit}"
            f" | {metric.meaning} |"
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.stdout.write(reference())
