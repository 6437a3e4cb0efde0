"""`streamgauge thresholds`: the limits of single devices, in the table of a pipeline file."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..rules.spec import RuleSpec
    from .threshold_listing import Listing
    from .threshold_table import Opened

group = typer.Typer(rich_markup_mode=None, add_completion=False, no_args_is_help=True)


class Format(StrEnum):
    """How limits stand in a file."""

    NDJSON = "ndjson"
    CSV = "csv"


File = Annotated[
    Path,
    typer.Argument(
        metavar="FILE", exists=True, dir_okay=False, readable=True, help="The pipeline file."
    ),
]
RuleName = Annotated[
    str | None, typer.Option("--rule", metavar="R", help="Not needed where there is one rule.")
]
FormOf = Annotated[
    Format | None, typer.Option("--format", help="By the file's name where not given, or ndjson.")
]


@group.callback()
def about() -> None:
    """Read and change the limits of single devices, in the DynamoDB table of a pipeline.

    A change is in force from a time on: two refresh intervals from now unless told otherwise. By
    then every consumer has read it, and a replay decides as the first run did.

    Example: streamgauge thresholds set thermostats.toml t-1 75 --rule overheating
    """


@group.command("get", short_help="Show limits.")
def get(
    file: File,
    device: Annotated[
        str | None, typer.Argument(metavar="DEVICE", help="All where not given.")
    ] = None,
    rule: RuleName = None,
    at: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="When: ms or ISO 8601; now where not given."),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print lines of NDJSON, each with its status.")
    ] = False,
) -> None:
    """Show limits: those in force, those to come, and the history.

    Example: streamgauge thresholds get thermostats.toml t-1
    """
    from . import threshold_view as view
    from .threshold_table import check_device, now, opened, rule_named, time_named

    of = opened(file)
    moment = now() if at is None else time_named(at, "--at")
    rules = of.spec.rules if rule is None else (rule_named(of.spec, rule),)
    if device is not None:
        check_device(device)
    found = _listed(of, rules, device)
    lines = view.ndjson if as_json else view.table
    for line in lines(found.limits, moment):
        typer.echo(line)
    for line in () if as_json else view.absent(found, rules, device):
        typer.echo(line)
    found.check()


@group.command(
    "set",
    short_help="Set the limit of one device from a time on.",
    context_settings={"ignore_unknown_options": True},  # so that -5 is a number
)
def set_(
    file: File,
    device: Annotated[str, typer.Argument(metavar="DEVICE", help="Its id.")],
    value: Annotated[float, typer.Argument(metavar="VALUE", help="The limit.")],
    rule: RuleName = None,
    clear_margin: Annotated[
        float | None,
        typer.Option(metavar="M", help="Hysteresis; the rule's own where not given."),
    ] = None,
    effective_from: Annotated[
        str | None,
        typer.Option(
            metavar="TIME",
            help="From when: ms, ISO 8601 or now; always: in place of all that was before.",
        ),
    ] = None,
) -> None:
    """Set the limit of one device from a time on; what was before stays as history.

    Nothing is written where that limit is in force at that time already.

    Example: streamgauge thresholds set thermostats.toml t-1 75 --rule overheating
    """
    from ..engine.limits import Entry
    from ..engine.stores.threshold_attributes import storable
    from .threshold_import import own
    from .threshold_table import check_device, opened, rule_named, start_named
    from .threshold_view import told

    of = opened(file)
    one = rule_named(of.spec, rule)
    check_device(device)
    start = start_named(effective_from, of.soonest)

    def entry() -> Entry:
        return Entry(value, clear_margin, None, start())

    try:
        storable(entry())
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    soonest = of.soonest()
    change = of.patience.insist(lambda: of.items.set(device, one.name, entry(), own(one)))
    for line in told(device, one, change, start()):
        typer.echo(line)
    begin = change.entries[-1].effective_from
    if change.written and (begin is None or begin < soonest):
        _say("note: consumers may read this after it is in force; a replay may decide otherwise")


@group.command("import", short_help="Set the limits of many devices.")
def import_(
    file: File,
    source: Annotated[str, typer.Argument(metavar="INPUT|-", help="Limits; .gz is unpacked.")],
    form: FormOf = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would change, and write nothing.")
    ] = False,
) -> None:
    """Set the limits of many devices: every line is checked before the first is written.

    A line has device, rule, value and where wanted clear_margin and effective_from; it does what
    `set` does. Lines with the key version, as `export` writes them, say all of their device and
    rule: they take the place of what is there. What the table says already is not written again.

    Example: streamgauge thresholds import thermostats.toml limits.csv
    """
    from . import threshold_lines
    from .interrupt import Interrupt
    from .threshold_import import bring
    from .threshold_table import opened

    with Interrupt() as interrupt:
        of = opened(file, dry_run=dry_run, waiting=interrupt.waiting)
        with interrupt.waiting():
            data, origin = threshold_lines.content(source)
        given = threshold_lines.read(data, form or _format(source), origin, of.rules)
        raise typer.Exit(bring(of, given, lambda: interrupt.asked, dry_run))


@group.command("export", short_help="Write all limits with their history.")
def export(
    file: File,
    target: Annotated[
        Path | None, typer.Argument(metavar="OUTPUT", help="A file; stdout where not given.")
    ] = None,
    form: FormOf = None,
) -> None:
    """Write all limits with their history, as `import` and `backtest --thresholds` read them.

    Example: streamgauge thresholds export thermostats.toml limits.ndjson
    """
    from .summary import plural
    from .threshold_lines import lines, packed, row_of
    from .threshold_table import opened

    if target is not None and target.exists() and target.samefile(file):
        raise typer.BadParameter(f"{target} is the pipeline file", param_hint="OUTPUT")
    of = opened(file)
    found = _listed(of, of.spec.rules)
    found.check()  # a part of the table would pass for the whole
    rows = [row_of(name, rule, entry) for name, rule, entries in found.limits for entry in entries]
    data = lines(rows, form or _format(str(target or "")))
    if target is None:
        sys.stdout.buffer.write(data)
    else:
        from ..engine import files

        with files.available(target):
            files.replace(target, packed(data, target))
    devices = len({device for device, _, _ in found.limits})
    parts = plural(len(found.limits), "limit"), plural(devices, "device"), plural(len(rows), "line")
    _say("{} of {} in {}".format(*parts))


def _listed(of: Opened, rules: Sequence[RuleSpec], device: str | None = None) -> Listing:
    """The limits in the table; says what else lies there and is left out."""
    from .progress import ProgressBar
    from .summary import plural
    from .threshold_listing import listed

    wanted = [rule.name for rule in rules]
    with ProgressBar(None, noun="limits") as bar:
        found = listed(
            of.items, wanted, of.rules, of.patience, device, lambda done: bar.advance(done, done)
        )
    for rule, count in sorted(found.others.items()):
        items = plural(count, "limit")
        _say(f"note: left out: {items} of rule {rule!r}, which the pipeline does not have")
    return found


def _format(path: str) -> Format:
    return Format.CSV if path.removesuffix(".gz").endswith(".csv") else Format.NDJSON


def _say(text: str) -> None:
    """Talk goes to standard error."""
    typer.echo(text, err=True)
