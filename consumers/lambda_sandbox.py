"""What all functions in Lambda share: their time, their log, their pipeline file."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol, TypeVar

from ..engine.errors import ConfigError, InputError, Problem
from ..engine.sinks.base import Patience
from ..rules.edges import Edges
from ..rules.plan_fan_out import FAN_OUT
from ..rules.spec import Spec
from . import lambda_metrics
from .listing import Lister
from .shard import Reader

RESERVE_SECONDS = 5.0  # kept for saving, of the time that is left to an invocation
SECONDS_MAX = 60.0  # where the context does not say how much time there is

Failures = dict[str, list[dict[str, str]]]
Result = TypeVar("Result")


class Stream(Reader, Lister, Protocol):
    """A stream as functions need it where they have to look back; `KinesisReader` is one."""


def log(event: str, **fields: object) -> None:
    """Write one line of JSON to standard output, which the runtime logs; never a payload."""
    stamp = datetime.now(UTC).isoformat(timespec="milliseconds")
    print(json.dumps({"time": stamp, "event": event, **fields}), flush=True)


def pipeline_file() -> Path:
    """Where the package has its pipeline file."""
    root = Path(os.environ.get("LAMBDA_TASK_ROOT", "."))
    return root / os.environ.get("STREAMGAUGE_PIPELINE", "pipeline.toml")


def opened(edges: Edges, name: str | None) -> Stream:
    """A stream by its name or ARN; InputError where neither event nor file has one."""
    if name is None:
        raise InputError("event: Records[0]: expected an eventSourceARN, or source.stream")
    from .kinesis_reader import KinesisReader

    return KinesisReader(edges.service("kinesis"), name)


def failures(numbers: Iterable[str | None]) -> Failures:
    """The answer that reports the lowest of these sequence numbers; None is none."""
    lowest = min((number for number in numbers if number is not None), key=int, default=None)
    return {"batchItemFailures": [] if lowest is None else [{"itemIdentifier": lowest}]}


@dataclass(frozen=True)
class Clock:
    """The clocks of a function, which tests hand in: seconds, and those since 1970 for metrics."""

    now: Callable[[], float] = time.monotonic
    wall: Callable[[], float] = time.time
    sleep: Callable[[float], object] = time.sleep

    def until(self, context: Any) -> Deadline:
        """When an invocation has to be done, less what saving takes."""
        left = getattr(context, "get_remaining_time_in_millis", None)
        seconds = SECONDS_MAX if left is None else left() / 1000
        return Deadline(self.now() + max(0.0, seconds - RESERVE_SECONDS), self)

    def embedded(self, values: dict[str, float]) -> dict[str, Any]:
        """The fields of a log line that CloudWatch makes metrics of."""
        return lambda_metrics.embedded(values, self.wall())


@dataclass(frozen=True)
class Deadline:
    """The time that an invocation has: at, in seconds of its clock."""

    at: float
    clock: Clock

    def left(self) -> float:
        """Seconds that are left."""
        return max(0.0, self.at - self.clock.now())

    def insist(self, call: Callable[[], Result]) -> Result:
        """Make a call, again where it is refused, while there is time; in any case once."""
        clock = self.clock
        return Patience(seconds_max=self.left(), now=clock.now, sleep=clock.sleep).insist(call)


def check_fan_out(spec: Spec) -> str:
    """The panes stream of a file in the fan-out mode; ConfigError tells what cannot be done."""
    problems = []
    if spec.delivery.mode != FAN_OUT:
        found = f'expected "{FAN_OUT}", found "{spec.delivery.mode}"'
        problems.append(Problem("delivery.mode", found))
    if spec.delivery.panes_stream is None:
        hint = 'panes_stream = "NAME-panes"'
        message = "the fan_out mode in Lambda needs a second stream, for partial panes"
        problems.append(Problem("delivery.panes_stream", message, hint))
    if spec.source.out_of_range != "evaluate":
        problems.append(Problem("source.out_of_range", "not supported in Lambda yet"))
    if spec.archive is not None:
        hint = 'mode = "ordered", or remove the table'
        message = "an archive is not written in the fan_out mode yet"
        problems.append(Problem("archive", message, hint))
    if problems:
        raise ConfigError(problems)
    assert spec.delivery.panes_stream is not None
    return spec.delivery.panes_stream
