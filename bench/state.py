"""What does the state of a shard cost: to save, to load, to keep?

A shard that takes a megabyte a second holds some 700,000 samples in windows of 60 seconds. The
pipeline is filled with as many, then goes on; after each second of records a delta is saved, as
Lambda does after each invocation, and at the end all is loaded into a new pipeline. Beside it, in
the same run, stands what one writes by hand: a deque of (time, value) a device, pickled and zipped
as a whole, which is the only way that it can be saved.

What is loaded must be what was saved: the next records must give the same alerts and the same next
object in both pipelines; a bench in which they differ exits with 1. Prints one JSON object, a table
on stderr.
"""

from __future__ import annotations

import argparse
import pickle
import time
import zlib
from collections import defaultdict, deque
from collections.abc import Callable
from typing import Any

import numpy as np
from material import telemetry, timing
from material.telemetry import Fleet

from streamgauge.engine import state
from streamgauge.rules import plan, spec

SAMPLES = 700_000  # of a full shard
DEVICES = {"each second": 11_700, "every ten seconds": 100_000}  # that read so often
SECOND_RECORDS = 11_700  # a megabyte of them
AIMS = {"delta_p99_ms": 100.0, "load_seconds": 2.0}


def fresh() -> plan.Pipeline:
    """An empty pipeline of the bench, whose windows hold all that was pushed."""
    return plan.Pipeline.plan(spec.parse(telemetry.PIPELINE), one_shard=True)


def part(fleet: Fleet, first: int, count: int) -> list[dict[str, Any]]:
    """Kinesis records of some readings."""
    return telemetry.aggregated(fleet.rows(first, count), first)


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """CPU milliseconds of a call, and what it gave."""
    start = time.process_time()
    answer = work()
    return (time.process_time() - start) * 1000, answer


def by_hand(fleet: Fleet, samples: int) -> tuple[float, int, float]:
    """Milliseconds to save and bytes of the plain windows, and milliseconds to load them."""
    rows = fleet.rows(0, samples)
    windows: dict[int, deque[tuple[int, float]]] = defaultdict(deque)
    values = (rows.temperature / 100).tolist()
    for device, at, value in zip(rows.device.tolist(), rows.time.tolist(), values, strict=True):
        windows[device].append((at, value))
    saving, data = timed(lambda: zlib.compress(pickle.dumps(dict(windows)), 1))
    loading, again = timed(lambda: pickle.loads(zlib.decompress(data)))
    assert again == windows
    return saving, len(data), loading


def measured(given: argparse.Namespace, devices: int) -> tuple[dict[str, Any], bool]:
    """Fill, go on with deltas, load; figures, and whether what was loaded is what was saved."""
    fleet = telemetry.fleet_of(given.seed, devices)
    pipeline, at = fresh(), 0
    while at < given.samples:
        count = min(20 * SECOND_RECORDS, given.samples - at)
        pipeline.push(part(fleet, at, count))
        at += count
    full_ms, full = timed(pipeline.save)
    held = len(state.decode(full)[1]["rules"][telemetry.RULE]["samples"]["time"])
    objects, deltas = [full], list[float]()
    for _ in range(given.deltas):
        pipeline.push(part(fleet, at, SECOND_RECORDS))
        at += SECOND_RECORDS
        taken, data = timed(lambda: pipeline.save(full=False))
        deltas.append(taken)
        objects.append(data)
    loading, again = timed(lambda: loaded(objects))
    more = part(fleet, at, SECOND_RECORDS)
    same = [one.alerts for one in (pipeline.push(more), again.push(more))]
    good = same[0] == same[1] and pipeline.save() == again.save()
    saving, size, plain_loading = by_hand(fleet, given.samples)
    each = sum(len(one) for one in objects[1:]) / max(1, len(objects) - 1)
    figures = {
        "devices": devices,
        "samples": held,
        "full_ms": round(full_ms, 1),
        "full_bytes_per_sample": round(len(full) / held, 2),
        "full_bytes_per_device": round(len(full) / devices, 1),
        "delta_ms": {
            "p50": round(float(np.quantile(deltas, 0.5)), 1),
            "p99": round(float(np.quantile(deltas, 0.99)), 1),
            "max": round(max(deltas), 1),
        },
        "delta_bytes_per_record": round(each / SECOND_RECORDS, 2),
        "load_ms": {"objects": len(objects), "all": round(loading, 1)},
        "by_hand": {
            "full_ms": round(saving, 1),
            "full_bytes_per_sample": round(size / given.samples, 2),
            "load_ms": round(plain_loading, 1),
        },
        "delta_times_cheaper_than_by_hand": round(saving / float(np.quantile(deltas, 0.5)), 1),
    }
    return figures, good


def loaded(objects: list[bytes]) -> plan.Pipeline:
    """A new pipeline with what was saved."""
    pipeline = fresh()
    assert pipeline.restore(objects) == []
    return pipeline


def arguments() -> argparse.Namespace:
    """The command line, with what --quick stands for filled in."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--quick", action="store_true", help="a tenth of a shard, few deltas")
    parser.add_argument("--samples", type=int, help=f"in the windows ({SAMPLES})")
    parser.add_argument("--deltas", type=int, help="that are saved after the full one (63)")
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    given.samples = given.samples or (SAMPLES // 10 if given.quick else SAMPLES)
    given.deltas = given.deltas or (5 if given.quick else 63)
    return given


def main() -> None:
    """Run both fleets and print."""
    given = arguments()
    cases: dict[str, Any] = {}
    agree = True
    for name, devices in DEVICES.items():
        cases[name], good = measured(given, devices)
        agree &= good
    rows: list[list[Any]] = [["", "full ms", "bytes/sample", "delta p50", "p99 ms", "load ms"]]
    for name, case in cases.items():
        delta = case["delta_ms"]
        figures = [case["full_ms"], case["full_bytes_per_sample"], delta["p50"], delta["p99"]]
        rows.append([name, *figures, case["load_ms"]["all"]])
    timing.table(f"the state of a shard with {given.samples} samples", rows)
    report = {
        "cases": cases,
        "aims_reached": {
            name: {
                "delta_p99": case["delta_ms"]["p99"] < AIMS["delta_p99_ms"],
                "load": case["load_ms"]["all"] < AIMS["load_seconds"] * 1000,
            }
            for name, case in cases.items()
        },
    }
    head = timing.header("state", "what does the state of a shard cost?", seed=given.seed)
    timing.finish({**head, **report}, agree)


if __name__ == "__main__":
    main()
