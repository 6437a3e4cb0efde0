"""`streamgauge init`: a commented pipeline file to begin with, and readings to try it on."""

from __future__ import annotations

import json
import random
import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from .init_proposal import Proposal
    from .init_sample import Sample

THRESHOLDS = "thresholds.ndjson"
READINGS = "readings.ndjson"
_COMMENT_CHARACTERS_MAX = 96

_PIPELINE = """\
# Thermostats in homes: alert when the mean temperature of the last minute gets too high.
# docs/pipeline-file.md lists every key; `streamgauge check` finds what is wrong.

[pipeline]
name = "thermostats"        # part of alert ids: choose it once

[source]
stream = "telemetry"        # the Kinesis stream that `streamgauge run` reads

[record]                    # where to find things in a message; dots lead into objects
device = "device"
time = "ts"                 # event time; without it, the arrival time in Kinesis
time_unit = "ms"            # s | ms | us | ns | iso8601
topic = "topic"             # what FROM sees; without it FROM is not applied

[[rules]]
name = "overheating"
# AWS IoT SQL: which topics, and which readings are believed at all.
sql = "SELECT temperature FROM 'home/+/thermostat' WHERE temperature > -40 AND temperature < 200"
measure = "temperature"     # the number to watch: a path in what SELECT puts out
window = "60s"              # every reading looks back this far
statistic = "mean"          # mean | min | max | sum | count | stddev | last
fire_when = "above"         # above | below
threshold = 90.0            # of devices without a line in thresholds.ndjson
clear_margin = 2.0          # resolves at 88, so that a value around 90 does not flap
min_samples = 5             # a single reading is no mean
severity = "warning"        # your own words

[alerts]
# sns_topic = "arn:aws:sns:eu-central-1:123456789012:alerts"   # without it alerts go to stdout

[errors]
location = "errors/"        # what cannot be processed, byte for byte: a directory or s3://...

[state]
location = "state/"         # windows and positions, for a restart: a directory or s3://...
"""

_PROPOSED = """\
# A pipeline proposed from {sample}; a guess to correct. Check it with `streamgauge check`.

[pipeline]
name = {name}

# [source]
# stream = "telemetry"      # the Kinesis stream that `streamgauge run` reads

[record]
{record}
[[rules]]
name = {rule}
sql = "SELECT * FROM '#'"   # every message; WHERE can refuse readings that nobody would believe
{measure}
{window}
statistic = "mean"          # mean | min | max | sum | count | stddev | last
fire_when = "above"         # above | below
{threshold}
clear_margin = {margin}
min_samples = {samples}
{delivery}
[errors]
location = "errors/"        # what cannot be processed, byte for byte: a directory or s3://...

[state]
location = "state/"         # windows and positions, for a restart: a directory or s3://...
"""


def command(
    directory: Annotated[
        Path, typer.Argument(metavar="DIR", help="Where to write; made if it is not there.")
    ] = Path("."),
    from_sample: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            exists=True,
            dir_okay=False,
            readable=True,
            help="Readings (ndjson, csv or Kinesis records, also .gz) to propose a pipeline from.",
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite files that are there.")] = False,
) -> None:
    """Write a commented pipeline file, thresholds and readings, and print what to run next.

    From a sample of your own readings it proposes device, time, measure and threshold instead, and
    says why. Nothing is overwritten without --force.

    Example: streamgauge init demo --from-sample readings.csv.gz
    """
    if from_sample is None:
        files, following = _shipped(directory)
    else:
        files, following = _sampled(from_sample, directory)
    present = [str(path) for path in files if path.exists()]
    if present and not force:
        typer.echo(f"already there: {', '.join(present)}; --force overwrites", err=True)
        raise typer.Exit(1)
    directory.mkdir(parents=True, exist_ok=True)
    for path, text in files.items():
        path.write_text(text, encoding="utf-8", newline="\n")
        typer.echo(f"wrote {path}", err=True)
    typer.echo("next:", err=True)
    typer.echo(shlex.join(["streamgauge", *following]))


def _shipped(directory: Path) -> tuple[dict[Path, str], list[str]]:
    """The example's files, and the command that runs it."""
    pipeline = directory / "thermostats.toml"
    limits = [
        {"device": "thermostat-2", "rule": "overheating", "value": 75.0, "clear_margin": 1.0},
        {"device": "thermostat-3", "rule": "overheating", "value": 110.0},
    ]
    files = {
        pipeline: _PIPELINE,
        directory / THRESHOLDS: _lines(limits),
        directory / READINGS: _lines(readings()),
    }
    return files, _backtest(pipeline, directory / READINGS)


