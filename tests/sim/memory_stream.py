"""A stream in memory with the faults of the real one, all drawn from a seed.

It has shards with sequence numbers, iterators that expire, reads that are throttled, come back
empty, or hand records over again; a shard can be closed and have children.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from plain_kpl import Kinesis

from streamgauge import Position, Record
from streamgauge.consumers.kinesis_reader import ListedShard
from streamgauge.consumers.shard import Fetched
from streamgauge.engine.errors import UnavailableError

BEHIND = 1000  # ms, of every read that is not at the tip


@dataclass(frozen=True)
class Faults:
    """How likely each fault is at one call."""

    throttled: float = 0.0
    expired: float = 0.0
    empty: float = 0.0  # though records are there
    again: float = 0.0  # records that were handed over before come first
    copies: int = 1  # of each record of a read: one after the other, and the read as a whole


@dataclass
class MemoryStream:
    """`records` of each shard in order; of them `arrived` can be read (all, unless said).

    closed: shards that end. parents: of each shard that has any. limit: records a read gives at
    most.
    """

    records: Mapping[str, Sequence[Record]]
    faults: Faults = Faults()
    random: random.Random = field(default_factory=random.Random)
    closed: set[str] = field(default_factory=set)
    parents: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    limit: int = 1000
    arrived: dict[str, int] = field(default_factory=dict)
    reads: list[str] = field(default_factory=list)  # shard ids, one a read

    def heal(self) -> None:
        """End all faults."""
        self.faults = Faults()

    def shards(self) -> list[ListedShard]:
        self._fail()
        return [ListedShard(name, self.parents.get(name, ())) for name in self.records]

    def iterator(self, shard_id: str, position: Position | None, inclusive: bool) -> str:
        self._fail()
        if position is None:
            return f"{shard_id}/0"
        numbers = [int(record.sequence_number) for record in self.records[shard_id]]
        at = numbers.index(int(position.sequence_number))
        return f"{shard_id}/{at + (not inclusive)}"

    def read(self, shard_id: str, iterator: str) -> Fetched | None:
        self.reads.append(shard_id)
        self._fail()
        if self.random.random() < self.faults.expired:
            return None
        shard, _, at = iterator.partition("/")
        assert shard == shard_id
        start, there = int(at), self.arrived.get(shard_id, len(self.records[shard_id]))
        if start < there and self.random.random() < self.faults.empty:
            return Fetched([], iterator, BEHIND)
        end = min(there, start + self.random.randint(1, self.limit))
        first = start
        if self.random.random() < self.faults.again:
            first = max(0, start - self.random.randint(1, self.limit))
        records = list(self.records[shard_id][first:end])
        if self.faults.copies > 1:
            records = [record for record in records for _ in range(self.faults.copies)]
            records *= self.faults.copies
        done = shard_id in self.closed and end == len(self.records[shard_id])
        following = None if done else f"{shard_id}/{end}"
        return Fetched(records, following, 0 if end == there else BEHIND)

    def _fail(self) -> None:
        if self.random.random() < self.faults.throttled:
            raise UnavailableError("the stream: ProvisionedThroughputExceededException")


def record(given: Kinesis) -> Record:
    return Record(given.shard, given.sequence, given.data, given.key, given.arrival)


def by_shard(records: Iterable[Kinesis]) -> dict[str, list[Kinesis]]:
    """The records of each shard as a stream holds them: positions grow, nothing comes twice."""
    found: dict[str, list[Kinesis]] = {}
    for given in records:
        shard = found.setdefault(given.shard, [])
        if not shard or int(given.sequence) > int(shard[-1].sequence):
            shard.append(given)
    return found
