"""The command fleet: its files back-tested give its truth, wherever and however fast they went."""

from __future__ import annotations

import gzip
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fake_broker import Broker, Faults

from streamgauge import __main__ as entry
from streamgauge.cli import destination as destinations
from streamgauge.producers.ledger import difference
from streamgauge.producers.scenario import example

Run = Callable[..., tuple[int, str, str]]
FILES = ("--truth", "truth.ndjson", "--thresholds", "limits.ndjson", "--pipeline", "p.toml")
SCENARIO = """
devices = 120
seconds = 200
seed = 5
[rule]
pipeline = "homes-north"
name = "hot"
threshold = 28.5
clear_margin = 0.5
min_samples = 3
window_seconds = 30
lateness_seconds = 5
hold_seconds = 4
severity = "page"
[limits]
share = 0.5
[faults.stuck_relay]
share = 0.3
[faults.wrong_clock]
share = 0.1
[faults.late]
share = 0.01
"""


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


def rows(path: str) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in Path(path).read_text().splitlines()]
    return sorted(found, key=lambda row: (row["rule"], row["device"], row["time"], row["state"]))


def assert_backtest_gives_the_truth(call: Run, readings: str) -> list[dict[str, Any]]:
    status, _, err = call(
        "backtest", "p.toml", "--input", readings, "--thresholds", "limits.ndjson",
        "--alerts", "alerts.ndjson",
    )  # fmt: skip
    assert status == 0, err
    truth = rows("truth.ndjson")
    found = rows("alerts.ndjson")
    assert [{key: row[key] for key in right} for row, right in zip(found, truth, strict=True)] == (
        truth
    )
    shared = {"pipeline", "rule", "device", "state", "time", "value", "samples", "threshold",
              "threshold_version", "window_start", "window_end", "severity"}  # fmt: skip
    assert set(truth[0]) == shared
    return truth


@pytest.mark.slow
@pytest.mark.parametrize("form", ["ndjson", "kinesis"])
def test_a_backtest_of_the_file_gives_the_truth(form: str, call: Run) -> None:
    status, out, err = call(
        "fleet", "--devices", "200", "--to", "readings.ndjson.gz", "--as", form, *FILES, "--json"
    )
    told = json.loads(out)
    assert (status, err) == (0, "")
    assert told["sent"] == told["accepted"] > 30_000 and told["refused"] == 0 and told["whole"]
    truth = assert_backtest_gives_the_truth(call, "readings.ndjson.gz")
    assert len(truth) == told["alerts"] > 10
    assert {row["state"] for row in truth} == {"firing", "resolved"}
    assert {row["threshold_version"] for row in truth} == {None, 1, 2}
    assert not list(Path().glob("*.partial"))


@pytest.mark.slow
@pytest.mark.parametrize("form", ["ndjson", "kinesis"])
def test_a_scenario_s_rule_is_that_of_its_pipeline_file(form: str, call: Run) -> None:
    Path("s.toml").write_text(SCENARIO)
    status, _, err = call("fleet", "s.toml", "--to", "r.ndjson", "--as", form, *FILES)
    assert status == 0 and " alerts must come" in err
    truth = assert_backtest_gives_the_truth(call, "r.ndjson")
    assert len(truth) > 20 and truth[0]["rule"] == "hot" and truth[0]["severity"] == "page"
    assert truth[0]["pipeline"] == "homes-north"


def test_the_same_seed_gives_the_same_bytes_everywhere_and_at_every_rate(call: Run) -> None:
    usual = ("fleet", "--devices", "20", "--seconds", "30", "--seed", "9")
    _, out, err = call(*usual)
    assert call(*usual, "--to", "a.ndjson", "--rate", "2000")[0] == 0
    assert call(*usual, "--to", "b.ndjson.gz")[0] == 0
    assert call(*usual, "--to", "c.ndjson.gz")[0] == 0
    assert Path("b.ndjson.gz").read_bytes() == Path("c.ndjson.gz").read_bytes()
    plain = Path("a.ndjson").read_bytes()
    assert plain == gzip.decompress(Path("b.ndjson.gz").read_bytes())
    assert plain.decode(errors="replace") == out
    assert f"{len(out.splitlines()):,} messages of 20 devices to stdout" in err
    for name, rate in (("d.ndjson", ()), ("e.ndjson", ("--rate", "3000"))):
        assert call(*usual, "--to", name, "--as", "kinesis", *rate)[0] == 0
    assert Path("d.ndjson").read_bytes() == Path("e.ndjson").read_bytes()
    with Broker() as broker:
        assert call(*usual, "--to", f"mqtt://127.0.0.1:{broker.port}")[0] == 0
    assert b"".join(data + b"\n" for data in broker.payloads()) == plain


def test_a_rate_is_reached_and_told(call: Run) -> None:
    status, out, _ = call(
        "fleet", "--devices", "10", "--seconds", "40", "--to", "r.ndjson", "--rate", "400", "--json"
    )
    told = json.loads(out)
    assert status == 0 and 0 < told["rate"] <= 401  # a busy machine may be slower, never quicker
    assert told["elapsed"] > 0.4 and told["lag_max_ms"] >= 0
    status, _, err = call(
        "fleet", "--devices", "3", "--seconds", "1", "--to", "r.ndjson", "--rate", "live"
    )
    assert status == 0 and "asked for: in real time" in err


