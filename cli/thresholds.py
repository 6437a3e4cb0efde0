"""`streamgauge thresholds`: the limits of single devices in the table that a pipeline names."""

from __future__ import annotations

import os
import sys
import time
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..engine.errors import ConfigError, Problem

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..engine.limits import Entry
    from ..engine.stores.threshold_items import ThresholdItems
    from ..rules.spec import RuleSpec, Spec

FOUND_PROBLEMS = 1
INTERRUPTED = 130
ALWAYS, NOW, OWN = "always", "now", "rule"

group = typer.Typer(rich_markup_mode=None, add_completion=False, no_args_is_help=True)


class Format(StrEnum):
    """How limits stand in a file."""

    NDJSON = "ndjson"
    CSV = "csv"


File = Annotated[Path, typer.Argument(metavar="FILE", help="The pipeline file; names the table.")]
RuleName = Annotated[
    str | None, typer.Option("--rule", help="Name of the rule; not needed where there is one.")
]


@group.callback()
def about() -> None:
    """Read and change the limits of single devices in the pipeline's DynamoDB table.

    A change is in force from a time on, by default two refresh intervals from now, so that every
    consumer has read it by then and a replay decides as the first run did.

    Example: streamgauge thresholds set thermostats.toml t-1 75 --rule overheating
    """


@group.command("get")
def get(
    file: File,
    device: Annotated[str | None, typer.Argument(help="One device; all where not given.")] = None,
    rule: RuleName = None,
    at: Annotated[
        str | None, typer.Option(metavar="TIME", help="In force when: ms or ISO 8601; now.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print lines of NDJSON.")] = False,
) -> None:
    """Show limits with their history, and which is in force.

    Example: streamgauge thresholds get thermostats.toml t-1
    """
    spec, items = _opened(file)
    moment = _now() if at is None else _time(at, "--at")
    rules = {one.name: one for one in spec.rules}
    found = [one for one in items.all(device) if rule is None or one[1] == rule]
    if as_json:
        from . import threshold_lines

        for line in threshold_lines.write(found, Format.NDJSON):
            typer.echo(line, nl=False)
        return
    rows = [("device", "rule", "value", "margin", "version", "in force from (UTC)", "")]
    for name, of, entries in found:
        in_force = _in_force(entries, moment)
        for entry in entries:
            mark = "in force" if entry is in_force else _mark(entry, moment)
            rows.append((name, of, *_shown(entry), mark))
    _print(rows)
    if device is not None:
        for name, own in rules.items():
            if rule in (None, name) and not any(of == name for _, of, _ in found):
                typer.echo(f"no item of rule {name}: its own {own.threshold:g} is in force")


@group.command("set")
def set_(
    file: File,
    device: Annotated[str, typer.Argument(help="The device.")],
    value: Annotated[float, typer.Argument(help="The limit.")],
    rule: RuleName = None,
    clear_margin: Annotated[
        str | None,
        typer.Option(metavar="M|rule", help="Hysteresis; rule: the rule's own. Default: as it is."),
    ] = None,
    effective_from: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="ms, ISO 8601, now, or always: drops what was before."),
    ] = None,
) -> None:
    """Set the limit of one device from a time on.

    Example: streamgauge thresholds set thermostats.toml t-1 75 --rule overheating
    """
    spec, items = _opened(file)
    of = _rule(spec, rule)
    start = _start(effective_from, spec)
    margin = _margin(clear_margin, items, device, of.name)
    before = None if start is None else _own(of)
    change = items.set(device, of.name, value, margin, start, before)
    entry = change.entries[-1]
    if not change.written:
        typer.echo(f"{device} {of.name}: unchanged, {entry.value:g} (version {entry.version})")
        return
    since = "always" if entry.effective_from is None else f"from {_utc(entry.effective_from)} UTC"
    typer.echo(f"{device} {of.name}: {entry.value:g} (version {entry.version}), {since}")


@group.command("import")
def import_(
    file: File,
    source: Annotated[str, typer.Argument(metavar="INPUT|-", help="Lines of limits.")],
    form: Annotated[
        Format | None, typer.Option("--format", help="By the name, else ndjson.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check the lines, write nothing.")
    ] = False,
) -> None:
    """Set the limits of many devices: every line is checked before the first is written.

    A line is device, rule, value and where wanted clear_margin; it is set from two refresh
    intervals on. Lines with a version or effective_from, as `export` writes them, replace the item
    and its history. What is in the table already is left alone, so an import can be repeated.

    Example: streamgauge thresholds import thermostats.toml limits.csv
    """
    from . import threshold_lines
    from .progress import ProgressBar
    from .stop import stop_signals

    spec, items = _opened(file)
    origin = "standard input" if source == "-" else source
    data = sys.stdin.buffer.read() if source == "-" else _bytes(source)
    form = form or (Format.CSV if source.endswith(".csv") else Format.NDJSON)
    given = threshold_lines.read(data, form, origin, [one.name for one in spec.rules])
    if dry_run:
        typer.echo(f"{len(given)} limits are well; nothing is written", err=True)
        return
    written = done = 0
    start = _start(None, spec)
    rules = {one.name: one for one in spec.rules}
    with stop_signals() as stop, ProgressBar(len(given)) as bar:
        for device, name, entries, exact in given:
            if stop():
                break
            if exact:
                change = items.restore(device, name, entries)
            else:
                entry = entries[0]
                margin = entry.clear_margin
                if margin is None:
                    margin = _margin(None, items, device, name)
                change = items.set(device, name, entry.value, margin, start, _own(rules[name]))
            written += change.written
            done += 1
            bar.advance(done, done)
    typer.echo(
        f"{done} of {len(given)} limits: {written} written, {done - written} unchanged", err=True
    )
    if done < len(given):
        typer.echo("stopped; the same import goes on where it was", err=True)
        raise typer.Exit(INTERRUPTED)


