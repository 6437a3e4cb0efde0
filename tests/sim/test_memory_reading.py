"""The stream in memory against moto's, through the real reader: the same records, from anywhere."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import pytest
from botocore.exceptions import ClientError
from memory_reading import NAME, MemoryKinesis
from memory_stream import Faults, MemoryStream
from moto import mock_aws

from streamgauge import Position, Record
from streamgauge.consumers.kinesis_reader import KinesisReader
from streamgauge.engine.aws import RefusedError, Service, make_client
from streamgauge.engine.errors import UnavailableError

READS_MAX = 1000


@pytest.fixture
def moto_client() -> Iterator[Any]:
    with mock_aws():
        client = make_client("kinesis")
        client.create_stream(StreamName=NAME, ShardCount=2)
        for number in range(40):
            data = b"%d" % number
            client.put_record(StreamName=NAME, Data=data, PartitionKey=f"k{number}")
        yield client


def read(reader: KinesisReader, shard: str, at: Position | None, inclusive: bool) -> list[Record]:
    """All records from there on to the tip."""
    found: list[Record] = []
    iterator = reader.iterator(shard, at, inclusive)
    for _ in range(READS_MAX):
        fetched = reader.read(shard, iterator)
        assert fetched is not None and fetched.iterator is not None
        found += fetched.records
        if not fetched.records and fetched.behind == 0:
            return found
        iterator = fetched.iterator
    raise AssertionError("no end")


def test_it_is_read_as_moto_s_is(moto_client: Any) -> None:
    theirs = KinesisReader(Service("kinesis", moto_client), NAME)
    shards = [shard.shard_id for shard in theirs.shards()]
    records = {shard: read(theirs, shard, None, False) for shard in shards}
    stream = MemoryStream(records, random=random.Random(1), limit=3)
    ours = KinesisReader(Service("kinesis", make=MemoryKinesis(stream).client), NAME)
    assert ours.shards() == theirs.shards()
    assert sum(map(len, records.values())) == 40 and all(records.values())
    for shard, of in records.items():
        assert read(ours, shard, None, False) == of
        for number in (0, 1, len(of) - 1):
            at = Position(shard, of[number].sequence_number, 0)
            for inclusive in (False, True):
                found = read(ours, shard, at, inclusive)
                assert found == read(theirs, shard, at, inclusive) == of[number + (not inclusive) :]


def test_refusals_are_those_of_moto(moto_client: Any) -> None:
    ours = MemoryKinesis(MemoryStream({"s": []})).client()
    where = {"StreamName": NAME, "ShardId": "none", "ShardIteratorType": "TRIM_HORIZON"}
    for client in (moto_client, ours):
        for operation, request in (
            ("list_shards", {"StreamName": "absent"}),
            ("get_shard_iterator", where),
            ("get_shard_iterator", where | {"StreamName": "absent"}),
        ):
            with pytest.raises(ClientError, match="ResourceNotFoundException"):
                getattr(client, operation)(**request)


def test_parents_and_the_end_of_a_shard_are_told() -> None:
    record = Record("a", "7", b"x", "k", None)
    stream = MemoryStream({"a": [record], "b": []}, closed={"a"}, parents={"b": ("a", "c")})
    reader = KinesisReader(Service("kinesis", make=MemoryKinesis(stream).client), NAME)
    assert [(s.shard_id, s.parents) for s in reader.shards()] == [("a", ()), ("b", ("a", "c"))]
    fetched = reader.read("a", reader.iterator("a", None, False))
    assert fetched is not None and (fetched.records, fetched.iterator) == ([record], None)


def test_its_faults_are_errors_as_boto3_raises_them() -> None:
    stream = MemoryStream({"s": [Record("s", "1", b"x", "k", 1_700_000_000_123)]})
    kinesis = MemoryKinesis(stream)
    reader = KinesisReader(Service("kinesis", make=kinesis.client), NAME)
    kinesis.throttle_next = 1
    with pytest.raises(UnavailableError, match="ProvisionedThroughputExceededException"):
        reader.shards()
    kinesis.expire()
    for _ in range(2):
        with pytest.raises(UnavailableError, match="ExpiredTokenException"):
            reader.iterator("s", None, False)
    kinesis.renew()
    iterator = reader.iterator("s", None, False)
    stream.faults = Faults(expired=1.0)
    assert reader.read("s", iterator) is None
    with pytest.raises(RefusedError, match="ExpiredIteratorException"):
        Service("kinesis", kinesis.client()).call(
            "get_records", "s", ShardIterator=iterator, Limit=9
        )
    stream.heal()
    fetched = reader.read("s", iterator)
    assert fetched is not None and fetched.records == list(stream.records["s"])
    stream.faults = Faults(copies=2)
    fetched = reader.read("s", iterator)
    assert fetched is not None and len(fetched.records) == 4
