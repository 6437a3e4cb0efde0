"""How the benches measure: CPU time, in turn with the baselines, so that a busy minute meets all.

Machines are shared and noisy: an absolute figure holds within 30 % at best, a ratio of one run
holds better. Every figure is therefore given as minimum, median and maximum over the repeats, and a
ratio is taken within each repeat before anything is averaged.
"""

from __future__ import annotations

import gc
import importlib.metadata
import json
import os
import platform
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import streamgauge

Answer = TypeVar("Answer")
Taken = dict[str, list[float]]  # engine -> ns a record, one for each repeat

LIBRARIES = ("numpy", "msgspec", "protobuf", "orjson", "aws-kinesis-agg")


def machine() -> dict[str, Any]:
    """What the figures depend on: processor, cores, who else is at work, Python and libraries."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        lines = cpuinfo.read_text().splitlines()
        names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
        model = names[0] if names else model
    return {
        "cpu": model,
        "cores": os.cpu_count(),
        "load_average": round(os.getloadavg()[0], 1),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "libraries": {name: importlib.metadata.version(name) for name in LIBRARIES},
    }


class Clock:
    """CPU time by stage, in seconds."""

    def __init__(self) -> None:
        """Start at zero."""
        self.seconds: dict[str, float] = defaultdict(float)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Count what runs inside for a stage."""
        start = time.process_time()
        yield
        self.seconds[name] += time.process_time() - start


def cpu_seconds(work: Callable[[], Answer]) -> tuple[float, Answer]:
    """The CPU time of one call, garbage of before taken away first, and what it gave."""
    cpu, _, answer = seconds(work)
    return cpu, answer


def seconds(work: Callable[[], Answer]) -> tuple[float, float, Answer]:
    """CPU and wall time of one call, garbage of before taken away first, and what it gave."""
    gc.collect()
    wall, cpu = time.perf_counter(), time.process_time()
    answer = work()
    return time.process_time() - cpu, time.perf_counter() - wall, answer


def spread(values: Iterable[float], digits: int = 1) -> dict[str, float]:
    """Minimum, median and maximum."""
    held = list(values)
    figures = {"min": min(held), "median": statistics.median(held), "max": max(held)}
    return {name: round(value, digits) for name, value in figures.items()}


def ratios(of: Sequence[float], to: Sequence[float]) -> dict[str, float]:
    """How many times `to` each of `of` is, taken repeat by repeat."""
    return spread((a / b for a, b in zip(of, to, strict=True)), 2)


def header(bench: str, question: str, **settings: Any) -> dict[str, Any]:
    """The head of every report."""
    return {
        "bench": bench,
        "question": question,
        "version": streamgauge.__version__,
        "machine": machine(),
        **settings,
    }


def table(title: str, rows: Iterable[Sequence[Any]]) -> None:
    """Print a table on stderr: the first row is the heading, the first column is text."""
    held = [[str(cell) for cell in row] for row in rows]
    width = [max(map(len, column)) for column in zip(*held, strict=True)]
    print(f"\n{title}", file=sys.stderr)
    for first, *rest in held:
        cells = [cell.rjust(size) for cell, size in zip(rest, width[1:], strict=True)]
        print("  ".join([first.ljust(width[0]), *cells]), file=sys.stderr)


def finish(report: Mapping[str, Any], agree: bool) -> None:
    """Print the report as one JSON object and leave: with 1 where an answer was wrong."""
    print(json.dumps({**report, "answers_agree": agree}, indent=2))
    sys.exit(0 if agree else 1)