def readings() -> list[dict[str, object]]:
    """A quarter of an hour of three thermostats, the same every time.

    The first one heats up past 90 and cools down again (one alert fires and resolves), and once
    sends a fault of its sensor, which the rule refuses. The second does the same at 75, its own
    limit. The third is hot all the time, which its own limit allows. One reading is sent twice.
    """
    seeded = random.Random(1)
    rows: list[dict[str, object]] = []
    for second in range(0, 900, 10):
        heat = max(0.0, 1 - abs(second - 420) / 240)  # from minute 3 to 11, highest at minute 7
        for number, resting, rise in ((1, 68.0, 32.0), (2, 66.0, 16.0), (3, 95.0, 0.0)):
            temperature = round(resting + rise * heat + seeded.uniform(-0.5, 0.5), 1)
            row: dict[str, object] = {
                "device": f"thermostat-{number}",
                "ts": 1_767_600_000_000 + 1000 * second,
                "topic": f"home/{number}/thermostat",
                "temperature": -999.0 if (number, second) == (1, 60) else temperature,
            }
            rows += [row, row] if (number, second) == (2, 120) else [row]
    return rows


def _lines(rows: list[dict[str, object]]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def _backtest(pipeline: Path, source: Path, *more: str) -> list[str]:
    limits = pipeline.parent / THRESHOLDS
    return ["backtest", str(pipeline), "--input", str(source), *more, "--thresholds", str(limits)]


def _sampled(source: Path, directory: Path) -> tuple[dict[Path, str], list[str]]:
    """The files proposed from a sample, and the command that runs them on it."""
    from .init_proposal import propose
    from .init_sample import read_sample

    sample = read_sample(source)
    name = _named(re.sub(r"(\.(ndjson|jsonl|json|csv|txt|gz))+$", "", source.name), "pipeline")
    is_json = re.fullmatch(r"true|false|null|-?[0-9.]+([eE]-?[0-9]+)?", name)
    proposal = propose(sample, f"device-{name}" if is_json else name)  # --set would read a number
    rule = _named(proposal.measure.rsplit(".", 1)[-1].lower() + "-high", "high")
    typer.echo(f"{source}: {_looked_at(sample)}", err=True)
    for key in ("device", "time", "measure", "window", "threshold"):
        typer.echo(f"  {key}: {proposal.why[key]}", err=True)
    pipeline = directory / f"{name}.toml"
    limit = {"device": proposal.example, "rule": rule, "value": proposal.threshold}
    files = {
        pipeline: _proposed(source, name, rule, proposal),
        directory / THRESHOLDS: _lines([limit]),
    }
    if proposal.time is None and proposal.form != "kinesis":
        typer.echo("  the readings carry no time, so the file cannot be back-tested", err=True)
        return files, ["check", str(pipeline)]
    more = [] if proposal.form == "ndjson" else ["--format", proposal.form]
    if proposal.constant is not None:
        more += ["--set", f"{proposal.device[0]}={proposal.constant}"]
    return files, _backtest(pipeline, source, *more)


def _looked_at(sample: Sample) -> str:
    from .init_sample import RECORDS_MAX

    first = "the first " if sample.readings + sample.unreadable >= RECORDS_MAX else ""
    text = f"{first}{sample.readings} readings ({sample.form}), {len(sample.fields)} fields"
    return text + (f"; {sample.unreadable} lines are no JSON object" if sample.unreadable else "")


def _named(text: str, otherwise: str) -> str:
    """A name that a pipeline file takes, made from other text."""
    safe = re.sub(r"[^A-Za-z0-9_.-]+", "-", text).strip("-._")[:100]
    return safe or otherwise


def _proposed(source: Path, name: str, rule: str, proposal: Proposal) -> str:
    """The text of a proposed pipeline file, with the reasons as comments."""
    from ..rules.spec_values import DURATION, PATHS, toml_text

    why = proposal.why
    record = [_explained(why["device"], f"device = {PATHS.show(proposal.device)}")]
    if proposal.constant is not None:
        record[0] += f"\n# back-tests say it by --set {proposal.device[0]}={proposal.constant}"
    if proposal.time is None:
        record.append(_explained(why["time"], '# time = "ts"'))
    else:
        record.append(_explained(why["time"], f"time = {toml_text(proposal.time)}"))
        record.append(f'time_unit = "{proposal.time_unit}"')
    window = DURATION.show(proposal.window)
    limit = f"{why['threshold']}. Single devices: thresholds.ndjson"
    forget = DURATION.show(2 * proposal.window)
    long = "\n[delivery]\n" + _explained("devices are not forgotten within a window",
                                         f"forget_after = {forget}\n")  # fmt: skip
    return _PROPOSED.format(
        sample=toml_text(source.name),
        name=toml_text(name),
        record="\n".join(record) + "\n",
        rule=toml_text(rule),
        measure=_explained(why["measure"], f"measure = {toml_text(proposal.measure)}"),
        window=_explained(why["window"], f"window = {window}"),
        threshold=_explained(limit, f"threshold = {proposal.threshold}"),
        margin=proposal.clear_margin,
        samples=proposal.min_samples,
        delivery=long if proposal.window > 43_200_000 else "",
    )


def _explained(why: str, line: str) -> str:
    """A line of the file below its reason, as comments of bounded length."""
    import textwrap

    why = "".join(letter if letter.isprintable() else "?" for letter in why)  # TOML takes no others
    comment = textwrap.wrap(why, _COMMENT_CHARACTERS_MAX, break_on_hyphens=False)
    return "\n".join([*(f"# {part}" for part in comment), line])
