"""`streamgauge backtest` from its options to its files."""

import base64
import gzip
import io
import json
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from streamgauge import __main__ as entry

TOML = """
[pipeline]
name = "pumps"
[record]
device = "device"
time = "ts"
[[rules]]
name = "low-flow"
sql = "SELECT device, ts, flow FROM '#' WHERE flow < 1000"
measure = "flow"
window = "3s"
fire_when = "below"
threshold = 10.0
clear_margin = 5.0
min_samples = 2
[[rules]]
name = "pressure"
sql = "SELECT * FROM '#'"
measure = "pressure.bar"
window = "60s"
statistic = "max"
threshold = 7.0
min_samples = 1
"""
FLOWS = [20, 8, 4, 2, 40, 50, 60, 5000, 60]


def message(n: int, flow: float, **more: Any) -> dict[str, Any]:
    return {"device": "p1", "ts": 1000 * n, "flow": flow, "pressure": {"bar": 1.5}, **more}


MESSAGES = [message(n, flow) for n, flow in enumerate(FLOWS, 1)]


class Ran:
    """One call of the command: status, stdout and stderr."""

    def __init__(self, status: Any, out: str, err: str) -> None:
        self.status, self.out, self.err = status, out, err

    @property
    def alerts(self) -> list[tuple[str, str, int]]:
        return changes(self.out)


def changes(text: str) -> list[tuple[str, str, int]]:
    return [(x["rule"], x["state"], x["time"]) for x in map(json.loads, text.splitlines())]


@pytest.fixture
def call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Callable[..., Ran]:
    """Runs the command in this process and in a folder of its own, on `pumps.toml`."""
    monkeypatch.chdir(tmp_path)
    Path("pumps.toml").write_text(TOML)

    def call(*options: str, pipeline: str = "pumps.toml") -> Ran:
        monkeypatch.setattr(sys, "argv", ["streamgauge", "backtest", pipeline, *options])
        with pytest.raises(SystemExit) as ended:
            entry.main()
        return Ran(ended.value.code, *capfd.readouterr())

    return call


def write(name: str, rows: Iterable[Any]) -> str:
    """A file of lines; one that is no text is written as JSON."""
    lines = (row if isinstance(row, str) else json.dumps(row) for row in rows)
    text = "".join(line + "\n" for line in lines).encode()
    Path(name).write_bytes(gzip.compress(text) if name.endswith(".gz") else text)
    return name


EXPECTED = [("low-flow", "firing", 4000), ("low-flow", "resolved", 6000)]


def test_alerts_on_stdout_and_a_summary_on_stderr(call: Callable[..., Ran]) -> None:
    write("readings.ndjson", [*MESSAGES, "no json", MESSAGES[-1]])
    ran = call("--input", "readings.ndjson")
    assert ran.status == 0
    assert ran.alerts == EXPECTED
    text = re.sub(r"in [0-9.]+ s, [0-9,]+ a second", "in S s, N a second", ran.err)
    assert text == (
        "11 records from readings.ndjson as ndjson in S s, N a second\n"
        "\n"
        "             9  evaluated\n"
        "             0  filtered\n"
        "             1  duplicates\n"
        "             1  rejected\n"
        "            11  records = the sum of these: every record is accounted for\n"
        "\n"
        "  rule      decoded  samples  filtered  duplicates  rejected  late  alerts\n"
        "  low-flow       10        8         1           1         0     0       2\n"
        "  pressure       10        9         0           1         0     0       0\n"
        "\n"
        "2 alerts: 1 firing, 1 resolved; 0 still firing at the end\n"
        "rejected for: decode: not_json 1\n"
    )


def test_json_and_files(call: Callable[..., Ran]) -> None:
    write("in.ndjson.gz", [*MESSAGES, "{}", MESSAGES[0]])
    ran = call(
        "--input", "in.ndjson.gz", "--json", "--alerts", "a.ndjson", "--rejected", "r.ndjson",
        "--statistics", "s.ndjson",
    )  # fmt: skip
    assert (ran.status, ran.err) == (0, "")
    counts = json.loads(ran.out)
    assert counts.pop("seconds") > 0
    assert counts == {
        "records": 11, "evaluated": 9, "filtered": 0, "duplicates": 1, "rejected": 1, "late": 0,
        "samples": 17, "alerts": 2, "repeated": 0,
        "rules": {
            "low-flow": {"samples": 8, "filtered": 1, "duplicates": 1, "rejected": 0, "late": 0,
                         "alerts": 2},
            "pressure": {"samples": 9, "filtered": 0, "duplicates": 1, "rejected": 0, "late": 0,
                         "alerts": 0},
        },
    }  # fmt: skip
    assert changes(Path("a.ndjson").read_text()) == EXPECTED
    rejected = [json.loads(line) for line in Path("r.ndjson").read_text().splitlines()]
    assert [(x["position"], x["data"]) for x in rejected] == [
        ("file:10:0", base64.b64encode(b"{}").decode())
    ]
    statistics = [json.loads(line) for line in Path("s.ndjson").read_text().splitlines()]
    assert len(statistics) == counts["samples"]
    assert statistics[:5] == [
        {"rule": "low-flow", "device": "p1", "time": 1000, "value": 20.0, "samples": 1},
        {"rule": "pressure", "device": "p1", "time": 1000, "value": 1.5, "samples": 1},
        {"rule": "low-flow", "device": "p1", "time": 2000, "value": 14.0, "samples": 2},
        {"rule": "pressure", "device": "p1", "time": 2000, "value": 1.5, "samples": 2},
        {"rule": "low-flow", "device": "p1", "time": 3000, "value": 32 / 3, "samples": 3},
    ]
    assert sorted(path.name for path in Path.cwd().iterdir()) == [
        "a.ndjson", "in.ndjson.gz", "pumps.toml", "r.ndjson", "s.ndjson",
    ]  # fmt: skip


