"""`streamgauge sql`: one message, many cases, and the prompt, as people use them."""

from __future__ import annotations

import json
import os
import pty
import select
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from sql_cases import CORPUS

from streamgauge.cli.sql_prompt import Prompt

COMMAND = [sys.executable, "-m", "streamgauge", "sql"]


def sql(*arguments: str, given: str = "", cwd: Path | None = None) -> tuple[int, str, str]:
    done = subprocess.run(
        [*COMMAND, *arguments], input=given, capture_output=True, text=True, cwd=cwd
    )
    return done.returncode, done.stdout, done.stderr


def test_one_message() -> None:
    status, out, err = sql("SELECT (t - 32) * 5 / 9 AS c", "--payload", "-", given='{"t": 71}')
    assert (status, out, err) == (0, '{"c":21}\n', "")


def test_the_message_and_its_context_from_files(tmp_path: Path) -> None:
    (tmp_path / "m.json").write_text('{"a": 10.0}')
    (tmp_path / "c.json").write_text('{"clientid": "c-1", "timestamp": 5}')
    statement = "SELECT 'x' + a AS a, clientid() AS c, timestamp() AS t, topic(2) AS u FROM 'a/+'"
    given = ("--payload", "m.json", "--context", "c.json", "--topic", "a/b")
    assert sql(statement, *given, cwd=tmp_path)[1] == '{"a":"x10","c":"c-1","t":5,"u":"b"}\n'
    older = sql(statement, *given, "--sql-version", "2015-10-08", cwd=tmp_path)
    assert json.loads(older[1])["a"] == "x10.0"


def test_switches() -> None:
    assert sql("SELECT 5 / 2 AS r", "--int-division", "decimal")[1] == '{"r":2.5}\n'
    assert sql("SELECT true OR x AS r", "--undefined-logic", "kleene")[1] == '{"r":true}\n'


def test_why_there_is_no_output() -> None:
    statement = "SELECT * FROM 'a/#' WHERE t > 80 AND NOT u = 'y'"
    status, out, err = sql(statement, "--topic", "a/b", "--payload", "-", given='{"t":71,"u":"x"}')
    assert (status, out) == (0, "")
    assert err.splitlines() == [
        "no action: WHERE is false",
        "  AND: false",
        "    t > 80: false  (t is 71)",
        "    NOT: true",
        "      u = 'y': false  (u is \"x\")",
    ]
    status, out, err = sql(statement, "--topic", "b")
    assert (status, out) == (0, "")
    assert err == "not triggered: topic 'b' does not match FROM 'a/#'\n"
    assert (
        "t > 80: true  (t is 81)" in sql(statement, "--why", "--payload", "-", given='{"t":81}')[2]
    )


def test_what_is_refused_and_what_has_no_output() -> None:
    status, out, err = sql("SELECT a + 1 FROM 'x'")
    assert (status, out) == (1, "") and "column 10" in err and "^" in err
    status, out, err = sql("SELECT *, 1 AS a", "--payload", "-", given="text")
    assert (status, out) == (1, "") and "JSON object" in err
    assert sql("SELECT *", "--payload", "-", given="text")[:2] == (0, "text\n")
    assert sql("SELECT 1 AS a", "--cases", "x")[0] == 2
    assert sql("SELECT 1 AS a", "--context", "-", given="[]")[0] == 1


def test_every_case_of_the_corpus() -> None:
    file = CORPUS / "clauses.jsonl"
    lines = [json.loads(line) for line in file.read_text().splitlines() if line[0] == "{"]
    status, out, err = sql("--cases", "-", given="\n".join(map(json.dumps, lines)))
    assert (status, err) == (0, "")
    found = {line["id"]: line for line in map(json.loads, out.splitlines())}
    assert list(found) == [line["id"] for line in lines]
    for line in lines:
        outcome = {"refused": "error"}.get(line["outcome"], line["outcome"])
        assert found[line["id"]]["outcome"] == outcome
        assert ("output" in found[line["id"]]) == (outcome == "output")
        assert ("error" in found[line["id"]]) == (outcome == "error")
        if outcome == "output":
            if line["id"] == "context-unknown":  # a command knows what time it is
                found[line["id"]]["output"].pop("ms")
            assert found[line["id"]]["output"] == line["expected"]


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("{", "line 1: error: expected a case as JSON"),
        ("[]", "expected a case as a JSON object"),
        ('{"id": 1}', "a case needs sql"),
        ('{"id": 1, "sql": 5}', "sql: expected another type"),
        ('{"id": 1, "sql": "SELECT *", "payload_hex": "0g"}', "payload_hex: expected hex digits"),
    ],
)
def test_a_case_that_is_none_is_named(line: str, told: str) -> None:
    status, out, err = sql("--cases", "-", given=line)
    assert (status, out) == (1, "") and told in err


