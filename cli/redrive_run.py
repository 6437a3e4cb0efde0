"""`errors redrive` at work: what to evaluate over what, where alerts go, and what is marked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from ..consumers import backtest, redrive
from ..consumers.archive_input import ArchiveInput
from ..consumers.redrive import Evaluation, Key, Todo, Wanted
from ..engine.batch import Alert
from ..engine.errors import ConfigError, Problem
from ..engine.folder import Place
from ..engine.limits import ThresholdStore
from ..engine.sinks.base import Patience, Sink
from ..engine.sinks.local import FileSink
from ..engine.stores.thresholds import FileThresholds
from ..rules.edges import Edges
from ..rules.plan import Pipeline
from ..rules.spec import Spec
from .archive_place import PATIENCE_SECONDS_MAX, patient, target

ALERTS_AT_ONCE = 500


class Options(NamedTuple):
    """What the command line says."""

    file: Path
    wanted: Wanted
    archive: str | None
    alone: bool
    thresholds: Path | None
    alerts: Path | None
    dry_run: bool


@dataclass
class Report:
    """What became of the records: (position, rule) pairs, by what happened to them."""

    dry_run: bool
    left: Counter[str] = field(default_factory=Counter)
    evaluated: int = 0
    absent: int = 0  # from the archive
    still: Counter[str] = field(default_factory=Counter)  # rejected again, by reason
    sent: Counter[str] = field(default_factory=Counter)  # alerts, by state

    def counts(self) -> dict[str, Any]:
        """The object that --json prints."""
        return {
            "evaluated": self.evaluated,
            "rejected_again": dict(sorted(self.still.items())),
            "not_in_archive": self.absent,
            "left": dict(sorted(self.left.items())),
            "alerts": dict(sorted(self.sent.items())),
            "dry_run": self.dry_run,
        }

    def lines(self) -> Iterator[str]:
        """What is said to people."""
        would = "would be " if self.dry_run else ""
        yield f"{self.evaluated:,} {would}redriven, {sum(self.sent.values()):,} alerts {would}sent"
        for reason, count in sorted(self.still.items()):
            yield f"{count:,} rejected again: {reason}"
        if self.absent:
            yield f"{self.absent:,} not in the archive, not redriven"
        for why, count in sorted(self.left.items()):
            yield f"{count:,} left out: {why}"


def run(options: Options) -> Report:
    """Redrive what is asked for; a refusal leaves as UnavailableError, and may be run again.

    Raises:
        ConfigError: the file is wrong, or there is neither archive nor --alone.
    """
    of = target(str(options.file), "errors")
    assert of.spec is not None
    spec, name = of.spec, of.spec.pipeline.name
    names = [rule.name for rule in spec.rules]
    archive = _archive(options, spec)
    done = redrive.marked(of.place, name)
    rows = redrive.rejected(of.place, name)
    todo = redrive.todo(rows, names, options.wanted, done, alone=options.alone)
    report = Report(options.dry_run, todo.left)
    rules = [rule for rule in names if any(key.rule == rule for key in todo.keys)]
    if not rules:
        return report
    evaluations = _evaluations(options, spec, archive, todo, rules)
    for rule in rules:
        _count(report, evaluations[rule], [key for key in todo.keys if key.rule == rule])
        report.sent.update(alert.state for alert in evaluations[rule].alerts_of(rule))
    if options.dry_run:
        return report
    with closing(_sink(options, spec)) as sink:
        for rule in rules:
            _send(sink, evaluations[rule].alerts_of(rule))
            if keys := evaluations[rule].done(rule):
                redrive.mark(of.place, name, rule, keys)
    return report


def _archive(options: Options, spec: Spec) -> ArchiveInput | None:
    """The archive of the pipeline; None where the records are to be evaluated alone."""
    if options.alone:
        return None
    location = options.archive
    if location is None and spec.archive is not None:
        location = spec.archive.location
    if location is None:
        message = "expected an archive: without it windows lack what is not rejected"
        raise ConfigError(
            [Problem(f"{options.file}: archive", message, "--archive LOCATION, or --alone")]
        )
    place: Place = patient(location)
    return ArchiveInput(location, place, spec.pipeline.name)


def _evaluations(
    options: Options, spec: Spec, archive: ArchiveInput | None, todo: Todo, rules: list[str]
) -> dict[str, Evaluation]:
    """What comes of the keys of each rule: in one pass of the archive, or a pass a rule."""
    if options.thresholds is not None:
        limits: ThresholdStore | None = FileThresholds(options.thresholds)
    else:
        limits = Edges(spec).thresholds()
    if archive is not None:
        evaluation = Evaluation(todo.keys)
        pipeline = _pipeline(spec, rules, limits, options)
        for outcome in backtest.run(pipeline, archive.read()):
            evaluation.take(outcome)
        return dict.fromkeys(rules, evaluation)
    found = {}
    for rule in rules:
        found[rule] = Evaluation(key for key in todo.keys if key.rule == rule)
        pipeline = _pipeline(spec, [rule], limits, options)
        for outcome in backtest.run(pipeline, redrive.records(todo.rows, rule)):
            found[rule].take(outcome)
    return found


def _pipeline(
    spec: Spec, rules: list[str], limits: ThresholdStore | None, options: Options
) -> Pipeline:
    """The pipeline file with some of its rules."""
    some = tuple(rule for rule in spec.rules if rule.name in rules)
    some_of = msgspec.structs.replace(spec, rules=some)
    return Pipeline.plan(some_of, limits, keep_read=True, origin=str(options.file))


def _count(report: Report, evaluation: Evaluation, keys: list[Key]) -> None:
    for key in keys:
        fate = evaluation.fate(key)
        if fate is None:
            report.evaluated += 1
        elif fate == "absent":
            report.absent += 1
        else:
            report.still[fate] += 1


def _sink(options: Options, spec: Spec) -> Sink[Alert]:
    return Edges(spec).alerts() if options.alerts is None else FileSink(options.alerts)


def _send(sink: Sink[Alert], alerts: list[Alert]) -> None:
    """Deliver alerts, in their order."""
    patience = Patience(seconds_max=PATIENCE_SECONDS_MAX)
    for start in range(0, len(alerts), ALERTS_AT_ONCE):
        some = alerts[start : start + ALERTS_AT_ONCE]
        patience.insist(lambda some=some: sink.deliver(some))  # type: ignore[misc]
    patience.insist(sink.flush)
