"""Several processes on one stream: real ones, over HTTP, killed and stopped."""

from __future__ import annotations

import base64
import http.client
import json
import os
import random
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from streamgauge.cli.listening import listening
from streamgauge.cli.running import log
from streamgauge.consumers import listen, workers
from streamgauge.consumers.kinesis_reader import KinesisReader
from streamgauge.consumers.listen import Question, Questions
from streamgauge.consumers.metrics import Metrics, merged
from streamgauge.consumers.worker import Answer, Setup
from streamgauge.consumers.workers import Workers, _Member
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


class Asking:
    """Asks a run over HTTP, from a thread beside its loop, until what it waits for is so."""

    def __init__(
        self, made: Workers, questions: Questions, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.made, self.questions = made, questions
        self.done = threading.Event()
        self.port = 0
        monkeypatch.setattr(
            "streamgauge.cli.listening.log",
            lambda event, **fields: setattr(self, "port", fields["port"]),
        )

    def get(self, path: str) -> tuple[int, str]:
        with closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)) as asked:
            asked.request("GET", path)
            answer = asked.getresponse()
            return answer.status, answer.read().decode()

    def until(self, path: str, wanted: Callable[[int, str], bool]) -> str:
        for _ in range(20_000):
            status, body = self.get(path)
            if wanted(status, body):
                return body
        raise AssertionError((path, status, body))

    def metric(self, name: str, body: str = "") -> float:
        """The sum of the series of a metric."""
        lines = (body or self.get("/metrics")[1]).splitlines()
        pattern = re.compile(rf"streamgauge_{name}(?:\{{.*\}})? (.+)")
        return sum(float(found[1]) for line in lines if (found := pattern.fullmatch(line)))

    def beside(self, script: Callable[[Asking], None]) -> None:
        """Run the loop in this thread and the script in another one."""
        failed: list[BaseException] = []

        def act() -> None:
            try:
                script(self)
            except BaseException as error:
                failed.append(error)
            finally:
                self.done.set()

        with listening("127.0.0.1:0", lambda: self.made.snapshots, self.made, self.questions):
            acting = threading.Thread(target=act)
            acting.start()
            self.made.run(self.done.is_set)
            acting.join()
        if failed:
            raise failed[0]


@pytest.fixture
def asking(endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch) -> Asking:
    questions = Questions()
    made = run(2)
    made._setup = made._setup._replace(until_end=False)
    made._tend = lambda: [made.ask(question) for question in questions.take()]
    return Asking(made, questions, monkeypatch)


def known(asking: Asking, number: int) -> dict[str, Any]:
    body = asking.until(f"/state?device=d{number}", lambda status, _: status == 200)
    (row,) = json.loads(body)["rules"]
    return row


@pytest.mark.slow
def test_several_workers_are_asked_as_one(asking: Asking) -> None:
    """Their numbers add up, each device is known by one of them, and a death is counted."""

    def script(asking: Asking) -> None:
        records = "shard_records_total"
        asking.until("/metrics", lambda _, body: asking.metric(records, body) == 160)
        before = asking.get("/metrics")[1]
        assert asking.metric("alerts_total", before) == 160
        assert asking.metric("worker_deaths_total", before) == 0
        assert asking.get("/healthz")[0] == 200
        rows = [known(asking, number) for number in range(4)]
        # The first shard is read to its end, and the last is its child: it has both devices.
        assert [row["shard"] for row in rows] == [SHARDS[3], *SHARDS[1:]]
        assert {(row["rule"], row["state"], row["samples"]) for row in rows} == {("hot", "ok", 1)}
        assert asking.get("/state?device=nobody")[0] == 404

        dead, _ = asking.made._members
        os.kill(dead.process.pid, signal.SIGKILL)
        asking.until("/metrics", lambda _, body: asking.metric("worker_deaths_total", body) == 1)
        lag = "shard_lag_seconds{"
        after = asking.until("/metrics", lambda _, body: body.count(lag) == before.count(lag))
        assert asking.metric(records, after) >= 160  # a counter does not go back
        assert [known(asking, number)["shard"] for number in range(4)] == [
            row["shard"] for row in rows
        ]
        assert asking.get("/state?device=nobody")[0] == 404
        assert asking.get("/healthz")[0] == 200

    asking.beside(script)
    assert asking.made.unsaved == []


