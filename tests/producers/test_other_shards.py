"""Records that land in other shards than predicted: split, merged, listed too late."""

from __future__ import annotations

from itertools import islice

from memory_kinesis import (
    Clock,
    MemoryKinesis,
    firsts,
    keys_of,
    producer,
    repeats,
)

from streamgauge.producers.outcomes import (
    Outcome,
)
from streamgauge.producers.packer import WRONG_SHARD


def test_an_aggregate_in_flight_when_its_shard_is_split_is_sent_again() -> None:
    """Before any later record of its keys; those that lie in one child's range are left there."""
    stream, clock, told = MemoryKinesis(1), Clock(), list[Outcome]()
    made = producer(stream, clock)
    made.put("warm", b"up")
    made.flush()
    low, high = stream.split()
    a, b = next(keys_of(stream, low)), next(keys_of(stream, high))
    for number in range(3):
        made.put(a, b"%d" % number, callback=told.append)
        made.put(b, b"%d" % number, callback=told.append)
    made.close()
    assert made.counters.wrong_shard == 1
    assert not stream.in_range(stream.committed[1])  # both keys, in the child of the first
    again = stream.committed[2:]
    assert {one.shard for one in again} == {low, high} and len(again) == 2
    assert all(stream.in_range(one) for one in again)
    assert firsts(stream.as_kcl()) == {k: [b"0", b"1", b"2"] for k in (a, b)} | {"warm": [b"up"]}
    assert {one.attempts[0].code for one in told} == {WRONG_SHARD}
    assert "shardId-000000000000" in told[0].attempts[0].message


def test_an_aggregate_that_fits_the_child_it_landed_in_is_not_sent_again() -> None:
    stream = MemoryKinesis(1)
    made = producer(stream)
    made.put("warm", b"up")
    made.flush()
    low, _ = stream.split()
    keys = list(islice(keys_of(stream, low), 3))
    made.put_many(keys, [b"x"] * 3)
    made.close()
    assert (repeats(stream.users()), made.counters.wrong_shard) == (0, 0)
    assert stream.lists == 2  # the list was made anew all the same


def test_merged_shards_take_what_was_meant_for_their_parents() -> None:
    stream = MemoryKinesis(2)
    made = producer(stream)
    made.put("warm", b"up")
    made.flush()
    stream.merge()
    keys = [f"k{n}" for n in range(20)]
    made.put_many(keys, [b"x"] * 20)
    made.flush()
    assert (repeats(stream.users()), made.counters.wrong_shard) == (0, 0)
    made.put_many(keys, [b"y"] * 20)
    made.close()
    assert [len(one.users) for one in stream.committed[-1:]] == [20]  # one aggregate from now on


def test_a_list_of_shards_that_is_out_of_date_makes_no_loop() -> None:
    """What went astray goes again alone, which cannot go astray; then aggregates are made again."""
    stream, clock = MemoryKinesis(1), Clock()
    made = producer(stream, clock)
    made.put("warm", b"up")
    made.flush()
    stream.faults.list_old = 1.0
    stream.split()
    keys = [f"k{n}" for n in range(10)]
    made.put_many(keys, [b"1"] * 10)
    made.flush()
    assert len(stream.calls) == 3 and made.counters.wrong_shard == 1
    assert [len(one.users) for one in stream.committed[2:]] == [1] * 10
    stream.faults.list_old = 0.0
    clock.seconds += 10
    made.put_many(keys, [b"2"] * 10)
    made.close()
    assert sum(one.aggregated for one in stream.committed[12:]) >= 1
    assert firsts(stream.as_kcl()) == {k: [b"1", b"2"] for k in keys} | {"warm": [b"up"]}


def test_records_that_wait_move_with_the_shards_when_these_are_listed_by_age() -> None:
    """What waits for a shard that was split must not be overtaken through its children."""
    stream, clock = MemoryKinesis(1), Clock()
    made = producer(stream, clock)
    made.put("warm", b"up")
    made.flush()
    stream.faults.throttled_shards = {stream.open[0]}
    clock.seconds += 299
    made.put_many(["x", "y"], [b"1", b"1"])
    clock.seconds += 0.9
    made.tick()
    stream.split()
    clock.seconds += 10  # the list is too old; the parent's lane still waits, or not
    made.put_many(["x", "y"], [b"2", b"2"])
    made.close()
    assert firsts(stream.users()) == {"warm": [b"up"], "x": [b"1", b"2"], "y": [b"1", b"2"]}
    assert repeats(stream.users()) == 0


def test_a_split_within_a_call_keeps_what_lies_right() -> None:
    stream = MemoryKinesis(1)
    made = producer(stream, aggregate=False)
    made.put("warm", b"up")
    made.flush()
    stream.before_entry = lambda place: stream.split() if place == 5 else None
    made.put_many([f"k{n}" for n in range(10)], [b"x"] * 10)
    made.close()
    assert repeats(stream.users()) == 0 and len(stream.users()) == 11
