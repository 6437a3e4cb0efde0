"""`streamgauge deploy`: the Lambda package, templates, and the switch of a running function."""

from __future__ import annotations

import json
import time
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from ..consumers.deploy.package import Built, Target

group = typer.Typer(rich_markup_mode=None, add_completion=False, no_args_is_help=True)
LATEST = "3.12"  # of Lambda's runtimes, that which the template names, too


class Platform(StrEnum):
    """What a package is made for, as its wheels are called; `here` is this machine."""

    X86_64 = "manylinux2014_x86_64"
    AARCH64 = "manylinux2014_aarch64"
    HERE = "here"


File = Annotated[
    Path,
    typer.Argument(
        metavar="FILE", exists=True, dir_okay=False, readable=True, help="The pipeline file."
    ),
]
Function = Annotated[
    str, typer.Option("--function", metavar="NAME", help="Name or ARN of the function.")
]
Wait = Annotated[
    float, typer.Option("--wait", metavar="SECONDS", min=0, help="How long it may take.")
]


@group.callback()
def about() -> None:
    """Put a pipeline into AWS Lambda: its package, its templates, its switch.

    Example: streamgauge deploy package thermostats.toml
    """


@group.command("package", short_help="Build the zip of the function.")
def package(
    file: File,
    output: Annotated[
        Path | None,
        typer.Option("--output", metavar="ZIP", help="By default PIPELINE.zip in this folder."),
    ] = None,
    platform: Annotated[
        Platform, typer.Option("--platform", help="aarch64 is Lambda's arm64.")
    ] = Platform.X86_64,
    python: Annotated[
        str | None, typer.Option("--python", metavar="X.Y", help=f"By default {LATEST}.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Build the zip: this package, what it imports (no boto3, which the runtime has), and FILE.

    pip brings the wheels, in the versions that are installed here. The same versions give the same
    bytes each time. Where a Python of that version is here, the zip holds compiled modules, which
    makes cold starts shorter.

    Example: streamgauge deploy package thermostats.toml --platform manylinux2014_aarch64
    """
    from ..consumers.deploy.package import build

    target = _target(platform, python)
    name = _checked(file)
    built = build(file, output or Path(f"{name}.zip"), target)
    if as_json:
        fields = {**built._asdict(), "path": str(built.path)}
        typer.echo(json.dumps({**fields, "python": target.python, "machine": target.machine}))
        return
    _tell(built, target, _handlers(file))


@group.command("template", short_help="Make a SAM template of the file.")
def template(
    file: File,
    output: Annotated[
        Path | None,
        typer.Option("--output", metavar="YAML", help="A file; stdout where not given."),
    ] = None,
    kcl: Annotated[
        bool, typer.Option("--kcl", help="A task of ECS under the KCL, over the same stores.")
    ] = False,
    python: Annotated[
        str, typer.Option("--python", metavar="X.Y", help="The runtime of the function.")
    ] = LATEST,
) -> None:
    """Make a SAM template: all that FILE names, and the function that runs it.

    Stream, table of limits, topic and buckets; a rule of AWS IoT for each topic filter; the
    function with its mapping, alias, canary and alarms; a dashboard; roles that may do what FILE
    needs, and nothing else. In the fan_out mode there are three functions and a second stream. The
    names in FILE are defaults of parameters.

    Example: streamgauge deploy template thermostats.toml --output template.yaml
    """
    from ..consumers.deploy import container
    from ..consumers.deploy import template as function
    from ..consumers.deploy.cloudformation import yaml
    from ..engine import files
    from ..rules.spec import load

    spec = load(file, {})
    _version(python)
    made = (
        container.template(spec, str(file)) if kcl else function.template(spec, str(file), python)
    )
    command = f"streamgauge deploy template {file.name}{' --kcl' * kcl}"
    head = [
        f"Made by `{command}`: change the pipeline file, not this.",
        "docs/deploy.md says more.",
    ]
    text = yaml(made, head)
    if output is None:
        typer.echo(text, nl=False)
        return
    with files.available(output):
        files.replace(output, text.encode())
    for note in () if kcl else function.notes(spec, str(file)):
        typer.echo(f"note: {note}", err=True)


@group.command("invoke", short_help="Run the packaged function here, once.")
def invoke(
    file: File,
    aggregated: Annotated[
        bool, typer.Option("--aggregated", help="As KPL aggregates of ten messages.")
    ] = False,
    records: Annotated[
        int, typer.Option("--records", metavar="N", min=1, max=10_000, help="Messages.")
    ] = 10,
    package: Annotated[
        Path | None,
        typer.Option(
            "--package", metavar="ZIP", exists=True, dir_okay=False,
            help="A package for this machine; by default one is built.",
        ),
    ] = None,
) -> None:  # fmt: skip
    """Run the packaged function on a made-up event, and print its answer.

    The zip is unpacked, and a process is started that has nothing else on its path. It runs under
    awslambdaric, the runtime's own client, where that is installed. Nothing of AWS is called:
    limits are the rules' own, and alerts are shown.

    Example: streamgauge deploy invoke thermostats.toml --aggregated
    """
    import tempfile

    from ..consumers.deploy import invoke as invoking
    from ..consumers.deploy.package import HERE, build
    from ..consumers.deploy.sample_event import event
    from ..rules.spec import load

    _checked(file)
    given = event(load(file, {}), records, aggregated, time.time_ns() // 1_000_000)
    with tempfile.TemporaryDirectory(prefix="streamgauge-") as scratch:
        if package is None:
            package = build(file, Path(scratch, "package.zip"), HERE).path
        start = time.perf_counter()
        done = invoking.invoke(package, given)
    seconds = time.perf_counter() - start
    typer.echo(done.output.rstrip(), err=True)
    client = f"awslambdaric {done.client}" if done.client else "a plain call (no awslambdaric here)"
    typer.echo(f"{len(given['Records'])} Kinesis records in {seconds:.1f} s by {client}", err=True)
    typer.echo(json.dumps(done.answer))


@group.command("pause", short_help="Switch the function's mapping off.")
def pause(file: File, function: Function, wait: Wait = 300.0) -> None:
    """Switch off the event source mapping of FILE's stream; its position stays.

    Returns once the mapping says that it is off. What is in flight then ends by itself.

    Example: streamgauge deploy pause thermostats.toml --function thermostats
    """
    _switch(file, function, False, wait)


@group.command("resume", short_help="Switch the function's mapping on again.")
def resume(file: File, function: Function, wait: Wait = 300.0) -> None:
    """Switch on the event source mapping of FILE's stream: it goes on where it was.

    Example: streamgauge deploy resume thermostats.toml --function thermostats
    """
    _switch(file, function, True, wait)


def _switch(file: Path, function: str, enabled: bool, wait: float) -> None:
    from ..consumers.deploy.mapping import STATES, find, switch
    from ..engine.aws import Service
    from ..engine.errors import ConfigError, Problem
    from ..rules.spec import load

    stream = load(file).source.stream
    if stream is None:
        raise ConfigError([Problem(f"{file}: source.stream", "expected the stream that is read")])
    service = Service("lambda")
    mapping = find(service, function, stream)
    uuid = mapping["UUID"]
    switch(
        service, uuid, enabled, seconds_max=wait,
        told=lambda state: typer.echo(f"{state} ...", err=True),
    )  # fmt: skip
    typer.echo(f"mapping {uuid} of {mapping['EventSourceArn']}: {STATES[enabled]}")


def _checked(file: Path) -> str:
    """The name of a pipeline that a function can run; ConfigError has its problems."""
    from ..consumers.deploy.names import check_function
    from ..rules.spec import load

    spec = load(file, {})
    check_function(spec, str(file))
    return spec.pipeline.name


def _target(platform: Platform, python: str | None) -> Target:
    from ..consumers.deploy.package import HERE, Target

    if python is not None:
        _version(python)
    if platform is Platform.HERE:
        return HERE._replace(python=python or HERE.python)
    return Target(python or LATEST, platform.removeprefix("manylinux2014_"))


def _version(python: str) -> None:
    import re

    if not re.fullmatch(r"3\.[0-9]{1,2}", python):
        message = f"expected a version such as {LATEST}, found {python!r}"
        raise typer.BadParameter(message, param_hint="--python")


def _handlers(file: Path) -> list[str]:
    """The entries of a file's functions: one, or the three of the fan-out mode."""
    from ..consumers.deploy.package import ENTRY, HANDLERS
    from ..rules.plan_fan_out import FAN_OUT
    from ..rules.spec import load

    fan_out = load(file, {}).delivery.mode == FAN_OUT
    return list(HANDLERS.values()) if fan_out else [ENTRY]


def _tell(built: Built, target: Target, handlers: list[str]) -> None:
    from ..consumers.deploy.package import ZIPPED_BYTES_MAX

    typer.echo(f"{built.path}: {built.files} files, Python {target.python}")
    typer.echo(f"  zipped       {built.zipped_bytes / 1e6:6.1f} MB")
    typer.echo(f"  unzipped     {built.unzipped_bytes / 1e6:6.1f} MB")
    if built.import_seconds is not None:
        typer.echo(f"  cold import  {built.import_seconds:6.2f} s")
    else:
        typer.echo("  cold import  not measured: it does not run on this machine")
    for handler in handlers:
        typer.echo(f"  handler      {handler}")
    if not built.compiled:
        line = f"no python{target.python} here, so nothing is compiled: cold starts take longer"
        typer.echo(f"note: {line}", err=True)
    if built.zipped_bytes > ZIPPED_BYTES_MAX:
        typer.echo("note: over 50 MiB: upload it through a bucket", err=True)
