"""The command thresholds: what it shows, sets, takes in and gives out."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from moto import mock_aws

from streamgauge import __main__ as entry
from streamgauge.engine.aws import make_client
from streamgauge.engine.stores.thresholds import FileThresholds

TOML = """
[pipeline]
name = "p"
[thresholds]
table = "limits"
[[rules]]
name = "overheating"
sql = "SELECT * FROM '#'"
measure = "value"
threshold = 90.0
clear_margin = 2.0
[[rules]]
name = "cold"
sql = "SELECT * FROM '#'"
measure = "value"
threshold = 5.0
"""
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Iterator[Run]:
    monkeypatch.chdir(tmp_path)
    Path("p.toml").write_text(TOML)

    def call(command: str, *arguments: str) -> tuple[int, str, str]:
        words = ["streamgauge", "thresholds", command, "p.toml", *arguments]
        monkeypatch.setattr(sys, "argv", words)
        with pytest.raises(SystemExit) as ended:
            entry.main()
        out, err = capfd.readouterr()
        assert isinstance(ended.value.code, int)
        return ended.value.code, out, err

    with mock_aws():
        make_client("dynamodb").create_table(
            TableName="limits", BillingMode="PAY_PER_REQUEST",
            KeySchema=[{"AttributeName": "device", "KeyType": "HASH"},
                       {"AttributeName": "rule", "KeyType": "RANGE"}],
            AttributeDefinitions=[{"AttributeName": name, "AttributeType": "S"}
                                  for name in ("device", "rule")],
        )  # fmt: skip
        yield call


def exported(call: Run) -> list[dict[str, Any]]:
    status, out, _ = call("export")
    assert status == 0
    return [json.loads(line) for line in out.splitlines()]


def test_a_limit_is_set_from_a_time_on_and_what_was_before_is_kept(call: Run) -> None:
    status, out, _ = call("set", "t-1", "75", "--rule", "overheating")
    assert status == 0 and "t-1 overheating: 75 (version 1), from 20" in out
    own, new = exported(call)
    assert own == {"device": "t-1", "rule": "overheating", "value": 90.0, "clear_margin": 2.0,
                   "version": 0}  # fmt: skip
    assert (new["value"], new["version"]) == (75.0, 1) and new["effective_from"] > 1_700_000_000_000
    assert "unchanged" in call("set", "t-1", "75", "--rule", "overheating")[1]
    status, out, _ = call("get", "t-1")
    assert status == 0 and "to come" in out and "in force" in out
    assert "no item of rule cold: its own 5 is in force" in out


def test_always_drops_what_was_before(call: Run) -> None:
    call("set", "t-1", "75", "--rule", "cold", "--effective-from", "2026-01-02T03:04:05Z",
         "--clear-margin", "1.5")  # fmt: skip
    assert exported(call)[1]["effective_from"] == 1767323045000
    call("set", "t-1", "76", "--rule", "cold", "--effective-from", "always")
    assert exported(call) == [
        {"device": "t-1", "rule": "cold", "value": 76.0, "clear_margin": 1.5, "version": 2}
    ]


@pytest.mark.parametrize("form", ["ndjson", "csv"])
def test_an_export_comes_back_and_back_tests_read_it(form: str, call: Run) -> None:
    call("set", "t-1", "75", "--rule", "overheating")
    call("set", "t,2", "76", "--rule", "cold", "--clear-margin", "3")
    before, name = exported(call), f"limits.{form}"
    assert call("export", name)[0] == 0
    status, _, err = call("import", name)
    assert status == 0 and "2 of 2 limits: 0 written, 2 unchanged" in err
    client = make_client("dynamodb")
    for line in before:
        key = {"device": {"S": line["device"]}, "rule": {"S": line["rule"]}}
        client.delete_item(TableName="limits", Key=key)
    assert "2 written" in call("import", name)[2]
    assert exported(call) == before
    if form == "ndjson":
        assert len(FileThresholds(name)) == 2


def test_an_import_can_be_repeated(call: Run) -> None:
    Path("new.csv").write_text("device,rule,value,clear_margin\nt-1,cold,7,\n8,overheating,8,1\n")
    assert "nothing is written" in call("import", "new.csv", "--dry-run")[2]
    assert exported(call) == []
    assert "2 written" in call("import", "new.csv")[2]
    assert "0 written, 2 unchanged" in call("import", "new.csv")[2]
    assert {(line["device"], line["value"]) for line in exported(call) if line["version"]} == {
        ("t-1", 7.0), ("8", 8.0),
    }  # fmt: skip


def test_every_line_is_checked_before_the_first_is_written(call: Run) -> None:
    Path("bad.ndjson").write_text(
        '{"device": "a", "rule": "cold", "value": 1}\n{"device": "b", "rule": "cool", "value": 1}\n'
        '{"device": "c", "rule": "cold", "value": "x"}\n{"rule": "cold", "value": 1}\nno\n'
    )
    status, _, err = call("import", "bad.ndjson")
    assert status == 1 and exported(call) == []
    for number in range(2, 6):
        assert f"bad.ndjson:{number}: " in err
    assert "rule: expected one of overheating, cold, found 'cool'" in err
    Path("bad.csv").write_text("device,value\na,1\n")
    status, _, err = call("import", "bad.csv")
    assert status == 1 and "missing: rule" in err


def test_what_is_asked_for_wrongly(call: Run) -> None:
    status, _, err = call("set", "t-1", "75", "--rule", "overheatin")
    assert status == 2 and "did you mean 'overheating'?" in err
    assert call("set", "t-1", "75")[0] == 2
    assert call("set", "t-1", "75", "--rule", "cold", "--effective-from", "soon")[0] == 2
    Path("p.toml").write_text(TOML.replace('table = "limits"', ""))
    status, _, err = call("get")
    assert status == 1 and "p.toml: thresholds.table: error:" in err


def test_a_missing_table_is_told(call: Run) -> None:
    Path("p.toml").write_text(TOML.replace('"limits"', '"absent"'))
    status, _, err = call("get")
    assert status == 1 and "aws dynamodb create-table --table-name absent" in err
