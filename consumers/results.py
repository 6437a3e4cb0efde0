"""Result files: alerts, rejected records and statistics as NDJSON, each written in bulk.

A result file grows under its name with `.partial` added and takes its name only when it is whole:
whoever finds it under its own name may trust it, and a run that fails leaves the older one alone.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from itertools import repeat
from typing import BinaryIO

import msgspec
import numpy as np

from ..engine.batch import Alert, Rejected, Statistics
from ..engine.pipeline import Outcome

_ENCODER = msgspec.json.Encoder()


class _Sample(msgspec.Struct, gc=False):
    rule: str
    device: str
    time: int
    value: float
    samples: int


def alert_lines(alerts: Sequence[Alert]) -> bytes:
    """One line an alert."""
    return _ENCODER.encode_lines(alerts)


def rejected_lines(rejected: Iterable[Rejected]) -> bytes:
    """One line a rejected record, with its bytes in base64."""
    return _ENCODER.encode_lines([row.line() for row in rejected])


def statistics_lines(statistics: Sequence[Statistics]) -> bytes:
    """One line a sample, in arrival order, the rules of one record in the order given."""
    samples: list[_Sample] = []
    for part in statistics:
        names = map(part.names.__getitem__, part.device.tolist())
        rest = (part.time.tolist(), part.value.tolist(), part.samples.tolist())
        samples += map(_Sample, repeat(part.rule), names, *rest)
    if len(statistics) > 1:
        order = np.argsort(np.concatenate([part.index for part in statistics]), kind="stable")
        samples = [samples[row] for row in order.tolist()]
    return _ENCODER.encode_lines(samples)


class ResultFile:
    """A file that has its name only when it is whole. A device or pipe is written to directly."""

    def __init__(self, path: str) -> None:
        """Open it for writing; raises OSError if that cannot be done."""
        self.path = path
        special = os.path.exists(path) and not os.path.isfile(path)
        self.written = path if special else f"{path}.partial"  # where the lines are now
        self._file: BinaryIO = open(self.written, "wb")

    def write(self, lines: bytes) -> None:
        """Add whole lines."""
        self._file.write(lines)

    def close(self, whole: bool) -> None:
        """Close it, and give it its name if it is whole."""
        self._file.close()
        if whole and self.written != self.path:
            os.replace(self.written, self.path)
            self.written = self.path


class Results:
    """Where the outcomes of a run go: up to three files, and alerts to an open stream as well.

    stdout: the stream, flushed after each batch, so that a reader of it is never behind.
    """

    def __init__(
        self,
        alerts: str | None = None,
        rejected: str | None = None,
        statistics: str | None = None,
        stdout: BinaryIO | None = None,
    ) -> None:
        """Open the files that are named; raises OSError if one cannot be written."""
        self.stdout = stdout
        self._alerts, self._rejected, self._statistics = (
            None if path is None else ResultFile(path) for path in (alerts, rejected, statistics)
        )

    def write(self, outcome: Outcome) -> None:
        """Write what one push gave."""
        if self.stdout is not None and outcome.alerts:
            self.stdout.write(alert_lines(outcome.alerts))
            self.stdout.flush()
        if self._alerts is not None:
            self._alerts.write(alert_lines(outcome.alerts))
        if self._rejected is not None:
            self._rejected.write(rejected_lines(outcome.rejected))
        if self._statistics is not None:
            self._statistics.write(statistics_lines(outcome.statistics))

    def close(self, whole: bool) -> list[str]:
        """Close the files; the names of those that hold a part only."""
        files = [file for file in (self._alerts, self._rejected, self._statistics) if file]
        for file in files:
            file.close(whole)
        return [] if whole else [file.written for file in files]
