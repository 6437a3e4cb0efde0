"""`streamgauge test`: cases beside the rules pass, or tell what differs; --update mends them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from streamgauge.cli import test as rule_tests

PIPELINE = """\
# A pipeline with comments, which stay.
[pipeline]
name = "p"
[record]
time = "ts"
topic = "meta.topic"

[[rules]]
name = "hot"
sql = "SELECT v FROM 'home/+' WHERE v < 1000"  # no nonsense
measure = "v"
statistic = "last"
threshold = 10

[[rules.tests]]  # fires and resolves
given = [
  { device = "a", ts = 1, v = 11 },
  '{"device": "a", "ts": 2, "v": 9, "meta": {"x": 1}}',
]
topic = "home/1"
expect = ["firing", { state = "resolved", time = 2, value = 9.0 }]

[[rules.tests]]
given = { device = "a", ts = 1, v = 11 }
topic = "garden/1"
expect = []  # another topic

[[rules]]
name = "cold"
sql = "SELECT v FROM '#'"
measure = "v"
fire_when = "below"
threshold = 0
"""

app = typer.Typer(add_completion=False)
app.command()(rule_tests.command)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "p.toml"
    path.write_text(PIPELINE)
    return path


def run(file: Path, *options: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, [str(file), *options])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout, result.stderr


def test_cases_pass(file: Path) -> None:
    assert run(file) == (0, "ok hot 1\nok hot 2\n2 passed, 0 failed\n", "")
    assert run(file, "--rule", "hot")[0] == 0


def test_what_differs_is_told_key_by_key(file: Path) -> None:
    file.write_text(PIPELINE.replace("value = 9.0", "value = 8.0, samples = 2"))
    status, out, _ = run(file)
    assert status == 1
    assert out.splitlines() == [
        "FAILED hot 1",
        "  alert 2: expected value = 8.0, came 9.0",
        "ok hot 2",
        "1 passed, 1 failed",
    ]


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ('["firing", {', '["firing", "firing", {', "alert 3: expected"),
        ('["firing", { state = "resolved", time = 2, value = 9.0 }]', '["firing"]',
         "alert 2: none expected, came"),
        ("ts = 1, v = 11 },\n  '", "ts = true, v = 11 },\n  '",
         "message 1 rejected: time_type"),
        ("value = 9.0", "severity = \"high\"", 'expected severity = "high", came "warning"'),
    ],
)  # fmt: skip
def test_failures(file: Path, old: str, new: str, told: str) -> None:
    assert old in PIPELINE
    file.write_text(PIPELINE.replace(old, new))
    status, out, _ = run(file)
    assert status == 1 and told in out


def test_update_writes_what_came_and_leaves_the_rest(file: Path) -> None:
    wrong = PIPELINE.replace("value = 9.0", "value = 8.0").replace(
        "expect = []", 'expect = ["firing"]'
    )
    file.write_text(wrong)
    status, _, err = run(file, "--update")
    assert status == 0 and "2 tests expect now what came" in err
    assert run(file)[0] == 0
    lines = set(file.read_text().splitlines())
    changed = set(wrong.splitlines()) - lines
    assert changed == {line for line in wrong.splitlines() if line.startswith("expect = ")}
    assert run(file, "--update") == (0, "ok hot 1\nok hot 2\n2 passed, 0 failed\n", "")


def test_json(file: Path) -> None:
    status, out, _ = run(file, "--json")
    found: dict[str, Any] = json.loads(out)
    assert status == 0 and (found["passed"], found["failed"]) == (2, 0)
    assert [alert["state"] for alert in found["tests"][0]["alerts"]] == ["firing", "resolved"]


def test_no_tests_and_no_such_rule(file: Path) -> None:
    status, out, err = run(file, "--rule", "cold")
    assert (status, out) == (1, "") and "no tests: write [[rules.tests]]" in err
    status, _, err = run(file, "--rule", "warm")
    assert status == 2 and "hot, cold" in err
