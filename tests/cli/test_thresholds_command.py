"""`streamgauge thresholds` as it is called: what it prints, writes, refuses, and how it ends."""

from __future__ import annotations

import gzip
import json
import os
import re
import shlex
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto import mock_aws

from streamgauge import __main__ as entry
from streamgauge.engine.stores.dynamodb import creation
from streamgauge.engine.stores.thresholds import FileThresholds

ROOT = Path(__file__).parents[2]
DOCUMENT = (ROOT / "docs" / "thresholds.md").read_text(encoding="utf-8")
TOML = """
[pipeline]
name = "p"
[thresholds]
table = "limits"
[[rules]]
name = "overheating"
sql = "SELECT * FROM '#'"
measure = "t"
threshold = 90
clear_margin = 2
[[rules]]
name = "frost"
sql = "SELECT * FROM '#'"
measure = "t"
fire_when = "below"
threshold = 5
"""
PAST, FUTURE = 1_700_000_000_000, 4_102_444_800_000
Call = Callable[..., tuple[int, str, str]]


@pytest.fixture
def client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A client of tables in this process, and a directory with a pipeline file to be in."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("USER", "anna")
    Path("p.toml").write_text(TOML)
    with mock_aws():
        yield boto3.client("dynamodb")


@pytest.fixture
def table(client: Any) -> Any:
    """The same, with the table made."""
    make(client, creation("limits"))
    return client


def make(client: Any, command: str) -> None:
    words = shlex.split(command)
    names = {name: words[words.index(name) + 1] for name in ("--table-name", "--billing-mode")}
    keys = [dict(pair.split("=") for pair in w.split(",")) for w in words if "KeyType" in w]
    client.create_table(
        TableName=names["--table-name"],
        BillingMode=names["--billing-mode"],
        AttributeDefinitions=[
            {"AttributeName": key["AttributeName"], "AttributeType": "S"} for key in keys
        ],
        KeySchema=keys,
    )


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Call:
    """Runs the command in this process: (exit status, stdout, stderr)."""

    def call(*arguments: str | int | float | Path, of: str = "p.toml") -> tuple[int, str, str]:
        name, *rest = map(str, arguments)
        monkeypatch.setattr(sys, "argv", ["streamgauge", "thresholds", name, of, *rest])
        with pytest.raises(SystemExit) as ended:
            entry.main()
        out, err = capfd.readouterr()
        assert isinstance(ended.value.code, int)
        return ended.value.code, out, err

    return call


def rows(call: Call, *arguments: str | int) -> list[dict[str, Any]]:
    status, out, err = call("get", *arguments, "--json")
    assert (status, err) == (0, "")
    return [json.loads(line) for line in out.splitlines()]


def put(client: Any, device: str, rule: str, **attributes: Any) -> None:
    item = {name: v if isinstance(v, dict) else {"N": str(v)} for name, v in attributes.items()}
    key = {"device": {"S": device}, "rule": {"S": rule}}
    client.put_item(TableName="limits", Item=key | item)


def dump(client: Any) -> list[Any]:
    return sorted(client.scan(TableName="limits")["Items"], key=repr)