def test_a_binary_output_of_a_case() -> None:
    line = {"id": "b", "sql": "SELECT * FROM 'a'", "topic": "a", "payload_hex": "ff00"}
    found = json.loads(sql("--cases", "-", given=json.dumps(line))[1])
    assert found == {"id": "b", "outcome": "output", "output": None, "output_base64": "/wA="}


def test_the_prompt_without_a_terminal_prints_outputs_alone() -> None:
    given = (
        '.payload {"a": 5}\nSELECT a + 1\n  AS b\n\nSELECT a FROM\n\n.topic x/y\n'
        "SELECT topic(2) AS t;\n.nothing\n.version 1\n.version 2015-10-08\nSELECT 'x' + 1.0 AS v;\n"
        ".show\nSELECT 1 AS last"
    )
    status, out, err = sql(given=given)
    assert status == 0
    assert out.splitlines() == ['{"b":6}', '{"t":"y"}', '{"v":"x1.0"}', '{"last":1}']
    assert ".nothing: no such command" in err and "found the end" in err and "topic x/y" in err


# Makes standard input the terminal of its own process group, so that Ctrl-C reaches it, also where
# the tests run in the background of a shell, whose processes begin with Ctrl-C ignored.
ON_TERMINAL = (
    "import fcntl, os, signal, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0);"
    "signal.signal(signal.SIGINT, signal.SIG_DFL);"
    "os.execv(sys.argv[1], sys.argv[1:])"
)


def test_the_prompt_on_a_terminal() -> None:
    """Typed as a person does: a statement over two lines, one dropped by Ctrl-C, then Ctrl-D."""
    parent, child = pty.openpty()
    ends = {"stdin": child, "stdout": child, "stderr": child}
    command = [sys.executable, "-c", ON_TERMINAL, *COMMAND]
    done = subprocess.Popen(command, **ends, start_new_session=True)
    os.close(child)
    shown = b""

    def until(text: bytes) -> None:
        nonlocal shown
        while text not in shown:
            ready = select.select([parent], [], [], 60)[0]
            assert ready, f"{text!r} not in {shown!r}, status {done.poll()}"
            shown += os.read(parent, 4096)
        shown = shown.partition(text)[2]

    until(b"sql> ")
    os.write(parent, b".topic a/b\n")
    until(b"sql> ")
    os.write(parent, b"SELECT topic(2) AS room\n")
    until(b"-> ")
    os.write(parent, b"FROM '#';\n")
    until(b'{"room":"b"}')
    until(b"sql> ")
    os.write(parent, b"SELECT nonsense\n")
    until(b"-> ")
    # Python's line editor sees a Ctrl-C only while it waits: a person who is too quick for it
    # presses again.
    for _ in range(30):
        os.write(parent, b"\x03")
        if select.select([parent], [], [], 2)[0]:
            break
    until(b"sql> ")
    os.write(parent, b"\x04")
    assert done.wait(timeout=30) == 0
    os.close(parent)


def test_words_are_completed() -> None:
    payload = json.dumps({"temperature": 1, "at": {"lat": 2}}).encode()
    prompt = Prompt("", payload, {}, {})
    found: list[Any] = [prompt.complete("te", n) for n in range(2)]
    assert found == ["temperature", None]
    assert prompt.complete("at.", 0) == "at.lat"
    assert prompt.complete("sel", 0) == "SELECT"
    assert prompt.complete("upp", 0) == "upper("
