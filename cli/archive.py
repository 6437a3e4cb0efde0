"""`streamgauge archive`: what lies in an archive, and small objects merged into larger ones."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import unquote

import msgspec
import typer

if TYPE_CHECKING:
    from ..engine.sinks.archive_objects import Held
    from .archive_place import Target

MAX_BYTES = 128 << 20  # of an object, where no pipeline file says how large

group = typer.Typer(rich_markup_mode=None, add_completion=False, no_args_is_help=True)

Where = Annotated[
    str,
    typer.Argument(
        metavar="FILE|LOCATION", help="A pipeline file, or a directory or s3://bucket/prefix/."
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print lines of NDJSON.")]


@group.callback()
def about() -> None:
    """Look into an archive of what was read, and keep its objects few.

    Example: streamgauge archive compact thermostats.toml
    """


@group.command("ls", short_help="Count objects and bytes, hour by hour.")
def ls(where: Where, as_json: AsJson = False) -> None:
    """Count the objects and bytes of an archive, hour by hour, and those that are still staged.

    Example: streamgauge archive ls s3://bucket/archive/
    """
    from .archive_place import target

    lines = _counts(_held(target(where, "archive")))
    if as_json:
        typer.echo(msgspec.json.Encoder().encode_lines(lines), nl=False)
        return
    if not lines:
        typer.echo("nothing is archived there")
    for line in lines:
        staged = f", {line['staged']:,} staged" if line["staged"] else ""
        typer.echo(
            f"{line['pipeline']}  {_hour(line['hour'])}  {line['shards']:>4} shards"
            f"  {line['objects']:>7,} objects  {line['bytes']:>15,} bytes{staged}"
        )


@group.command("compact", short_help="Merge small objects of hours that are over.")
def compact(
    where: Where,
    max_bytes: Annotated[
        str | None,
        typer.Option(metavar="SIZE", help="Of an object, compressed; archive.max_bytes or 128MiB."),
    ] = None,
    staged: Annotated[
        bool,
        typer.Option("--staged", help="First roll what is staged, where no consumer does."),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Merge the small objects of each shard and hour, once the hour is over for an hour.

    It may be run again, and stopped at any point: an object is removed only when the one that it
    was merged into is written. Until then a position may lie in both; streamgauge reads it once.

    Example: streamgauge archive compact thermostats.toml
    """
    from ..engine.sinks.archive_compact import closed
    from ..engine.sinks.archive_compact import compact as compacted
    from .archive_place import target

    of = target(where, "archive")
    size = _size(max_bytes, of)
    if staged:
        _roll(of)
    now = time.time_ns() // 1_000_000
    held = [one for one in _held(of) if not one.staged and closed(one.hour, now)]
    form = None if of.spec is None or of.spec.archive is None else of.spec.archive.format
    before = after = written = 0
    for merge in compacted(of.place, held, form, size):
        before, after = before + merge.before, after + merge.after
        written += merge.bytes
        if as_json:
            typer.echo(msgspec.json.encode(merge))
        else:
            typer.echo(
                f"{merge.pipeline}  {_hour(merge.hour)}  {merge.shard}: {merge.before:,} objects"
                f" merged into {merge.after:,}"
            )
    total = f"{before:,} objects merged into {after:,}, {written:,} bytes written"
    typer.echo(total if before else "nothing to merge", err=True)


def _size(given: str | None, of: Target) -> int:
    from ..rules.spec_values import SIZE

    if given is None:
        archive = None if of.spec is None else of.spec.archive
        return MAX_BYTES if archive is None else archive.max_bytes
    try:
        size: int = SIZE.read(given)
    except ValueError as error:
        text = f"expected {SIZE.expected}, found {given!a}: {error}"
        raise typer.BadParameter(text, param_hint="--max-bytes") from error
    return size


def _held(of: Target) -> list[Held]:
    """All objects, of the pipeline of the file, or of every one."""
    from ..engine.sinks.archive_objects import known
    from ..engine.sinks.archive_read import listed

    if of.spec is not None:
        return listed(of.place, of.spec.pipeline.name)
    return list(known(of.place.sizes("")))


def _roll(of: Target) -> None:
    """Make objects of everything that is staged for the pipeline of a file."""
    from ..engine.sinks.archive import Archive

    if of.spec is None or of.spec.archive is None:
        raise typer.BadParameter("needs a pipeline file, which says how", param_hint="--staged")
    asked = of.spec.archive
    archive = Archive(
        of.place, of.spec.pipeline.name, asked.format, asked.max_bytes, asked.max_age / 1000
    )
    for shard in sorted({one.shard for one in _held(of) if one.staged}):
        sink = archive.shard(unquote(shard))
        while not sink.empty:
            sink.roll(closing=True)


def _counts(held: list[Held]) -> list[dict[str, Any]]:
    found: dict[tuple[str, str], list[Held]] = {}
    for one in held:
        found.setdefault((one.pipeline, one.hour), []).append(one)
    return [
        {
            "pipeline": pipeline,
            "hour": hour,
            "shards": len({one.shard for one in of}),
            "objects": sum(not one.staged for one in of),
            "bytes": sum(one.size for one in of if not one.staged),
            "staged": sum(one.staged for one in of),
            "staged_bytes": sum(one.size for one in of if one.staged),
        }
        for (pipeline, hour), of in sorted(found.items())
    ]


def _hour(hour: str) -> str:
    """An hour as people read it; rows without an arrival time have none."""
    from ..engine.sinks.archive_objects import UNDATED

    return "undated      " if hour == UNDATED else f"{hour}:00Z".replace("T", " ")
