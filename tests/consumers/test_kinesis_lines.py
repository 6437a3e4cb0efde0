"""Kinesis records in files: each line to a Record, or an error that names file and line."""

import json
from fractions import Fraction
from typing import Any

import pytest
from effort import examples
from hypothesis import given, settings
from hypothesis import strategies as st

from streamgauge.consumers.records import read_kinesis_lines
from streamgauge.engine.batch import Record
from streamgauge.engine.errors import InputError


def line(**changes: Any) -> bytes:
    keys = {
        "ShardId": "shardId-000000000000",
        "SequenceNumber": "49590338271490256608559692538361571095921575989136588898",
        "ApproximateArrivalTimestamp": 1700000000.123,
        "Data": "aGVsbG8=",
        "PartitionKey": "k\u00e9",
    }
    keys.update(changes)
    return json.dumps({key: value for key, value in keys.items() if value != "absent"}).encode()


def read(*lines: bytes) -> list[Record]:
    return list(read_kinesis_lines(lines, "records.ndjson"))


def test_a_line_is_a_record() -> None:
    (record,) = read(line())
    assert record == Record(
        shard_id="shardId-000000000000",
        sequence_number="49590338271490256608559692538361571095921575989136588898",
        data=b"hello",
        partition_key="k\u00e9",
        arrival=1700000000123,
    )


@pytest.mark.parametrize(
    ("stamp", "arrival"),
    [
        ("absent", None),
        (None, None),
        (0, 0),
        (1700000000, 1700000000000),
        (0.0005, 1),  # the float64 nearest to it is a little more
        (0.0015, 2),
        (0.0625, 62),
        (0.1875, 188),
        (1.7e9, 1700000000000),
    ],
)
def test_arrival_times(stamp: Any, arrival: int | None) -> None:
    assert [record.arrival for record in read(line(ApproximateArrivalTimestamp=stamp))] == [arrival]


@settings(max_examples=examples(100))
@given(st.floats(0, 1e10))
def test_arrival_times_are_exact(stamp: float) -> None:
    (record,) = read(line(ApproximateArrivalTimestamp=stamp))
    assert record.arrival == round(Fraction(stamp) * 1000)


def test_other_keys_may_stand_beside() -> None:
    assert len(read(line(EncryptionType="NONE"), line(Data=""), line(PartitionKey=""))) == 3


@pytest.mark.parametrize(
    ("bad", "found"),
    [
        (b"", "truncated"),
        (b"{", "truncated"),
        (b"[]", "Expected `object`"),
        (b"\xff", "malformed"),
        (line() + b"x", "trailing"),
        (line(ShardId="absent"), "ShardId"),
        (line(SequenceNumber="absent"), "SequenceNumber"),
        (line(Data="absent"), "Data"),
        (line(PartitionKey="absent"), "PartitionKey"),
        (line(PartitionKey=None), "PartitionKey"),
        (line(SequenceNumber=5), "SequenceNumber"),
        (line(SequenceNumber="05"), "SequenceNumber"),
        (line(SequenceNumber="x\x1b[0m"), "'x\\x1b[0m'"),
        (line(SequenceNumber="9" * 5000), "SequenceNumber"),
        (line(ShardId=""), "ShardId"),
        (line(ShardId="a:b"), "ShardId"),
        (line(Data="aGVsbG8"), "base64"),
        (line(Data="aGVs bG8="), "base64"),
        (line(ApproximateArrivalTimestamp="1"), "ApproximateArrivalTimestamp"),
        (line().replace(b"1700000000.123", b"1e999"), "ApproximateArrivalTimestamp"),
        (line().replace(b"k\\u00e9", b"\xff"), "utf-8"),
        (b'{"x":' + b"[" * 5000, "recursion"),
    ],
)
def test_a_bad_line_is_named(bad: bytes, found: str) -> None:
    records = read_kinesis_lines([line(), bad], "records.ndjson")
    assert next(records).data == b"hello"
    with pytest.raises(InputError, match="^records.ndjson: line 2: ") as caught:
        next(records)
    assert found in str(caught.value) and len(str(caught.value)) < 300
