"""`streamgauge run`: a pipeline on a live stream, from this machine."""

from __future__ import annotations

import json
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from ..consumers.backtest import Totals
    from ..consumers.local import LocalConsumer
    from ..rules.spec import Spec

FOUND_PROBLEMS = 1
INTERRUPTED = 130


def command(
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE", exists=True, dir_okay=False, readable=True, help="The pipeline file."
        ),
    ],
    until_end: Annotated[
        bool, typer.Option("--until-end", help="Stop once everything in the stream is read.")
    ] = False,
    thresholds: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Limits of single devices, one NDJSON line each."),
    ] = None,
    alerts: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Append alerts to this file, not to stdout."),
    ] = None,
) -> None:
    """Run a pipeline on its Kinesis stream, from this machine.

    Reads every shard from where the last run stopped, at first from the oldest record. Region,
    endpoint and credentials are found by boto3's own chain. Alerts go to stdout as NDJSON, rejected
    records to errors.location, state to state.location; log lines (JSON, never a payload) and the
    summary go to stderr. Ctrl-C and SIGTERM deliver and save what was read, then end with status
    130 and 0.

    Example: AWS_DEFAULT_REGION=eu-west-1 streamgauge run thermostats.toml --alerts alerts.ndjson
    """
    # Imported here, so that help and usage errors come at once.
    from ..consumers.backtest import Totals
    from ..consumers.kinesis_reader import KinesisReader
    from ..consumers.local import LocalConsumer, host
    from ..engine.aws import Service
    from ..engine.counts import Counts
    from ..engine.sinks.local import FileSink, StdoutSink
    from ..engine.stores.thresholds import FileThresholds
    from ..rules.plan import Pipeline
    from ..rules.spec import load

    spec = load(file)
    stream = _examined(spec, str(file), alerts is not None)
    store = None if thresholds is None else FileThresholds(thresholds)
    planned = Pipeline.plan(spec, store, origin=str(file))
    for note in (*planned.warnings, *_notes(spec, thresholds)):
        _say(str(note))
    reader = KinesisReader(Service("kinesis"), stream)
    totals = Totals(Counts(rule.name for rule in planned.rules))
    sink = StdoutSink() if alerts is None else FileSink(alerts)
    started = time.monotonic()
    shared = host(spec, reader, sink, thresholds=store, observe=totals.add, log=log)
    consumer = LocalConsumer(reader, shared, until_end=until_end)
    with stop_signals() as stop:
        try:
            consumer.run(stop)
        finally:
            sink.close()
            good = _report(totals, consumer, f"stream {stream}", time.monotonic() - started)
    if stop.signal == signal.SIGINT:
        raise typer.Exit(INTERRUPTED)
    raise typer.Exit(0 if good else FOUND_PROBLEMS)


def log(event: str, **fields: object) -> None:
    """Write one line of JSON to standard error: what happened, and where; never a payload."""
    stamp = datetime.now(UTC).isoformat(timespec="milliseconds")
    print(json.dumps({"time": stamp, "event": event, **fields}), file=sys.stderr, flush=True)


class Stop:
    """Says whether a signal asked for the end: `signal` is its number, None before the first.

    A second one raises KeyboardInterrupt where the work is: nothing is lost by that, it is read
    again by the next start.
    """

    def __init__(self) -> None:
        """No signal has come."""
        self.signal: int | None = None

    def __call__(self) -> bool:
        """Whether one has come."""
        return self.signal is not None

    def take(self, number: int, frame: FrameType | None) -> None:
        """Note a signal, as a handler of it."""
        if self.signal is not None:
            raise KeyboardInterrupt
        self.signal = number


@contextmanager
def stop_signals() -> Iterator[Stop]:
    """Take over Ctrl-C and SIGTERM; outside the main thread Python leaves nothing to take over."""
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = {
        number: signal.signal(number, stop.take) for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _examined(spec: Spec, origin: str, alerts_given: bool) -> str:
    """The stream to read; ConfigError tells all that this host cannot do yet."""
    from dataclasses import replace

    from ..consumers.local import unsupported
    from ..engine.errors import ConfigError

    problems = list(unsupported(spec, alerts_given))
    if problems or spec.source.stream is None:
        raise ConfigError([replace(one, where=f"{origin}: {one.where}") for one in problems])
    return spec.source.stream


def _notes(spec: Spec, thresholds: Path | None) -> Iterator[str]:
    """What differs from what the file says, and changes no answer that could be given."""
    if spec.thresholds.table is not None and thresholds is None:
        yield (
            f"note: the table {spec.thresholds.table} is not read yet: every device has its rule's"
            " own threshold (--thresholds FILE gives others)"
        )
    if spec.alerts.sns_topic is not None:
        yield f"note: nothing is sent to {spec.alerts.sns_topic}: alerts go to the file"
    if spec.delivery.workers > 1:
        yield "note: delivery.workers: all shards are read by one process"


def _report(totals: Totals, consumer: LocalConsumer, origin: str, seconds: float) -> bool:
    """Say what became of the records; whether they add up and nothing is left over."""
    from .summary import accounting_faults, summary, warnings

    _say(summary(totals, origin, seconds, whole=False), end="")
    for warning in warnings(totals) if totals.counts.records else ():
        _say(f"warning: {warning}")
    faults = accounting_faults(totals)
    for fault in faults:
        _say(f"error: the accounting is broken, please report this: {fault}")
    if consumer.unsaved:
        _say(f"not saved, to be read again by the next run: {', '.join(consumer.unsaved)}")
    if consumer.unread:
        _say(f"not read, their parents have not ended: {', '.join(consumer.unread)}")
    return not (faults or consumer.unsaved or consumer.unread)


def _say(text: str, end: str = "\n") -> None:
    """Talk goes to standard error."""
    typer.echo(text + end, err=True, nl=False)