@pytest.mark.slow
def test_a_worker_that_hangs_is_no_health(asking: Asking, monkeypatch: pytest.MonkeyPatch) -> None:
    """And nobody who asks holds up the loop, however many there are."""
    asking.questions = Questions(seconds_max=0.01)
    asking.made._tend = lambda: [asking.made.ask(one) for one in asking.questions.take()]
    monkeypatch.setattr(listen, "LOOP_SECONDS_MAX", 2.0)

    def script(asking: Asking) -> None:
        asking.until("/metrics", lambda _, body: asking.metric("shard_records_total", body) == 160)
        hung = asking.made._members[0].process.pid
        os.kill(hung, signal.SIGSTOP)
        try:
            body = asking.until("/healthz", lambda status, _: status == 503)
            assert "the loop has not turned" in body
            long = "/state?device=" + "x" * 8000
            assert {asking.get(long)[0] for _ in range(60)} == {503}
            assert sum(asking.made._members[0].asked.values()) <= workers.ASKED_BYTES_MAX
        finally:
            os.kill(hung, signal.SIGCONT)
        asking.until("/healthz", lambda status, _: status == 200)

    asking.beside(script)
    assert asking.made.unsaved == []


class Mute:
    """The other end of a pipe on which nothing comes back."""

    def __init__(self) -> None:
        self.sent: list[Any] = []

    def send(self, message: Any) -> None:
        self.sent.append(message)


def test_questions_to_one_that_dies_are_not_left_open() -> None:
    """Nobody else knows what it knew: the answer is that there is none."""
    setup = Setup(specs.parse(TOML), True, None, None, log)
    made = Workers(None, setup, 2, metrics=Metrics(), random=random.random)  # type: ignore[arg-type]
    made._members = [_Member(None, Mute()), _Member(None, Mute())]  # type: ignore[arg-type]
    early, question, late = Question("d"), Question("d"), Question("d")
    made.ask(early)
    assert early.wait(0.0) is None and not early.abandoned  # the stream is not listed yet
    made.listing.known = True
    made.ask(question)
    made.ask(late)
    first, second = made._members
    made._take(first, Answer(1, [{"shard": "a"}]))
    made._drop_questions(second)
    assert question.wait(0.0) is None and not question.abandoned and made._asked == {}
    made.ask(late)
    made._take(first, Answer(3, None))
    made._take(second, Answer(3, [{"shard": "b"}]))
    assert late.wait(0.0) is None and not late.abandoned


def test_an_answer_is_that_of_all() -> None:
    setup = Setup(specs.parse(TOML), True, None, None, log)
    made = Workers(None, setup, 2, metrics=Metrics(), random=random.random)  # type: ignore[arg-type]
    made._members = [_Member(None, Mute()), _Member(None, Mute())]  # type: ignore[arg-type]
    made.listing.known = True
    question = Question("d")
    made.ask(question)
    for number, member in enumerate(made._members):
        assert question.wait(0.0) is None
        made._take(member, Answer(1, [{"shard": str(number)}]))
    assert question.wait(0.0) == [{"shard": "0"}, {"shard": "1"}]
    assert all(member.asked == {} for member in made._members)


HOLDS = """
import sys
from streamgauge.consumers.worker import FileLock
with FileLock(sys.argv[1]):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.mark.slow
def test_a_process_that_dies_with_the_lock_lets_it_go(tmp_path: Path) -> None:
    """The others would wait for ever to tell their alerts."""
    (tmp_path / "lock").touch()
    command = [sys.executable, "-c", HOLDS, str(tmp_path / "lock")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None and holder.stdout.readline() == b"held\n"
        holder.kill()
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as next_one:
        assert next_one.stdout is not None and next_one.stdout.readline() == b"held\n"
        next_one.kill()
