"""`streamgauge errors`: what was rejected, and what a fix makes of it."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

if TYPE_CHECKING:
    from ..consumers.redrive import Wanted
    from ..engine.batch import Rejected

FOUND_PROBLEMS = 1

group = typer.Typer(rich_markup_mode=None, add_completion=False, no_args_is_help=True)

Stage = Annotated[str | None, typer.Option("--stage", metavar="S", help="Only of this stage.")]
Reason = Annotated[str | None, typer.Option("--reason", metavar="R", help="Only for this reason.")]
Rule = Annotated[
    str | None,
    typer.Option("--rule", metavar="R", help="Only of this rule, and those that name none."),
]
Since = Annotated[
    str | None,
    typer.Option("--since", metavar="TIME", help="Only what arrived then or later: ms, ISO 8601."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print NDJSON.")]


@group.callback()
def about() -> None:
    """Look into the error stream, and redrive what was mended.

    Example: streamgauge errors ls thermostats.toml
    """


@group.command("ls", short_help="Count rejected records by hour, stage, reason and rule.")
def ls(
    where: Annotated[
        str,
        typer.Argument(
            metavar="FILE|LOCATION", help="A pipeline file, or a directory or s3://bucket/prefix/."
        ),
    ],
    stage: Stage = None,
    reason: Reason = None,
    rule: Rule = None,
    since: Since = None,
    as_json: AsJson = False,
) -> None:
    """Count rejected records by hour of arrival, stage, reason and rule; each is counted once.

    A record that several rules reject is counted for each. `-` stands for no rule: none saw it.

    Example: streamgauge errors ls thermostats.toml --reason late
    """
    from ..consumers.redrive import rejected
    from .archive_place import target

    of = target(where, "errors")
    wanted = _wanted(stage, reason, rule, since)
    pipeline = None if of.spec is None else of.spec.pipeline.name
    counts = Counter(
        (_hour(row), row.stage, row.reason, row.rule)
        for row in rejected(of.place, pipeline)
        if wanted.row(row)
    )
    ordered = sorted(counts.items(), key=lambda item: (*item[0][:3], item[0][3] or ""))
    for (hour, *rest, name), count in ordered:
        if as_json:
            line = dict(zip(("stage", "reason"), rest, strict=True))
            typer.echo(msgspec.json.encode({"hour": hour, **line, "rule": name, "count": count}))
        else:
            shown = "undated" if hour is None else f"{hour.replace('T', ' ')}:00Z"
            typer.echo(f"{shown:<17} {rest[0]:<12} {rest[1]:<18} {name or '-':<20} {count:>9,}")
    if not as_json:
        typer.echo(f"{sum(counts.values()):,} rejected records", err=True)


@group.command("redrive", short_help="Evaluate rejected records again, after a fix.")
def redrive(
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE", exists=True, dir_okay=False, readable=True, help="The pipeline file."
        ),
    ],
    stage: Stage = None,
    reason: Reason = None,
    rule: Rule = None,
    since: Since = None,
    archive: Annotated[
        str | None,
        typer.Option(metavar="LOCATION", help="Of all that was read; by default [archive]'s."),
    ] = None,
    alone: Annotated[
        bool,
        typer.Option("--alone", help="Without an archive: windows of the rejected records alone."),
    ] = False,
    thresholds: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Limits of devices from a file, not the table."),
    ] = None,
    alerts: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Append alerts to this file, not to topic or stdout."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be sent; send and mark nothing.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the counts as one JSON object on stdout.")
    ] = False,
) -> None:
    """Evaluate rejected records again, after a fix, each for the rule that it names alone.

    The present pipeline file is run over the archive, in which they stand where they stood in the
    stream. From the first redriven reading of a device on, its alerts of that rule are sent: those
    sent before have the same ids. What was evaluated is marked, and not redriven again; what is
    rejected again stays in the error stream, and the exit status is 1.

    Example: streamgauge errors redrive thermostats.toml --reason measure_type --dry-run
    """
    from .redrive_run import Options, run

    options = Options(
        file, _wanted(stage, reason, rule, since), archive, alone, thresholds, alerts, dry_run
    )
    report = run(options)
    if as_json:
        typer.echo(msgspec.json.encode(report.counts()))
    else:
        for line in report.lines():
            typer.echo(line, err=True)
    raise typer.Exit(FOUND_PROBLEMS if report.still or report.absent else 0)


def _wanted(stage: str | None, reason: str | None, rule: str | None, since: str | None) -> Wanted:
    from ..consumers.redrive import Wanted
    from .threshold_table import time_named

    start = None if since is None else time_named(since, "--since")
    return Wanted(stage, reason, rule, start)


def _hour(row: Rejected) -> Any:
    """The hour of arrival, YYYY-MM-DDTHH in UTC; None where it is not known."""
    from ..engine.batch import LAST_TIME

    at = row.arrival_time
    if at is None or not 0 <= at <= LAST_TIME:
        return None
    return datetime.fromtimestamp(at // 1000, UTC).strftime("%Y-%m-%dT%H")
