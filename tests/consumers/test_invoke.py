"""The process that runs a packaged function: what it has, what it gives, how it fails."""

from __future__ import annotations

import json
import socket
import struct
import urllib.request
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from drawn_panes import PLAIN, TOML

from streamgauge.consumers import lambda_trial
from streamgauge.consumers.deploy import sample_event
from streamgauge.consumers.deploy.invoke import invoke
from streamgauge.consumers.deploy.runtime_api import PATH, Answer, RuntimeApi
from streamgauge.engine.errors import StreamgaugeError
from streamgauge.rules.spec import load

MODULE = "streamgauge/consumers/lambda_trial.py"


def packed(folder: Path, code: str) -> Path:
    """A package whose handler is this code."""
    with zipfile.ZipFile(folder / "p.zip", "w") as archive:
        archive.writestr("streamgauge/__init__.py", "")
        archive.writestr("streamgauge/consumers/__init__.py", "")
        archive.writestr(MODULE, code)
    return folder / "p.zip"


def test_it_has_the_package_and_the_standard_library(tmp_path: Path) -> None:
    code = (
        "import os, sys\n"
        "def handler(event, context):\n"
        "    print('said')\n"
        "    return [event, sys.path, sorted(os.environ)]\n"
    )
    done = invoke(packed(tmp_path, code), {"Records": []}, client=[])
    event, path, variables = done.answer
    assert event == {"Records": []} and done.output == "said\n" and done.client is None
    assert path[0].endswith("package") and not any("site-packages" in name for name in path)
    assert not {name for name in variables if name.startswith("AWS_")} - {
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE"}  # fmt: skip


@pytest.mark.parametrize(
    ("code", "named"),
    [("def handler(event, context): raise KeyError('device')", "exit status 1\n(?s:.*)KeyError"),
     ("import absent", "No module named 'absent'"),
     ("import os\ndef handler(event, context): os._exit(7)", "exit status 7")],
)  # fmt: skip
def test_what_fails_is_told(tmp_path: Path, code: str, named: str) -> None:
    with pytest.raises(StreamgaugeError, match=named):
        invoke(packed(tmp_path, code), {}, client=[])


@pytest.fixture
def api() -> Iterator[RuntimeApi]:
    made = RuntimeApi(b'{"Records": []}', 30.0)
    yield made
    made.close()


def call(api: RuntimeApi, path: str, data: bytes | None = None) -> Any:
    return urllib.request.urlopen(f"http://{api.address}{PATH}{path}", data, timeout=30)


def test_the_runtime_api_hands_out_one_event(api: RuntimeApi) -> None:
    with call(api, "invocation/next") as answer:
        assert json.loads(answer.read()) == {"Records": []}
        request = answer.headers["Lambda-Runtime-Aws-Request-Id"]
        assert int(answer.headers["Lambda-Runtime-Deadline-Ms"]) > 1_700_000_000_000
        assert ":function:" in answer.headers["Lambda-Runtime-Invoked-Function-Arn"]
    with call(api, f"invocation/{request}/response", b'{"a": 1}') as answer:
        assert answer.status == 202
    assert api.answers.get(timeout=30) == Answer(b'{"a": 1}', False)


@pytest.mark.parametrize("path", ["invocation/r/error", "init/error"])
def test_the_runtime_api_takes_errors(api: RuntimeApi, path: str) -> None:
    with call(api, path, b'{"errorMessage": "no"}') as answer:
        assert answer.status == 202
    assert api.answers.get(timeout=30) == Answer(b'{"errorMessage": "no"}', True)


def test_the_runtime_api_has_nothing_else(api: RuntimeApi) -> None:
    with pytest.raises(urllib.error.HTTPError, match="404"):
        call(api, "elsewhere")


def test_a_client_that_is_ended_is_no_error(
    api: RuntimeApi, capfd: pytest.CaptureFixture[str]
) -> None:
    """As the function's process is, once it has answered."""
    host, _, port = api.address.partition(":")
    with socket.create_connection((host, int(port))) as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # a reset
        client.sendall(b"GET ")
    with call(api, "invocation/next") as answer:
        assert answer.status == 200
    api.close()
    assert capfd.readouterr().err == ""


def test_the_fan_out_mode_is_tried_in_one_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Dispatcher, worker and merger, over directories; nothing of AWS is called."""
    streams = 'panes_stream = "panes"\n[source]\nstream = "telemetry"\n'
    (tmp_path / "p.toml").write_text(TOML.format(**{**PLAIN, "lateness": 2}) + streams)
    monkeypatch.setenv("STREAMGAUGE_PIPELINE", str(tmp_path / "p.toml"))
    monkeypatch.setenv(lambda_trial.FOLDER, str(tmp_path))
    given = sample_event.event(load(tmp_path / "p.toml"), 20, False, 1_767_600_000_000)
    assert lambda_trial.handler(given, None) == {"batchItemFailures": []}
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    told = [line["event"] for line in lines if "event" in line]
    assert told[:2] == ["chunk_reduced", "invoked"] and set(told[2:]) == {"merged"}
    assert [line["state"] for line in lines if "state" in line] == ["firing"]
    assert sorted(path.name for path in (tmp_path / "state" / "panes").iterdir()) == [
        f"chunks-{sample_event.SHARD}", *(f"merger-{n}" for n in range(4))]  # fmt: skip
