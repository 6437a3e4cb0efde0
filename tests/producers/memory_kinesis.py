"""A Kinesis client in memory, with the faults of the real one, drawn from a seed or said by a test.

It checks what the service checks, keeps what was committed in the order of its commits, and lists
its shards a page at a time. Shards are split and merged, also within a call.
"""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from botocore.exceptions import ClientError, EndpointConnectionError, ReadTimeoutError

from streamgauge import Record
from streamgauge.engine.aws import Service
from streamgauge.engine.kpl import deaggregate, hash_key
from streamgauge.producers.aggregator import Producer
from streamgauge.producers.outcomes import Outcome

HASH_KEYS = 1 << 128
PAGE = 2  # shards
THROTTLED = "ProvisionedThroughputExceededException"
URL = "http://127.0.0.1:1"


@dataclass
class Faults:
    """How likely each fault is at one call, or of one entry; `throttled_shards` always refuse."""

    refused: float = 0.0  # an entry
    throttled: float = 0.0  # a call, as a whole
    reset: float = 0.0  # before anything is committed
    broken: float = 0.0  # 503, after some entries were committed
    lost: float = 0.0  # the answer, after all was committed
    late: float = 0.0  # no answer; committed after the calls that follow
    split: float = 0.0  # between two entries of a call
    merged: float = 0.0
    list_fails: float = 0.0
    list_old: float = 0.0  # the shards as they were at the call before
    throttled_shards: set[str] = field(default_factory=set)


class Committed(NamedTuple):
    """A Kinesis record in the stream, and the user records in it."""

    shard: str
    record: Record
    users: list[tuple[str, bytes, int]]  # partition key, data, hash key

    @property
    def aggregated(self) -> bool:
        return self.record.partition_key == "a" and self.record.data[:1] == b"\xf3"


