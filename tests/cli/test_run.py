"""The command `run`: what it reads and writes, how it stops, and what it refuses."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from moto import mock_aws

from streamgauge import __main__ as entry
from streamgauge.engine import aws
from streamgauge.engine.aws import make_client
from streamgauge.engine.sinks.errors_directory import read_errors

TOML = """
[pipeline]
name = "p"
[source]
stream = "telemetry"
[record]
device = "device"
time = "ts"
[[rules]]
name = "hot"
sql = "SELECT * FROM '#'"
measure = "value"
window = "1s"
threshold = 10.0
"""
START = 1_700_000_000_000
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A stream in this process, and a directory with the pipeline file to be in."""
    monkeypatch.chdir(tmp_path)
    Path("p.toml").write_text(TOML)
    with mock_aws():
        made = make_client("kinesis")
        made.create_stream(StreamName="telemetry", ShardCount=2)
        yield made


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    """Runs the command in this process: (exit status, stdout, stderr)."""

    def call(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["streamgauge", "run", *arguments])
        with pytest.raises(SystemExit) as ended:
            entry.main()
        out, err = capfd.readouterr()
        assert isinstance(ended.value.code, int)
        return ended.value.code, out, err

    return call


def put(client: Any, count: int, device: str = "d", first: int = 0) -> None:
    """Readings ten seconds apart, hot and cold in turn: each is an alert."""
    for number in range(first, first + count):
        message = {"device": device, "ts": START + 10_000 * number, "value": 20 * (number % 2 == 0)}
        client.put_record(
            StreamName="telemetry", Data=json.dumps(message).encode(), PartitionKey=device
        )


def lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def events(err: str) -> list[str]:
    return [json.loads(line)["event"] for line in err.splitlines() if line.startswith("{")]


def test_alerts_go_to_stdout_and_talk_to_stderr(client: Any, call: Run) -> None:
    put(client, 4)
    client.put_record(StreamName="telemetry", Data=b"\xff secret", PartitionKey="x")
    status, out, err = call("p.toml", "--until-end")
    assert status == 0
    assert [(alert["state"], alert["device"]) for alert in lines(out)] == [
        ("firing", "d"), ("resolved", "d"), ("firing", "d"), ("resolved", "d"),
    ]  # fmt: skip
    assert "5 records from stream telemetry" in err
    assert "every record is accounted for" in err
    assert "state_saved" in events(err)
    assert "secret" not in err and "secret" not in out
    (row,) = read_errors("errors")
    assert row.data == b"\xff secret"


def test_log_lines_are_json_with_time_and_event(client: Any, call: Run) -> None:
    put(client, 2)
    _, _, err = call("p.toml", "--until-end")
    found = [json.loads(line) for line in err.splitlines() if line.startswith("{")]
    assert all(line["time"].endswith("+00:00") and line["event"] for line in found)
    saved = next(line for line in found if line["event"] == "state_saved")
    assert saved["shard"].startswith("shardId-") and saved["generation"] == 1


def test_the_next_run_goes_on_where_the_last_one_stopped(client: Any, call: Run) -> None:
    put(client, 3)
    assert call("p.toml", "--until-end", "--alerts", "a.ndjson")[:2] == (0, "")
    put(client, 3, first=3)
    status, out, err = call("p.toml", "--until-end", "--alerts", "a.ndjson")
    assert (status, out) == (0, "")
    assert "3 records" in err and "1  repeated" in err
    assert "still firing" not in err
    alerts = lines(Path("a.ndjson").read_text())
    assert [alert["time"] - START for alert in alerts] == [10_000 * n for n in range(6)]
    assert len({alert["id"] for alert in alerts}) == 6


