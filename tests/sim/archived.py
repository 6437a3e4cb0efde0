"""The simulation with an archive: one more bucket that fails, and what it must hold at all times.

Whenever a state object is written, every user record up to its position is in the archive; at the
end the archive, read back, is the stream: each position once, with its bytes. Objects for all to
read do not overlap where no two owners were at work.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from memory_bucket import MemoryBucket
from memory_service import PEACE
from plain_kpl import opened
from simulation import Simulation, Worker

from streamgauge.consumers.shard import Host
from streamgauge.engine import state
from streamgauge.engine.aws import Service
from streamgauge.engine.folder import Place, place
from streamgauge.engine.sinks import archive_objects as objects
from streamgauge.engine.sinks.archive import Archive
from streamgauge.engine.sinks.archive_read import read_archive
from streamgauge.rules.plan import Pipeline

ARCHIVE = "archive"
Order = tuple[int, int]


class Archived(Simulation):
    """A simulation whose pipeline archives what it reads."""

    def __init__(self, seed: int, *given: Any, **more: Any) -> None:
        super().__init__(seed, *given, **more)
        self.bucket = MemoryBucket(ARCHIVE, now=self.now, spend=self.spend, random=self.random)
        self.cloud.services += (self.bucket,)
        self.max_bytes, self.max_age = (1, 600, 1 << 20)[seed % 3], (0.0, 0.5, 30.0)[seed // 3 % 3]
        self.form: Any = ("ndjson.gz", "parquet")[seed // 9 % 2]

    def place(self) -> Place:
        return place(f"s3://{ARCHIVE}/", Service("s3", make=self.bucket.client))

    def host(self, worker: Worker) -> Host:
        archive = Archive(
            self.place(), self.spec.pipeline.name, self.form, self.max_bytes, self.max_age
        )
        thresholds = worker.process.thresholds
        return dataclasses.replace(
            super().host(worker),
            archive=archive,
            plan=lambda: Pipeline.plan(
                self.spec, thresholds, one_shard=True, keep_read=True, now=self.now
            ),
        )

    def saved(self, key: str, data: bytes, old: bytes | None) -> None:
        super().saved(key, data, old)
        name = key.split("/")[1]
        sequence, sub = state.decode(data)[1]["positions"][name]
        read = {order: data for order, data in self.truly(name).items()
                if order <= (int(sequence), int(sub))}  # fmt: skip
        with self.calm():
            held = self.held(name)
        assert read.items() <= held.items(), "the state passes a record that is not archived"

    @contextmanager
    def calm(self) -> Iterator[None]:
        """A while without faults, in which nobody is told of calls."""
        names = ("on_call", "odds", "cut", "down_until")
        before = {name: getattr(self.bucket, name) for name in names}
        for name, value in zip(names, (None, PEACE, 0.0, -1.0), strict=True):
            setattr(self.bucket, name, value)
        yield
        for name, value in before.items():
            setattr(self.bucket, name, value)

    def truly(self, name: str) -> dict[Order, bytes]:
        """What the stream holds, by position."""
        return {
            (int(user.sequence), user.sub): user.data
            for given in self.kinesis[name]
            for user in opened(given)
        }

    def held(self, name: str) -> dict[Order, bytes]:
        """What the archive holds of a shard, by position, each once."""
        found: dict[Order, bytes] = {}
        for users, lost in read_archive(self.place(), self.spec.pipeline.name):
            rows = [(users.position(row), data) for row, data in enumerate(users.data)]
            rows += [(row.at, row.data) for row in lost]
            for at, data in rows:
                if at.shard_id == name:
                    assert at.order not in found, "a position comes twice"
                    found[at.order] = data
        return found

    def check(self, worker: Worker) -> None:
        super().check(worker)
        name = worker.shard.shard_id
        wanted = self.truly(name)
        assert self.held(name) == wanted
        while not worker.shard.rolled:
            worker.shard.roll()
        assert self.held(name) == wanted
        there = [one for one in objects.known(self.place().sizes("")) if one.shard == name]
        assert not [one for one in there if one.staged]
        self.overlaps = sum(
            a.last >= b.first
            for _, of in itertools.groupby(
                sorted(there, key=lambda one: (one.hour, one.first)), key=lambda one: one.hour
            )
            for a, b in itertools.pairwise(of)
        )

    overlaps = 0
