"""What goes between dispatcher and worker: an invocation, its payload, its answer."""

from __future__ import annotations

import base64
import io
import json
import os
import zlib
from typing import Any

import pytest
from botocore.exceptions import ClientError, ReadTimeoutError
from drawn_panes import PLAIN, START, TOML, reading
from fan_drive import LAMBDA, Fan

from streamgauge.consumers import lambda_dispatcher
from streamgauge.consumers.lambda_dispatcher import LambdaWorker
from streamgauge.consumers.pane_wire import Chunk, chunk_event, chunk_of
from streamgauge.engine.aws import Service
from streamgauge.engine.errors import (
    ConfigError,
    InputError,
    StreamgaugeError,
    UnavailableError,
)

FILE = TOML.format(**PLAIN) + LAMBDA
SHARD = "shardId-000000000000"


def a_fan() -> Fan:
    return Fan(FILE, {SHARD: [reading("d", n, 23.0, n + 0.1) for n in range(30)]})


def test_an_event_for_a_worker_fits_whatever_the_records_hold() -> None:
    """Six megabytes in, none of which can be made smaller; each payload is below six."""
    noise = [os.urandom(280_000) for _ in range(16)]
    fan = Fan(FILE, {SHARD: [(data, START) for data in noise]})
    sizes: list[int] = []

    def invoke(event: dict[str, Any]) -> dict[str, Any]:
        sizes.append(len(json.dumps(event)))
        return fan.__class__.invoke(fan, event)

    fan.invoke = invoke  # type: ignore[method-assign]
    assert fan.give(SHARD, 16) == 16
    assert len(sizes) > 4 and max(sizes) < 2_000_000
    assert fan.rejected == sorted(noise)


class Client:
    """The part of boto3's client that is called."""

    def __init__(self, *answers: Any) -> None:
        self.answers, self.requests = list(answers), list[dict[str, Any]]()

    def invoke(self, **request: Any) -> Any:
        self.requests.append(request)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        body, error = answer
        return {"Payload": io.BytesIO(body)} | ({"FunctionError": "Unhandled"} if error else {})


def test_a_worker_is_invoked_by_its_name_and_waited_for() -> None:
    client = Client((b'{"parts": []}', False))
    assert LambdaWorker("w:live", Service("lambda", client))({"a": 1}) == {"parts": []}
    assert client.requests == [{"FunctionName": "w:live", "InvocationType": "RequestResponse",
                                "Payload": b'{"a": 1}'}]  # fmt: skip


@pytest.mark.parametrize(
    ("answer", "kind", "named"),
    [
        (ClientError({"Error": {"Code": "TooManyRequestsException"}}, "Invoke"), UnavailableError,
         "TooManyRequests"),
        (ReadTimeoutError(endpoint_url="http://127.0.0.1:1"), UnavailableError, "function w"),
        ((b'{"errorType": "MemoryError"}', True), StreamgaugeError, "function w failed.*Memory"),
        ((b"<html>", False), StreamgaugeError, "no answer of a worker"),
    ],
)  # fmt: skip
def test_what_an_invocation_can_come_to(answer: Any, kind: type, named: str) -> None:
    with pytest.raises(kind, match=named):
        LambdaWorker("w", Service("lambda", Client(answer)))({})


@pytest.mark.parametrize("answer", [None, {}, {"parts": [[1, "a"]], "counts": {}},
                                    {"parts": [[1, 2, 3]] * 3, "counts": {}}])  # fmt: skip
def test_an_answer_of_something_else_is_a_failed_chunk(answer: Any) -> None:
    fan = a_fan()
    fan.invoke = lambda event: answer  # type: ignore[method-assign]
    assert fan.give(SHARD, 30) == 0
    assert "no answer of a worker of this version" in fan.said("chunk_failed")[0]["cause"]


def test_without_a_worker_it_says_so(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "p.toml").write_text(FILE)
    monkeypatch.setenv("STREAMGAUGE_PIPELINE", str(tmp_path / "p.toml"))
    with pytest.raises(ConfigError, match="STREAMGAUGE_WORKER"):
        lambda_dispatcher.handler({"Records": []}, None)


def test_the_event_of_a_chunk_is_whole_or_refused() -> None:
    fan = a_fan()
    chunk = Chunk(SHARD, 3, -5, 2, list(fan.source.records[SHARD]))
    event = chunk_event("panes", chunk)
    assert chunk_of(event, "panes") == chunk
    data = base64.b64decode(event["records"])
    torn = base64.b64encode(data[:-1]).decode()
    flipped = base64.b64encode(data[:-8] + zlib.crc32(b"x").to_bytes(4, "little") + data[-4:])
    for broken, named in (
        ({}, "expected a chunk"), ({**event, "pipeline": "x"}, "pipeline 'x', not 'panes'"),
        ({**event, "records": torn}, "cannot be read"), ({**event, "records": "?"}, "cannot"),
        ({**event, "records": flipped.decode()}, "cannot be read"),
        ({**event, "records": 7}, "cannot be read"), ([], "expected a chunk"),
    ):  # fmt: skip
        with pytest.raises(InputError, match=named):
            chunk_of(broken, "panes")