def test_csv_from_standard_input_with_fields_set(
    call: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [f"{1000 * n},{flow},1.5" for n, flow in enumerate(FLOWS, 1)]
    text = "\r\n".join(["ts,flow,pressure.bar", *rows, "9000,x", "9500,x,1"]) + "\r\n"
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
    ran = call(
        "--input", "-", "--format", "csv", "--set", "device=p1", "--rejected", "r.ndjson",
    )  # fmt: skip
    assert ran.alerts == EXPECTED
    assert ran.err.startswith("11 records from standard input as csv")
    rejected = [json.loads(line) for line in Path("r.ndjson").read_text().splitlines()]
    found = {(x["position"], x["reason"], x["rule"], base64.b64decode(x["data"])) for x in rejected}
    assert ("file:11:0", "csv", None, b"9000,x") in found


@pytest.mark.parametrize(
    ("setting", "device"),
    [("device=x=y", "x=y"), ("device=7", "7"), ('device="7"', "7"), ("device= x", " x")],
)
def test_set_takes_json_or_text(setting: str, device: str, call: Callable[..., Ran]) -> None:
    write("in.ndjson", [{k: v for k, v in row.items() if k != "device"} for row in MESSAGES])
    ran = call("--input", "in.ndjson", "--set", setting, "--set", "flow=1")
    assert {json.loads(line)["device"] for line in ran.out.splitlines()} == {device}


def test_arrival_times_come_from_a_field(call: Callable[..., Ran]) -> None:
    rows = [message(1, 30, at=1000), message(900, 30, at=2000), message(3, 30, at=3000)]
    write("in.ndjson", rows)
    assert json.loads(call("--input", "in.ndjson", "--json").out)["late"] == 1
    ran = call("--input", "in.ndjson", "--arrival", "at", "--json", "--rejected", "r")
    assert [json.loads(ran.out)[key] for key in ("evaluated", "rejected", "late")] == [2, 1, 0]
    (row,) = map(json.loads, Path("r").read_text().splitlines())
    assert (row["reason"], row["position"]) == ("clock_skew", "file:2:0")


def test_thresholds_of_single_devices(call: Callable[..., Ran]) -> None:
    write("in.ndjson", MESSAGES)
    write("limits", [{"device": "p1", "rule": "pressure", "value": 1.25, "version": 3}])
    ran = call("--input", "in.ndjson", "--thresholds", "limits")
    assert ran.alerts == [("pressure", "firing", 1000), *EXPECTED]
    first = json.loads(ran.out.splitlines()[0])
    assert (first["threshold"], first["threshold_version"]) == (1.25, 3)


def kinesis(n: int, row: dict[str, Any]) -> dict[str, Any]:
    return {
        "SequenceNumber": str(n), "Data": base64.b64encode(json.dumps(row).encode()).decode(),
        "PartitionKey": "p1", "ShardId": "shardId-000000000000",
        "ApproximateArrivalTimestamp": n + 0.5,
    }  # fmt: skip


def test_kinesis_records_are_known_by_their_look(call: Callable[..., Ran]) -> None:
    rows = [kinesis(n, row) for n, row in enumerate(MESSAGES, 1)]
    write("records.ndjson", [*rows, rows[0], rows[-1]])
    ran = call("--input", "records.ndjson")
    assert ran.alerts == EXPECTED
    assert "9 records from records.ndjson as kinesis" in ran.err
    assert "2  repeated (read before; outside the sum)" in ran.err


def test_records_out_of_order_end_the_run_and_leave_a_partial_file(
    call: Callable[..., Ran],
) -> None:
    write("in", [kinesis(n, MESSAGES[0]) for n in (1, 3, 2)])
    ran = call("--input", "in", "--alerts", "alerts", "--statistics", "stats")
    assert (ran.status, ran.out) == (1, "")
    assert ran.err.splitlines()[0].endswith("alerts.partial, stats.partial")
    assert "streamgauge: error: in: line 3: sequence number 2" in ran.err
    assert not Path("alerts").exists() and Path("stats.partial").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--set", "device"], "expected FIELD=VALUE, found 'device'"),
        (["--set", "=1"], "expected FIELD=VALUE"),
        (["--format", "xml"], "xml"),
        (["--alerts", "x", "--rejected", "./x"], "x is named twice"),
        (["--statistics", "in"], "in is named twice"),
        (["--alerts", "pumps.toml"], "pumps.toml is named twice"),
        (["--alerts", "-"], "expected the name of a file"),
    ],
)
def test_usage_errors(options: list[str], message: str, call: Callable[..., Ran]) -> None:
    write("in", MESSAGES)
    ran = call("--input", "in", *options)
    assert (ran.status, ran.out) == (2, "")
    assert message in " ".join(ran.err.split())
    assert Path("in").stat().st_size > 0


