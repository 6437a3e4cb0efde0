"""The shipped example finds what it says that it finds."""

import csv
import importlib.util
import json
import statistics
import subprocess
import sys
import tomllib
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

EXAMPLE = Path(__file__).parents[2] / "examples" / "machine-temperature"
HOUR = timedelta(hours=1)
START = datetime(2020, 1, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def score() -> Any:
    """The module score.py."""
    spec = importlib.util.spec_from_file_location("score", EXAMPLE / "score.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def alert(hour: int, state: str, rule: str = "too-cold") -> dict[str, Any]:
    time = START + hour * HOUR
    return {"rule": rule, "state": state, "time": int(time.timestamp() * 1000)}


def test_the_score_is_the_one_shown() -> None:
    command = [sys.executable, str(EXAMPLE / "score.py")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout == (EXAMPLE / "score.txt").read_text()
    assert "22,695 records" in done.stderr


def test_the_limits_are_what_the_first_days_give() -> None:
    with (EXAMPLE / "machine-temperature-system-failure.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["timestamp"] < "2013-12-09"]
    values = [float(row["value"]) for row in rows]
    mean, deviation = statistics.mean(values), statistics.stdev(values)
    with (EXAMPLE / "pipeline.toml").open("rb") as file:
        limits = {rule["name"]: rule["threshold"] for rule in tomllib.load(file)["rules"]}
    assert limits == {
        "too-cold": float(int(mean - 3 * deviation)),
        "too-hot": float(int(mean + 3 * deviation)),
    }


def test_the_notice_is_kept() -> None:
    notice = " ".join((EXAMPLE / "NOTICE").read_text().split())
    assert "Numenta Anomaly Benchmark" in notice and "The MIT License" in notice
    assert "Copyright 2014-2024 Numenta Inc." in notice
    assert len(json.loads((EXAMPLE / "failures.json").read_text())) == 4


def test_caught_missed_and_else(score: Any) -> None:
    known = [score.Failure(START + hour * HOUR, START + (hour + 10) * HOUR) for hour in (0, 50, 99)]
    fired = score.episodes(
        [
            alert(-30, "firing"), alert(-20, "resolved"),
            alert(-2, "firing"), alert(5, "resolved"),
            alert(52, "firing", "too-hot"), alert(53, "firing"), alert(54, "resolved"),
            alert(70, "resolved", "too-hot"), alert(90, "firing"), alert(98, "resolved"),
            alert(200, "firing"),
        ]
    )  # fmt: skip
    assert list(score.report(known, fired)) == [
        "known failures",
        "  caught  2020-01-01 00:00 to 2020-01-01 10:00  too-cold, 2 h 00 min before its start",
        "  caught  2020-01-03 02:00 to 2020-01-03 12:00  too-hot, 2 h 00 min after its start",
        "  missed  2020-01-05 03:00 to 2020-01-05 13:00",
        "2 of 3 caught",
        "",
        "what else fired: 3",
        "  too-cold  2019-12-30 18:00  for 10 h 00 min",
        "  too-cold  2020-01-04 18:00  for 8 h 00 min",
        "  too-cold  2020-01-09 08:00  not over",
    ]
