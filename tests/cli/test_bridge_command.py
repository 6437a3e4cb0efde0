"""The command bridge: what it asks of its file, what it says at its end, what it serves."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import scripted_broker as broker
from kinesis_endpoint import serving
from memory_kinesis import Faults, MemoryKinesis
from scripted_broker import ScriptedBroker

from streamgauge import __main__ as entry

TOML = """
[pipeline]
name = "thermostats"
[source]
stream = "s"
[record]
device = "device"
time = "ts"
[[rules]]
name = "hot"
sql = "SELECT * FROM '#'"
measure = "t"
threshold = 10.0
[mqtt]
url = "{url}"
[[mqtt.routes]]
sql = "SELECT * FROM 'home/#' WHERE t < 100"
partition_key = "${{topic(2)}}"
"""


@pytest.fixture
def call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: Any) -> Callable[..., Any]:
    monkeypatch.chdir(tmp_path)

    def call(toml: str, *arguments: str) -> tuple[int, str]:
        Path("p.toml").write_text(toml)
        monkeypatch.setattr(sys, "argv", ["streamgauge", *arguments, "p.toml"])
        with pytest.raises(SystemExit) as ended:
            entry.main()
        assert isinstance(ended.value.code, int)
        return ended.value.code, capfd.readouterr().err

    return call


@pytest.mark.parametrize("command", ["bridge", "check"])
def test_every_problem_of_the_routes_is_told(command: str, call: Any) -> None:
    wrong = TOML.format(url="mqtt://127.0.0.1:1").replace(
        "SELECT * FROM 'home", "SELECT VALUE x, y FROM 'h"
    )
    wrong += '\n[[mqtt.routes]]\nsql = "SELECT * FROM \'a\'"\npartition_key = "${uper(x)}"\n'
    status, err = call(wrong, command)
    assert status == 1
    assert "mqtt.routes[0].sql" in err and "SELECT VALUE puts out one value" in err
    assert "mqtt.routes[1].partition_key" in err and "did you mean upper?" in err


def test_a_file_without_mqtt_or_stream(call: Any) -> None:
    text = TOML.format(url="mqtt://127.0.0.1:1")
    status, err = call(text[: text.index("[mqtt]")].replace('stream = "s"', ""), "bridge")
    assert status == 1
    assert "p.toml: mqtt: error: expected the table [mqtt]" in err and "source.stream" in err


def test_certificates_that_cannot_be_read(call: Any) -> None:
    text = TOML.format(url="mqtts://127.0.0.1:1").replace("[[mqtt", 'ca = "gone.pem"\n[[mqtt')
    status, err = call(text, "bridge")
    assert status == 1 and "mqtt: gone.pem: cannot be used" in err


@pytest.mark.slow
@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_a_run_from_the_first_message_to_the_last(number: int, status: int, tmp_path: Path) -> None:
    stream = MemoryKinesis(1)
    with ScriptedBroker() as there, serving(stream) as url:
        (tmp_path / "p.toml").write_text(TOML.format(url=there.url))
        with subprocess.Popen(
            [sys.executable, "-m", "streamgauge", "bridge", "p.toml", "--listen", "127.0.0.1:0"],
            cwd=tmp_path, stderr=subprocess.PIPE, text=True,
            env={**os.environ, "AWS_ENDPOINT_URL": url},
        ) as process:  # fmt: skip
            there.accept()
            there.send(broker.connack())
            there.send(broker.suback(there.receive()))
            there.send(broker.publish("home/7", b'{"t":1}', 1), broker.publish("home/7", b"x", 2))
            assert [there.receive().packet_id for _ in range(2)] == [1, 2]
            assert process.stderr is not None
            lines = [process.stderr.readline() for _ in range(3)]
            port = json.loads(next(line for line in lines if '"listening"' in line))["port"]
            served = urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5).read()
            assert b"streamgauge_bridge_acknowledged_total 2" in served
            assert (
                urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=5).status == 200
            )
            process.send_signal(number)
            err = process.stderr.read()
        assert process.returncode == status
        assert (
            "2 messages: 1 records put, 0 taken by no route, 1 rejected, 0 known again;"
            " 2 acknowledged" in err
        )
        assert there.received()[-1].type == broker.DISCONNECT
    assert stream.users() == [("7", b'{"t":1}')]
    assert b'"t":1' not in err.encode()


@pytest.mark.slow
def test_a_stream_that_takes_nothing_is_told_and_nothing_counts_as_put(tmp_path: Path) -> None:
    stream = MemoryKinesis(1, faults=Faults(throttled=1.0))
    with ScriptedBroker() as there, serving(stream) as url:
        (tmp_path / "p.toml").write_text(TOML.format(url=there.url))
        with subprocess.Popen(
            [sys.executable, "-m", "streamgauge", "bridge", "p.toml"], cwd=tmp_path,
            stderr=subprocess.PIPE, text=True, env={**os.environ, "AWS_ENDPOINT_URL": url},
        ) as process:  # fmt: skip
            there.accept()
            there.send(broker.connack())
            there.send(broker.suback(there.receive()))
            there.send(broker.publish("home/7", b'{"t":1}', 1))
            assert process.stderr is not None
            while '"waiting"' not in (line := process.stderr.readline()):
                assert line, "it ended without a word of what it waits for"
            assert json.loads(line)["step"] == "put"
            assert "ProvisionedThroughputExceededException" in json.loads(line)["refused"]
            process.send_signal(signal.SIGTERM)
            err = process.stderr.read()
        assert process.returncode == 1
        assert (
            "1 messages: 0 records put" in err
            and "1 messages had no outcome and no acknowledgement" in err
        )
        assert "errors of the stream: ProvisionedThroughputExceededException" in err
