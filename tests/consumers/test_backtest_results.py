"""What the back-test writes: the stable formats, in order, and never half a file unnoticed."""

import json
from pathlib import Path

import numpy as np
import pytest

from streamgauge.consumers.results import (
    ResultFile,
    alert_lines,
    rejected_lines,
    statistics_lines,
)
from streamgauge.engine.batch import Alert, Position, Rejected, Statistics

NAMES = ['a "1"', "b"]


def statistics(rule: str, index: list[int], value: list[float]) -> Statistics:
    rows = np.array(index, np.int64)
    return Statistics(rule, rows, rows % 2, rows * 1000, np.array(value), rows + 1, NAMES)


def test_alerts_and_rejected_records_have_the_stable_keys() -> None:
    alert = Alert(
        id="x", pipeline="p", rule="r", device="d", state="firing", time=5, value=1.5, samples=2,
        threshold=1.0, threshold_version=None, window_start=0, window_end=5,
        first_position="s:1:0", last_position="s:2:0", severity="warning",
    )  # fmt: skip
    (line,) = map(json.loads, alert_lines([alert]).splitlines())
    assert line["threshold_version"] is None
    assert list(line) == [
        "id", "pipeline", "rule", "device", "state", "time", "value", "samples", "threshold",
        "threshold_version", "window_start", "window_end", "first_position", "last_position",
        "severity",
    ]  # fmt: skip
    row = Rejected(
        stage="decode", reason="bytes", message="m", rule=None, at=Position("s", "7", 2),
        arrival_time=None, partition_key="k", data=b"\xff",
    )  # fmt: skip
    (line,) = map(json.loads, rejected_lines([row]).splitlines())
    assert line == {
        "stage": "decode", "reason": "bytes", "message": "m", "rule": None, "position": "s:7:2",
        "shard_id": "s", "sequence_number": "7", "sub_sequence_number": 2, "arrival_time": None,
        "partition_key": "k", "data": "/w==",
    }  # fmt: skip


def test_statistics_stand_in_arrival_order_and_the_order_of_the_rules() -> None:
    values = [5e-324, 1.7976931348623157e308, 58.54, 0.1 + 0.2]
    first, second = statistics("one", [0, 2, 3], values[:3]), statistics("two", [2, 1], values[2:])
    lines = [json.loads(line) for line in statistics_lines([first, second]).splitlines()]
    assert [list(line.values()) for line in lines] == [
        ["one", 'a "1"', 0, values[0], 1],
        ["two", "b", 1000, values[3], 2],
        ["one", 'a "1"', 2000, values[1], 3],
        ["two", 'a "1"', 2000, values[2], 3],
        ["one", "b", 3000, values[2], 4],
    ]
    assert list(lines[0]) == ["rule", "device", "time", "value", "samples"]


def test_no_row_is_no_line() -> None:
    assert statistics_lines([statistics("one", [], [])]) == b""
    assert alert_lines([]) == rejected_lines([]) == b""


@pytest.mark.parametrize("whole", [True, False])
def test_a_file_has_its_name_when_it_is_whole(whole: bool, tmp_path: Path) -> None:
    path = tmp_path / "alerts.ndjson"
    path.write_text("older")
    file = ResultFile(str(path))
    file.write(b"new\n")
    assert path.read_text() == "older"
    file.close(whole)
    assert path.read_text() == ("new\n" if whole else "older")
    left = {entry.name for entry in tmp_path.iterdir()}
    assert left == ({path.name} if whole else {path.name, f"{path.name}.partial"})


def test_a_device_is_written_to_as_it_is() -> None:
    file = ResultFile("/dev/null")
    file.write(b"x\n")
    file.close(True)
    assert not Path("/dev/null.partial").exists()
    assert file.written == "/dev/null"
