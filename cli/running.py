"""What `run` does the same for a stream and for a pipe: refusals, log lines, the last report."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import typer

from ..engine.errors import ConfigError, Problem

if TYPE_CHECKING:
    from ..consumers.totals import Totals
    from ..rules.spec import Spec


@dataclass(frozen=True)
class Options:
    """What the command line says, besides where to read."""

    spec: Spec
    origin: str  # the name of the pipeline file, for messages
    until_end: bool
    thresholds: Path | None
    alerts: Path | None
    listen: str | None


def log(event: str, **fields: object) -> None:
    """Write one line of JSON to standard error: what happened, and where; never a payload."""
    stamp = datetime.now(UTC).isoformat(timespec="milliseconds")
    line = json.dumps({"time": stamp, "event": event, **fields})
    sys.stderr.write(line + "\n")  # one write: other processes write there, too
    sys.stderr.flush()


def say(text: str, end: str = "\n") -> None:
    """Talk goes to standard error."""
    typer.echo(text + end, err=True, nl=False)


def with_workers(spec: Spec, workers: int | None) -> Spec:
    """The pipeline file with another number of workers; None: as it is."""
    if workers is None:
        return spec
    delivery = msgspec.structs.replace(spec.delivery, workers=workers)
    return msgspec.structs.replace(spec, delivery=delivery)


def examine(spec: Spec, origin: str, *, piped: bool) -> None:
    """Refuse what cannot be done; ConfigError tells all of it."""
    problems = list(_problems(spec, piped))
    if problems:
        raise ConfigError([replace(one, where=f"{origin}: {one.where}") for one in problems])


def _problems(spec: Spec, piped: bool) -> Iterator[Problem]:
    from ..consumers.hosting import unsupported

    yield from unsupported(spec)
    if piped and spec.archive is not None:
        hint = "remove the table: what a pipe gives is archived by who writes it"
        yield Problem("archive", "what comes through a pipe is not archived", hint)
    if spec.source.stream is None and not piped:
        hint = "or --input - to read lines from a pipe"
        yield Problem("source.stream", "expected the name of a stream to read, found none", hint)


def notes(options: Options, *, piped: bool) -> Iterator[str]:
    """What differs from what the file says, by the command line."""
    spec = options.spec
    if spec.alerts.sns_topic is not None and options.alerts is not None:
        yield f"note: nothing is sent to {spec.alerts.sns_topic}: alerts go to {options.alerts}"
    if spec.thresholds.table is not None and options.thresholds is not None:
        yield f"note: the table {spec.thresholds.table} is not read: {options.thresholds} is"
    if piped and spec.source.stream is not None:
        yield f"note: the stream {spec.source.stream} is not read: the pipe is"


def report(totals: Totals, origin: str, seconds: float, left: list[str]) -> bool:
    """Say what became of the records; whether they add up and nothing is left over.

    Args:
        totals: of the whole run. origin: what was read. seconds: for how long.
        left: a line for each thing that is left over.
    """
    from .summary import accounting_faults, summary, warnings

    say(summary(totals, origin, seconds, whole=False), end="")
    for warning in warnings(totals) if totals.counts.records else ():
        say(f"warning: {warning}")
    faults = accounting_faults(totals)
    for fault in faults:
        say(f"error: the accounting is broken, please report this: {fault}")
    for line in left:
        say(line)
    return not (faults or left)