def masked(text: str) -> str:
    """A text without the times in it, and the widths that depend on them."""
    text = re.sub(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", "TIME", text)
    text = re.sub(r'"effective_from":17\d{11}', '"effective_from":MS', text)
    return re.sub(r"[ \t]+", " ", text)


def test_the_document_shows_what_happens(client: Any, call: Call) -> None:
    (toml,) = re.findall(r"^```toml\n(.*?)^```$", DOCUMENT, re.M | re.S)
    Path("thermostats.toml").write_text(toml)
    shown = "".join(re.findall(r"^```text\n(.*?)^```$", DOCUMENT, re.M | re.S))
    commands = re.split(r"^\$ ", shown, flags=re.M)[1:]
    assert len(commands) > 12
    for text in commands:
        command, _, expected = text.partition("\n")
        words = shlex.split(command)
        if words[:2] == ["aws", "dynamodb"]:
            assert command == creation("thresholds")
            make(client, command)
            continue
        if words[0] == "cat":
            Path(words[1]).write_text(expected)
            continue
        assert words[:2] == ["streamgauge", "thresholds"]
        _, out, err = call(words[2], *words[4:], of=words[3])
        assert masked(out + err) == masked(expected), command


def test_a_limit_is_set_two_refreshes_from_now(table: Any, call: Call) -> None:
    Path("p.toml").write_text(TOML.replace('"limits"', '"limits"\nrefresh = "5m"'))
    before = time.time_ns() // 1_000_000
    status, out, err = call("set", "t-1", 75, "--rule", "overheating", "--clear-margin", "1.5")
    after = time.time_ns() // 1_000_000
    assert (status, err) == (0, "")
    assert masked(out).splitlines() == [
        "t-1 overheating: 75, margin 1.5, version 1, from TIME",
        " before: 90, margin 2, version 0, always",
    ]
    base, new = rows(call, "t-1")
    assert base == {"device": "t-1", "rule": "overheating", "value": 90.0, "clear_margin": 2.0,
                    "version": 0, "status": "in_force"}  # fmt: skip
    (item,) = dump(table)
    assert item["updated_by"] == {"S": "anna"}
    assert new["effective_from"] == int(item["effective_from"]["N"])
    assert before <= new["effective_from"] - 600_000 <= after


@pytest.mark.parametrize("start", ["now", "always", str(PAST)])
def test_a_start_before_all_have_read_it_is_said_to_be_one(
    start: str, table: Any, call: Call
) -> None:
    note = "note: consumers may read this after it is in force; a replay may decide otherwise\n"
    assert call("set", "t", 75, "--rule", "frost", "--effective-from", start)[::2] == (0, note)
    assert call("set", "t", 76, "--rule", "frost", "--effective-from", str(FUTURE))[2] == ""


def test_changes_are_told_with_what_comes_before_and_after(table: Any, call: Call) -> None:
    def set_(value: float, *options: str) -> str:
        status, out, _ = call("set", "t", value, "--rule", "frost", *options)
        assert status == 0
        return out

    set_(-5.5, "--effective-from", "2100-01-01 00:00")
    assert set_(-7, "--effective-from", str(PAST)) == (
        "t frost: -7, margin 0 (the rule's), version 2, from 2023-11-14T22:13:20Z\n"
        "  before: 5, margin 0, version 0, always\n"
        "  after: -5.5, margin 0 (the rule's), version 1, from 2100-01-01T00:00:00Z\n"
    )
    assert set_(-7) == (
        "t frost: -7, margin 0 (the rule's), version 2, from 2023-11-14T22:13:20Z:"
        " that is so already, nothing is written\n"
        "  before: 5, margin 0, version 0, always\n"
        "  after: -5.5, margin 0 (the rule's), version 1, from 2100-01-01T00:00:00Z\n"
    )
    assert set_(0, "--effective-from", "always") == (
        "t frost: 0, margin 0 (the rule's), version 3, always\n"
    )
    assert set_(0, "--effective-from", "always").endswith("nothing is written\n")


@pytest.mark.parametrize("value", ["-5", "-5.25", "-1e3", "-.5"])
def test_a_value_may_be_negative(value: str, table: Any, call: Call) -> None:
    assert call("set", "t", value, "--rule", "frost")[0] == 0
    assert rows(call, "t")[1]["value"] == float(value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("set", "t", 75), "--rule: expected one of overheating, frost"),
        (("set", "t", 75, "--rule", "overheatin"), "no rule 'overheatin' (did you mean 'overheat"),
        (("set", "t", 75, "--rule", "x"), "no rule 'x' (the rules are overheating, frost)"),
        (("set", "t", "warm", "--rule", "frost"), "VALUE"),
        (("set", "t", "inf", "--rule", "frost"), "value: expected a finite number, found inf"),
        (("set", "t", "1e200", "--rule", "frost"), "value: expected 0 or a number that DynamoDB"),
        (("set", "", 75, "--rule", "frost"), "DEVICE: expected a text of 1 to 2,048 bytes"),
        (("set", "t" * 2049, 75, "--rule", "frost"), "DEVICE: expected a text of 1 to 2,048 bytes"),
        (("set", "t", 75, "--rule", "frost", "--clear-margin", "-1"), "clear_margin: expected a"),
        (("set", "t", 75, "--rule", "frost", "--effective-from", "soon"), "found 'soon'"),
        (("set", "t", 75, "--rul", "frost"), "unexpected extra argument"),
        (("get", "t", "--at", "2026-13-01"), "--at: expected ms since 1970, or a time such as"),
        (("get", "t", "--rule", "frosty"), "no rule 'frosty' (did you mean 'frost'?)"),
        (("get", ""), "DEVICE: expected a text"),
        (("export", "p.toml"), "p.toml is the pipeline file"),
        (("import",), "Missing argument"),
    ],
)
def test_usage_errors_call_nothing(
    arguments: tuple[Any, ...], message: str, client: Any, call: Call
) -> None:
    status, out, err = call(*arguments)
    assert (status, out) == (2, "")
    assert message in " ".join(err.split())


