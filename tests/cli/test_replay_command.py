"""The command replay: recorded data again, byte for byte, at a pace, to everywhere."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from fake_broker import Broker, Faults

from streamgauge import __main__ as entry
from streamgauge.cli import replay
from streamgauge.cli.destination import Target
from streamgauge.consumers.inputs import Input
from streamgauge.consumers.recording import Where
from streamgauge.producers import pace as paces
from streamgauge.producers.fleet import Fleet

Run = Callable[..., tuple[int, str, str]]
T0 = 1_767_600_000_000


@pytest.fixture
def call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    """Runs a command in this process, in an empty directory."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["streamgauge", *arguments])
        with pytest.raises(SystemExit) as ended:
            entry.main()
        out, err = capfd.readouterr()
        assert isinstance(ended.value.code, int)
        return ended.value.code, out, err

    return call


@pytest.fixture
def readings(tmp_path: Path) -> list[bytes]:
    """A fleet's payloads, also in readings.ndjson."""
    payloads = [data for tick in Fleet(20, 30, seed=4, start=T0) for data in tick.data]
    (tmp_path / "readings.ndjson").write_bytes(b"".join(data + b"\n" for data in payloads))
    return payloads


def test_what_is_sent_is_what_was_recorded(call: Run, readings: list[bytes]) -> None:
    status, _, err = call("replay", "readings.ndjson", "--speed", "max", "--to", "a.ndjson.gz")
    assert status == 0 and f"{len(readings):,} accepted, 0 refused" in err
    status, out, _ = call(
        "replay", "a.ndjson.gz", "--speed", "0", "--to", "b.ndjson", "--as", "kinesis", "--json"
    )
    told = json.loads(out)
    assert status == 0 and told["sent"] == told["accepted"] == len(readings) and told["whole"]
    assert call("replay", "b.ndjson", "--speed", "max", "--to", "c.ndjson")[0] == 0
    assert sorted(Path("c.ndjson").read_bytes().splitlines()) == sorted(readings)
    status, _, _ = call("replay", "readings.ndjson", "--speed", "1000", "--to", "d.ndjson")
    assert status == 0
    assert Path("d.ndjson").read_bytes() == Path("readings.ndjson").read_bytes()
    assert not list(Path().glob("*.partial"))


def test_topics_and_keys_are_those_of_the_payloads(call: Run, readings: list[bytes]) -> None:
    with Broker() as broker:
        url = f"mqtt://127.0.0.1:{broker.port}"
        status, _, _ = call("replay", "readings.ndjson", "--speed", "max", "--to", url)
    assert status == 0 and broker.payloads() == readings
    said = {topic for topic, data, _ in broker.taken if b'"topic":"%b"' % topic.encode() in data}
    assert len(said) > 15
    rest = {topic for topic, data, _ in broker.taken if topic not in said}
    assert all(topic.startswith("replay/") for topic in rest)


class Clock:
    """Moves by sleeps alone."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def now(self) -> float:
        return self.seconds

    def sleep(self, seconds: float) -> None:
        self.seconds += seconds


def test_the_pace_is_that_of_the_event_times(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ten seconds of the recording in five of a clock that is handed in."""
    clock = Clock()
    usual = paces.Pace

    def pace(**given: Any) -> paces.Pace:
        return usual(**given, now=clock.now, sleep=clock.sleep)

    monkeypatch.setattr(paces, "Pace", pace)
    lines = [b'{"device":"a","ts":%d}' % (T0 + 1000 * n) for n in range(11)]
    (tmp_path / "r.ndjson").write_bytes(b"\n".join(lines))
    with closing(Input(str(tmp_path / "r.ndjson"))) as source, Broker() as broker:
        seen = []

        def stop() -> bool:
            seen.append((clock.seconds, len(broker.taken)))
            return False

        report = replay.run(
            source, "ndjson", Where(), replay.Speed(2.0, 60.0),
            Target(f"mqtt://127.0.0.1:{broker.port}"), stop,  # type: ignore[arg-type]
        )  # fmt: skip
    assert report.done and report.accepted == 11
    assert clock.seconds == pytest.approx(5.0, abs=0.02)
    for at, taken in seen:  # none before its time
        assert taken <= 2 * (at + 0.02) + 1