def test_limits_come_from_a_file(client: Any, call: Run) -> None:
    put(client, 4)
    put(client, 4, device="cool")
    Path("limits.ndjson").write_text('{"device": "d", "rule": "hot", "value": 50, "version": 3}\n')
    status, out, _ = call("p.toml", "--until-end", "--thresholds", "limits.ndjson")
    assert status == 0
    assert {alert["device"] for alert in lines(out)} == {"cool"}


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)], ids=["TERM", "INT"]
)
def test_a_signal_saves_what_was_read(
    number: int, status: int, client: Any, call: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(client, 4)
    reads = 0

    def after(**_: Any) -> None:
        nonlocal reads
        reads += 1
        if reads == 4:
            os.kill(os.getpid(), number)

    client.meta.events.register("after-call.kinesis.GetRecords", after)
    monkeypatch.setattr(aws, "make_client", lambda name: client)
    before = signal.getsignal(number)
    found, out, err = call("p.toml")
    assert found == status
    assert len(lines(out)) == 4
    assert "state_saved" in events(err) and "4 records" in err
    assert signal.getsignal(number) is before
    again, out, err = call("p.toml", "--until-end")
    assert (again, out) == (0, "")


def test_an_outage_beyond_the_limit_ends_the_run(
    client: Any, call: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The place of the state is a file: nothing can be written there, and nothing is skipped."""
    monkeypatch.setattr("streamgauge.consumers.backoff.RETRY_SECONDS_MAX", 0.2)
    put(client, 4)
    Path("state").write_text("in the way")
    status, out, err = call("p.toml", "--until-end")
    assert (status, out) == (1, "")
    assert "waiting" in events(err) and "Not a directory" in err


def test_problems_of_the_file_are_all_told(client: Any, call: Run) -> None:
    tables = '[archive]\nlocation = "archive/"\n[delivery]\nmode = "fan_out"\n'
    Path("p.toml").write_text(TOML.replace("[source]\nstream", "[source]\n# stream") + tables)
    status, out, err = call("p.toml")
    assert (status, out) == (1, "")
    for where in ("archive", "source.stream"):
        assert f"p.toml: {where}: error:" in err
    assert "--input -" in err


def test_a_topic_may_be_replaced_by_a_file(client: Any, call: Run) -> None:
    topic = '[alerts]\nsns_topic = "arn:aws:sns:us-east-1:123456789012:absent"\n'
    Path("p.toml").write_text(TOML + topic)
    put(client, 2)
    status, out, err = call("p.toml", "--until-end", "--alerts", "a.ndjson")
    assert (status, out) == (0, "") and "nothing is sent to arn:aws:sns" in err
    assert len(lines(Path("a.ndjson").read_text())) == 2


def test_a_table_that_is_not_there_ends_it_and_says_how_to_make_it(client: Any, call: Run) -> None:
    Path("p.toml").write_text(TOML + '[thresholds]\ntable = "limits"\n')
    put(client, 2)
    status, out, err = call("p.toml", "--until-end")
    assert (status, out) == (1, "") and "aws dynamodb create-table --table-name limits" in err
    Path("limits.ndjson").write_text("")
    status, out, err = call("p.toml", "--until-end", "--thresholds", "limits.ndjson")
    assert status == 0 and "the table limits is not read" in err and len(lines(out)) == 2


def test_wrong_rules_are_told_before_anything_is_read(client: Any, call: Run) -> None:
    Path("p.toml").write_text(TOML.replace("SELECT *", "SELEC *"))
    status, out, err = call("p.toml")
    assert (status, out) == (1, "") and "rules.hot" in err and "^" in err
    assert not Path("state").exists()


def test_a_stream_that_is_not_there_is_told(client: Any, call: Run) -> None:
    Path("p.toml").write_text(TOML.replace("telemetry", "elsewhere"))
    status, _, err = call("p.toml")
    assert status == 1
    assert "ResourceNotFoundException" in err and "check source.stream" in err


def test_a_missing_file_is_a_usage_error(client: Any, call: Run) -> None:
    assert call("absent.toml")[0] == 2


SCRIPT = """
import json, sys
from moto import mock_aws
from streamgauge.__main__ import main
from streamgauge.engine.aws import make_client
with mock_aws():
    client = make_client("kinesis")
    client.create_stream(StreamName="telemetry", ShardCount=1)
    for number in range(40):
        at, value = 1_700_000_000_000 + 10_000 * number, 20 * (number % 2 == 0)
        data = json.dumps({"device": "d", "ts": at, "value": value}).encode()
        client.put_record(StreamName="telemetry", Data=data, PartitionKey="d")
    sys.argv = ["streamgauge", "run", "p.toml", *sys.argv[1:]]
    main()
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "status"),
    [(signal.SIGTERM, 0), (signal.SIGINT, 130), (signal.SIGKILL, -signal.SIGKILL)],
    ids=["TERM", "INT", "KILL"],
)
def test_a_process_that_is_stopped_or_killed_is_gone_on_with(
    number: int, status: int, tmp_path: Path
) -> None:
    """The stream of each process holds the same records under the same numbers."""
    (tmp_path / "p.toml").write_text(TOML)
    script = [sys.executable, "-c", SCRIPT]
    first = subprocess.Popen(
        script, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    assert first.stdout is not None
    out = first.stdout.readline()
    first.send_signal(number)
    assert first.wait(timeout=10) == status
    with first.stdout as stream:
        rest = stream.read()
    second = subprocess.run(
        [*script, "--until-end"], cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    assert second.returncode == 0
    assert ("state_saved" in events(second.stderr)) == (number == signal.SIGKILL)
    alerts = {alert["id"]: alert for alert in lines(out + rest + second.stdout)}
    assert [alert["time"] - START for alert in alerts.values()] == [10_000 * n for n in range(40)]
