"""`streamgauge errors`: what was rejected, counted; and what a fix makes of it, sent once."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from streamgauge import Record
from streamgauge import __main__ as entry
from streamgauge.engine.errors import UnavailableError
from streamgauge.engine.folder import Folder
from streamgauge.engine.sinks.archive import Archive
from streamgauge.engine.sinks.errors_directory import ErrorDirectory
from streamgauge.engine.sinks.local import FileSink
from streamgauge.rules import spec as specs
from streamgauge.rules.plan import Pipeline

BROKEN, MENDED = "SELECT * FROM '#'", "SELECT device, number AS value FROM '#'"
TOML = """
[pipeline]
name = "p"
[record]
device = "device"
time = "ts"
[[rules]]
name = "hot"
sql = "SQL"
measure = "value"
window = "2s"
threshold = 10.0
[[rules]]
name = "seen"
sql = "SELECT * FROM '#'"
measure = "ts"
window = "2s"
statistic = "count"
threshold = 2.5
[errors]
location = "errors"
[archive]
location = "archive"
format = "ndjson.gz"
[delivery]
allowed_lateness = "0s"
"""
START = 1_700_000_000_000
SHARD = "shardId-000000000000"
Call = Callable[..., tuple[int, str, str]]


@pytest.fixture
def call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Call:
    """Runs the command in this process, in a directory of its own: (status, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["streamgauge", *arguments])
        with pytest.raises(SystemExit) as ended:
            entry.main()
        out, err = capfd.readouterr()
        assert isinstance(ended.value.code, int)
        return ended.value.code, out, err

    return call


def reading(number: int, value: Any, device: str = "d", at: int | None = None) -> Record:
    time = START + 1000 * (number if at is None else at)
    message = {"device": device, "ts": time, "value": value}
    if value != "not a number":
        message["number"] = int(value)
    return Record(SHARD, str(number), json.dumps(message).encode(), device, time)


# Hot at 3 as a number, and before it at 1 and 2 as text, which the rule rejects.
RECORDS = [
    reading(1, "30"), reading(2, "40"), reading(3, 50), reading(4, -100), reading(5, 0),
    reading(6, "not a number"), reading(7, 60, "e"), reading(8, "70", "e"), reading(9, 0, "e", 1),
    Record(SHARD, "10", b"\xff", "x", START + 3_600_000),
]  # fmt: skip


def lived(sql: str = BROKEN, keep: bool = True) -> list[dict[str, Any]]:
    """A run over the records, with its error stream and archive; its alerts."""
    Path("p.toml").write_text(TOML.replace("SQL", sql))
    pipeline = Pipeline.plan(specs.load("p.toml"), one_shard=True, keep_read=True)
    outcome = pipeline.push(RECORDS)
    if keep:
        ErrorDirectory("errors", "p").deliver(outcome.rejected)
        archive = Archive(Folder(Path("archive")), "p", "ndjson.gz", 1 << 20, 60.0)
        archive.shard(SHARD).deliver(outcome.read)
    return [msgspec.to_builtins(alert) for alert in outcome.alerts]


def mended() -> None:
    Path("p.toml").write_text(TOML.replace("SQL", MENDED))


def alerts(out: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in out.splitlines()]


