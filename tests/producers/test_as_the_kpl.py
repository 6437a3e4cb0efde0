"""Keys, order of sending and buffers as the KPL has them; other readers open what is written."""

from __future__ import annotations

import ast
import base64
import subprocess
import sys
from typing import Any

import pytest
from memory_kinesis import (
    Clock,
    Faults,
    MemoryKinesis,
    firsts,
    producer,
    run,
)
from moto import mock_aws

from streamgauge.engine.aws import Service, make_client
from streamgauge.engine.kpl import MAGIC, aggregate, deaggregate, hash_key
from streamgauge.producers.aggregator import Producer
from streamgauge.producers.outcomes import (
    Outcome,
    RecordError,
)


def test_outer_keys_are_those_of_the_kpl() -> None:
    stream = MemoryKinesis(1)
    made = producer(stream)
    made.put_many(["one", "two"], [b"1", b"2"])
    made.put("three", b"3", 5)
    made.flush()
    made.put("alone", b"4")
    made.flush()
    made.put("alone", b"5", 7)
    made.close()
    entries = [(one.record.partition_key, one.users) for one in stream.committed]
    numbers = hash_key(b"one"), hash_key(b"two")
    assert entries == [
        ("a", [("one", b"1", numbers[0]), ("two", b"2", numbers[1]), ("three", b"3", 5)]),
        ("alone", [("alone", b"4", hash_key(b"alone"))]),
        ("alone", [("alone", b"5", 7)]),
    ]  # fmt: skip
    opened, _ = deaggregate([stream.committed[0].record])
    assert opened.hash_keys == [None, None, "5"]


def test_the_explicit_hash_key_of_the_outer_record_is_the_first_ones() -> None:
    stream, sent = MemoryKinesis(1), list[Any]()
    put = stream.put_records
    stream.put_records = lambda **given: sent.extend(given["Records"]) or put(**given)  # type: ignore[method-assign]
    made = producer(stream)
    made.put_many(["one", "two"], [b"1", b"2"])
    made.flush()
    made.put("alone", b"3")
    made.close()
    assert [entry["ExplicitHashKey"] for entry in sent] == [
        str(hash_key(b"one")), str(hash_key(b"alone"))
    ]  # fmt: skip


def test_while_the_shards_are_not_known_records_go_alone() -> None:
    stream, clock = MemoryKinesis(2, faults=Faults(list_fails=1.0)), Clock()
    made = producer(stream, clock)
    made.put_many(["a", "b", "c", "a"], [b"1", b"2", b"3", b"4"])
    made.flush()
    assert [len(one.users) for one in stream.committed] == [1] * 4
    assert not any(one.aggregated for one in stream.committed)
    stream.faults.list_fails = 0.0
    clock.seconds += 10
    made.put_many(["a"] * 3, [b"5", b"6", b"7"])
    made.close()
    assert [len(one.users) for one in stream.committed[4:]] == [3]


def test_a_record_that_looks_like_an_aggregate_stays_what_it_is() -> None:
    """Sent plain it would be opened, or rejected, by whoever reads."""
    inner = aggregate([("x", b"inside", None), ("y", b"", None)])
    for data in (inner, MAGIC, MAGIC + bytes(40)):
        stream = MemoryKinesis(1)
        made = producer(stream)
        made.put("k", data)
        made.close()
        assert stream.users() == [("k", data)]
    made = producer(stream, record_bytes_max=100)
    made.put("k", MAGIC + bytes(66))
    with pytest.raises(RecordError, match="101 bytes"):
        made.put("k", MAGIC + bytes(67))


def test_unaggregated_records_go_as_they_are() -> None:
    stream = MemoryKinesis(2)
    made = producer(stream, aggregate=False)
    made.put_many(["a", "b"], [b"1", aggregate([("x", b"2", None), ("y", b"3", None)])])
    made.close()
    assert sorted(one.record.partition_key for one in stream.committed) == ["a", "b"]
    assert sorted(stream.users()) == [("a", b"1"), ("x", b"2"), ("y", b"3")]


