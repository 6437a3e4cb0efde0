"""`fleet` at work: a scenario's messages to a destination at a pace, with ledger and truth."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..producers.destinations import Destination
from ..producers.fleet import Fleet
from ..producers.ledger import Ledger
from ..producers.messages import Messages
from ..producers.pace import Pace
from ..producers.scenario import SECOND_MS, Scenario
from ..producers.truth import Truth
from .destination import Form, Target, Written, opened
from .fleet_files import lines, pipeline_text, true_rule
from .progress import ProgressBar

LIVE = "live"  # as a rate: a second of event time a second


@dataclass(frozen=True)
class Files:
    """What to write beside the messages; None: not."""

    truth: str | None = None
    ledger: str | None = None
    thresholds: str | None = None
    pipeline: str | None = None


@dataclass
class Report:
    """What became of a run; `done` is whether all of it was sent."""

    sent: int = 0
    accepted: int = 0
    refused: int = 0
    refusal: str = ""
    alerts: int | None = None
    rate: float = 0.0
    lag_max: float = 0.0
    seconds: float = 0.0
    done: bool = False
    faults: dict[str, int] = field(default_factory=dict)

    def take(self, destination: Destination) -> None:
        """Note what the destination has accepted, and what not."""
        self.sent, self.accepted = destination.sent, destination.accepted
        self.refused, self.refusal = destination.refused, destination.refusal

    @property
    def good(self) -> bool:
        """Whether every message that was sent is accepted."""
        return self.accepted == self.sent


def run(
    scenario: Scenario,
    target: Target,
    files: Files,
    rate: float | str | None,
    stopping: Callable[[], bool],
) -> Report:
    """Send a whole scenario, or what is sent of it until `stopping`; everything sent is drained.

    Args:
        rate: messages a second; LIVE; None: as fast as it goes.

    Raises:
        StreamgaugeError, OSError: the destination fails; what was written stays `.partial`.
    """
    fleet, report, whole = Fleet.of(scenario), Report(), list[bool]()
    limits = fleet.thresholds()
    truth = None
    if files.truth is not None:
        truth = Truth(true_rule(scenario.rule), limits, keep_rejected=False)
    if files.thresholds is not None:
        Path(files.thresholds).write_bytes(lines(limits))
    if files.pipeline is not None:
        Path(files.pipeline).write_text(pipeline_text(scenario.rule, target), encoding="utf-8")
    started = time.monotonic()
    with ExitStack() as stack:
        # Opened before the destination, so closed after it has drained.
        true_file = stack.enter_context(_written(files.truth, whole))
        ledger_file = stack.enter_context(_written(files.ledger, whole))
        ledger = Ledger(ledger_file.file) if ledger_file is not None else None
        accept = ledger.take if ledger is not None else lambda payloads: None
        destination = stack.enter_context(opened(target, accept, whole))
        pace = Pace(stopping=stopping, idle=destination.tend)
        bar = stack.enter_context(
            ProgressBar(scenario.seconds, target.kind != "stdout", noun="messages")
        )
        try:
            for number, tick in enumerate(fleet, 1):
                at = scenario.start + number * SECOND_MS
                for part in _parts(pace, len(tick), rate):
                    _send(tick.part(part.start, part.stop), target, at, destination, truth)
                if stopping():
                    break
                bar.advance(number, destination.sent)
            else:
                report.done = True
            destination.drain()
        finally:
            report.take(destination)
        if true_file is not None and truth is not None:
            true_file.file.write(lines(truth.alerts))
            report.alerts = len(truth.alerts)
        if report.done:
            whole.append(True)
    report.seconds = time.monotonic() - started
    report.rate, report.lag_max = pace.rate, pace.lag_max
    if rate is None:
        report.rate = report.sent / report.seconds  # what is on its way at the end counts, too
    report.faults = dict(fleet.counts)
    return report


def _parts(pace: Pace, count: int, rate: float | str | None) -> Iterator[slice]:
    if isinstance(rate, str):
        return pace.within(count, 1.0)
    return pace.at_rate(count, rate)


def _send(
    part: Messages, target: Target, at: int, destination: Destination, truth: Truth | None
) -> None:
    """Send a part, and let the truth see it with the arrival time that its reader will see."""
    arrival: int | None = None
    if target.live:
        arrival = int(time.time() * 1000)
    elif target.form == Form.KINESIS:
        arrival = at
    destination.send(part, arrival)
    if truth is not None:
        for data in part.data:
            truth.take(data, arrival)


@contextmanager
def _written(path: str | None, whole: list[bool]) -> Iterator[Written | None]:
    """A result file, open inside `with`; it has its name if the run was whole."""
    if path is None:
        yield None
        return
    written = Written(path)
    try:
        yield written
    finally:
        written.close(bool(whole))


def as_json(report: Report, scenario: Scenario, target: Target) -> dict[str, Any]:
    """The report as one object."""
    return {
        "to": target.to,
        "devices": scenario.devices,
        "seconds": scenario.seconds,
        "seed": scenario.seed,
        "sent": report.sent,
        "accepted": report.accepted,
        "refused": report.refused,
        "alerts": report.alerts,
        "faults": report.faults,
        "rate": round(report.rate, 1),
        "lag_max_ms": round(report.lag_max * 1000, 1),
        "elapsed": round(report.seconds, 3),
        "whole": report.done,
    }


def as_text(report: Report, scenario: Scenario, target: Target, rate: float | str | None) -> str:
    """The report for a person."""
    told = [
        f"{report.sent:,} messages of {scenario.devices:,} devices to {target.to} in"
        f" {report.seconds:.1f} s, {report.rate:,.0f} a second"
    ]
    if rate is not None:
        wanted = "in real time" if isinstance(rate, str) else f"{rate:,.0f} a second"
        told.append(f"asked for: {wanted}; at most {report.lag_max * 1000:,.0f} ms behind")
    told.append(f"{report.accepted:,} accepted, {report.refused:,} refused")
    if report.refusal:
        told.append(f"the first one refused: {report.refusal}")
    shown = ", ".join(f"{name} {count:,}" for name, count in sorted(report.faults.items()))
    told.append(f"faults, in messages: {shown}")
    if report.alerts is not None:
        told.append(f"{report.alerts:,} alerts must come")
    return "\n".join(told)
