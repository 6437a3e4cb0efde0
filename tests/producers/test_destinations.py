"""Files, records in files, a stream: what goes in comes out, in order, and is accepted once."""

from __future__ import annotations

import io
import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamgauge import Record
from streamgauge.consumers.records import read_kinesis_lines
from streamgauge.engine.aws import Service
from streamgauge.engine.errors import StreamgaugeError
from streamgauge.engine.kpl import deaggregate, hash_key
from streamgauge.producers.destinations import FILE_SHARDS, Lines, RecordLines, Stream
from streamgauge.producers.fleet import Fleet
from streamgauge.producers.ledger import Ledger, difference
from streamgauge.producers.messages import Messages

START = 1_767_600_000_000
TOP = 1 << 128


def fleet() -> list[Messages]:
    return list(Fleet(30, 40, seed=2, start=START))


def all_of(ticks: list[Messages]) -> list[bytes]:
    return [data for tick in ticks for data in tick.data]


def test_lines_are_the_payloads() -> None:
    file, told = io.BytesIO(), list[bytes]()
    out = Lines(file, told.extend)
    for tick in fleet():
        out.send(tick)
    out.send(Messages())
    out.drain()
    assert file.getvalue().split(b"\n")[:-1] == told == all_of(fleet())
    assert out.sent == out.accepted == len(told)


def recorded(cuts: list[int], aggregated: bool) -> tuple[bytes, list[bytes]]:
    """A fleet in a file of records, each second of it sent in parts of these sizes."""
    file, told = io.BytesIO(), list[bytes]()
    out = RecordLines(file, told.extend, aggregated)
    sizes = itertools.cycle(cuts)
    for number, tick in enumerate(fleet(), 1):
        first = 0
        while first < len(tick):
            last = first + next(sizes)
            out.send(tick.part(first, last), START + 1000 * number)
            first = last
    out.drain()
    assert out.sent == out.accepted == len(told)
    return file.getvalue(), told


@pytest.mark.parametrize("aggregated", [True, False])
def test_records_of_a_file_are_those_of_a_stream(aggregated: bool) -> None:
    content, told = recorded([1000], aggregated)
    records = list(read_kinesis_lines(content.splitlines(), "x"))
    seen: dict[str, list[bytes]] = {}
    arrivals = []
    for record in records:
        users, rejected = deaggregate([record])
        assert not rejected or not aggregated
        assert users.aggregated.tolist() == [aggregated] * len(users)
        for key, data in zip(users.keys, users.data, strict=True):
            shard = f"shardId-{hash_key(key) * FILE_SHARDS >> 128:012}"
            assert record.shard_id == shard
            seen.setdefault(key.decode(), []).append(data)
        arrivals.append(record.arrival)
    assert arrivals == sorted(arrivals) and set(arrivals) <= {  # type: ignore[type-var]
        START + 1000 * n for n in range(1, 41)
    }
    sent: dict[str, list[bytes]] = {}
    for tick in fleet():
        for key, data in zip(tick.keys, tick.data, strict=True):
            sent.setdefault(key, []).append(data)
    assert seen == sent and sorted(told) == sorted(all_of(fleet()))
    numbers = [int(record.sequence_number) for record in records]
    assert numbers == sorted(set(numbers))
    assert (len(records) < len(told) / 2) is aggregated


@given(st.lists(st.integers(1, 60), min_size=1, max_size=5))
def test_the_bytes_do_not_depend_on_the_pace(cuts: list[int]) -> None:
    assert recorded(cuts, True)[0] == recorded([10_000], True)[0]


def test_an_explicit_hash_key_chooses_the_shard() -> None:
    file = io.BytesIO()
    out = RecordLines(file)
    out.send(Messages(["k", "k"], [b"1", b"2"], hash_keys=[TOP - 1, None]), 5)
    out.drain()
    shards = [r.shard_id for r in read_kinesis_lines(file.getvalue().splitlines(), "x")]
    assert shards[-1] == "shardId-000000000003" != shards[0]


class MemoryKinesis:
    """A Kinesis client with two shards; `refusals` first entries are refused."""

    def __init__(self, refusals: int = 0) -> None:
        self.records: dict[str, list[Record]] = {"shard-0": [], "shard-1": []}
        self.refusals = refusals

    def list_shards(self, **_: Any) -> Any:
        return {
            "Shards": [
                {"ShardId": name, "SequenceNumberRange": {"StartingSequenceNumber": "1"},
                 "HashKeyRange": {"StartingHashKey": str(n * TOP // 2),
                                  "EndingHashKey": str((n + 1) * TOP // 2 - 1)}}
                for n, name in enumerate(self.records)
            ]
        }  # fmt: skip

    def put_records(self, Records: list[Any], **_: Any) -> Any:
        told = []
        for entry in Records:
            if self.refusals:
                self.refusals -= 1
                told.append({"ErrorCode": "InternalFailure", "ErrorMessage": "x"})
                continue
            shard = f"shard-{int(entry['ExplicitHashKey']) * 2 // TOP}"
            held = self.records[shard]
            held.append(Record(shard, str(len(held)), entry["Data"], entry["PartitionKey"]))
            told.append({"ShardId": shard, "SequenceNumber": held[-1].sequence_number})
        return {"Records": told, "FailedRecordCount": 0}

    def users(self) -> dict[str, list[bytes]]:
        found: dict[str, list[bytes]] = {}
        for held in self.records.values():
            users, _ = deaggregate(held)
            for key, data in zip(users.keys, users.data, strict=True):
                found.setdefault(key.decode(), []).append(data)
        return found


@pytest.mark.parametrize("aggregated", [True, False])
def test_a_stream_holds_what_the_ledger_says(aggregated: bool) -> None:
    client, file = MemoryKinesis(refusals=5), io.BytesIO()
    ledger = Ledger(file)
    out = Stream("s", Service("kinesis", client), ledger.take, aggregated, sleep=lambda s: None)
    sent: dict[str, list[bytes]] = {}
    for tick in fleet():
        out.send(tick)
        out.tend()
        for key, data in zip(tick.keys, tick.data, strict=True):
            sent.setdefault(key, []).append(data)
    out.drain()
    assert out.sent == out.accepted == ledger.accepted == sum(map(len, sent.values()))
    users = client.users()
    if aggregated:
        assert users == sent  # in the order of each key
    there = [data for own in users.values() for data in own]
    found = difference(file.getvalue().splitlines(), there)
    assert not found.missing and not found.extra
    records = sum(map(len, client.records.values()))
    assert (records < out.sent / 2) is aggregated


def test_what_a_stream_can_never_take_is_refused_alone() -> None:
    told: list[bytes] = []
    out = Stream("s", Service("kinesis", MemoryKinesis()), told.extend)
    out.send(Messages(["a", "x" * 257, "b", ""], [b"1", b"2", b"3", b"4"]))
    out.drain()
    assert (out.sent, out.accepted, out.refused, told) == (4, 2, 2, [b"1", b"3"])
    assert "partition key" in out.refusal


def test_a_stream_that_takes_nothing_ends_it() -> None:
    clock = [0.0]

    def sleep(seconds: float) -> None:
        clock[0] += max(seconds, 1.0)

    client = MemoryKinesis(refusals=1 << 30)
    out = Stream("s", Service("kinesis", client), now=lambda: clock[0], sleep=sleep)
    with pytest.raises(
        StreamgaugeError, match="1 messages not put in time; errors: InternalFailure"
    ):
        out.send(Messages(["a"], [b"1"]))
        out.drain()
    assert (out.sent, out.accepted, out.refused) == (1, 0, 1)
