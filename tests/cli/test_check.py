import json
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from streamgauge.cli import check
from streamgauge.engine.errors import InputError

EXAMPLE = Path(__file__).parents[2] / "examples" / "thermostats.toml"
PIPELINE = """\
[pipeline]
name = "thermostats"
[source]
stream = "telemetry"
[record]
time = "ts"
topic = "topic"
[[rules]]
name = "overheating"
sql = "SELECT temperature FROM 'home/+/thermostat' WHERE temperature > -40"
measure = "temperature"
threshold = 90
"""

app = typer.Typer(add_completion=False)
app.command()(check.command)


def run(tmp_path, text, *options, environ=None):
    file = tmp_path / "t.toml"
    file.write_text(text)
    result = CliRunner().invoke(app, [str(file), *options], env=environ)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return (
        result.exit_code,
        result.stdout.replace(f"{tmp_path}/", ""),
        result.stderr.replace(f"{tmp_path}/", ""),
    )


def test_a_valid_file_is_summed_up(tmp_path):
    assert run(tmp_path, PIPELINE) == (
        0,
        "t.toml: pipeline thermostats is valid\n"
        '  reads      Kinesis stream telemetry; device from "device", time from "ts" in ms, '
        'topic from "topic"\n'
        "  rule       overheating: mean of temperature over 60s for each device, from "
        "home/+/thermostat\n"
        "             uses temperature of a message\n"
        "             fires above 90, resolves at 90; severity warning\n"
        "  thresholds every device has its rule's own\n"
        "  alerts     stdout\n"
        "  errors     errors/\n"
        "  state      state/, saved every 30s\n"
        "  delivery   ordered, readings up to 10s out of order, devices forgotten after 24h of "
        "silence\n",
        "",
    )


def test_the_example_is_valid():
    result = CliRunner().invoke(app, [str(EXAMPLE)])
    assert (result.exit_code, result.stderr) == (0, "")
    assert "fires below 5 for 60s, resolves at 6; severity critical" in result.stdout


def test_every_part_is_named(tmp_path):
    text = PIPELINE.replace('"ts"', '"ts"\ntime_unit = "iso8601"\ndevice = ["a.b", "c"]')
    text += """
    min_samples = 3
    hold = "2m"
    clear_margin = 0.1
    [thresholds]
    table = "limits"
    [alerts]
    sns_topic = "arn:aws:sns:eu-central-1:123456789012:alerts"
    [archive]
    location = "s3://bucket/archive/"
    [mqtt]
    url = "mqtts://broker:8883"
    [[mqtt.routes]]
    sql = "SELECT *, topic() AS topic FROM 'home/+/thermostat'"
    partition_key = "${topic(2)}"
    """
    status, out, err = run(tmp_path, text)
    assert (status, err) == (0, "")
    for line in (
        'device from "a.b" / "c", time from "ts" as ISO 8601 text',
        "fires above 90 for 2m with at least 3 samples, resolves at 89.9",
        "thresholds DynamoDB table limits, read again after 10s",
        "alerts     arn:aws:sns:eu-central-1:123456789012:alerts",
        "archive    s3://bucket/archive/ as parquet",
        "note: archive: in Lambda an invocation writes objects of its own: one a second is 86,400",
        "bridge     mqtts://broker:8883, routes: 1",
    ):
        assert line in out


def test_what_might_surprise_is_noted(tmp_path):
    text = PIPELINE.replace('time = "ts"\ntopic = "topic"\n', "").replace(
        'stream = "telemetry"\n', ""
    )
    text = text.replace("home/+/thermostat", "#") + '[delivery]\nmode = "fan_out"'
    status, out, err = run(tmp_path, text)
    assert (status, err) == (0, "")
    assert "pane_mean of temperature over 60s for each device, from every topic" in out
    notes = [line for line in out.splitlines() if line.startswith("note: ")]
    assert [note.split(":")[1].strip() for note in notes] == [
        "fan_out mode",
        "no delivery.panes_stream",
        "no record.topic",
        "no record.time",
        "no source.stream",
    ]
    assert "answers are pane_mean over whole panes" in notes[0]
    assert "no duplicates are removed and alerts have no positions" in notes[0]


