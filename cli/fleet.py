"""`streamgauge fleet`: a simulated fleet with faults, to wherever it is wanted, and its truth."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .destination import (
    As,
    Ca,
    Cert,
    Clients,
    Form,
    Key,
    MqttVersion,
    NoAggregate,
    Qos,
    Target,
    To,
    Username,
)

if TYPE_CHECKING:
    from ..producers.scenario import Scenario

FOUND_PROBLEMS = 1
INTERRUPTED = 130
LIVE = "live"
NOW = "now"


ScenarioFile = Annotated[
    Path | None,
    typer.Argument(
        metavar="[SCENARIO.toml]", exists=True, dir_okay=False, readable=True,
        help="What the fleet is to be.",
    ),
]  # fmt: skip
Devices = Annotated[int | None, typer.Option(metavar="N", help="Devices at a time.")]
Seconds = Annotated[int | None, typer.Option(metavar="S", help="Event time, in all.")]
Seed = Annotated[int | None, typer.Option(metavar="N", help="Same seed, same bytes.")]
Start = Annotated[str | None, typer.Option(metavar="MS|now", help="Event time at the beginning.")]
Rate = Annotated[
    str | None,
    typer.Option(metavar="R|live", help="Messages a second; live: as the devices measure."),
]
TruthFile = Annotated[
    str | None, typer.Option(metavar="FILE", help="Write the alerts that must come.")
]
LedgerFile = Annotated[
    str | None,
    typer.Option(metavar="FILE", help="Write what was accepted, message by message."),
]
LimitsFile = Annotated[
    str | None, typer.Option(metavar="FILE", help="Write the limits of single devices.")
]
PipelineFile = Annotated[
    str | None, typer.Option(metavar="FILE", help="Write the pipeline file that fits.")
]
AsJson = Annotated[
    bool, typer.Option("--json", help="Print the counts as one JSON object on stdout.")
]
Example = Annotated[
    bool, typer.Option("--example-scenario", help="Print a scenario with every key, and stop.")
]


def command(
    scenario: ScenarioFile = None,
    devices: Devices = None,
    seconds: Seconds = None,
    seed: Seed = None,
    start: Start = None,
    rate: Rate = None,
    to: To = "stdout",
    form: As = Form.NDJSON,
    no_aggregate: NoAggregate = False,
    truth: TruthFile = None,
    ledger: LedgerFile = None,
    thresholds: LimitsFile = None,
    pipeline: PipelineFile = None,
    as_json: AsJson = False,
    example: Example = False,
    clients: Clients = 1,
    qos: Qos = 1,
    version: MqttVersion = 5,
    username: Username = None,
    ca: Ca = None,
    cert: Cert = None,
    key: Key = None,
) -> None:
    """Simulate a fleet of thermostats: seeded, with every fault that devices have.

    Sends its messages to stdout or a file (NDJSON, or with --as kinesis Kinesis records), to a
    Kinesis stream or to an MQTT broker, as fast as that takes them or at a set rate. Writes the
    alerts that must come of them, worked out without the engine: `streamgauge backtest` of the
    written files gives exactly these. Progress and a summary go to stderr. Ctrl-C waits for what is
    on its way. The exit status is 1 if a message was not accepted.

    Example: streamgauge fleet --devices 2000 --to readings.ndjson.gz --truth truth.ndjson
    """
    from ..producers import (
        scenario as scenarios,
    )  # here, so that help and usage errors come at once

    if example:
        typer.echo(scenarios.example(), nl=False)
        return
    target = Target(to, form, not no_aggregate, clients, qos, version, username, ca, cert, key)
    if as_json and target.kind == "stdout":
        raise typer.BadParameter("needs stdout for itself: name another --to", param_hint="--json")
    pace = _rate(rate)
    written = [to if target.kind == "file" else None, truth, ledger, thresholds, pipeline]
    _refuse_overwriting(written, scenario)
    wanted = _scenario(scenario, devices, seconds, seed, start)
    from .fleet_run import Files

    files = Files(truth, ledger, thresholds, pipeline)
    raise typer.Exit(_run(wanted, target, files, pace, as_json))


def _scenario(
    path: Path | None, devices: int | None, seconds: int | None, seed: int | None, start: str | None
) -> Scenario:
    """The scenario of the file with the options in place of its values; its rule is checked."""
    from ..producers.scenario import Scenario
    from ..rules import spec
    from .fleet_files import pipeline_text
    from .scenario_file import load, with_values

    begin: int | None = None
    if start == NOW:
        begin = int(time.time()) * 1000
    elif start is not None:
        if not start.isdecimal():
            raise typer.BadParameter("expected ms since 1970, or now", param_hint="--start")
        begin = int(start)
    found = Scenario() if path is None else load(path)
    found = with_values(found, devices=devices, seconds=seconds, seed=seed, start=begin)
    origin = "rule of the scenario" if path is None else f"{path}: as a pipeline file"
    spec.parse(pipeline_text(found.rule, Target("stdout")), origin=origin)
    return found


def _rate(text: str | None) -> float | str | None:
    if text is None or text == LIVE:
        return text
    try:
        rate = float(text)
    except ValueError:
        rate = 0.0
    if not 0 < rate < 1e9:
        raise typer.BadParameter("expected messages a second, or live", param_hint="--rate")
    return rate


def _refuse_overwriting(written: list[str | None], scenario: Path | None) -> None:
    """A file may take the place of no other one, nor of the scenario."""
    taken = {os.path.realpath(scenario)} if scenario is not None else set()
    for path in written:
        if path is None:
            continue
        real = os.path.realpath(path)
        if real in taken:
            raise typer.BadParameter(f"{path} is named twice: it would be overwritten")
        taken.add(real)


def _run(scenario: Scenario, target: Target, files: object, rate: float | str | None,
         as_json: bool) -> int:  # fmt: skip
    import msgspec

    from . import fleet_run
    from .stop import Overdue, stop_signals

    assert isinstance(files, fleet_run.Files)
    with stop_signals() as stop:
        try:
            report = fleet_run.run(scenario, target, files, rate, stop)
        except Overdue:
            typer.echo("stopped: what is on its way was not accepted in time", err=True)
            return FOUND_PROBLEMS
    if as_json:
        typer.echo(msgspec.json.encode(fleet_run.as_json(report, scenario, target)))
    else:
        typer.echo(fleet_run.as_text(report, scenario, target, rate), err=True)
    if not report.done:
        typer.echo("interrupted: files that hold a part only are called FILE.partial", err=True)
        return INTERRUPTED if stop.signal == signal.SIGINT else 0
    return 0 if report.good else FOUND_PROBLEMS
