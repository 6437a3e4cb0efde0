"""`streamgauge deploy`: what each sub-command prints, and how it refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from streamgauge.cli import deploy
from streamgauge.cli.deploy import group
from streamgauge.consumers.deploy.sample_event import event, payloads, topic
from streamgauge.engine.errors import ConfigError
from streamgauge.rules import spec as specs
from streamgauge.rules.plan import Pipeline
from streamgauge.rules.spec import load

ROOT = Path(__file__).parent.parent.parent
EXAMPLE = ROOT / "examples" / "aws" / "thermostats.toml"
LOCAL = ROOT / "examples" / "thermostats.toml"
NOW = 1_767_600_000_000


def run(*arguments: str) -> Result:
    return CliRunner().invoke(group, list(arguments))


def test_the_template_goes_to_standard_output_or_a_file(tmp_path: Path) -> None:
    shown = run("template", str(EXAMPLE))
    assert shown.exit_code == 0, shown.output
    assert shown.stdout == (EXAMPLE.parent / "template.yaml").read_text()
    written = run("template", str(EXAMPLE), "--kcl", "--output", str(tmp_path / "w.yaml"))
    assert written.exit_code == 0 and written.stdout == ""
    assert (tmp_path / "w.yaml").read_text() == (EXAMPLE.parent / "worker.yaml").read_text()


def test_the_runtime_can_be_another() -> None:
    assert "Runtime: python3.13\n" in run("template", str(EXAMPLE), "--python", "3.13").stdout
    refused = run("template", str(EXAMPLE), "--python", "latest")
    assert refused.exit_code == 2 and "expected a version such as 3.12" in refused.stderr


def test_what_the_template_cannot_make_good_is_noted(tmp_path: Path) -> None:
    text = EXAMPLE.read_text().replace("example-thermostats-state", "example-thermostats-errors")
    (tmp_path / "p.toml").write_text(text)
    noted = run("template", str(tmp_path / "p.toml"), "--output", str(tmp_path / "t.yaml"))
    assert noted.exit_code == 0 and "note: errors and state lie in one bucket" in noted.stderr


def test_a_file_that_keeps_data_in_directories_is_refused() -> None:
    raised = run("template", str(LOCAL)).exception
    assert isinstance(raised, ConfigError) and 'errors.location: error: "errors/" is' in str(raised)


def test_a_file_in_the_fan_out_mode_has_three_functions(tmp_path: Path) -> None:
    fan_out = '[delivery]\nmode = "fan_out"\npanes_stream = "panes"\n'
    (tmp_path / "p.toml").write_text(EXAMPLE.read_text() + fan_out)
    shown = run("template", str(tmp_path / "p.toml"))
    assert shown.exit_code == 0, shown.output
    handlers = deploy._handlers(tmp_path / "p.toml")
    assert [name.split(".")[-2] for name in handlers] == [
        "lambda_dispatcher", "lambda_worker", "lambda_merger"]  # fmt: skip
    assert all(f"Handler: {name}\n" in shown.stdout for name in handlers)
    assert f"Handler: {deploy._handlers(EXAMPLE)[0]}\n" not in shown.stdout
    written = run("template", str(tmp_path / "p.toml"), "--output", str(tmp_path / "t.yaml"))
    assert "note: the panes of 4 mergers go into as many shards at most" in written.stderr


@pytest.mark.parametrize("command", ["package", "invoke"])
def test_what_lambda_cannot_do_is_refused_before_anything_is_built(
    command: str, tmp_path: Path
) -> None:
    archived = LOCAL.read_text() + '[archive]\nlocation = "a/"\n'
    (tmp_path / "p.toml").write_text(archived.replace("#[archive]", ""))
    raised = run(command, str(tmp_path / "p.toml")).exception
    assert "archive.format" in str(raised) and "pyarrow" in str(raised)
    assert [path.name for path in tmp_path.iterdir()] == ["p.toml"]


def test_a_switch_needs_a_stream(tmp_path: Path) -> None:
    text = EXAMPLE.read_text().replace('stream = "telemetry"', "")
    (tmp_path / "p.toml").write_text(text)
    raised = run("pause", str(tmp_path / "p.toml"), "--function", "f").exception
    assert "source.stream" in str(raised)


@pytest.mark.parametrize("path", [EXAMPLE, LOCAL], ids=["aws", "local"])
@pytest.mark.parametrize("aggregated", [False, True], ids=["plain", "aggregated"])
def test_the_sample_fires_the_first_rule(path: Path, aggregated: bool) -> None:
    spec = load(path, {})
    given = event(spec, 25, aggregated, NOW)
    assert len(given["Records"]) == (3 if aggregated else 25)
    assert json.loads(json.dumps(given)) == given
    outcome = Pipeline.plan(spec).push(
        {"ShardId": "s", "SequenceNumber": str(n), "Data": data, "PartitionKey": "k"}
        for n, data in enumerate(payloads(spec, 25, NOW))
    )
    assert outcome.alerts[0].state == "firing" and outcome.rejected == []


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns", "iso8601"])
def test_the_sample_follows_the_record(unit: str) -> None:
    toml = (
        '[pipeline]\nname = "p"\n[record]\ndevice = ["a.b", "a.c"]\ntime = "at.t"\n'
        f'time_unit = "{unit}"\n'
        'topic = "meta.topic"\n[[rules]]\nname = "r"\nmeasure = "v.w"\nthreshold = 5.0\n'
        'fire_when = "below"\nsql = "SELECT * FROM \'x/+/y/#\' WHERE v.w < 100"\n'
    )
    spec = specs.parse(toml)
    first: dict[str, Any] = json.loads(payloads(spec, 2, NOW)[0])
    assert first["a"] == {"b": "sample-device", "c": "sample-device"}
    assert first["v"] == {"w": 4.0} and first["meta"] == {"topic": "x/sample/y/sample"}
    outcome = Pipeline.plan(spec).push(
        {"ShardId": "s", "SequenceNumber": str(n), "Data": data, "PartitionKey": "k"}
        for n, data in enumerate(payloads(spec, 2, NOW))
    )
    assert outcome.counts.evaluated == 2 and outcome.alerts[0].time == NOW - 1000
    assert topic("#") == "sample"
