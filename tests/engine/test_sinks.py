"""One suite over every sink: what is acknowledged can be read back, what is refused comes again."""

import io
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from sink_cases import (
    TAKES,
    alert,
    bucket,
    directory,
    fifo_topic,
    file,
    final,
    full_disk,
    memory,
    plain,
    rows_of,
    stage,
    stage_s3,
    topic,
)

from streamgauge.engine.errors import UnavailableError
from streamgauge.engine.sinks.base import Patience, ndjson
from streamgauge.engine.sinks.local import FileSink, StdoutSink


def each(*sinks: Any) -> Any:
    """Each of these sinks, or all, with each kind of row that it takes."""
    taken = [(sink, row) for sink, row in TAKES if not sinks or sink in sinks]
    names = [f"{sink.__name__}, {row.__name__}" for sink, row in taken]
    return pytest.mark.parametrize(("make", "row"), taken, ids=names)


each_sink = each()


def by_key(rows: Sequence[Any], row: Any) -> dict[str, Any]:
    """Rows as a reader knows them who applies each once."""
    return {one["id" if row is alert else "position"]: one for one in rows}


@each_sink
def test_acknowledged_rows_can_be_read_back(tmp_path: Path, make: Any, row: Any) -> None:
    case = make(tmp_path)
    rows = [row(number) for number in range(1, 6)]
    case.sink.deliver(rows[:2])
    assert case.held() == plain(rows[:2])
    case.sink.deliver([])
    case.sink.deliver(rows[2:])
    case.sink.flush()
    assert case.held() == plain(rows)
    case.sink.close()
    case.sink.close()
    assert case.held() == plain(rows)


@each_sink
def test_refused_rows_come_again_and_nothing_is_torn(tmp_path: Path, make: Any, row: Any) -> None:
    case = make(tmp_path)
    rows = [row(number) for number in range(1, 6)]
    case.sink.deliver(rows[:2])
    with case.refusing(), pytest.raises(UnavailableError):
        case.sink.deliver(rows[2:])
    assert case.held() == plain(rows[:2])
    case.sink.deliver(rows[2:])
    assert case.held() == plain(rows)
    case.sink.close()


@each_sink
def test_rows_that_come_again_are_told_by_their_keys(tmp_path: Path, make: Any, row: Any) -> None:
    case = make(tmp_path)
    rows = [row(number) for number in range(1, 6)]
    for cut in (rows[:3], rows[:3], rows[1:4], rows):
        case.sink.deliver(cut)
    case.sink.close()
    assert by_key(case.held(), row) == by_key(plain(rows), row)


@each(memory, topic, fifo_topic, bucket, stage_s3)
def test_an_answer_that_was_lost_costs_a_repeat_and_no_row(
    tmp_path: Path, make: Any, row: Any
) -> None:
    case = make(tmp_path)
    assert case.losing is not None
    rows = [row(number) for number in range(1, 6)]
    with case.losing(), pytest.raises(UnavailableError):
        case.sink.deliver(rows[:3])
    case.sink.deliver(rows[:3])
    case.sink.deliver(rows[3:])
    assert by_key(case.held(), row) == by_key(plain(rows), row)
    assert len(case.held()) <= len(rows) + 3


@each(file, directory, topic, fifo_topic, bucket, stage, stage_s3, final)
def test_nothing_is_lost_if_close_is_never_called(tmp_path: Path, make: Any, row: Any) -> None:
    case = make(tmp_path)
    rows = [row(number) for number in range(1, 6)]
    case.sink.deliver(rows[:3])
    assert case.held() == plain(rows[:3])
    assert case.reopened is not None
    again = case.reopened()
    again.deliver(rows[1:])
    assert by_key(case.held(), row) == by_key(plain(rows), row)
    again.close()
    case.sink.close()  # for the sake of this process alone


@each_sink
def test_an_outage_is_outlasted_by_a_caller_with_patience(
    tmp_path: Path, make: Any, row: Any
) -> None:
    case = make(tmp_path)
    refusing = case.refusing()
    patience = Patience(sleep=lambda _: refusing.__exit__(None, None, None))
    refusing.__enter__()
    patience.insist(lambda: case.sink.deliver([row(1), row(2)]))
    patience.insist(case.sink.flush)
    case.sink.close()
    assert case.held() == plain([row(1), row(2)])
    assert (patience.counts.retries, patience.counts.failing) == (1, False)


