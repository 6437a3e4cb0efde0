"""The rate at which a shard is given records: never above what was asked for, and never stuck."""

from __future__ import annotations

from itertools import islice

from hypothesis import given
from hypothesis import strategies as st
from memory_kinesis import Clock, MemoryKinesis, keys_of, producer

from streamgauge.producers.rate import BYTES_PER_SECOND, RECORDS_PER_SECOND, Rate

sizes = st.lists(st.integers(1, 3 * BYTES_PER_SECOND), min_size=1, max_size=80)


@given(sizes=sizes, share=st.sampled_from([0.1, 1.0, 1.5]), idle=st.floats(0, 5))
def test_what_goes_is_bounded_by_the_time_that_passes(
    sizes: list[int], share: float, idle: float
) -> None:
    """At most what a full bucket holds and what flowed in since, but for the last record."""
    rate, now, gone = Rate(share, 0.0), idle, 0
    for size in sizes:
        now = max(now, rate.ready_at(now))
        assert gone <= share * BYTES_PER_SECOND * (1 + now - idle) * 1.0001 + 1
        rate.take(size)
        gone += size
    assert now - idle <= sum(sizes) / (share * BYTES_PER_SECOND) + 1  # nor is it held up longer


def test_records_are_counted_as_bytes_are() -> None:
    rate = Rate(1.0, 0.0)
    allowed = sum(rate.take(1) for _ in range(RECORDS_PER_SECOND)) + 1
    assert allowed == RECORDS_PER_SECOND
    assert rate.ready_at(0.0) == 0.0  # exactly used up: the next one makes it owe
    rate.take(1)
    assert rate.ready_at(0.0) > 0.0
    assert rate.ready_at(1.0) == 1.0


def test_a_clock_that_goes_back_gives_nothing() -> None:
    rate = Rate(1.0, 10.0)
    rate.take(2 * BYTES_PER_SECOND)
    assert rate.ready_at(5.0) == 6.0
    assert rate.ready_at(11.0) == 11.0


def test_a_shard_that_has_had_its_share_waits_alone() -> None:
    stream, clock = MemoryKinesis(2), Clock()
    busy, quiet = stream.open
    made = producer(stream, clock, aggregate=False, rate=1.0, linger_seconds=0.0)
    made.put("warm", b"up")
    made.flush()
    keys = list(islice(keys_of(stream, busy), 3000))
    other = next(keys_of(stream, quiet))
    for key in keys:
        made.put(key, b"x")
    made.put(other, b"at once")
    made.tick()
    assert (other, b"at once") in stream.users()
    there = len(stream.users())
    assert RECORDS_PER_SECOND <= there <= RECORDS_PER_SECOND + 3
    assert made.counters.limited >= 1 and made.buffered_records > 1900
    before = clock.seconds
    made.close()
    assert 1.9 < clock.seconds - before < 2.2  # two seconds for the other two thousand
    assert len(stream.users()) == 3002 and not made.counters.errors


def test_without_a_rate_nothing_waits() -> None:
    stream, clock = MemoryKinesis(1), Clock()
    made = producer(stream, clock, aggregate=False, rate=None)
    made.put_many([f"k{n}" for n in range(5000)], [b"x"] * 5000)
    made.close()
    assert clock.slept == [] and len(stream.users()) == 5000
