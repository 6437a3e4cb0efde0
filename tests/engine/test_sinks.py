"""One suite over every sink: what is acknowledged can be read back, what is refused comes again."""

import io
import json
import os
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest

from streamgauge.engine.batch import Alert, Position, Rejected
from streamgauge.engine.errors import UnavailableError
from streamgauge.engine.sinks.base import Retry, ndjson
from streamgauge.engine.sinks.errors_directory import ErrorDirectory, read_errors
from streamgauge.engine.sinks.local import FileSink, MemorySink, StdoutSink


def alert(number: int, device: str = "d") -> Alert:
    return Alert(
        id=f"id-{number}",
        pipeline="p",
        rule="hot",
        device=device,
        state="firing",
        time=number,
        value=90.5,
        samples=5,
        threshold=90.0,
        threshold_version=None,
        window_start=number - 60_000,
        window_end=number,
        first_position="s:1:0",
        last_position=f"s:{number}:0",
        severity="warning",
    )


def rejected(number: int) -> Rejected:
    return Rejected(
        stage="decode",
        reason="bad_json",
        message="no JSON",
        rule=None,
        at=Position("s", str(number), 0),
        arrival_time=1_700_049_600_000,
        partition_key="k",
        data=b"\xff{",
    )


def rows_of(text: bytes) -> list[Any]:
    return [json.loads(line) for line in text.splitlines()]


def plain(rows: Sequence[Alert | Rejected]) -> list[Any]:
    return [msgspec.to_builtins(row) if isinstance(row, Alert) else row.line() for row in rows]


@contextmanager
def full_disk(size: int = 0) -> Iterator[None]:
    """No file can grow beyond `size` bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@dataclass
class Case:
    """A sink, how to read back what it holds, and a while in which it refuses."""

    sink: Any
    held: Callable[[], list[Any]]
    refusing: Callable[[], Any] = full_disk


class Pipe(io.BytesIO):
    """A stream that can be told to refuse."""

    refuses = False

    def write(self, data: Any) -> int:
        if self.refuses:
            raise OSError(28, "No space left on device")
        return super().write(data)


def memory(path: Path) -> Case:
    sink = MemorySink()

    @contextmanager
    def refusing() -> Iterator[None]:
        sink.fail_next = 1
        yield

    return Case(sink, lambda: plain(sink.rows), refusing)


def stream(path: Path) -> Case:
    pipe = Pipe()

    @contextmanager
    def refusing() -> Iterator[None]:
        pipe.refuses = True
        yield
        pipe.refuses = False

    return Case(StdoutSink(pipe), lambda: rows_of(pipe.getvalue()), refusing)


def file(path: Path) -> Case:
    return Case(FileSink(path / "f"), lambda: rows_of((path / "f").read_bytes()))


def unsynced_file(path: Path) -> Case:
    sink = FileSink(path / "f", append=False, sync=False)
    return Case(sink, lambda: rows_of((path / "f").read_bytes()))


def directory(path: Path) -> Case:
    return Case(ErrorDirectory(path, "p"), lambda: plain(list(read_errors(path))))


SINKS = [memory, stream, file, unsynced_file, directory]
TAKES = [(sink, alert) for sink in SINKS[:-1]] + [(sink, rejected) for sink in SINKS]
each_sink = pytest.mark.parametrize(
    ("make", "row"), TAKES, ids=[f"{sink.__name__}, {row.__name__}" for sink, row in TAKES]
)


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
    key = "id" if row is alert else "position"
    assert {found[key]: found for found in case.held()} == {
        found[key]: found for found in plain(rows)
    }


@each_sink
def test_a_sink_behind_a_retry(tmp_path: Path, make: Any, row: Any) -> None:
    case = make(tmp_path)
    refusing = case.refusing()
    retry = Retry(case.sink, sleep=lambda _: refusing.__exit__(None, None, None))
    refusing.__enter__()
    retry.deliver([row(1), row(2)])
    retry.flush()
    retry.close()
    assert case.held() == plain([row(1), row(2)])
    assert (retry.counts.rows, retry.counts.retries, retry.counts.failing) == (2, 1, False)


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