def test_what_is_not_there(call: Callable[..., Ran]) -> None:
    write("in", MESSAGES)
    ran = call("--input", "nowhere")
    assert (ran.status, ran.err) == (1, "streamgauge: error: nowhere: No such file or directory\n")
    ran = call("--input", "in", pipeline="nowhere.toml")
    assert ran.status == 1 and "nowhere.toml" in ran.err and "Traceback" not in ran.err
    ran = call("--input", "in", "--alerts", "no/folder")
    assert ran.status == 1 and "no/folder" in ran.err
    Path("pumps.toml").write_text(TOML.replace("window", "windw"))
    ran = call("--input", "in")
    assert ran.status == 1 and ran.err.count("windw") >= 2


@pytest.mark.parametrize(
    ("rows", "warning"),
    [
        ([], "the input holds no record"),
        (["x", "{}", ""], "no record could be read; the most frequent reason is decode: "),
        (
            [message(1, 2000), message(2, 3000), {"device": "p1", "ts": 1}],
            "the filter of rule low-flow let nothing through; the most frequent reason is: WHERE is"
            " false (2 of 3 records)",
        ),
        (
            [{"device": "p1", "ts": 1}],
            "let nothing through; the most frequent reason is: WHERE is Undefined",
        ),
    ],
)
@pytest.mark.parametrize("options", [[], ["--json"]])
def test_warnings(
    rows: list[Any], warning: str, options: list[str], call: Callable[..., Ran]
) -> None:
    write("in", rows)
    ran = call("--input", "in", *options)
    assert ran.status == 0
    assert (
        f"warning: {warning}" in ran.err
        or f"warning: the filter of rule low-flow {warning}" in (ran.err)
    )


def test_topics_are_named_as_the_reason(call: Callable[..., Ran]) -> None:
    toml = TOML.replace('time = "ts"', 'time = "ts"\ntopic = "topic"').replace("'#'", "'a/+'")
    Path("pumps.toml").write_text(toml)
    write("in", [message(1, 5, topic="b/1"), message(2, 5, topic="a"), message(3, 5)])
    ran = call("--input", "in")
    assert ran.err.count("the topic does not match FROM (2 of 3 records)") == 2
    write("in", [message(3, 5)])
    assert call("--input", "in").err.count("the record has no topic (1 of 1 record)") == 2


def test_broken_accounting_is_told(
    call: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch
) -> None:
    from streamgauge.engine.counts import Counts

    add = Counts.add

    def lossy(self: Counts, other: Counts) -> None:
        add(self, other)
        self.records += 1

    monkeypatch.setattr(Counts, "add", lossy)
    write("in", MESSAGES)
    ran = call("--input", "in")
    assert ran.status == 1
    assert "10 records have 9 verdicts" in ran.err
    assert "rule pressure saw 9 of 10 decoded records" in ran.err


def test_ctrl_c_keeps_what_there_is_and_says_so(call: Callable[..., Ran]) -> None:
    command = [sys.executable, "-m", "streamgauge", "backtest", "pumps.toml", "--input", "-"]
    lines = [json.dumps(row) for row in MESSAGES] + [json.dumps(MESSAGES[0])] * 9000
    with subprocess.Popen(
        [*command, "--statistics", "stats"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stdin and process.stdout and process.stderr
        process.stdin.write("\n".join(lines) + "\n")
        process.stdin.flush()  # and stays open: there could be more
        watchdog = threading.Timer(60, process.kill)
        watchdog.start()
        alerts = [process.stdout.readline() for _ in EXPECTED]
        process.send_signal(signal.SIGINT)
        err = process.stderr.read()
        status = process.wait()
        watchdog.cancel()
    assert status == 130
    assert changes("".join(alerts)) == EXPECTED
    assert "stats.partial" in err and "Traceback" not in err
    assert re.search(r"interrupted: this is the answer for the first [0-9,]+ records", err)
    assert Path("stats.partial").read_bytes().endswith(b"\n")
