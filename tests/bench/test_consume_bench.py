"""The bench from GetRecords to alerts: what it reports, and that it fails where an answer is wrong.

No figure is asserted.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

BENCH = Path(__file__).parents[2] / "bench"
TINY = ("--records", "4000", "--devices", "20", "--repeat", "1", "--seed", "7")
START = f"import sys; sys.path.insert(0, {str(BENCH)!r}); import consume; from consume import *\n"
OURS, PARSED = "streamgauge", "streamgauge on boto3's parser"
LOOPS = {"naive", "orjson, times as they are"}
READERS = {OURS, PARSED, "boto3", "boto3, times as they are"}


def run(*arguments: str, broken: str = "") -> tuple[int, dict[str, Any], str]:
    """What the bench gives, after some statements that break a part of it."""
    code = START + broken + "\nconsume.main()"
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True)
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout), done.stderr


def assert_spread(figure: dict[str, float]) -> None:
    assert set(figure) == {"min", "median", "max"}
    assert 0 < figure["min"] <= figure["median"] <= figure["max"]


def differing(report: dict[str, Any]) -> set[str]:
    """Whose alerts are told to differ in any case."""
    return {
        name
        for case in report["cases"]
        for name, wrong in case["checked"]["alerts_differing"].items()
        if wrong
    }


def misread(report: dict[str, Any]) -> set[str]:
    """Whose records are told to differ in any case."""
    return {
        name
        for case in report["cases"]
        for name, wrong in case["records_differing"].items()
        if wrong
    }


@pytest.mark.slow
def test_consume_bench_answers_as_it_must() -> None:
    code, report, talk = run("--quick", "--records", "20000")
    assert (code, report["answers_agree"], report["repeat"]) == (0, True, 2)
    kpl, plain = report["cases"]
    assert (kpl["input"], kpl["records"], kpl["answers"]) == ("kpl", 20_000, 2)
    assert (plain["input"], plain["records"], plain["answers"]) == ("plain", 5_000, 1)
    assert kpl["alerts"] > 0
    assert differing(report) == misread(report) == set()
    for case in report["cases"]:
        assert set(case["checked"]["alerts_differing"]) == {OURS, PARSED, *LOOPS}
        assert set(case["records_differing"]) == READERS
        assert set(case["alerts_differing"]) == LOOPS
        assert set(case["ns_per_record"]) == {OURS, PARSED, *LOOPS}
        assert set(case["records_per_second"]) == {OURS, PARSED, *LOOPS}
        assert set(case["transport"]["ns_per_record"]) == {*READERS, "bytes"}
        assert set(case["parser_pays"]) == {"to alerts", "transport"}
        for part in (case, case["transport"]):
            assert set(part["times_faster_than"]) == set(part["ns_per_record"]) - {OURS}
            for figures in (part["ns_per_record"], part["times_faster_than"]):
                for figure in figures.values():
                    assert_spread(figure)
    assert "kpl, 200 devices: transport" in talk


BREAKS = {
    "the reader loses a record of every answer": (
        """
read = KinesisReader.read
def less(self, shard_id, iterator):
    fetched = read(self, shard_id, iterator)
    return fetched._replace(records=fetched.records[:-1])
KinesisReader.read = less
""",
        {OURS, PARSED},
        {OURS, PARSED},
    ),
    "streamgauge's parser leaves every answer to boto3": (
        "kinesis_answers._decoded = lambda body, shard_id: None",
        {OURS},
        set(),
    ),
    "streamgauge's parser stays where it was to be taken out": (
        "consume.detach = lambda client: None",
        {PARSED},
        set(),
    ),
    "the engine loses alerts": (
        """
push = Pipeline.push
def less(self, records):
    outcome = push(self, records)
    del outcome.alerts[:1]
    return outcome
Pipeline.push = less
""",
        set(),
        {OURS, PARSED},
    ),
    "a loop sees half of what it is given": (
        """
opened = loops.OPENERS["aws_kinesis_agg"]
loops.OPENERS["aws_kinesis_agg"] = lambda records: list(opened(records))[::2]
""",
        set(),
        LOOPS,
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("broken", BREAKS)
def test_consume_bench_fails_where_an_answer_is_wrong(broken: str) -> None:
    statements, records, alerts = BREAKS[broken]
    code, report, _ = run(*TINY, broken=statements)
    assert (code, report["answers_agree"]) == (1, False)
    assert misread(report) == records
    assert differing(report) == alerts


def test_the_endpoint_ends_with_its_parent(tmp_path: Path) -> None:
    command = [sys.executable, "-I", BENCH / "material" / "endpoint.py", tmp_path, "shard"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None and process.stdout is not None
        try:
            assert int(process.stdout.readline()) > 0
            assert process.poll() is None
            process.stdin.close()  # as the system does when the parent is gone
            assert process.wait(20) == 0
        finally:
            process.kill()
