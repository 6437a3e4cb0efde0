"""The Lambda handler over edges in memory, driven as an event source mapping drives it."""

from __future__ import annotations

import base64
import itertools
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import drive
import msgspec
import plain_kpl
import torture
from memory_stream import MemoryStream, by_shard
from plain_kpl import Kinesis

from streamgauge import Alert
from streamgauge.consumers.lambda_handler import Handler
from streamgauge.engine.errors import UnavailableError
from streamgauge.engine.folder import Folder
from streamgauge.engine.sinks.archive import Archive
from streamgauge.engine.sinks.local import MemorySink
from streamgauge.engine.stores.memory import MemoryStates
from streamgauge.engine.stores.thresholds import FileThresholds
from streamgauge.rules import spec as specs

TOML = (torture.HERE / "torture.toml").read_text()
TABLE = torture.HERE / "torture-thresholds.ndjson"
ARN = "arn:aws:kinesis:us-east-1:000000000000:stream/telemetry"


class Memories:
    """Edges in memory, which outlive a handler."""

    def __init__(self, archive: Path | None = None) -> None:
        self.folder = None if archive is None else Folder(archive)
        self.sink, self.rows, self.store = MemorySink(), MemorySink(), MemoryStates()
        self.stream = MemoryStream(dict.fromkeys(torture.SHARDS, ()))

    def alerts(self) -> MemorySink:
        return self.sink

    def errors(self) -> MemorySink:
        return self.rows

    def states(self) -> MemoryStates:
        return self.store

    def archive(self) -> Archive | None:
        return None if self.folder is None else Archive(self.folder, "torture", "ndjson.gz", 1, 1)

    def thresholds(self) -> FileThresholds:
        return FileThresholds(TABLE)


def fresh(memories: Memories, toml: str = TOML, **more: Any) -> Handler:
    quiet: dict[str, Any] = {"log": lambda event, **fields: None, "sleep": lambda _: None}
    quiet["stream"] = lambda arn: memories.stream
    return Handler(specs.parse(toml), memories, **{**quiet, **more})  # type: ignore[arg-type]


def event(given: list[Kinesis]) -> dict[str, Any]:
    return {"Records": [
        {"eventID": f"{one.shard}:{one.sequence}", "eventSource": "aws:kinesis",
         "eventSourceARN": ARN,
         "kinesis": {"sequenceNumber": one.sequence, "partitionKey": one.key,
                     "data": base64.b64encode(one.data).decode(),
                     **({} if one.arrival is None else
                        {"approximateArrivalTimestamp": one.arrival / 1000})}}
        for one in given
    ]}  # fmt: skip


def records() -> dict[str, list[Kinesis]]:
    """The torture file as a stream gives it, by shard."""
    return by_shard(plain_kpl.read(torture.HERE / "torture.ndjson"))


def in_shards(records: list[Kinesis]) -> dict[str, list[Kinesis]]:
    found: dict[str, list[Kinesis]] = {}
    for one in records:
        found.setdefault(one.shard, []).append(one)
    return found


def drained(
    make: Callable[[], Handler], records: list[Kinesis], size: int, cold: bool = False
) -> None:
    """As the mapping does: a batch again from the first record reported, until all is done."""
    for of in in_shards(records).values():
        held = make()
        at, tries = 0, 0
        while at < len(of):
            batch = of[at : at + size]
            if cold:
                held = make()
            try:
                answer = held(event(batch), None)["batchItemFailures"]
            except UnavailableError:
                answer = [{"itemIdentifier": batch[0].sequence}]
            tries += 1
            assert tries < 10_000
            if not answer:
                at += len(batch)
                continue
            (one,) = answer
            at += [given.sequence for given in batch].index(one["itemIdentifier"])


def told() -> list[Kinesis]:
    """The torture file in the order of each shard, its repeats left to the tests."""
    seen: dict[str, int] = {}
    found = []
    for one in plain_kpl.read(torture.HERE / "torture.ndjson"):
        if int(one.sequence) > seen.get(one.shard, -1):
            seen[one.shard] = int(one.sequence)
            found.append(one)
    return found


def packed(size: int) -> list[Kinesis]:
    return plain_kpl.repacked(torture.users(), itertools.repeat(size))


def compare(memories: Memories, records: list[Kinesis]) -> None:
    """Alerts by the definition of the same, and every rejected row with its bytes."""
    oracles = [drive.oracle_of(TOML, torture.thresholds(), [of])
               for of in in_shards(records).values()]  # fmt: skip
    keys = ("rule", "device", "time", "state")
    wanted = sorted((a for o in oracles for a in o.alerts), key=lambda a: [a[k] for k in keys])
    unique = {row.id: msgspec.to_builtins(row) for row in memories.sink.rows
              if isinstance(row, Alert)}  # fmt: skip
    found = sorted(drive.without_id(unique.values()), key=lambda a: [a[k] for k in keys])
    assert drive.exact(found) == drive.exact(wanted)
    rejected = {(str(row.at), row.rule): row.data for row in memories.rows.rows}  # type: ignore[union-attr]
    assert rejected == {
        (row["position"], row["rule"]): row["user"].data for o in oracles for row in o.rejected
    }


def streamed(records: list[Kinesis], **more: Any) -> MemoryStream:
    """A stream that holds the records; a read gives a few of them."""
    held = {shard: [drive.record(one) for one in of] for shard, of in in_shards(records).items()}
    return MemoryStream(held, limit=7, random=random.Random(1), **more)
