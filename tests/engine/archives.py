"""Archives for tests: records of a shard, where they go, and what is read back."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

from memory_bucket import BUCKET, MemoryBucket

from streamgauge.engine.aws import Service
from streamgauge.engine.batch import Record
from streamgauge.engine.folder import Place, place
from streamgauge.engine.kpl import deaggregate
from streamgauge.engine.records import Opened
from streamgauge.engine.sinks.archive import Archive, ShardArchive
from streamgauge.engine.sinks.archive_read import read_archive

EIGHT = 1_700_035_200_000  # 2023-11-15T08:00:00Z
FORMS = ("parquet", "ndjson.gz")
SHARD = "shardId-000000000000"


def record(number: int, data: bytes = b'{"v": 1}', at: int | None = EIGHT, **more: Any) -> Record:
    return Record(SHARD, str(number), data, more.get("key", "k"), at)


def read(*records: Record) -> Opened:
    return Opened(*deaggregate(records))


def push(first: int, last: int, step_ms: int = 1000) -> Opened:
    """Records of these numbers, one each second from eight o'clock on."""
    return read(*(
        record(number, b'{"n": %d}' % number, EIGHT + number * step_ms)
        for number in range(first, last + 1)
    ))  # fmt: skip


class Clock:
    seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


def archive(at: Place, form: Any = "ndjson.gz", max_bytes: int = 1 << 20) -> Archive:
    return Archive(at, "p", form, max_bytes, 60.0)


def bucket(made: MemoryBucket) -> Place:
    return place(f"s3://{BUCKET}/a/", Service("s3", made.client()))


def rolled(sink: ShardArchive, steps: int = 1000) -> None:
    for _ in range(steps):
        if sink.empty:
            return
        sink.roll(closing=True)
    raise AssertionError("no end in sight")


def positions(at: Place) -> list[str]:
    return [
        str(users.position(row))
        for users, lost in read_archive(at, "p")
        for row in range(len(users))
    ]


def expected(first: int, last: int) -> list[str]:
    return [f"{SHARD}:{number}:0" for number in range(first, last + 1)]


class Crash(BaseException):
    """The process is killed."""


def crashing(made: MemoryBucket, number: int) -> Callable[[], int]:
    """Die in one moment of the calls: before anything is done, or before the answer goes back."""
    moments = itertools.count(1)

    def meet(operation: str, done: bool) -> None:
        if next(moments) == number:
            raise Crash

    made.on_call = meet
    return lambda: next(moments) - 1
