"""The command demo: everything through the cloud in this process, and the truth at its end."""

from __future__ import annotations

import base64
import io
import json
import os
import pty
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from servers import need

from streamgauge import __main__ as entry
from streamgauge.cli import demo, demo_run, demo_screen, demo_ways, local_broker
from streamgauge.cli.demo_cloud import OneAtATime, in_process
from streamgauge.engine.batch import Alert
from streamgauge.producers.fleet import Fleet
from streamgauge.rules import spec as specs
from streamgauge.rules.edges import Edges

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    """Runs a command in this process, in an empty directory, as fast as it goes."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(demo_run, "SPEED", 10_000)

    def call(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["streamgauge", *arguments])
        with pytest.raises(SystemExit) as ended:
            entry.main()
        out, err = capfd.readouterr()
        assert isinstance(ended.value.code, int)
        return ended.value.code, out, err

    return call


def lines(path: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path("streamgauge-demo", path).read_text().splitlines()]


@pytest.mark.slow
def test_nothing_is_lost_and_the_alerts_are_those_that_are_right(call: Run) -> None:
    status, out, _ = call("demo", "--devices", "60", "--seconds", "300", "--json")
    result = json.loads(out)
    assert status == 0
    assert result["lost"] == result["altered"] == 0
    assert result["alerts_missing"] == result["alerts_spurious"] == 0
    assert result["alerts"] == result["alerts_expected"] > 2
    assert result["rejected"] > 0 and result["duplicates"] > 0 and result["filtered"] > 0
    kinds = ("records_evaluated", "duplicates", "filtered", "rejected")
    assert sum(result[kind] for kind in kinds) == result["records_sent"]
    assert 0 < result["latency_p50_ms"] <= result["latency_p99_ms"]
    assert len(lines("alerts.ndjson")) == result["alerts"]
    assert len(lines("errors.ndjson")) == result["rejected"]
    sent = Counter(m.data for tick in again(60, 300) for m in tick)
    rejected = Counter(base64.b64decode(row["data"]) for row in lines("errors.ndjson"))
    assert rejected <= sent
    backtested(call, result)


def again(devices: int, seconds: int) -> Fleet:
    """The fleet of the demo that was run last."""
    last = max(alert["time"] for alert in lines("alerts.ndjson"))
    records = lines("readings.ndjson")
    times = [record["ApproximateArrivalTimestamp"] for record in records]
    for start in range(int(min(times)) - seconds - 5, int(min(times)) - seconds + 5):
        fleet = Fleet(devices, seconds, seed=demo.SEED, start=start * 1000)
        if first_record(records) in [m.data for tick in fleet for m in tick]:
            return Fleet(devices, seconds, seed=demo.SEED, start=start * 1000)
    raise AssertionError(f"no fleet has such readings; last alert {last}")


def first_record(records: list[dict[str, Any]]) -> bytes:
    """A payload of the stream, opened."""
    from streamgauge import Record
    from streamgauge.engine.kpl import deaggregate

    data = base64.b64decode(records[0]["Data"])
    users, _ = deaggregate([Record("s", "1", data, "k")])
    return users.data[0]


def backtested(call: Run, result: dict[str, Any]) -> None:
    """The command to try next works as printed, and gives the same alerts."""
    _, _, *arguments = result["next"].split()
    arguments = result["next"][result["next"].index("backtest") :].split()
    status, out, _ = call(*arguments)
    assert status == 0
    ids = {json.loads(line)["id"] for line in out.splitlines()}
    assert ids == {alert["id"] for alert in lines("alerts.ndjson")}


def test_the_last_screen_says_what_became_of_everything(call: Run) -> None:
    status, out, _ = call("demo", "--devices", "5", "--seconds", "100")
    assert status == 0
    for text in ("readings sent", "evaluated", "byte for byte", "0  lost", "0 missing, 0 spurious",
                 "p99", "try next:", " of 100 s: "):  # fmt: skip
        assert text in out
    assert len(lines("alerts.ndjson")) >= 2


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["mosquitto", "amqtt"])
def test_through_a_broker_and_the_bridge_nothing_is_lost_either(
    call: Run, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if kind == "mosquitto":
        need("mosquitto")
    make = demo_ways.Carried
    monkeypatch.setattr(demo_ways, "Carried", lambda stop: make(stop, kind))
    status, out, _ = call("demo", "--devices", "30", "--seconds", "150", "--mqtt", "--json")
    result = json.loads(out)
    assert status == 0
    assert result["lost"] == result["altered"] == 0
    assert result["alerts_missing"] == result["alerts_spurious"] == 0
    assert result["alerts"] == result["alerts_expected"] > 2
    assert result["broker"] == kind
    errors = lines("errors.ndjson")
    assert len(errors) == result["rejected"] > 0
    by_the_bridge = [row for row in errors if row["shard_id"].startswith("mqtt-demo-bridge-")]
    assert by_the_bridge and all(row["partition_key"].startswith("home/") for row in by_the_bridge)
    kinds = ("records_evaluated", "duplicates", "filtered", "rejected")
    assert sum(result[kind] for kind in kinds) == result["records_sent"]
    if kind == "mosquitto":
        backtested(call, result)


def test_without_a_broker_it_says_what_to_install(
    call: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local_broker, "find_mosquitto", lambda: None)
    monkeypatch.setattr(local_broker.importlib.util, "find_spec", lambda name: None)
    status, out, err = call("demo", "--devices", "5", "--seconds", "100", "--mqtt")
    assert status == 1 and "pip install 'streamgauge[demo]'" in err and "mosquitto" in err


def test_a_broker_that_does_not_start_is_told_with_its_words(
    call: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = [sys.executable, "-c", "print('no such listener')"]
    monkeypatch.setattr(local_broker, "_amqtt", lambda folder, port: broken)
    make = demo_ways.Carried
    monkeypatch.setattr(demo_ways, "Carried", lambda stop: make(stop, "amqtt"))
    status, _, err = call("demo", "--devices", "5", "--seconds", "100", "--mqtt")
    assert status == 1 and "amqtt does not start: no such listener" in err


@pytest.mark.slow
def test_ctrl_c_ends_the_broker_too(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "streamgauge", "demo", "--mqtt", "--seconds", "3000"]
    env = {**os.environ, "TMPDIR": str(tmp_path)}
    with subprocess.Popen(
        command, cwd=tmp_path, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            assert " of 3000 s" in process.stdout.readline()
            tasks = Path(f"/proc/{process.pid}/task").glob("*/children")
            children = [child for task in tasks for child in task.read_text().split()]
            process.send_signal(signal.SIGINT)
            _, err = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == 130, err
    assert children and not any(Path("/proc", child).exists() for child in children)


@pytest.mark.slow
def test_a_demo_takes_the_place_of_the_one_before(call: Run) -> None:
    for _ in range(2):
        status, out, _ = call("demo", "--devices", "2", "--seconds", "100", "--json")
        assert status == 0
        assert len(lines("alerts.ndjson")) == json.loads(out)["alerts"]


def test_the_table_has_one_size_and_the_newest_alerts_first() -> None:
    progress = demo_run.Progress(300)
    heights = set()
    for number in range(20):
        shown = rendered(progress)
        heights.add(len(shown.splitlines()))
        alert = Alert(
            id=str(number), pipeline="p", rule="r", device=f"t-{number}", time=1000 * number,
            state="firing" if number % 3 else "resolved", value=31.25, samples=9, threshold=30.0,
            threshold_version=None, window_start=0, window_end=1000 * number, first_position="",
            last_position="", severity="warning",
        )  # fmt: skip
        progress.alerts[alert.id] = alert
    assert len(heights) == 1, "the screen would jump"
    shown = rendered(progress)
    assert "20 alerts, 13 firing now" in shown and "00:00:19" in shown
    assert shown.index("t-19") < shown.index("t-18") and "t-7 " not in shown


def rendered(progress: demo_run.Progress) -> str:
    console = Console(width=100, file=io.StringIO(), record=True)
    console.print(demo_screen.table(progress))
    return console.export_text()


@pytest.mark.slow
def test_on_a_terminal_the_table_gives_way_to_the_last_screen(tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "streamgauge", "demo", "--devices", "20", "--seconds", "100"]
    env = {**os.environ, "TERM": "xterm", "COLUMNS": "100", "LINES": "40"}
    with subprocess.Popen(command, stdin=theirs, stdout=theirs, cwd=tmp_path, env=env) as process:
        os.close(theirs)
        seen = b""
        while chunk := read(ours):
            seen += chunk
    os.close(ours)
    assert process.returncode == 0
    assert b"of 100 s" in seen and b"firing now" in seen
    last = seen[seen.rindex(b"\x1b[?25h") :]  # from where the cursor is shown again
    assert b"firing now" not in last and b"0  lost" in last and b"try next:" in last


def read(file: int) -> bytes:
    """What a terminal shows next; nothing at its end, which is an error on Linux."""
    try:
        return os.read(file, 65536)
    except OSError:
        return b""


def test_a_folder_that_is_not_the_demo_s_is_left_alone(call: Run) -> None:
    Path("streamgauge-demo").mkdir()
    Path("streamgauge-demo", "mine.txt").write_text("x")
    status, out, err = call("demo")
    assert (status, out) == (1, "") and "was not written by the demo" in err
    assert Path("streamgauge-demo", "mine.txt").exists()


@pytest.mark.parametrize("name", ["lost", "altered", "alerts_missing", "alerts_spurious"])
def test_what_is_not_as_promised_is_seen(name: str) -> None:
    fine = dict.fromkeys(("lost", "altered", "alerts_missing", "alerts_spurious"), 0)
    assert demo.good(fine) and not demo.good(fine | {name: 1})


def test_threads_call_the_cloud_one_at_a_time() -> None:
    """It is not made for several: a put while the stream is read broke the reading."""
    inside, most, again = 0, 0, threading.Barrier(4)

    class Client:
        def call(self, **_: Any) -> None:
            nonlocal inside, most
            inside += 1
            most = max(most, inside)
            threading.Event().wait(0.002)
            inside -= 1

    lock = threading.Lock()
    services = [OneAtATime(name, lock) for name in ("kinesis", "sns", "sqs", "s3")]

    def work(service: OneAtATime) -> None:
        service._client = Client()
        again.wait()
        for _ in range(5):
            service.call("call", "x")

    threads = [threading.Thread(target=work, args=(service,)) for service in services]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1


def test_every_thread_of_the_demo_has_these_services() -> None:
    with in_process() as cloud:
        assert set(cloud.services) == {"kinesis", "dynamodb", "sns", "sqs", "s3"}
        assert all(isinstance(one, OneAtATime) for one in cloud.services.values())
        names = {"stream": "s", "table": "limits", "topic": cloud.topic, "bucket": "bucket"}
        edges = Edges(specs.parse(demo.PIPELINE.format(**names)), cloud.services)
        assert edges.service("kinesis") is cloud.services["kinesis"]
