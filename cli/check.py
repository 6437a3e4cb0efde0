"""`streamgauge check`: every problem of a pipeline file and of its rules, or what it will do."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from ..consumers.against import Fate
    from ..engine.errors import Problem
    from ..rules.compile import Compiled
    from ..rules.spec import RuleSpec, Spec

_PANE_NOTE = (
    "fan_out mode: answers are {names} over whole panes of 1s, evaluated once for each device and "
    "pane end; no duplicates are removed and alerts have no positions"
)


def command(
    file: Annotated[
        Path,
        typer.Argument(metavar="FILE", exists=True, dir_okay=False, help="The pipeline file."),
    ],
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object with problems and summary.")
    ] = False,
    explain: Annotated[
        bool, typer.Option("--explain", help="Say how each rule is understood and evaluated.")
    ] = False,
    sample: Annotated[
        Path | None,
        typer.Option(metavar="FILE", exists=True, help="Readings for --explain, as in backtest."),
    ] = None,
    against: Annotated[
        str | None,
        typer.Option(
            metavar="STATE",
            help="State that the file before has left: a directory, s3://bucket/prefix/, or one"
            " state object. Says which rules keep their windows.",
        ),
    ] = None,
) -> None:
    """Check a pipeline file and its rules, and say what the pipeline does.

    Prints every problem that it finds: in the file, in environment variables that override it, and
    in the rules. With --against it also says what becomes of the windows and alert states that are
    there: a rule keeps them unless its statement, measure, window, statistic or side has changed,
    or what all rules share. With --explain it says how each rule is understood and evaluated, and
    with --sample how many readings had to be evaluated one by one. Exit status 0: it can be used
    (there may be warnings); 1: it has errors; 2: the command was used wrongly, or there is no such
    file.

    Example: streamgauge check thermostats.toml --against state/
    """
    if sample is not None and not explain:
        raise typer.BadParameter("belongs to --explain", param_hint="--sample")
    spec, rules, problems = examined(file)
    failed = any(problem.severity == "error" for problem in problems)
    fates = None if failed or spec is None or against is None else _fates(spec, against)
    if as_json:
        report = _report(file, None if failed else spec, rules, problems)
        if fates is not None:
            report["against"] = [fate._asdict() for fate in fates[1]]
        typer.echo(json.dumps(report))
        raise typer.Exit(1 if failed else 0)
    for problem in problems:
        typer.echo(str(problem), err=True)
    if failed or spec is None:
        raise _refused(file, problems)
    lines = [*summary(file, spec, rules), *(f"note: {note}" for note in notes(spec))]
    if explain:
        lines += _explained(spec, rules, sample)
    if fates is not None:
        lines.append(f"against {against}: state of {fates[0]} shards")
        lines += [f"  {fate.rule}: {_told(fate)}" for fate in fates[1]]
    for line in lines:
        typer.echo(line)


def _explained(spec: Spec, rules: dict[str, Compiled], sample: Path | None) -> Iterator[str]:
    from .check_explain import explained

    return explained(spec, rules, sample)


def _refused(file: Path, problems: list[Problem]) -> typer.Exit:
    errors = sum(problem.severity == "error" for problem in problems)
    typer.echo(f"{file}: {errors} error{'s' if errors > 1 else ''}", err=True)
    return typer.Exit(1)


def _fates(spec: Spec, against: str) -> tuple[int, list[Fate]]:
    from ..consumers.against import fates
    from ..rules.edges import Edges

    return fates(spec, against, Edges(spec))


def _told(fate: Fate) -> str:
    """What becomes of one rule, in words."""
    some = f"{fate.firing} devices fire"
    return {
        "kept": f"windows and alert states are kept; {some}",
        "changed": f"has changed: windows and alert states start empty; {some} and would fire anew",
        "new": "is new: windows and alert states start empty",
        "removed": f"is removed: {some}, which are not resolved",
    }[fate.what] + (f" ({fate.shards} shards)" if fate.shards > 1 else "")


def examined(file: Path) -> tuple[Spec | None, dict[str, Compiled], list[Problem]]:
    """Read a pipeline file and compile its rules as far as that goes, with every problem.

    The rules are compiled even where the file has problems elsewhere; the dict holds those that
    could be, by name. The spec is whole only where no problem is an error.
    """
    from ..engine.errors import ConfigError, Problem
    from ..rules.spec import examine
    from ..rules.spec_tables import decode

    origin = os.fspath(file)
    try:
        text = decode(file.read_bytes(), origin)
    except ConfigError as error:
        return None, {}, list(error.problems)
    except OSError as error:
        return None, {}, [Problem(origin, f"cannot be read: {error.strerror or error}")]
    spec, problems = examine(text, origin, os.environ)
    if spec is None:
        return None, {}, problems
    rules: dict[str, Compiled] = {}
    for where, rule in _readable(spec, origin):
        try:
            compiled = _compiled(spec, rule, where)
        except ConfigError as error:
            problems += error.problems
        else:
            problems += compiled.warnings
            rules[rule.name] = compiled
            problems += _forward(spec, rule, where)
    return spec, rules, problems + list(_routes(spec, origin))


def _readable(spec: Spec, origin: str) -> Iterator[tuple[str, RuleSpec]]:
    """The rules whose statement and measure could be read, each with its place."""
    from ..rules.spec_tables import item_name, known

    for number, rule in enumerate(spec.rules if known(spec.rules) else ()):
        if known(rule.sql, rule.measure):
            yield f"{origin}: rules{item_name(number, {'name': rule.name})}", rule


def _routes(spec: Spec, origin: str) -> Iterator[Problem]:
    """What is wrong with the statements and partition keys of the bridge's routes."""
    from ..engine.errors import ConfigError
    from ..rules.project import Route
    from ..rules.spec_tables import known

    routes = spec.mqtt.routes if spec.mqtt is not None and known(spec.mqtt) else ()
    for number, route in enumerate(routes if known(routes) else ()):
        if known(route.sql, route.partition_key):
            try:
                where = f"{origin}: mqtt.routes[{number}]"
                Route(route.sql, route.partition_key, where=where, **_choices(spec))
            except ConfigError as error:
                yield from error.problems