def test_a_pipeline_file_without_a_table_says_which_key_is_missing(client: Any, call: Call) -> None:
    Path("p.toml").write_text(TOML.replace('table = "limits"', ""))
    for arguments in (("get",), ("set", "t", 1, "--rule", "frost"), ("import", "x"), ("export",)):
        assert call(*arguments) == (
            1, "", "p.toml: thresholds.table: error: expected the name or ARN of a DynamoDB table,"
            ' found none (table = "thresholds")\n',
        )  # fmt: skip


def test_a_missing_table_is_made_by_the_command_that_is_printed(client: Any, call: Call) -> None:
    Path("l.ndjson").write_text('{"device":"t","rule":"frost","value":1}\n')
    change = ("set", "t", 1, "--rule", "frost")
    for arguments in (("get", "t"), ("get",), change, ("import", "l.ndjson")):
        status, out, err = call(*arguments)
        assert (status, out) == (1, "")
        assert f"(make the table with: {creation('limits')})\n" in err
    make(client, err.rpartition("make the table with: ")[2].strip(")\n"))
    assert call(*change)[0] == 0


def test_get_shows_what_is_in_force_when(table: Any, call: Call) -> None:
    older = {"L": [{"M": {"value": {"N": "60"}, "version": {"S": "a"}}}]}
    put(table, "t-2", "overheating", value=70, effective_from=PAST, version=3, history=older)
    put(table, "t-10", "frost", value="2.5", clear_margin="0.25")
    put(table, "t-10", "boiling", value=1)
    table_text = (
        "device  rule         value  margin      version  in force from (UTC)\n"
        "t-10    frost        2.5    0.25        -        always                in force\n"
        "t-2     overheating  60     the rule's  a        always                {}\n"
        "t-2     overheating  70     the rule's  3        2023-11-14T22:13:20Z  {}\n"
    )
    note = "note: left out: 1 limit of rule 'boiling', which the pipeline does not have\n"
    assert call("get") == (0, table_text.format("history", "in force"), note)
    assert call("get", "--at", str(PAST)) == (0, table_text.format("history", "in force"), note)
    before = table_text.format("in force", "upcoming")
    assert call("get", "--at", str(PAST - 1)) == (0, before, note)
    assert call("get", "--at", "2023-11-14T23:13:19.999+01:00") == (0, before, note)
    assert call("get", "t-2", "--rule", "frost") == (
        0, "frost: t-2 has no item: the rule's own limit is in force, 5, margin 0\n", ""
    )  # fmt: skip
    assert [row["rule"] for row in rows(call, "t-2")] == ["overheating"] * 2
    assert rows(call, "t-2", "--rule", "frost") == []


def test_get_escapes_what_a_terminal_would_obey(table: Any, call: Call) -> None:
    put(table, "a\x1b[2Jb", "frost", value=1)
    status, out, _ = call("get")
    assert (status, "\x1b" in out) == (0, False)
    assert "a\\x1b[2Jb" in out


def test_items_that_are_no_limits_are_named_and_the_others_shown(table: Any, call: Call) -> None:
    put(table, "a", "frost", value={"S": "5"})
    put(table, "b", "frost", value=4)
    put(table, "c", "overheating", value=4, clear_margin=-1)
    status, out, err = call("get")
    assert status == 1
    assert [line.split()[0] for line in out.splitlines()] == ["device", "b"]
    assert err.splitlines() == [
        "table limits: device 'a', rule 'frost': error: value: expected a number,"
        " found the text '5', of type S",
        "table limits: device 'c', rule 'overheating': error: clear_margin: expected a number"
        " at or above 0, found -1.0",
    ]
    assert call("export", "out.ndjson")[0] == 1
    assert not Path("out.ndjson").exists()
    assert call("set", "a", 3, "--rule", "frost")[0] == 1
    assert call("set", "a", 3, "--rule", "frost", "--effective-from", "always")[0] == 0
    Path("l.csv").write_text("device,rule,value\nb,frost,1\nc,overheating,1\nd,frost,1\n")
    status, out, err = call("import", "l.csv")
    assert (status, out) == (1, "")
    assert err.splitlines()[0] == (
        "3 of 3 limits: 2 written, 0 as they were, 1 left alone: what is there is no limit"
    )
    assert "device 'c', rule 'overheating': error: clear_margin" in err.splitlines()[1]


