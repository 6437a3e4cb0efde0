"""Sizes of aggregates and records, to the byte, and what can never be put."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from memory_kinesis import (
    HASH_KEYS,
    MemoryKinesis,
    producer,
)

from streamgauge.engine.kpl import aggregate, deaggregate
from streamgauge.producers.buffer import Buffer, Parcel, UserRecord, known
from streamgauge.producers.outcomes import (
    Outcome,
    RecordError,
    SomeRefusedError,
)

texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40)
hashes = st.none() | st.integers(0, HASH_KEYS - 1)
rows = st.lists(st.tuples(texts, st.binary(max_size=20_000), hashes), min_size=1, max_size=20)


@given(rows)
def test_the_size_is_exact(users: list[tuple[str, bytes, int | None]]) -> None:
    buffer = Buffer()
    for key, data, explicit in users:
        user, size = UserRecord(key, data, explicit, 0), buffer.bytes
        assert not buffer.add(user, known(key), size)
        assert buffer.bytes == size
        assert buffer.add(user, known(key), None)
        assert not buffer.add(user, known(key), buffer.bytes)
        assert buffer.bytes == len(aggregate(users[: len(buffer.users)]))
    rows = [UserRecord(key, data, explicit, 0) for key, data, explicit in users]
    if len(users) > 1:
        assert Parcel.of(rows, True).pack().data == aggregate(users)


def put_as(outcome: Outcome) -> tuple[str, bytes, int | None]:
    user = outcome.user
    return user.partition_key, user.data, user.explicit_hash_key


@given(rows, st.integers(64, 30_000))
def test_what_was_put_comes_out_with_its_keys(
    users: list[tuple[str, bytes, int | None]], size: int
) -> None:
    stream, told = MemoryKinesis(2), list[Outcome]()
    made = producer(stream, aggregate_bytes_max=size)
    for key, data, explicit in users:
        made.put(key, data, explicit, callback=told.append)
    made.close()
    assert Counter(map(put_as, told)) == Counter(users)
    for one in told:
        assert one.placed is not None
        there = stream.committed[int(one.placed.sequence_number) - 1]
        opened, _ = deaggregate([there.record])
        place, (key, data, explicit) = one.sub_sequence_number, put_as(one)
        assert (opened.keys[place].decode(), opened.data[place]) == (key, data)
        assert there.users[place][2] == one.user.hash_key
        if there.aggregated:
            hash_keys = opened.hash_keys or [None] * len(opened)
            assert hash_keys[place] == (None if explicit is None else str(explicit))
            assert len(there.record.data) <= size or len(opened) == 1


def sizes_around(limit: int) -> list[int]:
    """Sizes of data with which two records of one key make an aggregate just at a limit."""

    def packed(size: int) -> int:
        return len(aggregate([("k", b"x" * 100, None), ("k", b"x" * size, None)]))

    fits = next(size for size in range(limit) if packed(size) == limit)
    return [fits - 1, fits, fits + 1]


@pytest.mark.parametrize("limit", [200, 1000, 51_200])
def test_an_aggregate_is_filled_to_the_byte(limit: int) -> None:
    counts = []
    for size in sizes_around(limit):
        stream = MemoryKinesis(1)
        made = producer(stream, aggregate_bytes_max=limit)
        made.put_many(["k", "k"], [b"x" * 100, b"x" * size])
        made.close()
        counts.append([len(one.record.data) for one in stream.committed])
    assert counts == [[limit - 1], [limit], [100, sizes_around(limit)[2]]]


@pytest.mark.parametrize("more", [-1, 0, 1])
def test_the_limit_of_a_record(more: int) -> None:
    """The key counts, in bytes; neighbours are unharmed."""
    stream = MemoryKinesis(1)
    made, key = producer(stream), "\u00e9\u00e9"
    made.put("k", b"before")
    data = b"x" * ((1 << 20) - 4 + more)
    if more > 0:
        with pytest.raises(RecordError, match="'\u00e9\u00e9': 1048577 bytes .* at most 1048576"):
            made.put(key, data)
    else:
        made.put(key, data)
    made.put("k", b"after")
    made.close()
    expected = [("k", b"before"), *([(key, data)] if more <= 0 else []), ("k", b"after")]
    assert sorted(stream.users()) == sorted(expected)


def test_the_limit_of_a_record_is_the_streams() -> None:
    stream = MemoryKinesis(1)
    stream.record_bytes_max = 10 << 20
    made = producer(stream, record_bytes_max=10 << 20)
    made.put("k", b"x" * ((10 << 20) - 1))
    with pytest.raises(RecordError):
        made.put("k", b"x" * (10 << 20))
    made.close()
    assert len(stream.committed) == 1


def test_an_aggregate_never_passes_the_limit_of_a_record() -> None:
    stream = MemoryKinesis(1)
    stream.record_bytes_max = 1000
    made = producer(stream, record_bytes_max=1000, aggregate_bytes_max=1000)
    made.put_many(["k"] * 300, [b"x" * (n % 90) for n in range(300)])
    made.close()
    assert max(len(one.record.data) for one in stream.committed) > 900


@pytest.mark.parametrize(
    ("key", "data", "explicit", "message"),
    [
        ("", b"", None, "1 to 256 characters, found 0"),
        ("x" * 257, b"", None, "1 to 256 characters, found 257"),
        ("\ud800", b"", None, "UTF-8"),
        ("k", b"", HASH_KEYS, "explicit hash key"),
        ("k", b"", -1, "explicit hash key"),
        ("k", "text", None, "expected bytes, found str"),
    ],
)
def test_records_that_cannot_be(key: str, data: Any, explicit: int | None, message: str) -> None:
    stream = MemoryKinesis(1)
    made = producer(stream)
    with pytest.raises(RecordError, match=message):
        made.put(key, data, explicit)
    made.put("\u00e9" * 256, b"", HASH_KEYS - 1)
    made.close()
    assert made.counters.user_records_put == len(stream.committed) == 1


def test_several_records_of_which_some_cannot_be() -> None:
    stream = MemoryKinesis(2)
    made = producer(stream, record_bytes_max=100)
    with pytest.raises(SomeRefusedError, match="2 of 4 records can never be put; number 1") as told:
        made.put_many(["a", "", "b", "c"], [b"1", b"2", b"3", b"4" * 100])
    assert list(told.value.refused) == [1, 3]
    assert "101 bytes" in str(told.value.refused[3])
    with pytest.raises(ValueError, match="1 partition keys for 2 data"):
        made.put_many(["a"], [b"", b""])
    made.close()
    assert sorted(stream.users()) == [("a", b"1"), ("b", b"3")]
