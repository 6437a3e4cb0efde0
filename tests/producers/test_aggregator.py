"""The producer: nothing lost, order of each key, aggregates within one shard, exact sizes."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError
from effort import examples
from hypothesis import example, given, settings
from hypothesis import strategies as st

from streamgauge import Record
from streamgauge.engine.aws import Service
from streamgauge.engine.kpl import aggregate, deaggregate, hash_key
from streamgauge.producers.aggregator import Producer
from streamgauge.producers.buffer import Buffer, UserRecord
from streamgauge.producers.kinesis import Placed
from streamgauge.producers.outcomes import BufferFullError, ExpiredError, RecordError

TOP = 1 << 128


class Stream:
    """A Kinesis client in memory, with faults drawn from a seed."""

    def __init__(self, shards: int, seed: int = 0, **faults: float) -> None:
        self.random, self.faults = random.Random(seed), faults
        self.open = {
            f"shardId-{n:012}": (n * TOP // shards, (n + 1) * TOP // shards - 1)
            for n in range(shards)
        }
        self.committed: list[tuple[str, Record]] = []
        self.calls = 0

    def fails(self, name: str) -> bool:
        return self.random.random() < self.faults.get(name, 0.0)

    def list_shards(self, **_: Any) -> Any:
        if self.fails("list"):
            raise EndpointConnectionError(endpoint_url="http://127.0.0.1:1")
        return {
            "Shards": [
                {"ShardId": name, "SequenceNumberRange": {"StartingSequenceNumber": "1"},
                 "HashKeyRange": {"StartingHashKey": str(a), "EndingHashKey": str(b)}}
                for name, (a, b) in self.open.items()
            ]
        }  # fmt: skip

    def put_records(self, Records: list[Any], **_: Any) -> Any:
        self.calls += 1
        if self.fails("throttled"):
            error = {"Error": {"Code": "ProvisionedThroughputExceededException", "Message": "x"}}
            raise ClientError(error, "PutRecords")
        if self.fails("split"):
            self.split()
        told = [self.put(entry) for entry in Records]
        if self.fails("lost"):
            raise EndpointConnectionError(endpoint_url="http://127.0.0.1:1")
        return {"Records": told, "FailedRecordCount": sum("ErrorCode" in one for one in told)}

    def put(self, entry: Any) -> Any:
        if self.fails("refused"):
            return {"ErrorCode": "InternalFailure", "ErrorMessage": "x"}
        number = int(entry["ExplicitHashKey"])
        shard = next(name for name, (a, b) in self.open.items() if a <= number <= b)
        sequence = str(len(self.committed) + 1)
        record = Record(shard, sequence, entry["Data"], entry["PartitionKey"])
        self.committed.append((shard, record))
        return {"ShardId": shard, "SequenceNumber": sequence}

    def split(self) -> None:
        name = self.random.choice(list(self.open))
        first, last = self.open.pop(name)
        middle = (first + last) // 2
        for a, b in ((first, middle), (middle + 1, last)):
            self.open[f"shardId-{self.random.randrange(10**11):012}"] = (a, b)

    def users(self) -> list[tuple[str, bytes]]:
        found = []
        for _, record in self.committed:
            users, rejected = deaggregate([record])
            assert not rejected
            found += [(k.decode(), d) for k, d in zip(users.keys, users.data, strict=True)]
        return found


class Clock:
    def __init__(self) -> None:
        self.seconds = 0.0

    def now(self) -> float:
        return self.seconds

    def sleep(self, seconds: float) -> None:
        self.seconds += seconds


def producer(stream: Stream, **more: Any) -> Producer:
    clock = Clock()
    return Producer(
        "s", Service("kinesis", stream), now=clock.now, sleep=clock.sleep,
        random=lambda: 0.5 + stream.random.random() / 2, **more,
    )  # fmt: skip


def firsts(users: list[tuple[str, bytes]]) -> dict[str, list[bytes]]:
    """The data of each key in the order in which each first came."""
    found: dict[str, dict[bytes, None]] = {}
    for key, data in users:
        found.setdefault(key, {})[data] = None
    return {key: list(of) for key, of in found.items()}


@settings(max_examples=examples(60))
@example(seed=0, shards=1, many=249, faults={"split": 0.1}, size=64, whole=True)
@given(
    seed=st.integers(0, 2**32), shards=st.integers(1, 5), many=st.integers(1, 300),
    faults=st.fixed_dictionaries({}, optional={
        "refused": st.sampled_from([0.1, 0.5]), "throttled": st.just(0.3), "lost": st.just(0.2),
        "list": st.just(0.5), "split": st.just(0.1)}),
    size=st.sampled_from([64, 300, 51_200]), whole=st.booleans(),
)  # fmt: skip
def test_nothing_is_lost_and_keys_keep_their_order(
    seed: int, shards: int, many: int, faults: dict[str, float], size: int, whole: bool
) -> None:
    stream = Stream(shards, seed, **faults)
    keys = [f"k{n}" for n in range(7)]
    told: list[Any] = []
    made = producer(
        stream, aggregate=whole, aggregate_bytes_max=size, aggregate_users_max=20,
        report=lambda user, placed: told.append((user.token, placed)),
    )  # fmt: skip
    sent = []
    for number in range(many):
        key, data = stream.random.choice(keys), b"%d" % number * stream.random.randint(1, 9)
        sent.append((key, data))
        made.put(key, data, token=number)
    made.close()
    users = stream.users()
    assert firsts(users) == firsts(sent)
    assert set(Counter(sent)) == set(Counter(users))
    if not faults:
        assert Counter(users) == Counter(sent)
    assert sorted(token for token, _ in told) == list(range(many))
    assert all(isinstance(placed, Placed) for _, placed in told)
    assert made.buffered_bytes == 0
    if "split" not in faults and "list" not in faults:
        check_ranges(stream)


def check_ranges(stream: Stream) -> None:
    """Every user record lies in the range of the shard that took its aggregate."""
    for shard, record in stream.committed:
        users, _ = deaggregate([record])
        first, last = stream.open[shard]
        assert all(first <= hash_key(key) <= last for key in users.keys)


texts = st.text(min_size=1, max_size=200)
hashes = st.none() | st.integers(0, TOP - 1)


@given(st.lists(st.tuples(texts, st.binary(max_size=20_000), hashes), min_size=1, max_size=20))
def test_the_size_is_exact(users: list[tuple[str, bytes, int | None]]) -> None:
    buffer = Buffer()
    for key, data, explicit in users:
        user = UserRecord(key, data, explicit, 0, 0.0)
        expected = buffer.with_another(user)
        buffer.add(user)
        assert buffer.bytes == expected == len(aggregate([u[:3] for u in users[: len(buffer)]]))


def test_an_aggregate_is_packed_before_it_is_too_large_and_a_lone_record_goes_plain() -> None:
    stream = Stream(1)
    made = producer(stream, aggregate_bytes_max=1000)
    for number in range(50):
        made.put("k", b"x" * 90 + b"%02d" % number)
    made.put("k", b"y" * 5000)
    made.close()
    sizes = [len(record.data) for _, record in stream.committed]
    assert max(sizes[:-1]) <= 1000 < sizes[-1] == 5000
    assert stream.committed[-1][1].partition_key == "k"
    assert stream.committed[0][1].partition_key == "a"
    assert len(stream.users()) == 51


@pytest.mark.parametrize("more", [-1, 0, 1])
def test_the_limit_of_a_record(more: int) -> None:
    stream = Stream(1)
    made = producer(stream, record_bytes_max=1000)
    made.put("k", b"before")
    data = b"x" * (999 + more)
    if more > 0:
        with pytest.raises(RecordError, match="1001 bytes"):
            made.put("k", data)
    else:
        made.put("k", data)
    made.close()
    assert len(stream.users()) == 1 + (more <= 0)


@pytest.mark.parametrize(
    ("key", "explicit"), [("", None), ("x" * 257, None), ("\ud800", None), ("k", TOP), ("k", -1)]
)
def test_keys_that_cannot_be(key: str, explicit: int | None) -> None:
    with pytest.raises(RecordError):
        producer(Stream(1)).put(key, b"x", explicit)


def test_memory_is_bounded() -> None:
    stream = Stream(1, throttled=1.0)
    made = producer(stream, buffer_bytes_max=1000, wait_for_room=False)
    with pytest.raises(BufferFullError, match="of at most 1000"):
        for _ in range(100):
            made.put("k", b"x" * 50)
    assert made.buffered_bytes <= 1000


def test_a_stream_that_is_down_too_long_hands_records_back() -> None:
    stream = Stream(2, throttled=1.0)
    made = producer(stream, live_seconds_max=60.0)
    for number in range(5):
        made.put(f"k{number}", b"x")
    back: list[UserRecord] = []
    for _ in range(2):
        try:
            made.flush()
        except ExpiredError as error:
            back += error.records
            assert "60 s" in str(error)
    assert sorted(user.partition_key for user in back) == [f"k{n}" for n in range(5)]
    assert made.buffered_bytes == 0 and made.counters.expired == 5


def test_only_the_throttled_shard_waits() -> None:
    stream = Stream(2)
    slow, fast = "k0", next(k for k in map(str, range(99)) if hash_key(k.encode()) >> 127
                            != hash_key(b"k0") >> 127)  # fmt: skip
    put = stream.put

    def refusing(entry: Any) -> Any:
        if int(entry["ExplicitHashKey"]) >> 127 == hash_key(b"k0") >> 127:
            return {"ErrorCode": "ProvisionedThroughputExceededException", "ErrorMessage": ""}
        return put(entry)

    stream.put = refusing  # type: ignore[method-assign]
    made = producer(stream, linger_seconds=0.0)
    for number in range(20):
        made.put(slow, b"s%d" % number)
        made.put(fast, b"f%d" % number)
    assert [data for key, data in stream.users()] == [b"f%d" % n for n in range(20)]
    stream.put = put  # type: ignore[method-assign]
    made.close()
    assert firsts(stream.users())[slow] == [b"s%d" % n for n in range(20)]
