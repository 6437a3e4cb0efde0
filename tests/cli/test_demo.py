"""The demo: it finds what it should, says so if it does not, and leaves what it promises."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from streamgauge import __main__ as entry
from streamgauge.cli import demo, demo_stream
from streamgauge.engine.sinks.errors_directory import read_errors

READINGS = 22_695
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path) -> Run:
    """Runs the command in this process and in an empty directory: (exit status, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["streamgauge", "demo", *arguments])
        with pytest.raises(SystemExit) as ended:
            entry.main()
        out, err = capfd.readouterr()
        assert isinstance(ended.value.code, int)
        return ended.value.code, out, err

    return call


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tenth of the readings: enough for every kind of thing to happen."""
    whole = demo_stream.messages()
    broken = [message for message in whole if message.data in demo_stream.BROKEN]
    monkeypatch.setattr(demo_stream, "messages", lambda: whole[:2300] + broken)


@pytest.mark.slow
def test_the_whole_demo(call: Run) -> None:
    status, out, err = call("--json")
    assert (status, err) == (0, "")
    found = json.loads(out)
    assert found["records_evaluated"] == READINGS
    assert found["rejected"] == len(demo_stream.BROKEN)
    assert found["duplicates"] > 0 and found["filtered"] == 0
    sent = READINGS + found["rejected"] + found["duplicates"]
    assert found["records_sent"] == sent
    assert found["lost"] == found["altered"] == 0
    assert found["alerts"] == found["alerts_expected"] > 0
    assert found["alerts_missing"] == found["alerts_spurious"] == 0
    assert found["failures_known"] == 4 >= found["failures_caught"] > 0
    assert found["seconds"] < 30


def test_it_leaves_what_it_used_and_found(call: Run, few: None) -> None:
    status, out, _ = call()
    assert status == 0
    assert "0 lost" in out and "the same as the back-test's" in out
    folder = Path("streamgauge-demo")
    names = {path.name for path in folder.iterdir()}
    assert names >= {"pipeline.toml", "readings.ndjson", "alerts.ndjson", "errors"}
    rows = {row.data for row in read_errors(folder / "errors")}
    assert rows == set(demo_stream.BROKEN)
    alerts = (folder / "alerts.ndjson").read_text().splitlines()
    assert len(alerts) == sum(
        " firing " in line or " resolved " in line for line in out.split("\n")
    )
    assert "value" not in (folder / "log.ndjson").read_text()


def test_the_command_to_try_next_works_as_printed(call: Run, few: None) -> None:
    _, out, _ = call()
    printed = out.splitlines()[-1].strip()
    done = subprocess.run(shlex.split(printed), capture_output=True, timeout=60)
    assert done.returncode == 0
    alerts = list(map(json.loads, done.stdout.splitlines()))
    text = Path("streamgauge-demo/alerts.ndjson").read_text()
    kept = list(map(json.loads, text.splitlines()))
    assert [alert["id"] for alert in alerts] == [alert["id"] for alert in kept]


@pytest.mark.parametrize("name", ["streamgauge", "elsewhere/streamgauge", "__main__.py"])
def test_the_command_is_named_so_that_it_is_found(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    program = tmp_path / name
    program.parent.mkdir(exist_ok=True)
    program.write_text("")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", os.fspath(tmp_path))
    monkeypatch.setattr(sys, "argv", [os.fspath(program), "demo"])
    first = shlex.split(demo.next_command())
    expected = [sys.executable, "-m", "streamgauge"] if name.endswith(".py") else [name]
    assert first[: len(expected) + 1] == [*expected, "backtest"]


def test_it_can_be_run_again(call: Run, few: None) -> None:
    """And is not misled by the state, the errors or the alerts of the last time."""
    first = json.loads(call("--json")[1])
    second = json.loads(call("--json")[1])
    assert {**second, "seconds": 0} == {**first, "seconds": 0}


def test_a_folder_of_somebody_else_is_left_alone(call: Run) -> None:
    folder = Path("streamgauge-demo")
    (folder / "errors").mkdir(parents=True)
    (folder / "pipeline.toml").write_text("mine")
    status, out, err = call()
    assert (status, out) == (1, "") and "not written by the demo" in err
    assert (folder / "pipeline.toml").read_text() == "mine"


def test_it_needs_no_account_and_leaves_the_environment_alone(
    call: Run, few: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_KINESIS", "http://127.0.0.1:1")
    monkeypatch.setenv("AWS_PROFILE", "of somebody")
    monkeypatch.setenv("STREAMGAUGE_STATE__LOCATION", "elsewhere/")
    before = dict(os.environ)
    assert call("--json")[0] == 0
    assert dict(os.environ) == before
    assert not Path("elsewhere").exists()


def test_without_moto_it_says_how_to_get_it(
    call: Run, few: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "moto", None)
    status, _, err = call()
    assert status == 1 and "pip install 'streamgauge[demo]'" in err


def test_without_its_readings_it_says_so(
    call: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(demo_stream, "EXAMPLE", tmp_path / "gone")
    status, _, err = call()
    assert status == 1 and "the demo's readings" in err


def one_less(alerts: list[Any]) -> list[Any]:
    return alerts[1:]


def altered(alerts: list[Any]) -> list[Any]:
    return [msgspec.structs.replace(alerts[0], value=alerts[0].value + 1e-9), *alerts[1:]]


def twice(alerts: list[Any]) -> list[Any]:
    return [*alerts, alerts[0]]


@pytest.mark.parametrize("change", [one_less, altered, twice])
def test_other_alerts_are_a_failure(
    change: Any, call: Run, few: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = demo._result
    monkeypatch.setattr(
        demo, "_result", lambda spec, sent, counts, alerts, seconds: result(
            spec, sent, counts, change(alerts), seconds
        )
    )  # fmt: skip
    status, out, _ = call()
    assert status == 1 and "NOT the same as the back-test's" in out


def test_a_lost_record_is_a_failure(call: Run, few: None, monkeypatch: pytest.MonkeyPatch) -> None:
    result = demo._result

    def losing(spec: Any, sent: Any, *rest: Any) -> Any:
        return result(spec, replace(sent, payloads=[*sent.payloads, b"{}"]), *rest)

    monkeypatch.setattr(demo, "_result", losing)
    status, out, _ = call()
    assert status == 1 and "1 lost" in out


def test_altered_bytes_are_a_failure(call: Run, few: None, monkeypatch: pytest.MonkeyPatch) -> None:
    result = demo._result

    def losing(spec: Any, sent: Any, *rest: Any) -> Any:
        return result(spec, replace(sent, broken=[*sent.broken, b"other"]), *rest)

    monkeypatch.setattr(demo, "_result", losing)
    status, out, _ = call()
    assert status == 1 and "NOT all whole" in out


def test_a_terminal_gets_a_table(call: Run, few: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    status, out, _ = call()
    assert status == 0 and "Alerts of one machine" in out
