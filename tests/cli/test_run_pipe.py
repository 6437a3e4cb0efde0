"""`run --input`: lines of a pipe as they come, and what is served meanwhile."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import pytest

from streamgauge.engine.sinks.errors_directory import read_errors

TOML = """
[pipeline]
name = "p"
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
COMMAND = [sys.executable, "-m", "streamgauge", "run", "p.toml", "--input", "-"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "p.toml").write_text(TOML)
    return tmp_path


@pytest.fixture
def piped(folder: Path) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [*COMMAND, "--listen", "127.0.0.1:0"], cwd=folder, text=True, stdin=subprocess.PIPE,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    with process:
        yield process
        process.kill()


def reading(number: int) -> str:
    value = 20 * (number % 2)
    return json.dumps({"device": "d", "ts": START + 10_000 * number, "value": value}) + "\n"


def event(stream: IO[str], name: str) -> dict[str, Any]:
    for line in stream:
        if line.startswith("{") and (found := json.loads(line))["event"] == name:
            return dict(found)
    raise AssertionError(f"no {name}")


def get(port: int, path: str) -> tuple[int, str]:
    made = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    made.request("GET", path)
    answer = made.getresponse()
    text = answer.read().decode()
    made.close()
    return answer.status, text


@pytest.mark.slow
def test_alerts_come_as_the_lines_do(piped: subprocess.Popen[str]) -> None:
    assert piped.stdin and piped.stdout and piped.stderr
    port = event(piped.stderr, "listening")["port"]
    for number in range(1, 5):
        piped.stdin.write(reading(number))
        piped.stdin.flush()
        assert json.loads(piped.stdout.readline())["time"] == START + 10_000 * number
    status, text = get(port, "/state?device=d")
    (row,) = json.loads(text)["rules"]
    assert status == 200 and (row["value"], row["samples"], row["state"]) == (0.0, 1, "ok")
    assert row["threshold"] == 10.0 and row["time"] == START + 40_000
    assert get(port, "/state?device=x")[0] == 404 and get(port, "/healthz")[0] == 200
    assert 'streamgauge_samples_total{rule="hot"} 4' in get(port, "/metrics")[1]
    piped.stdin.close()
    assert piped.wait(timeout=10) == 0


@pytest.mark.slow
@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_a_signal_ends_it_while_the_pipe_is_silent(
    number: int, status: int, piped: subprocess.Popen[str]
) -> None:
    assert piped.stdin and piped.stdout and piped.stderr
    piped.stdin.write(reading(1))
    piped.stdin.flush()
    assert piped.stdout.readline()
    os.kill(piped.pid, number)
    assert "1 record from standard input" in piped.stderr.read()
    assert piped.wait(timeout=10) == status


@pytest.mark.slow
def test_what_is_no_reading_is_kept_and_two_runs_do_not_overwrite_each_other(folder: Path) -> None:
    for text in ("no reading\n", "another\n"):
        done = subprocess.run(COMMAND, cwd=folder, input=text, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert text.strip() not in done.stderr
    assert [row.data for row in read_errors(folder / "errors")] == [b"no reading", b"another"]
    assert not (folder / "state").exists()
