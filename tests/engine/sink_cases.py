"""The sinks that one suite runs over, the rows that each takes, and how to read them back."""

from __future__ import annotations

import io
import json
import resource
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
from memory_bucket import BUCKET, MemoryBucket
from memory_topic import TOPIC, MemoryTopic

from streamgauge.engine.aws import Service
from streamgauge.engine.batch import Alert, Position, Record, Rejected
from streamgauge.engine.bucket import Bucket
from streamgauge.engine.folder import Folder, Place
from streamgauge.engine.kpl import deaggregate
from streamgauge.engine.records import Opened
from streamgauge.engine.sinks.archive import Archive
from streamgauge.engine.sinks.archive_read import read_archive
from streamgauge.engine.sinks.errors_directory import ErrorDirectory, read_errors
from streamgauge.engine.sinks.errors_s3 import ErrorBucket, read_error_bucket
from streamgauge.engine.sinks.local import FileSink, MemorySink, StdoutSink
from streamgauge.engine.sinks.sns import SnsAlerts


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


def plain(rows: Sequence[Any]) -> list[Any]:
    """Rows as values: alerts, rejected records, or what was read, a value a user record."""
    found: list[Any] = []
    for row in rows:
        if isinstance(row, Opened):
            every = range(len(row.users))
            found += [{"position": str(row.users.position(number))} for number in every]
        else:
            found.append(msgspec.to_builtins(row) if isinstance(row, Alert) else row.line())
    return found


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
    """A sink, and how to read back what it holds.

    refusing: a while in which it refuses. losing: one in which it takes the rows and the answer is
    lost. reopened: another sink over the same place, as after a crash.
    """

    sink: Any
    held: Callable[[], list[Any]]
    refusing: Callable[[], Any] = full_disk
    losing: Callable[[], Any] | None = None
    reopened: Callable[[], Any] | None = None


@contextmanager
def once(of: Any, fault: str) -> Iterator[None]:
    """The next call meets a fault."""
    setattr(of, fault, 1)
    yield
    setattr(of, fault, 0)


class Pipe(io.BytesIO):
    """A stream that can be told to refuse."""

    refuses = False

    def write(self, data: Any) -> int:
        if self.refuses:
            raise OSError(28, "No space left on device")
        return super().write(data)


def memory(path: Path) -> Case:
    sink = MemorySink()
    return Case(
        sink,
        lambda: plain(sink.rows),
        lambda: once(sink, "fail_next"),
        lambda: once(sink, "lose_next"),
    )


def stream(path: Path) -> Case:
    pipe = Pipe()

    @contextmanager
    def refusing() -> Iterator[None]:
        pipe.refuses = True
        yield
        pipe.refuses = False

    return Case(StdoutSink(pipe), lambda: rows_of(pipe.getvalue()), refusing)


def file(path: Path) -> Case:
    made = path / "f"
    return Case(FileSink(made), lambda: rows_of(made.read_bytes()), reopened=lambda: FileSink(made))


def unsynced_file(path: Path) -> Case:
    sink = FileSink(path / "f", append=False, sync=False)
    return Case(sink, lambda: rows_of((path / "f").read_bytes()))


def directory(path: Path) -> Case:
    return Case(
        ErrorDirectory(path, "p"),
        lambda: plain(list(read_errors(path))),
        reopened=lambda: ErrorDirectory(path, "p"),
    )


def topic(path: Path, name: str = TOPIC) -> Case:
    made = MemoryTopic(name)
    return Case(
        SnsAlerts(name, Service("sns", made.client())),
        lambda: [json.loads(message.text) for message in made.messages],
        lambda: once(made, "throttle_next"),
        lambda: once(made, "lose_next"),
        lambda: SnsAlerts(name, Service("sns", made.client())),
    )


def fifo_topic(path: Path) -> Case:
    return topic(path, TOPIC + ".fifo")


def bucket(path: Path) -> Case:
    made, location = MemoryBucket(), f"s3://{BUCKET}/errors/"
    service = Service("s3", made.client())
    return Case(
        ErrorBucket(location, "p", service),
        lambda: plain(list(read_error_bucket(location, service=service))),
        lambda: once(made, "throttle_next"),
        lambda: once(made, "lose_next"),
        lambda: ErrorBucket(location, "p", Service("s3", made.client())),
    )


def archived(number: int) -> Opened:
    """What a push read: one user record."""
    return Opened(*deaggregate([Record("s", str(number), b"{}", "k", 1_700_049_600_000)]))


def positions(place: Place) -> list[Any]:
    """What an archive holds, as `plain` shows it."""
    return plain(list(read_archive(place, "p")))


def stage(path: Path, made: MemoryBucket | None = None) -> Case:
    """Where what is read is staged."""
    at: Place = Folder(path)
    if made is not None:
        at = Bucket(f"s3://{BUCKET}/archive/", Service("s3", made.client()))
    archive = Archive(at, "p", "ndjson.gz", 1 << 20, 60.0)
    case = Case(archive.shard("s"), lambda: positions(at), reopened=lambda: archive.shard("s"))
    if made is not None:
        case.refusing = lambda: once(made, "throttle_next")
        case.losing = lambda: once(made, "lose_next")
    return case


def stage_s3(path: Path) -> Case:
    return stage(path, MemoryBucket())


def final(path: Path) -> Case:
    """Where what is read becomes an object at once."""
    at = Folder(path)
    archive = Archive(at, "p", "parquet", 1 << 20, 60.0)
    return Case(archive.final(), lambda: positions(at), reopened=archive.final)


LOCAL = [memory, stream, file, unsynced_file]
TAKES = [(sink, alert) for sink in [*LOCAL, topic, fifo_topic]]
TAKES += [(sink, rejected) for sink in [*LOCAL, directory, bucket]]
TAKES += [(sink, archived) for sink in (stage, stage_s3, final)]
