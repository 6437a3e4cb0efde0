"""`streamgauge doctor`: what is there, what is missing for what, and the command that mends it."""

from __future__ import annotations

import json
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .doctor_checks import MISSING, OK, UNKNOWN, Check, directory, locations, machine, settings

if TYPE_CHECKING:
    from ..rules.spec import Spec

FOUND_PROBLEMS = 1
WORDS = {OK: "ok", MISSING: "missing", "old": "too old"}  # of a status, where it is not its name
COMMAND_PACKAGES = ("boto3", "numpy", "msgspec", "protobuf", "google-re2", "tzdata")


def command(
    file: Annotated[
        Path | None,
        typer.Argument(
            metavar="FILE",
            exists=True,
            dir_okay=False,
            readable=True,
            help="A pipeline file: look at what it needs, too.",
        ),
    ] = None,
    aws: Annotated[bool, typer.Option("--aws", help="Ask AWS, by calls that only read.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object with all checks.")
    ] = False,
) -> None:
    """Look at this machine: what is there, what is missing for what, the command that mends it.

    With FILE also what that pipeline needs: settings of AWS, directories. With --aws the services
    are asked, by calls that read and change nothing: who the caller is and, with FILE, whether its
    stream, table, topic and buckets are there and may be read.

    Exit status 0: all that is needed is there, whatever else is missing; 1: something is not; 2:
    the command was used wrongly.

    Example: streamgauge doctor thermostats.toml --aws
    """
    shown: list[Check] = []
    for check in _checks(file, aws):
        shown.append(check)
        if not as_json:
            _tell(check)
    failed = [check.name for check in shown if check.fails]
    if as_json:
        report = {"ok": not failed, "checks": [check.line() for check in shown]}
        typer.echo(json.dumps(report))
    elif failed:
        typer.echo(f"to be mended: {', '.join(failed)}", err=True)
    if failed:
        raise typer.Exit(FOUND_PROBLEMS)


def _tell(check: Check) -> None:
    """Print one check."""
    feature = "" if check.needed and check.status == OK else f" [{check.feature}]"
    wanted = f"; wanted: {check.wanted}" if check.wanted and check.status != OK else ""
    word = WORDS.get(check.status, check.status)
    typer.echo(f"{word:<8} {check.name}: {check.found}{wanted}{feature}")
    if check.mend:
        typer.echo(f"         mend: {check.mend}")


def _checks(file: Path | None, aws: bool) -> Iterator[Check]:
    """All checks, each as soon as it is made."""
    usable = True
    for check in machine():
        yield check
        usable = usable and not (check.name in COMMAND_PACKAGES and check.fails)
    if file is None and not aws:
        return
    if not usable:
        yield Check(
            "the rest", "what was asked about", UNKNOWN, "cannot be looked at without the packages"
        )
        return
    spec = None
    if file is not None:
        spec = yield from _file(file)
    if aws or (spec is not None and needs_aws(spec)):
        yield from settings()
    if aws:
        yield from _asked(spec)


def _file(file: Path) -> Generator[Check, None, Spec | None]:
    """The pipeline file itself and its directories; gives its spec, None where it has errors."""
    from .check import examined

    spec, _, problems = examined(file)
    errors = [str(problem) for problem in problems if problem.severity == "error"]
    if errors or spec is None:
        yield Check(
            str(file), "this pipeline", "broken", errors[0] if errors else "no pipeline file",
            mend=f"streamgauge check {file}",
        )  # fmt: skip
        return None
    yield Check(str(file), "this pipeline", OK, f"pipeline {spec.pipeline.name}")
    for name, location in locations(spec):
        if "://" not in location:
            yield directory(f"{name}.location", location, "this pipeline")
    return spec


def needs_aws(spec: Spec) -> bool:
    """Whether a pipeline calls any service."""
    named = (spec.source.stream, spec.thresholds.table, spec.alerts.sns_topic)
    return any(named) or any(place.startswith("s3://") for _, place in locations(spec))


def _asked(spec: Spec | None) -> Iterator[Check]:
    """What the services say."""
    from .doctor_aws import Asked, identity, not_shown, pipeline

    asked = Asked()
    yield identity(asked)
    if spec is None:
        return
    yield from pipeline(spec, asked)
    if names := not_shown(spec):
        yield Check(
            ", ".join(names), "this pipeline", UNKNOWN, "needed, and not shown by calls that read",
            needed=False,
        )  # fmt: skip
