"""The KCL host driven as the MultiLangDaemon drives it: lines in, lines out, checkpoints noted."""

from __future__ import annotations

import base64
import functools
import json
from collections.abc import Iterable
from typing import Any

from lambda_drive import TOML, Memories
from plain_kpl import Kinesis, User, opened

from streamgauge.consumers.kcl import ShardProcessor
from streamgauge.consumers.kcl_protocol import Daemon
from streamgauge.consumers.metrics import Metrics
from streamgauge.consumers.shard import Host
from streamgauge.rules import spec as specs
from streamgauge.rules.plan import Pipeline

HORIZON = "TRIM_HORIZON"


def host(memories: Memories, toml: str = TOML, **more: Any) -> Host:
    spec = specs.parse(toml)
    given: dict[str, Any] = {
        "pipeline": spec.pipeline.name,
        "plan": functools.partial(Pipeline.plan, spec, memories.thresholds(), one_shard=True),
        "reader": memories.stream,
        "alerts": memories.alerts(),
        "errors": memories.errors(),
        "states": memories.states(),
        "save_seconds": 0.0,
        "observe": lambda outcome: None,
        "log": lambda event, **fields: None,
        "metrics": Metrics(),
    }
    return Host(**{**given, **more})


def line(**fields: Any) -> bytes:
    return json.dumps(fields).encode() + b"\n"


def handed(users: Iterable[User]) -> list[dict[str, Any]]:
    """User records as the daemon writes them."""
    return [
        {
            "action": "record",
            "data": base64.b64encode(user.data).decode(),
            "partitionKey": user.key.decode("utf-8", "replace"),
            "sequenceNumber": user.sequence,
            "subSequenceNumber": user.sub,
            "approximateArrivalTimestamp": user.arrival,
        }
        for user in users
    ]


class Script:
    """A daemon of one shard: says its lines one by one, answers checkpoints, notes what it hears.

    refuse: errors to answer the next checkpoints with.
    """

    def __init__(self, refuse: Iterable[str] = ()) -> None:
        self.checkpoints: list[tuple[str | None, int | None]] = []
        self.statuses: list[str] = []
        self.refuse = list(refuse)
        self._lines: list[bytes] = []
        self._answers: list[bytes] = []

    def readline(self, limit: int = -1) -> bytes:
        if self._answers:
            return self._answers.pop(0)
        return self._lines.pop(0) if self._lines else b""

    def write(self, data: bytes) -> int:
        for raw in data.split(b"\n"):
            if not raw:
                continue
            told = json.loads(raw)
            if told["action"] == "status":
                self.statuses.append(told["responseFor"])
                continue
            error = self.refuse.pop(0) if self.refuse else None
            if error is None:
                self.checkpoints.append((told["sequenceNumber"], told["subSequenceNumber"]))
            self._answers.append(line(**{**told, "error": error}))
        return len(data)

    def flush(self) -> None:
        """Nothing is held back."""

    def say(self, shared: Host, *lines: bytes, stream: Any = None, **more: Any) -> ShardProcessor:
        """One life of a process: all lines, then the end of input."""
        self._lines = list(lines)
        daemon = Daemon(self, self)  # type: ignore[arg-type]
        more.setdefault("sleep", lambda _: None)
        processor = ShardProcessor(shared, stream or shared.reader, daemon, **more)
        daemon.serve(processor)
        return processor


def initialize(shard: str, at: tuple[str | None, int | None] | None = None) -> bytes:
    sequence, sub = at or (HORIZON, 0)
    return line(action="initialize", shardId=shard, sequenceNumber=sequence, subSequenceNumber=sub)


def batch(
    records: Iterable[Kinesis], after: tuple[str, int] | None = None, opening: bool = False
) -> bytes:
    """Kinesis records as the daemon hands them out, those up to a checkpoint left out.

    They come as they lie in the stream; `opening`: as a daemon that opens aggregates has them.
    """
    users = [user for record in records for user in (as_the_kcl if opening else as_it_is)(record)]
    if after is not None:
        done = int(after[0]), after[1]
        users = [user for user in users if (int(user.sequence), user.sub) > done]
    return line(action="processRecords", records=handed(users), millisBehindLatest=0)


def as_it_is(record: Kinesis) -> list[User]:
    """One Kinesis record, aggregate or not, as the daemon writes a user record."""
    return [User(record.shard, record.sequence, 0, record.data, record.key.encode(),
                 record.arrival)]  # fmt: skip


def as_the_kcl(record: Kinesis) -> list[User]:
    """The user records of one Kinesis record, as the KCL's own way of opening has them."""
    users = opened(record)
    if any(user.fault for user in users):
        return as_it_is(record)
    return users


ENDED = line(action="shardEnded")
EMPTY = line(action="processRecords", records=[], millisBehindLatest=0)
LOST = line(action="leaseLost")
ASKED = line(action="shutdownRequested")