class MemoryKinesis:
    """calls: the number of entries of each call of PutRecords. lists: calls of ListShards."""

    def __init__(self, shards: int, seed: int = 0, faults: Faults | None = None) -> None:
        self.random = random.Random(seed)
        self.faults = faults or Faults()
        self.ranges: dict[str, tuple[int, int]] = {}  # of every shard there ever was
        self.open: list[str] = []
        for n in range(shards):
            self.add(n * HASH_KEYS // shards, (n + 1) * HASH_KEYS // shards - 1)
        self.committed: list[Committed] = []
        self.calls: list[int] = []
        self.lists = 0
        self.record_bytes_max, self.call_bytes_max = 1 << 20, 5 << 20
        self.before_entry: Callable[[int], object] = lambda place: None
        self._listed = list(self.open)
        self._page: list[str] = []
        self._late: list[list[dict[str, Any]]] = []

    def add(self, first: int, last: int) -> str:
        name = f"shardId-{len(self.ranges):012}"
        self.ranges[name] = first, last
        self.open.append(name)
        return name

    def split(self, shard: str | None = None) -> list[str]:
        shard = shard or self.random.choice(self.open)
        first, last = self.ranges[shard]
        if first == last:
            return []
        self.open.remove(shard)
        middle = (first + last) // 2
        return [self.add(first, middle), self.add(middle + 1, last)]

    def merge(self) -> str:
        """Merge two neighbours, where there are two shards."""
        by_range = sorted(self.open, key=self.ranges.__getitem__)
        if len(by_range) == 1:
            return by_range[0]
        place = self.random.randrange(len(by_range) - 1)
        one, two = by_range[place : place + 2]
        self.open.remove(one)
        self.open.remove(two)
        return self.add(self.ranges[one][0], self.ranges[two][1])

    def holder(self, number: int) -> str:
        return next(s for s in self.open if self.ranges[s][0] <= number <= self.ranges[s][1])

    def list_shards(self, NextToken: str | None = None, **request: Any) -> Any:
        self.lists += NextToken is None
        if self._strikes("list_fails"):
            raise EndpointConnectionError(endpoint_url=URL)
        if NextToken is None:
            assert request == {"StreamName": "s", "ShardFilter": {"Type": "AT_LATEST"}}
            if not self._strikes("list_old"):
                self._listed = list(self.open)
            self._page = list(self._listed)
        page, self._page = self._page[:PAGE], self._page[PAGE:]
        shards = []
        for name in page:
            first, last = map(str, self.ranges[name])
            keys = {"StartingHashKey": first, "EndingHashKey": last}
            numbers = {"StartingSequenceNumber": "1"}
            shards.append({"ShardId": name, "SequenceNumberRange": numbers, "HashKeyRange": keys})
        return {"Shards": shards, **({"NextToken": "more"} if self._page else {})}

    def put_records(self, StreamName: str, Records: list[dict[str, Any]]) -> Any:
        self.calls.append(len(Records))
        self._check(Records)
        late, self._late = self._late, []
        if self._strikes("throttled"):
            self._raise(THROTTLED, 400)
        if self._strikes("reset"):
            raise EndpointConnectionError(endpoint_url=URL)
        if self._strikes("late"):
            self._late.append(Records)
            raise ReadTimeoutError(endpoint_url=URL)
        broken = self._strikes("broken")
        told = []
        for place, entry in enumerate(Records):
            self.before_entry(place)
            if self._strikes("split"):
                self.split()
            if self._strikes("merged"):
                self.merge()
            if broken and place == len(Records) // 2:
                self._raise("ServiceUnavailable", 503)
            told.append(self._put(entry))
        for entry in (entry for entries in late for entry in entries):
            self._commit(entry)
        if self._strikes("lost"):
            raise ReadTimeoutError(endpoint_url=URL)
        return {"Records": told, "FailedRecordCount": sum("ErrorCode" in one for one in told)}

    def _check(self, entries: list[dict[str, Any]]) -> None:
        """What the service would refuse the whole call for: the producer must never send it."""
        assert 1 <= len(entries) <= 500
        sizes = [len(entry["Data"]) + len(entry["PartitionKey"].encode()) for entry in entries]
        assert max(sizes) <= self.record_bytes_max
        assert sum(sizes) <= self.call_bytes_max or len(entries) == 1
        for entry in entries:
            assert re.fullmatch(r"0|[1-9][0-9]{0,38}", entry["ExplicitHashKey"])
            assert 1 <= len(entry["PartitionKey"]) <= 256

    def _put(self, entry: dict[str, Any]) -> dict[str, str]:
        shard = self.holder(int(entry["ExplicitHashKey"]))
        if shard in self.faults.throttled_shards:
            return {"ErrorCode": THROTTLED, "ErrorMessage": f"Rate exceeded for shard {shard}"}
        if self._strikes("refused"):
            return {"ErrorCode": "InternalFailure", "ErrorMessage": "x"}
        return self._commit(entry)

    def _commit(self, entry: dict[str, Any]) -> dict[str, str]:
        shard, sequence = self.holder(int(entry["ExplicitHashKey"])), str(len(self.committed) + 1)
        record = Record(shard, sequence, entry["Data"], entry["PartitionKey"])
        users, rejected = deaggregate([record])
        assert not rejected
        explicit = users.hash_keys or [None] * len(users)
        if not users.aggregated.any():
            explicit = [entry["ExplicitHashKey"]]
        rows = [
            (key.decode(), data, hash_key(key, number))
            for key, data, number in zip(users.keys, users.data, explicit, strict=True)
        ]
        self.committed.append(Committed(shard, record, rows))
        return {"ShardId": shard, "SequenceNumber": sequence}

    def _strikes(self, name: str) -> bool:
        return self.random.random() < getattr(self.faults, name)

    def _raise(self, code: str, status: int) -> None:
        told = {"Code": code, "Message": "x"}
        answer = {"Error": told, "ResponseMetadata": {"HTTPStatusCode": status}}
        raise ClientError(answer, "PutRecords")

    def users(self) -> list[tuple[str, bytes]]:
        """All user records in the order of their commits."""
        return [(key, data) for one in self.committed for key, data, _ in one.users]

    def in_range(self, one: Committed) -> bool:
        first, last = self.ranges[one.shard]
        return all(first <= number <= last for _, _, number in one.users)

    def as_kcl(self) -> list[tuple[str, bytes]]:
        """What a KCL hands over: an aggregate with one user record out of range goes whole."""
        whole = [one for one in self.committed if self.in_range(one)]
        return [(key, data) for one in whole for key, data, _ in one.users]


class Clock:
    """A clock that moves when somebody sleeps, or is moved."""

    def __init__(self) -> None:
        self.seconds = 1000.0
        self.slept: list[float] = []

    def now(self) -> float:
        return self.seconds

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.seconds += seconds


def producer(stream: MemoryKinesis, clock: Clock | None = None, **more: Any) -> Producer:
    """A producer on a stream in memory, under a clock handed in."""
    clock = clock or Clock()
    return Producer(
        "s", Service("kinesis", stream), now=clock.now, sleep=clock.sleep,
        random=random.Random(7).random, **more,
    )  # fmt: skip


def run(
    stream: MemoryKinesis, many: int, keys: int, **more: Any
) -> tuple[Producer, list[tuple[str, bytes]], list[Outcome]]:
    """Put records at random times, close; the producer, what was put, what was told."""
    clock, told = Clock(), list[Outcome]()
    made = producer(stream, clock, **more)
    sent = []
    for number in range(many):
        key, data = f"k{stream.random.randrange(keys)}", b"%d " % number
        data *= stream.random.randint(1, 40)
        clock.seconds += stream.random.choice([0.0, 0.0, 0.001, 0.2])
        if stream.random.random() < 0.1:
            made.tick()
        made.put(key, data, callback=told.append)
        sent.append((key, data))
    made.close()
    return made, sent, told


def firsts(users: list[tuple[str, bytes]]) -> dict[str, list[bytes]]:
    """The data of each key in the order in which each first came."""
    found: dict[str, dict[bytes, None]] = {}
    for key, data in users:
        found.setdefault(key, {})[data] = None
    return {key: list(of) for key, of in found.items()}


def repeats(users: list[tuple[str, bytes]]) -> int:
    """How many user records came more than once."""
    return sum(many - 1 for many in Counter(users).values())


def keys_of(stream: MemoryKinesis, shard: str) -> Iterator[str]:
    """Keys that go to a shard, without end."""
    first, last = stream.ranges[shard]
    number = 0
    while True:
        if first <= hash_key(b"key-%d" % number) <= last:
            yield f"key-{number}"
        number += 1