def changes(found: list[dict[str, Any]]) -> list[tuple[str, str, int]]:
    return [(a["device"], a["state"], (a["time"] - START) // 1000) for a in found]


def test_rejected_records_are_counted(call: Call) -> None:
    lived()
    status, out, err = call("errors", "ls", "p.toml")
    assert (status, err) == (0, "7 rejected records\n")
    assert [line.split() for line in out.splitlines()] == [
        ["2023-11-14", "22:00Z", "measure", "measure_type", "hot", "4"],
        ["2023-11-14", "22:00Z", "window", "late", "hot", "1"],
        ["2023-11-14", "22:00Z", "window", "late", "seen", "1"],
        ["2023-11-14", "23:00Z", "decode", "not_utf8", "-", "1"],
    ]  # fmt: skip
    status, out, _ = call("errors", "ls", "errors", "--json", "--reason", "late")
    assert [json.loads(line) for line in out.splitlines()] == [
        {"hour": "2023-11-14T22", "stage": "window", "reason": "late", "rule": rule, "count": 1}
        for rule in ("hot", "seen")
    ]
    since = ["--since", "2023-11-14T23:00:00Z"]
    assert call("errors", "ls", "p.toml", *since)[2] == "1 rejected records\n"
    assert call("errors", "ls", "p.toml", "--rule", "seen")[2] == "2 rejected records\n"
    assert call("errors", "ls", "p.toml", "--stage", "bridge")[2] == "0 rejected records\n"


def test_a_redrive_gives_what_the_mended_file_would_have_given(call: Call) -> None:
    before = lived()
    assert {alert["rule"] for alert in before} == {"hot", "seen"}
    assert changes([alert for alert in before if alert["rule"] == "hot"]) == [
        ("d", "firing", 3), ("d", "resolved", 4), ("e", "firing", 7),
    ]  # fmt: skip
    mended()
    truth = lived(MENDED, keep=False)
    status, out, err = call("errors", "redrive", "p.toml")
    assert status == 1
    found = alerts(out)
    assert found == [a for a in truth if (a["device"], a["rule"]) == ("d", "hot")]
    assert changes(found) == [("d", "firing", 1), ("d", "resolved", 4)]
    assert "rejected again: measure_missing" in err and "rejected again: not_utf8" in err


def test_a_second_redrive_sends_nothing(call: Call) -> None:
    lived()
    mended()
    first = call("errors", "redrive", "p.toml", "--json", "--alerts", "a.ndjson")
    counts = json.loads(first[1])
    assert counts["evaluated"] == 3 and counts["alerts"]["firing"] >= 1
    sent = Path("a.ndjson").read_bytes()
    again = json.loads(call("errors", "redrive", "p.toml", "--json", "--alerts", "a.ndjson")[1])
    assert again["evaluated"] == 0 and again["alerts"] == {}
    assert again["left"] == {"redriven before": 3}
    assert Path("a.ndjson").read_bytes() == sent


def test_a_dry_run_sends_and_marks_nothing(call: Call) -> None:
    lived()
    mended()
    before = sorted(map(str, Path().rglob("*")))
    for _ in range(2):
        status, out, err = call("errors", "redrive", "p.toml", "--dry-run")
        assert (status, out) == (1, "") and "3 would be redriven" in err
    assert sorted(map(str, Path().rglob("*"))) == before


def test_killed_before_the_marks_it_sends_the_same_again(
    call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    lived()
    mended()
    with monkeypatch.context() as broken:

        def die(*_: object) -> None:
            raise UnavailableError("killed")

        broken.setattr("streamgauge.consumers.redrive.mark", die)
        status, out, err = call("errors", "redrive", "p.toml")
        assert status == 1 and "killed" in err
    assert call("errors", "redrive", "p.toml")[1] == out
    assert call("errors", "redrive", "p.toml")[1] == ""


def test_killed_within_the_alerts_it_marks_nothing(
    call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    lived()
    mended()
    truth = call("errors", "redrive", "p.toml", "--dry-run", "--json")[1]
    with monkeypatch.context() as broken:

        def die(sink: FileSink, rows: Any) -> None:
            delivered(sink, rows[:1])
            raise KeyboardInterrupt

        delivered = FileSink.deliver
        broken.setattr(FileSink, "deliver", die)
        assert call("errors", "redrive", "p.toml", "--alerts", "a.ndjson")[0] == 130
    sent = json.loads(call("errors", "redrive", "p.toml", "--json")[1].splitlines()[-1])
    assert sent["alerts"] == json.loads(truth)["alerts"]


def test_filters_choose_what_is_redriven(call: Call) -> None:
    lived()
    mended()
    status, _, err = call("errors", "redrive", "p.toml", "--reason", "late")
    assert status == 1 and "0 redriven" in err and "2 rejected again: late" in err
    since = "2023-11-14T22:13:28Z"
    status, out, err = call("errors", "redrive", "p.toml", "--rule", "hot", "--since", since)
    assert "1 redriven" in err
    assert {alert["device"] for alert in alerts(out)} <= {"e"}
    assert "2 redriven" in call("errors", "redrive", "p.toml", "--rule", "hot")[2]


def test_a_record_that_names_no_rule_is_evaluated_under_every_rule(call: Call) -> None:
    lived()
    status, _, err = call("errors", "redrive", "p.toml", "--reason", "not_utf8")
    assert status == 1 and "2 rejected again: not_utf8" in err


def test_without_an_archive_it_must_be_asked_for(call: Call) -> None:
    lived()
    text = TOML.replace("SQL", MENDED)
    start, end = text.index("[archive]"), text.index("[delivery]")
    Path("p.toml").write_text(text[:start] + text[end:])
    status, _, err = call("errors", "redrive", "p.toml")
    assert status == 1 and "p.toml: archive: error: expected an archive" in err
    status, out, err = call("errors", "redrive", "p.toml", "--alone")
    assert "3 redriven" in err and "late, which needs the archive" in err
    assert changes(alerts(out)) == [("d", "firing", 1), ("e", "firing", 8)]
    assert call("errors", "redrive", "p.toml", "--alone")[1] == ""
    status, _, err = call("errors", "redrive", "p.toml", "--archive", "archive")
    assert "redriven before" in err


def test_what_is_not_in_the_archive_is_told_and_not_marked(call: Call) -> None:
    lived()
    mended()
    for path in Path("archive").rglob("*.gz"):
        path.unlink()
    other = Pipeline.plan(specs.load("p.toml"), keep_read=True).push([reading(99, 1)])
    archive = Archive(Folder(Path("archive")), "p", "ndjson.gz", 1 << 20, 60.0)
    archive.shard(SHARD).deliver(other.read)
    status, out, err = call("errors", "redrive", "p.toml")
    assert (status, out) == (1, "") and "8 not in the archive" in err
    assert "redriven before" not in call("errors", "redrive", "p.toml")[2]


def test_a_rule_that_is_no_more_is_told(call: Call) -> None:
    lived()
    Path("p.toml").write_text(TOML.replace("SQL", MENDED).replace('"hot"', '"heat"'))
    status, _, err = call("errors", "redrive", "p.toml", "--reason", "measure_type")
    assert status == 0 and "4 left out: of a rule that is no more" in err


def test_a_marker_that_is_none_is_named(call: Call) -> None:
    lived()
    Path("errors/_redriven/p").mkdir(parents=True)
    Path("errors/_redriven/p/x.ndjson").write_text("{}\n")
    status, _, err = call("errors", "redrive", "p.toml")
    assert status == 1 and "x.ndjson: not a marker" in err