def test_a_long_pause_is_cut_and_told(call: Run) -> None:
    lines = [b'{"ts":%d}' % (T0 + 3_600_000 * n) for n in range(3)]
    Path("r.ndjson").write_bytes(b"\n".join(lines))
    status, _, err = call("replay", "r.ndjson", "--max-pause", "0.05", "--to", "o.ndjson")
    assert status == 0 and "2 pauses were cut short (--max-pause)" in err
    assert Path("o.ndjson").read_bytes().splitlines() == lines


def test_fields_and_units_are_options(call: Run) -> None:
    Path("r.csv").write_text("when,who\n1767600000.5,a\n1767600000.6,b\n")
    with Broker() as broker:
        status, _, err = call(
            "replay", "r.csv", "--time", "when", "--time-unit", "s", "--key", "who", "--speed", "5",
            "--to", f"mqtt://127.0.0.1:{broker.port}", "--qos", "0",
        )  # fmt: skip
    assert status == 0, err
    assert broker.taken == [
        ("replay/a", b'{"when":1767600000.5,"who":"a"}', 0),
        ("replay/b", b'{"when":1767600000.6,"who":"b"}', 0),
    ]


def test_what_a_broker_refuses_is_told(call: Run, readings: list[bytes]) -> None:
    with Broker(Faults(codes={readings[3]: 0x97})) as broker:
        status, _, err = call(
            "replay", "readings.ndjson", "--speed", "max", "--to", f"mqtt://127.0.0.1:{broker.port}"
        )
    assert status == 1 and " refused" in err and "0 refused" not in err


def test_standard_input_is_read(call: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    class Piped:
        buffer = io.BufferedReader(io.BytesIO(b'{"ts":1}\n{"ts":2}\n'))  # type: ignore[arg-type]

    monkeypatch.setattr(sys, "stdin", Piped)
    status, out, _ = call("replay", "-", "--speed", "max")
    assert (status, out) == (0, '{"ts":1}\n{"ts":2}\n')


@pytest.mark.slow
def test_ctrl_c_drains_and_ends_with_130(tmp_path: Path, readings: list[bytes]) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "streamgauge", "replay", "readings.ndjson", "--to", "o.ndjson"],
        cwd=tmp_path, stderr=subprocess.PIPE, text=True, env={**os.environ},
    )  # fmt: skip
    written = tmp_path / "o.ndjson.partial"
    end = time.monotonic() + 60
    while not (written.exists() and written.stat().st_size > 1_000):
        assert process.poll() is None and time.monotonic() < end
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130 and "interrupted" in err, err
    sent = written.read_bytes().splitlines()
    assert sent == readings[: len(sent)] and f"{len(sent)} accepted" in err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--json",), "needs stdout"),
        (("--speed", "fast"), "expected a number, or max"),
        (("--speed", "-1"), "expected a number, or max"),
        (("--speed", "nan"), "expected a number, or max"),
        (("--time", "a..b"), "expected a path"),
        (("--to", "./r.ndjson"), "would be overwritten"),
        (("--to", "mqtt:"), "mqtt[s]://HOST[:PORT]"),
    ],
)
def test_what_cannot_be_meant_is_a_usage_error(
    arguments: tuple[str, ...], said: str, call: Run
) -> None:
    Path("r.ndjson").write_text('{"ts":1}\n')
    status, out, err = call("replay", "r.ndjson", *arguments)
    assert (status, out) == (2, "") and said in " ".join(err.replace("│", " ").split())
    assert Path("r.ndjson").read_text() == '{"ts":1}\n'


def test_a_file_that_is_not_there_is_told(call: Run) -> None:
    status, _, err = call("replay", "none.ndjson", "--to", "x")
    assert status == 1 and "none.ndjson: No such file" in err and not Path("x").exists()