def test_a_filter_without_topics_is_a_warning_only(tmp_path):
    status, out, err = run(tmp_path, PIPELINE.replace('topic = "topic"\n', ""))
    assert status == 0
    assert err.startswith("t.toml: rules.overheating") and ": warning: " in err
    assert "home/+/thermostat" in err
    assert "is valid" in out


def test_problems_of_file_environment_and_rules_come_together(tmp_path):
    text = PIPELINE + 'window = "soon"\n'
    text += '[[rules]]\nname = "b"\nsql = "SELEC temperature"\nmeasure = "x"\nthreshold = 1\n'
    text += '[[rules]]\nname = "c"\nsql = "SELECT a WHERE a >"\nmeasure = "a"\nthreshold = 1\n'
    text += '[mqtt]\nurl = "mqtt://h"\nroutes = [{ sql = "SELECT", partition_key = "k" }]\n'
    status, out, err = run(tmp_path, text, environ={"STREAMGAUGE_DELIVERY__WORKER": "2"})
    assert (status, out) == (1, "")
    heads = [line.split(": error: ")[0] for line in err.splitlines() if ": error: " in line]
    assert [head.removeprefix("t.toml: ").split(":")[0].split(" (")[0] for head in heads] == [
        "environment variable STREAMGAUGE_DELIVERY__WORKER",
        "rules.overheating.window",
        "rules.b.sql",
        "rules.c.sql",
        "mqtt.routes[0].sql",
    ]
    assert "did you mean STREAMGAUGE_DELIVERY__WORKERS?" in err
    assert "SELEC temperature\n" in err and "^" in err  # the text, with the fault marked
    assert err.endswith("t.toml: 5 errors\n")


def test_rules_are_compiled_whatever_else_is_wrong(tmp_path):
    """A fault in a table that rules are read with hides none of theirs."""
    text = PIPELINE.replace("WHERE temperature > -40", "WHERE temperature >")
    text += "[sql]\nversion = 1\nint_division = 2\nundefined_logic = 3\n"
    status, _, err = run(tmp_path, text.replace('time = "ts"', "time = 5"))
    assert status == 1 and err.endswith("t.toml: 5 errors\n")
    status, _, err = run(tmp_path, "record = 1\nsql = 1\n" + text.split("[record]")[0])
    assert status == 1
    assert "t.toml: record: error" in err and "t.toml: rules: error: missing" in err


def test_json_holds_the_problems(tmp_path):
    status, out, err = run(tmp_path, PIPELINE + "treshold = 1\n", "--json")
    assert (status, err) == (1, "")
    assert json.loads(out) == {
        "file": "t.toml",
        "valid": False,
        "problems": [
            {
                "where": "t.toml: rules.overheating.treshold",
                "severity": "error",
                "message": "unknown key",
                "hint": 'did you mean "threshold"?',
                "excerpt": "",
            }
        ],
    }


def test_json_sums_up_a_valid_file(tmp_path):
    status, out, err = run(tmp_path, PIPELINE, "--json")
    assert (status, err) == (0, "")
    assert json.loads(out) == {
        "file": "t.toml",
        "valid": True,
        "problems": [],
        "pipeline": "thermostats",
        "rules": [
            {
                "name": "overheating",
                "from": "home/+/thermostat",
                "reads": ["temperature"],
                "measure": "temperature",
                "statistic": "mean",
                "window_ms": 60000,
                "fire_when": "above",
                "threshold": 90.0,
                "clear_margin": 0.0,
                "min_samples": 1,
                "hold_ms": 0,
                "severity": "warning",
            }
        ],
        "notes": [],
    }


@pytest.mark.parametrize("content", [b"[pipeline", b"\xff", b""])
def test_what_is_no_pipeline_file(tmp_path, content):
    file = tmp_path / "t.toml"
    file.write_bytes(content)
    result = CliRunner().invoke(app, [str(file)])
    assert result.exit_code == 1 and f"{file}" in result.stderr