def test_the_ledger_is_what_a_broker_acknowledged(call: Run) -> None:
    refused = b'"n":3,'
    faults = Faults(drop=[50, 7])
    with Broker(faults) as broker:
        status, out, _ = call(
            "fleet", "--devices", "30", "--seconds", "30", "--ledger", "ledger.ndjson", "--json",
            "--to", f"mqtt://127.0.0.1:{broker.port}", "--mqtt-version", "3", "--username", "u",
        )  # fmt: skip
    told = json.loads(out)
    ledger = Path("ledger.ndjson").read_bytes().splitlines()
    assert status == 0 and len(ledger) == told["accepted"] == told["sent"]
    found = difference(ledger, broker.payloads())
    assert not found.missing and found.extra  # what was on its way came again
    some = next(data for data in broker.payloads() if refused in data)
    with Broker(Faults(codes={some: 0x97})) as broker:
        status, out, err = call(
            "fleet", "--devices", "30", "--seconds", "30", "--ledger", "ledger.ndjson",
            "--to", f"mqtt://127.0.0.1:{broker.port}",
        )  # fmt: skip
    assert status == 1 and " accepted, 1 refused" in err
    found = difference(Path("ledger.ndjson").read_bytes().splitlines(), broker.payloads())
    assert sum(found.extra.values()) == 1 and not found.missing


def test_a_password_comes_from_the_environment(call: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(destinations.PASSWORD, "p")
    with Broker() as broker:
        url = f"mqtt://127.0.0.1:{broker.port}"
        status, _, err = call("fleet", "--seconds", "1", "--to", url, "--username", "u")
    assert status == 0 and broker.connects[0][1:] == ("u", "p")


@pytest.mark.slow
def test_several_connections_take_it_all(call: Run) -> None:
    with Broker() as broker:
        status, out, _ = call(
            "fleet", "--devices", "50", "--seconds", "20", "--to",
            f"mqtt://127.0.0.1:{broker.port}", "--clients", "2", "--ledger", "l.ndjson", "--json",
        )  # fmt: skip
    told = json.loads(out)
    assert status == 0 and told["accepted"] == told["sent"] == len(broker.taken)
    found = difference(Path("l.ndjson").read_bytes().splitlines(), broker.payloads())
    assert not found.missing and not found.extra
    assert len(broker.connects) == 2


@pytest.mark.slow
def test_ctrl_c_drains_and_ends_with_130(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "streamgauge", "fleet", "--rate", "500", "--to", "r.ndjson",
         "--truth", "t.ndjson", "--ledger", "l.ndjson", "--seconds", "10000"],
        cwd=tmp_path, stderr=subprocess.PIPE, text=True, env={**os.environ},
    )  # fmt: skip
    written = tmp_path / "r.ndjson.partial"
    while process.poll() is None and not (written.exists() and written.stat().st_size > 5_000):
        pass
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "interrupted" in err
    sent = written.read_bytes().splitlines()
    found = difference((tmp_path / "l.ndjson.partial").read_bytes().splitlines(), sent)
    assert not found.missing and not found.extra
    assert f"{len(sent):,} accepted, 0 refused" in err
    assert not (tmp_path / "r.ndjson").exists() and (tmp_path / "t.ndjson.partial").exists()


def test_the_example_scenario_is_printed(call: Run) -> None:
    assert call("fleet", "--example-scenario") == (0, example(), "")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--json",), "needs stdout"),
        (("--to", "kinesis:"), "kinesis:STREAM"),
        (("--to", "mqtt://"), "mqtt[s]://HOST[:PORT]"),
        (("--to", "mqtt://me:pw@host"), "mqtt[s]://HOST[:PORT]"),
        (("--to", "mqtt://host:99999"), "mqtt[s]://HOST[:PORT]"),
        (("--to", "mqtt://host", "--as", "kinesis"), "is for files"),
        (("--to", "mqtt://host", "--mqtt-version", "4"), "expected 5 or 3"),
        (("--to", "mqtts://host", "--cert", "c.pem"), "belong together"),
        (("--to", "x", "--clients", "2"), "mqtt:// only"),
        (("--to", "x", "--truth", "./x"), "named twice"),
        (("--rate", "fast"), "messages a second, or live"),
        (("--rate", "0"), "messages a second, or live"),
        (("--start", "noon"), "ms since 1970, or now"),
    ],
)
def test_what_cannot_be_meant_is_a_usage_error(
    arguments: tuple[str, ...], said: str, call: Run
) -> None:
    status, out, err = call("fleet", *arguments)
    assert (status, out) == (2, "") and said in " ".join(err.replace("│", " ").split())
    assert not list(Path().iterdir())


def test_what_is_wrong_in_a_scenario_is_named(call: Run) -> None:
    Path("s.toml").write_text("devcies = 3\n")
    status, _, err = call("fleet", "s.toml", "--to", "x")
    assert status == 1 and 's.toml: devcies: error: unknown key (did you mean "devices"?)' in err
    Path("s.toml").write_text('[rule]\nname = "no good"\n')
    status, _, err = call("fleet", "s.toml", "--to", "x")
    assert status == 1 and "rules" in err and "name" in err
    status, _, err = call("fleet", "--devices", "0", "--to", "x")
    assert status == 1 and "devices: error: expected `int` >= 1" in err
    assert not Path("x").exists()


def test_a_broker_that_is_not_there_is_told(call: Run) -> None:
    with Broker() as broker:
        port = broker.port
    status, _, err = call("fleet", "--to", f"mqtt://127.0.0.1:{port}", "--truth", "t.ndjson")
    assert status == 1 and "cannot connect" in err
    assert not Path("t.ndjson").exists()