def _forward(spec: Spec, rule: RuleSpec, where: str) -> list[Problem]:
    """What is wrong with the output that a rule forwards."""
    from ..engine.errors import ConfigError
    from ..rules.project import Keyed
    from ..rules.spec_tables import known

    if known(rule.forward, rule.forward_key) and rule.forward is not None:
        try:
            choices = _choices(spec)
            Keyed(rule.sql, rule.forward_key, where=where, key_name="forward_key", **choices)
        except ConfigError as error:
            return list(error.problems)
    return []


def _compiled(spec: Spec, rule: RuleSpec, where: str) -> Compiled:
    from ..rules.compile import compile_rule
    from ..rules.spec_tables import known

    has_topic = not known(spec.record) or spec.record.topic is not None
    return compile_rule(rule.sql, rule.measure, where=where, has_topic=has_topic, **_choices(spec))


def _choices(spec: Spec) -> dict[str, str]:
    """The dialect of the statements; what could not be read is taken to be the default."""
    from ..rules.spec import SqlSpec
    from ..rules.spec_tables import known

    valid = SqlSpec()
    sql = spec.sql if known(spec.sql) else valid
    found = {}
    for name in ("version", "int_division", "undefined_logic"):
        value = getattr(sql, name)
        found[name] = value if known(value) else getattr(valid, name)
    return found


def _report(
    file: Path, spec: Spec | None, rules: dict[str, Compiled], problems: list[Problem]
) -> dict[str, Any]:
    """The object that --json prints; `spec` is None where there are errors."""
    report: dict[str, Any] = {
        "file": os.fspath(file),
        "valid": spec is not None,
        "problems": [
            {
                "where": problem.where,
                "severity": problem.severity,
                "message": problem.message,
                "hint": problem.hint,
                "excerpt": problem.excerpt,
            }
            for problem in problems
        ],
    }
    if spec is not None:
        report["pipeline"] = spec.pipeline.name
        report["rules"] = [
            {
                "name": rule.name,
                "from": rules[rule.name].from_filter,
                "reads": rules[rule.name].reads,
                "measure": rule.measure,
                "statistic": _statistic(spec, rule),
                "window_ms": rule.window,
                "fire_when": rule.fire_when,
                "threshold": rule.threshold,
                "clear_margin": rule.clear_margin,
                "min_samples": rule.min_samples,
                "hold_ms": rule.hold,
                "severity": rule.severity,
            }
            for rule in spec.rules
        ]
        report["notes"] = list(notes(spec))
    return report


