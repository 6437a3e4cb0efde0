"""Several processes on one stream: real ones, over HTTP, killed and stopped."""

from __future__ import annotations

import base64
import json
import os
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from streamgauge.cli.running import log
from streamgauge.consumers import workers
from streamgauge.consumers.kinesis_reader import KinesisReader
from streamgauge.consumers.metrics import Metrics, merged
from streamgauge.consumers.worker import Setup
from streamgauge.consumers.workers import Workers
from streamgauge.engine.aws import Service
from streamgauge.rules import spec as specs

SHARDS = [f"shardId-{n:012}" for n in range(4)]
START = 1_700_000_000_000
TOML = """
[pipeline]
name = "p"
[source]
stream = "telemetry"
[record]
device = "device"
time = "ts"
[state]
save_every = "1s"
[[rules]]
name = "hot"
sql = "SELECT * FROM '#'"
measure = "value"
window = "1s"
threshold = 10.0
"""


class Endpoint(ThreadingHTTPServer):
    """A Kinesis that holds 40 hot and cold readings a shard; the first shard has a child."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.readers: set[int] = set()
        self.reads = 0
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()

    def answer(self, operation: str, request: dict[str, Any]) -> dict[str, Any]:
        if operation == "ListShards":
            keys = {"StartingHashKey": "0", "EndingHashKey": "1"}
            found = [{"ShardId": name, "HashKeyRange": keys,
                      "SequenceNumberRange": {"StartingSequenceNumber": "1"}}
                     for name in SHARDS]  # fmt: skip
            found[3]["ParentShardId"] = SHARDS[0]
            return {"Shards": found}
        if operation == "GetShardIterator":
            number = int(request.get("StartingSequenceNumber", "1"))
            after = request["ShardIteratorType"] == "AFTER_SEQUENCE_NUMBER"
            return {"ShardIterator": f"{request['ShardId']}/{number + after}"}
        self.reads += 1
        shard, _, first = request["ShardIterator"].partition("/")
        rows = [record(shard, number) for number in range(int(first), min(41, int(first) + 10))]
        behind = 0 if int(first) + 10 > 40 else 1
        following = f"{shard}/{int(first) + len(rows)}"
        closed = shard == SHARDS[0] and not behind
        return {"Records": rows, "MillisBehindLatest": behind,
                "NextShardIterator": None if closed else following}  # fmt: skip


def record(shard: str, number: int) -> dict[str, Any]:
    device = f"d{SHARDS.index(shard)}"
    at, value = START + 10_000 * number, 20 * (number % 2)
    data = json.dumps({"device": device, "ts": at, "value": value}).encode()
    return {"SequenceNumber": str(number), "PartitionKey": device, "Data":
            base64.b64encode(data).decode(), "ApproximateArrivalTimestamp": at / 1000}  # fmt: skip


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Endpoint

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        operation = self.headers["X-Amz-Target"].rpartition(".")[2]
        answer = json.dumps(self.server.answer(operation, json.loads(body))).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/x-amz-json-1.1")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


@pytest.fixture
def endpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Endpoint]:
    monkeypatch.chdir(tmp_path)
    Path("p.toml").write_text(TOML)
    made = Endpoint()
    monkeypatch.setenv("AWS_ENDPOINT_URL_KINESIS", f"http://127.0.0.1:{made.server_port}")
    yield made
    made.shutdown()
    made.server_close()


def alerts() -> dict[str, dict[str, Any]]:
    rows = map(json.loads, Path("a.ndjson").read_text().splitlines())
    return {row["id"]: row for row in rows}


def whole() -> list[tuple[str, int]]:
    return sorted((f"d{n}", START + 10_000 * number) for n in range(4) for number in range(1, 41))


def run(count: int) -> Workers:
    setup = Setup(specs.parse(TOML), True, Path("a.ndjson"), None, log)
    reader = KinesisReader(Service("kinesis"), "telemetry")
    return Workers(reader, setup, count, metrics=Metrics(), random=random.random)


@pytest.mark.slow
@pytest.mark.parametrize("count", [1, 2, 5])
def test_the_answer_does_not_depend_on_their_number(count: int, endpoint: Endpoint) -> None:
    made = run(count)
    made.run()
    assert made.unsaved == made.unread == []
    assert sorted((row["device"], row["time"]) for row in alerts().values()) == whole()
    assert made.totals.counts.records == 160
    counted = merged(made.snapshots)["shard_records_total"]
    assert counted == {(shard,): 40 for shard in SHARDS}


@pytest.mark.slow
def test_a_worker_that_is_killed_is_replaced(endpoint: Endpoint) -> None:
    made, killed = run(2), list[int]()

    def kill() -> None:
        if endpoint.reads > 4 and not killed:
            killed.append(made._members[0].process.pid)
            os.kill(killed[0], signal.SIGKILL)

    made._tend = kill
    made.run()
    assert killed and made.unsaved == []
    assert sorted((row["device"], row["time"]) for row in alerts().values()) == whole()


@pytest.mark.slow
def test_a_state_that_cannot_be_read_is_waited_for(endpoint: Endpoint) -> None:
    Path("state").write_text("in the way")
    made = run(2)
    stops = iter(range(10**6))
    made.run(lambda: len(made.refused) == 3 or next(stops) > 3000)
    assert {refusal.step for refusal in made.refused.values()} == {"load"}
    assert made.unsaved == [] and endpoint.reads == 0


@pytest.mark.slow
@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_the_command_stops_all_of_them(number: int, status: int, endpoint: Endpoint) -> None:
    command = [sys.executable, "-m", "streamgauge", "run", "p.toml", "--workers", "2",
               "--alerts", "a.ndjson", "--listen", "127.0.0.1:0"]  # fmt: skip
    first = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
    assert first.stderr is not None
    for line in first.stderr:
        if '"state_saved"' in line:
            break
    os.killpg(first.pid, number)  # as a terminal or a supervisor does: all of the group
    with first.stderr as errors:
        rest = errors.read()
    assert first.wait(timeout=10) == status, rest
    assert "every record is accounted for" in rest
    second = subprocess.run([*command[:-2], "--until-end"], capture_output=True, text=True)
    assert second.returncode == 0, second.stderr
    assert sorted((row["device"], row["time"]) for row in alerts().values()) == whole()


def test_too_many_deaths_are_no_accident() -> None:
    setup = Setup(specs.parse(TOML), True, None, None, log)
    made = Workers(None, setup, 1, metrics=Metrics(), random=random.random, now=lambda: 0.0)  # type: ignore[arg-type]
    for _ in range(workers.DEATHS_MAX):
        made._note_death(-9)
    with pytest.raises(Exception, match="died one after the other"):
        made._note_death(-9)