def test_export_goes_through_import_and_backtest(table: Any, call: Call) -> None:
    call("set", "=1+1", 75, "--rule", "overheating", "--clear-margin", "0.1")
    call("set", "=1+1", 70, "--rule", "overheating", "--effective-from", str(FUTURE))
    call("set", "'q", 0.1, "--rule", "frost", "--effective-from", "always")
    hand = {"L": [{"M": {"value": {"N": "1"}, "version": {"S": "7"}}}]}
    put(table, "hand,\n made ", "frost", value=3, effective_from=PAST, history=hand)
    before = [{k: v for k, v in item.items() if k != "updated_by"} for item in dump(table)]
    outputs = ("a.ndjson", "a.csv", "a.ndjson.gz", "a.csv.gz")
    for name in outputs:
        status, out, err = call("export", name)
        assert (status, out, err) == (0, "", "3 limits of 3 devices in 6 lines\n")
    assert gzip.decompress(Path("a.csv.gz").read_bytes()) == Path("a.csv").read_bytes()
    assert call("export")[1] == Path("a.ndjson").read_text()
    assert b"\n'=1+1,overheating,75.0,0.1,1," in Path("a.csv").read_bytes()
    for name in outputs:
        assert call("import", name) == (0, "", "3 of 3 limits: 0 written, 3 as they were\n")
        for item in dump(table):
            table.delete_item(TableName="limits", Key={k: item[k] for k in ("device", "rule")})
        call("set", "=1+1", 1, "--rule", "overheating")
        assert call("import", name) == (0, "", "3 of 3 limits: 3 written, 0 as they were\n")
        after = [{k: v for k, v in item.items() if k != "updated_by"} for item in dump(table)]
        assert after == before
    store = FileThresholds("a.ndjson")
    found = store.read([("=1+1", "overheating"), ("hand,\n made ", "frost")])
    assert [[e.version for e in entries] for entries in found.values()] == [[0, 1, 2], ["7", None]]
    assert len(FileThresholds("a.ndjson.gz")) == 3


def test_lines_without_a_version_do_what_set_does(table: Any, call: Call) -> None:
    put(table, "old", "frost", value=1, version=5)
    lines = [
        {"device": "old", "rule": "frost", "value": 2, "effective_from": FUTURE},
        {"device": 7, "rule": "frost", "value": 3, "clear_margin": None},
        {"device": "plan", "rule": "frost", "value": 4, "effective_from": FUTURE + 1},
        {"device": "plan", "rule": "frost", "value": 5, "effective_from": FUTURE},
    ]
    Path("l.ndjson").write_text("\ufeff" + "\n\n".join(map(json.dumps, lines)) + "\n")
    assert call("import", "l.ndjson", "--dry-run")[2] == (
        "3 of 3 limits: 3 would be written, 0 as they were\n"
    )
    assert len(dump(table)) == 1
    assert call("import", "l.ndjson") == (0, "", "3 of 3 limits: 3 written, 0 as they were\n")
    before = dump(table)
    assert call("import", "l.ndjson") == (0, "", "3 of 3 limits: 0 written, 3 as they were\n")
    assert dump(table) == before
    found = [(row["device"], row["version"], row["value"]) for row in rows(call)]
    assert found == [
        ("7", 0, 5.0), ("7", 1, 3.0), ("old", 5, 1.0), ("old", 6, 2.0),
        ("plan", 0, 5.0), ("plan", 1, 5.0), ("plan", 2, 4.0),
    ]  # fmt: skip


def test_every_line_is_checked_before_the_first_is_written(table: Any, call: Call) -> None:
    Path("l.csv").write_text("device,rule,value\na,frost,1\nb,hot,1\nc,frost,x\n")
    assert call("import", "l.csv") == (
        1, "",
        "l.csv:3: error: rule: the pipeline has none called 'hot' (the rules are overheating,"
        " frost)\nl.csv:4: error: device 'c', rule 'frost': value: expected a finite number,"
        " found 'x'\n",
    )  # fmt: skip
    assert dump(table) == []


def test_a_file_that_cannot_be_read_is_named(table: Any, call: Call) -> None:
    Path("torn.gz").write_bytes(gzip.compress(b"x" * 1000)[:-5])
    for name in ("absent", "torn.gz"):
        status, _, err = call("import", name)
        assert (status, err[: len(name) + 25]) == (1, f"{name}: error: cannot be read: ")
    Path("l.csv").write_bytes(b"device,rule,value\n\xff,frost,1\n")
    assert call("import", "l.csv")[2].startswith("l.csv: error: no UTF-8")
    os.mkdir("folder")
    assert call("export", "folder")[0] == 1


def test_nothing_to_list_or_bring(table: Any, call: Call) -> None:
    assert call("get")[1].splitlines() == [
        "overheating: no device has an item: the rule's own limit is in force, 90, margin 2",
        "frost: no device has an item: the rule's own limit is in force, 5, margin 0",
    ]
    assert call("export") == (0, "", "0 limits of 0 devices in 0 lines\n")
    assert call("export", "--format", "csv")[1] == (
        "device,rule,value,clear_margin,version,effective_from\r\n"
    )
    Path("empty.csv").write_text("")
    assert call("import", "empty.csv") == (0, "", "0 of 0 limits: 0 written, 0 as they were\n")