def summary(file: Path, spec: Spec, rules: dict[str, Compiled]) -> Iterator[str]:
    """Say in a few lines what a valid pipeline does."""
    record, delivery = spec.record, spec.delivery
    yield f"{file}: pipeline {spec.pipeline.name} is valid"
    source = f"Kinesis stream {spec.source.stream}" if spec.source.stream else "no stream"
    unit = "as ISO 8601 text" if record.time_unit == "iso8601" else f"in {record.time_unit}"
    time = f'"{record.time}" {unit}' if record.time else "their arrival"
    device = " / ".join(f'"{path}"' for path in record.device)
    topic = f', topic from "{record.topic}"' if record.topic else ""
    yield f"  reads      {source}; device from {device}, time from {time}{topic}"
    for rule in spec.rules:
        yield from _rule_lines(spec, rule, rules[rule.name])
    limits = "every device has its rule's own"
    if spec.thresholds.table:
        refresh = _span(spec.thresholds.refresh)
        limits = f"DynamoDB table {spec.thresholds.table}, read again after {refresh}"
    yield f"  thresholds {limits}"
    yield f"  alerts     {spec.alerts.sns_topic or 'stdout'}"
    yield f"  errors     {spec.errors.location}"
    if spec.archive:
        yield f"  archive    {spec.archive.location} as {spec.archive.format}"
    yield f"  state      {spec.state.location}, saved every {_span(spec.state.save_every)}"
    yield (
        f"  delivery   {delivery.mode}, readings up to {_span(delivery.allowed_lateness)} out of "
        f"order, devices forgotten after {_span(delivery.forget_after)} of silence"
    )
    if spec.mqtt:
        yield f"  bridge     {spec.mqtt.url}, routes: {len(spec.mqtt.routes)}"


def _rule_lines(spec: Spec, rule: RuleSpec, compiled: Compiled) -> Iterator[str]:
    source = compiled.from_filter if spec.record.topic and compiled.from_filter else "every topic"
    yield (
        f"  rule       {rule.name}: {_statistic(spec, rule)} of {rule.measure} over "
        f"{_span(rule.window)} for each device, from {source}"
    )
    yield f"             uses {', '.join(compiled.reads) or 'no field'} of a message"
    back = -1 if rule.fire_when == "above" else 1
    resolved = rule.threshold + back * rule.clear_margin
    hold = f" for {_span(rule.hold)}" if rule.hold else ""
    least = f" with at least {rule.min_samples} samples" if rule.min_samples > 1 else ""
    if rule.forward:
        key = f"under the key {rule.forward_key}" if rule.forward_key else "under the key it has"
        yield f"             forwards what it selects to {rule.forward}, {key}"
    yield (
        f"             fires {rule.fire_when} {rule.threshold:.15g}{hold}{least}, resolves at "
        f"{resolved:.15g}; severity {rule.severity}"
    )


def _span(ms: int) -> str:
    from ..rules.spec_values import DURATION

    return DURATION.show(ms).strip('"')


def notes(spec: Spec) -> Iterator[str]:
    """What a user might not expect of a valid pipeline; nothing here is wrong."""
    if spec.delivery.mode == "fan_out":
        names = sorted({_statistic(spec, rule) for rule in spec.rules})
        yield _PANE_NOTE.format(names=", ".join(names))
        if spec.delivery.panes_stream is None:
            yield "no delivery.panes_stream: `run` has this mode, but Lambda needs a second stream"
    if spec.record.topic is None:
        yield "no record.topic: FROM is not applied and topic() is Undefined"
    if spec.record.time is None:
        yield "no record.time: a reading's time is its arrival in Kinesis; plain files have none"
    if spec.source.stream is None:
        yield "no source.stream: the file can be back-tested and embedded, but not run"
    if spec.archive is not None:
        yield (
            "archive: in Lambda an invocation writes objects of its own: one a second is 86,400 a"
            " shard and day; run `archive compact` every hour, or archive by Amazon Data Firehose"
        )
    from ..consumers.hosting import unsupported

    for problem in unsupported(spec):
        if problem.where != "source.stream":
            yield f"not there yet: {problem.where}: {problem.message}; `run` refuses it"


def _statistic(spec: Spec, rule: RuleSpec) -> str:
    """The name of what is computed: fan-out answers are another operator with another name."""
    return f"pane_{rule.statistic}" if spec.delivery.mode == "fan_out" else rule.statistic
