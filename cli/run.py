"""`streamgauge run`: a pipeline on a live stream or a pipe, from this machine."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Annotated

import typer

from .running import Options, examine, log, with_workers
from .stop import Overdue, stop_signals

FOUND_PROBLEMS = 1
INTERRUPTED = 130


def command(
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE", exists=True, dir_okay=False, readable=True, help="The pipeline file."
        ),
    ],
    source: Annotated[
        str | None,
        typer.Option("--input", metavar="-|FILE", help="Read NDJSON from a pipe, not the stream."),
    ] = None,
    until_end: Annotated[
        bool, typer.Option("--until-end", help="Stop once everything in the stream is read.")
    ] = False,
    workers: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, help="Processes that share the shards."),
    ] = None,
    thresholds: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Limits of devices from a file, not the table."),
    ] = None,
    alerts: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Append alerts to this file, not to topic or stdout."),
    ] = None,
    listen: Annotated[
        str | None,
        typer.Option(metavar="HOST:PORT", help="Serve /metrics, /healthz and /state there."),
    ] = None,
) -> None:
    """Run a pipeline on its Kinesis stream, from this machine.

    Reads every shard from where the last run stopped, at first from the oldest record. Region,
    endpoint and credentials are found by boto3's own chain. Alerts go to alerts.sns_topic, else to
    stdout as NDJSON; rejected records to errors.location, state to state.location; log lines (JSON,
    never a payload) and the summary go to stderr. Ctrl-C and SIGTERM deliver and save what was
    read, within ten seconds, then end with status 130 and 0.

    Example: AWS_REGION=eu-west-1 streamgauge run thermostats.toml --listen 127.0.0.1:9464
    """
    # Imported here, so that help and usage errors come at once.
    from ..rules.spec import load
    from . import run_pipe, run_stream

    spec = with_workers(load(file), workers)
    examine(spec, str(file), piped=source is not None)
    options = Options(spec, str(file), until_end, thresholds, alerts, listen)
    with stop_signals() as stop:
        try:
            if source is None:
                good = run_stream.run(options, stop)
            else:
                good = run_pipe.run(options, stop, source)
        except Overdue:
            log("stopped_unfinished", cause="not through within the time that a stop may take")
            good = False
    if stop.signal == signal.SIGINT:
        raise typer.Exit(INTERRUPTED)
    raise typer.Exit(0 if good else FOUND_PROBLEMS)
