"""The KCL's own de-aggregation, with the ranges of the shards, reads what the producer wrote.

An aggregate of which a single user record lies outside its shard's range is dropped whole by the
KCL, without a word: so 100 % here says that each aggregate keeps to one shard.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import pytest
from kcl_opening import TOP, Read, Written, command, compiled, deaggregated
from servers import need_jars

from streamgauge.engine.aws import Service
from streamgauge.engine.kpl import aggregate
from streamgauge.producers.aggregator import Producer

pytestmark = pytest.mark.slow


class Stream:
    """A client of Kinesis in memory: shards of equal ranges, one of which may be split."""

    def __init__(self, shards: int) -> None:
        self.written: list[Written] = []
        self.open = {
            f"shardId-{n:012}": (n * TOP // shards, (n + 1) * TOP // shards - 1)
            for n in range(shards)
        }
        self.split_at: int | None = None  # so many calls from now

    def list_shards(self, **_: Any) -> Any:
        return {
            "Shards": [
                {"ShardId": name, "SequenceNumberRange": {"StartingSequenceNumber": "1"},
                 "HashKeyRange": {"StartingHashKey": str(a), "EndingHashKey": str(b)}}
                for name, (a, b) in self.open.items()
            ]
        }  # fmt: skip

    def put_records(self, Records: Sequence[Any], **_: Any) -> Any:
        if self.split_at is not None:
            self.split_at -= 1
            if self.split_at == 0:
                self.split()
        return {"Records": [self.put(entry) for entry in Records], "FailedRecordCount": 0}

    def put(self, entry: Any) -> dict[str, str]:
        number = int(entry["ExplicitHashKey"])
        shard = next(name for name, (a, b) in self.open.items() if a <= number <= b)
        sequence = str(len(self.written) + 1)
        self.written.append(
            Written(*self.open[shard], sequence, entry["PartitionKey"], bytes(entry["Data"]))
        )
        return {"ShardId": shard, "SequenceNumber": sequence}

    def split(self) -> None:
        """Every shard is closed, and has two children."""
        before, self.open = list(self.open.values()), {}
        for number, (first, last) in enumerate(before):
            middle = (first + last) // 2
            self.open[f"shardId-{1000 + 2 * number:012}"] = (first, middle)
            self.open[f"shardId-{1001 + 2 * number:012}"] = (middle + 1, last)


@pytest.fixture(scope="module")
def kcl(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The command that runs the KCL's de-aggregation."""
    folder, classes = tmp_path_factory.mktemp("kcl"), need_jars("kcl")
    compiled(folder, classes)
    return command(f"{folder}:{classes}")


def readings(count: int, shards: int) -> list[Read]:
    """User records of many devices; some chose their shard, also by both ends of its range."""
    draw = random.Random(shards)
    edges = [
        edge for n in range(shards) for edge in (n * TOP // shards, (n + 1) * TOP // shards - 1)
    ]
    found = []
    for number in range(count):
        key = draw.choice([f"t-{draw.randrange(500)}", f"gerät-{draw.randrange(9)}", "x" * 256])
        explicit = draw.choice([None, None, None, draw.randrange(TOP), draw.choice(edges)])
        data = b'{"n":%d,"pad":"%s"}' % (number, b"x" * draw.choice([0, 1, 100, 127, 128, 5000]))
        found.append(Read(key, explicit, data))
    return found


def put(stream: Stream, users: Sequence[Read]) -> None:
    with Producer("s", Service("kinesis", stream)) as producer:
        for user in users:
            producer.put(user.partition_key, user.data, user.explicit_hash_key)


@pytest.mark.parametrize("shards", [1, 4, 64])
def test_every_user_record_is_handed_on(shards: int, kcl: list[str]) -> None:
    stream, users = Stream(shards), readings(3000, shards)
    put(stream, users)
    read = handed_on(deaggregated(kcl, stream.written), users)
    assert len(stream.written) < len(users) / 4, "hardly anything is aggregated"
    assert len(read) == len(users)
    for of in (read, users):
        of.sort(key=lambda user: user.partition_key)  # stable: the order of each key stays
    by_key = [[user for user in of if user.explicit_hash_key is None] for of in (read, users)]
    assert by_key[0] == by_key[1]
    assert set(read) == set(users)


def handed_on(told: Sequence[Sequence[Read]], users: Sequence[Read]) -> list[Read]:
    """All user records, those that went alone with the hash key that no reader of those can see."""
    put = {user.data: user for user in users}
    found = []
    for of in told:
        for user in of:
            assert user == put[user.data] or (len(of) == 1 and user.explicit_hash_key is None)
            found.append(put[user.data])
            assert user.partition_key == found[-1].partition_key
    return found


@pytest.mark.parametrize("shards", [1, 4])
@pytest.mark.parametrize("calls", [2, 3])
def test_none_is_missing_after_a_split_in_flight(shards: int, calls: int, kcl: list[str]) -> None:
    """What was packed for the parent and landed in a child is dropped by the KCL and sent again."""
    stream, users = Stream(shards), readings(2000, shards)
    stream.split_at = calls
    put(stream, users)
    told = deaggregated(kcl, stream.written)
    assert [] in told, "no aggregate crossed the split: the test shows nothing"
    assert set(handed_on(told, users)) == set(users)


def test_the_kcl_drops_what_does_not_keep_to_its_shard(kcl: list[str]) -> None:
    """So there is a buffer a shard; if this fails, the tests above show nothing."""
    half = TOP // 2
    data = aggregate([("a", b"1", 5), ("b", b"2", half - 1), ("c", b"3", half)])
    assert deaggregated(kcl, [Written(0, half - 1, "1", "a", data)]) == [[]]
    assert len(deaggregated(kcl, [Written(0, TOP - 1, "1", "a", data)])[0]) == 3