@group.command("export")
def export(
    file: File,
    target: Annotated[
        Path | None, typer.Argument(metavar="OUTPUT", help="A file; stdout where not given.")
    ] = None,
    form: Annotated[
        Format | None, typer.Option("--format", help="By the name, else ndjson.")
    ] = None,
) -> None:
    """Write all limits with their history, as `import` and `backtest --thresholds` read them.

    Example: streamgauge thresholds export thermostats.toml limits.ndjson
    """
    from . import threshold_lines

    _, items = _opened(file)
    form = form or (Format.CSV if str(target).endswith(".csv") else Format.NDJSON)
    lines = threshold_lines.write(items.all(), form)
    if target is None:
        for line in lines:
            typer.echo(line, nl=False)
        return
    from ..engine import files

    with files.available(target):
        files.replace(target, "".join(lines).encode())


def _opened(file: Path) -> tuple[Spec, ThresholdItems]:
    """The pipeline file, and the table that it names."""
    from ..engine.aws import Service
    from ..engine.stores.threshold_items import ThresholdItems
    from ..rules.spec import load

    spec = load(file)
    if spec.thresholds.table is None:
        hint = 'table = "thresholds"'
        message = "expected the name of a DynamoDB table, found none"
        raise ConfigError([Problem(f"{file}: thresholds.table", message, hint)])
    by = os.environ.get("USER") or os.environ.get("LOGNAME") or ""
    return spec, ThresholdItems(spec.thresholds.table, Service("dynamodb"), updated_by=by)


def _rule(spec: Spec, name: str | None) -> RuleSpec:
    """The rule of this name, or the only one."""
    names = [rule.name for rule in spec.rules]
    if name is None and len(names) == 1:
        return spec.rules[0]
    if name is None:
        raise typer.BadParameter(f"one of {', '.join(names)}", param_hint="--rule")
    for rule in spec.rules:
        if rule.name == name:
            return rule
    from ..rules.spec_values import nearest

    near = nearest(name, names)
    hint = f"did you mean {near!r}?" if near else f"the rules are {', '.join(names)}"
    raise typer.BadParameter(f"no rule {name!r}; {hint}", param_hint="--rule")


def _own(rule: RuleSpec) -> Entry:
    """What held before a device had an item: the rule's own limit, always."""
    from ..engine.limits import Entry

    return Entry(rule.threshold, rule.clear_margin, 0, None)


def _start(text: str | None, spec: Spec) -> int | None:
    """From when a change is in force, int ms; None: always."""
    if text == ALWAYS:
        return None
    if text is None:
        return _now() + 2 * spec.thresholds.refresh
    return _now() if text == NOW else _time(text, "--effective-from")


def _margin(text: str | None, items: ThresholdItems, device: str, rule: str) -> float | None:
    """The margin to set; where none is said, that of the item as it is."""
    if text == OWN:
        return None
    if text is not None:
        try:
            return float(text)
        except ValueError:
            message = f"expected a number or 'rule', found {text!r}"
            raise typer.BadParameter(message, param_hint="--clear-margin") from None
    entries = items.get(device, rule)
    return entries[-1].clear_margin if entries and entries[-1].version != 0 else None


def _time(text: str, option: str) -> int:
    """A time as int ms: a number of ms, or ISO 8601, where no zone means UTC."""
    if text.isdecimal():
        return int(text)
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        message = f"expected ms or ISO 8601, found {text!r}"
        raise typer.BadParameter(message, param_hint=option) from None
    found = found if found.tzinfo else found.replace(tzinfo=UTC)
    return round(found.timestamp() * 1000)


def _now() -> int:
    return round(time.time() * 1000)


def _in_force(entries: Sequence[Entry], moment: int) -> Entry:
    """The entry with the greatest start at or before a moment; older than all: the oldest."""
    ordered = sorted(entries, key=lambda entry: entry.effective_from or 0)
    started = [entry for entry in ordered if (entry.effective_from or 0) <= moment]
    return started[-1] if started else ordered[0]


def _mark(entry: Entry, moment: int) -> str:
    return "to come" if (entry.effective_from or 0) > moment else "was"


def _shown(entry: Entry) -> tuple[str, str, str, str]:
    margin = "rule's" if entry.clear_margin is None else f"{entry.clear_margin:g}"
    version = "-" if entry.version is None else str(entry.version)
    start = "always" if entry.effective_from is None else _utc(entry.effective_from)
    return f"{entry.value:g}", margin, version, start


def _utc(time_ms: int) -> str:
    return f"{datetime.fromtimestamp(time_ms / 1000, UTC):%Y-%m-%d %H:%M:%S}"


def _print(rows: list[tuple[Any, ...]]) -> None:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        typer.echo("  ".join(cells).rstrip())


def _bytes(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise ConfigError([Problem(path, f"cannot be read: {error.strerror}")]) from error