def test_buffers_are_packed_by_count_and_by_the_age_of_their_first_record() -> None:
    stream, clock = MemoryKinesis(1), Clock()
    made = producer(stream, clock, aggregate_users_max=3, linger_seconds=0.1)
    for number in range(4):
        made.put("k", b"%d" % number)
        clock.seconds += 0.03
    assert [len(one.users) for one in stream.committed] == []
    clock.seconds = 1000.1
    assert made.tick() == pytest.approx(0.09)  # the fourth was put at 1000.09
    assert [len(one.users) for one in stream.committed] == [3]
    clock.seconds = 1000.19
    made.tick()
    assert [len(one.users) for one in stream.committed] == [3, 1]
    assert made.tick() == 0.1  # nothing to send: any time


def test_a_full_call_does_not_wait_for_its_time() -> None:
    stream = MemoryKinesis(1)
    made = producer(stream, aggregate=False, linger_seconds=3600.0)
    made.put_many([f"k{n}" for n in range(501)], [b"x"] * 501)
    assert stream.calls == [500]
    stream = MemoryKinesis(1)
    made = producer(stream, linger_seconds=3600.0)
    made.put_many(["k"] * 1100, [b"x" * 1000] * 1100)
    assert len(stream.committed) == 21  # 1 MiB in aggregates of 50 KiB


COMPARE = """
import base64, sys
from aws_kinesis_agg.deaggregator import deaggregate_records
for line in sys.stdin:
    rows = deaggregate_records({"kinesis": {"kinesisSchemaVersion": "1.0", "sequenceNumber": "1",
        "partitionKey": line.split()[0], "approximateArrivalTimestamp": 1,
        "data": line.split()[1]}})
    print([(row["kinesis"]["partitionKey"], base64.b64decode(row["kinesis"]["data"]))
        for row in rows])
"""


def test_the_reference_library_reads_what_was_put() -> None:
    """In a process of its own: its import puts modules of common names in front of sys.path."""
    stream = MemoryKinesis(3)
    _, sent, _ = run(stream, 400, 20, aggregate_bytes_max=2000)
    lines = [
        f"{one.record.partition_key} {base64.b64encode(one.record.data).decode()}"
        for one in stream.committed
    ]
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", COMPARE],
        input="\n".join(lines), capture_output=True, text=True, check=True,
    )  # fmt: skip
    found = [row for line in done.stdout.splitlines() for row in ast.literal_eval(line)]
    assert found == stream.users()
    assert firsts(found) == firsts(sent)
    assert "aws_kinesis_agg" not in sys.modules


@mock_aws
def test_through_moto() -> None:
    client = make_client("kinesis")
    client.create_stream(StreamName="s", ShardCount=3)
    told: list[Outcome] = []
    with Producer("s", Service("kinesis")) as made:
        for number in range(3000):
            made.put(f"device-{number % 50}", b'{"reading":%d}' % number, callback=told.append)
    sent = [(f"device-{n % 50}", b'{"reading":%d}' % n) for n in range(3000)]
    found, records = [], 0
    for shard in client.list_shards(StreamName="s")["Shards"]:
        iterator = client.get_shard_iterator(
            StreamName="s", ShardId=shard["ShardId"], ShardIteratorType="TRIM_HORIZON"
        )["ShardIterator"]
        given = client.get_records(ShardIterator=iterator)["Records"]
        records += len(given)
        low, high = (int(shard["HashKeyRange"][f"{end}HashKey"]) for end in ("Starting", "Ending"))
        for one in given:
            from streamgauge import Record

            users, rejected = deaggregate(
                [Record(shard["ShardId"], one["SequenceNumber"], one["Data"], one["PartitionKey"])]
            )
            assert not rejected
            assert all(low <= hash_key(key) <= high for key in users.keys)
            found += [(k.decode(), d) for k, d in zip(users.keys, users.data, strict=True)]
    assert firsts(found) == firsts(sent) and len(found) == 3000
    assert records == made.counters.kinesis_records < 30
    assert made.counters.user_records_placed == len(told) == 3000