def test_wrong_use_is_another_exit_status(tmp_path):
    for arguments in ([], [str(tmp_path / "none.toml")], [str(tmp_path)], ["--jsn", str(EXAMPLE)]):
        assert CliRunner().invoke(app, arguments).exit_code == 2


def test_the_installed_command(tmp_path):
    file = tmp_path / "t.toml"
    file.write_text(PIPELINE.replace("threshold = 90", "threshold = true"))
    command = [sys.executable, "-m", "streamgauge", "check", "t.toml"]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert result.returncode == 1 and result.stdout == ""
    assert result.stderr == (
        "t.toml: rules.overheating.threshold: error: expected a finite number, found the boolean "
        "true\nt.toml: 1 error\n"
    )


def left_state(folder, text):
    """State that a pipeline of this text has left: a device that fires under each rule."""
    from streamgauge import Record
    from streamgauge.engine.stores.directory import DirectoryStates
    from streamgauge.rules import spec as specs
    from streamgauge.rules.plan import Pipeline

    pipeline = Pipeline.plan(specs.parse(text))
    same = {"device": "a", "topic": "home/1/thermostat", "temperature": 95}
    rows = [json.dumps({**same, "ts": n}) for n in range(1, 9)]
    pipeline.push([Record("s-1", str(n), row.encode(), "k", 9) for n, row in enumerate(rows)])
    DirectoryStates(folder).create("thermostats", "s-1", 1, pipeline.save())
    DirectoryStates(folder).create("thermostats", "s-1", 2, b"SGSTATE torn")


def test_it_says_what_a_change_makes_of_the_state_there_is(tmp_path):
    rule = PIPELINE[PIPELINE.index("[[rules]]") :]
    left_state(tmp_path / "state", PIPELINE + rule.replace("overheating", "gone"))
    text = (PIPELINE + rule.replace("overheating", "more")).replace("90", "91")
    status, out, _ = run(tmp_path, text, "--against", str(tmp_path / "state"))
    assert status == 0
    for line in (
        "against state: state of 1 shards",
        "overheating: windows and alert states are kept; 1 devices fire",
        "more: is new",
        "gone: is removed: 1 devices fire, which are not resolved",
    ):
        assert line in out
    one = next((tmp_path / "state").rglob("0*1"))
    text = PIPELINE + 'window = "50s"\n'
    _, out, _ = run(tmp_path, text, "--json", "--against", str(one))
    found = {row["rule"]: row["what"] for row in json.loads(out)["against"]}
    assert found == {"overheating": "changed", "gone": "removed"}


def test_state_that_is_not_there_is_told(tmp_path):
    with pytest.raises(InputError, match="no state of pipeline thermostats there"):
        run(tmp_path, PIPELINE, "--against", str(tmp_path / "none"))
    (tmp_path / "torn").write_bytes(b"SGSTATE")
    with pytest.raises(InputError, match="torn"):
        run(tmp_path, PIPELINE, "--against", str(tmp_path / "torn"))


def test_explain_says_how_each_rule_is_evaluated(tmp_path):
    sample = tmp_path / "r.ndjson"
    sample.write_text(
        '{"device":"a","ts":1,"topic":"home/1/thermostat","temperature":71}\n'
        '{"device":"a","ts":2,"topic":"home/1/thermostat","temperature":"71"}\n'
    )
    status, out, err = run(tmp_path, PIPELINE, "--explain", "--sample", str(sample))
    assert (status, err) == (0, "")
    assert out.splitlines()[-6:] == [
        "rule overheating",
        "  statement: SELECT temperature FROM 'home/+/thermostat' WHERE temperature > -40",
        "  reads: temperature",
        "  WHERE: over columns",
        "  measure temperature: over columns",
        "  of r.ndjson: 2 records, 1 samples, 0 filtered; 1 evaluated message by message (50.0%)",
    ]
    older = PIPELINE + '[sql]\nversion = "2015-10-08"\n'
    assert "  WHERE: message by message" in run(tmp_path, older, "--explain")[1]
    assert run(tmp_path, PIPELINE, "--sample", str(sample))[0] == 2