# Standard output.


def test_standard_output_is_utf_8_whatever_the_terminal_speaks() -> None:
    code = (
        "from streamgauge.engine.sinks.local import StdoutSink\n"
        "from streamgauge.engine.batch import Position, Rejected\n"
        "print('before')\n"
        "StdoutSink().deliver([Rejected(stage='a', reason='b', message='ü', rule=None,"
        " at=Position('s', '1'), arrival_time=None, partition_key='', data=b'')])\n"
        "print('after')\n"
    )
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, check=True, env=environment
    )
    before, row, after = done.stdout.splitlines()
    assert (before, after) == (b"before", b"after")
    assert json.loads(row)["message"] == "ü"


def test_a_stream_of_text_is_taken_too() -> None:
    text = io.StringIO()
    StdoutSink(text).deliver([alert(1, "ü")])
    assert json.loads(text.getvalue())["device"] == "ü"


def test_standard_output_is_looked_up_when_it_is_needed(capsys: pytest.CaptureFixture[str]) -> None:
    sink = StdoutSink()
    sink.deliver([alert(3)])
    assert capsys.readouterr().out.encode() == ndjson([alert(3)])


def test_a_reader_that_has_gone_away_is_not_waited_for() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "wb", buffering=0) as pipe, pytest.raises(BrokenPipeError):
        StdoutSink(pipe).deliver([alert(1)])


# One file.


def test_a_file_is_appended_to_or_made_anew(tmp_path: Path) -> None:
    path = tmp_path / "alerts.ndjson"
    for number in (1, 2):
        sink = FileSink(path)
        sink.deliver([alert(number)])
        sink.close()
    assert path.read_bytes() == ndjson([alert(1), alert(2)])
    FileSink(path, append=False).close()
    assert path.read_bytes() == b""


@pytest.mark.parametrize(
    ("before", "kept"),
    [
        (b'{"id":"a"}\n{"id":"b","pipel', b'{"id":"a"}\n'),
        (b'{"id":"a', b""),
        (b'{"id":"a"}\n{"id":"b"}', b'{"id":"a"}\n{"id":"b"}\n'),
        (b"a text of the user", b"a text of the user\n"),
        (b"\n", b"\n"),
        (b"", b""),
    ],
)
def test_a_line_torn_by_a_crash_is_cut_off(tmp_path: Path, before: bytes, kept: bytes) -> None:
    path = tmp_path / "alerts.ndjson"
    path.write_bytes(before)
    sink = FileSink(path)
    sink.deliver([alert(1)])
    sink.close()
    assert path.read_bytes() == kept + ndjson([alert(1)])


def test_a_file_torn_anywhere_goes_on_with_whole_lines(tmp_path: Path) -> None:
    whole = ndjson([alert(1), alert(2)])
    for size in range(len(whole)):
        path = tmp_path / f"{size}.ndjson"
        path.write_bytes(whole[:size])
        sink = FileSink(path, sync=False)
        sink.deliver([alert(1), alert(2)])
        sink.close()
        assert {row["id"] for row in rows_of(path.read_bytes())} == {"id-1", "id-2"}


def test_a_file_that_cannot_be_opened_or_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(UnavailableError, match="absent/alerts.ndjson: No such file"):
        FileSink(tmp_path / "absent" / "alerts.ndjson")
    with pytest.raises(UnavailableError, match="Is a directory"):
        FileSink(tmp_path)
    full = FileSink("/dev/full")
    with pytest.raises(UnavailableError, match="/dev/full: No space left on device"):
        full.deliver([alert(1)])
    full.close()


def test_a_disk_that_gets_full_within_a_row_leaves_whole_rows(tmp_path: Path) -> None:
    path = tmp_path / "alerts.ndjson"
    sink = FileSink(path)
    sink.deliver([alert(1)])
    before = path.read_bytes()
    for more in (1, 100, len(before), len(before) + 100):
        with full_disk(len(before) + more), pytest.raises(UnavailableError, match="too large"):
            sink.deliver([alert(2), alert(3)])
        assert path.read_bytes() == before
    sink.deliver([alert(2), alert(3)])
    sink.close()
    assert path.read_bytes() == ndjson([alert(1), alert(2), alert(3)])


def test_a_device_is_written_to_but_not_synced() -> None:
    sink = FileSink("/dev/null")
    sink.deliver([alert(1)])
    sink.close()
