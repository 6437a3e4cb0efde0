"""What a producer does with records that cannot be put: history, time, memory, callbacks."""

from __future__ import annotations

from typing import Any

import pytest
from memory_kinesis import (
    THROTTLED,
    Clock,
    Faults,
    MemoryKinesis,
    firsts,
    keys_of,
    producer,
    repeats,
)

from streamgauge.engine.aws import RefusedError, Service
from streamgauge.engine.errors import StreamgaugeError
from streamgauge.producers.aggregator import Producer
from streamgauge.producers.outcomes import (
    BufferFullError,
    HandedBackError,
    Outcome,
)


def test_records_that_cannot_be_put_in_time_are_handed_back_with_their_history() -> None:
    stream, clock = MemoryKinesis(1, faults=Faults(refused=1.0)), Clock()
    made = producer(stream, clock, live_seconds_max=60.0)
    told: list[Outcome] = []
    made.put("told", b"1", callback=told.append)
    made.put("raised", b"2", 5)
    clock.seconds += 30
    made.put("later", b"3")
    clock.seconds += 29.9
    made.tick()
    assert not told
    clock.seconds += 0.2
    with pytest.raises(HandedBackError, match="1 records .* InternalFailure") as error:
        made.tick()
    (one,) = error.value.outcomes
    assert (one.user.partition_key, one.user.data, one.user.explicit_hash_key) == (
        "raised",
        b"2",
        5,
    )
    assert [user.data for user in error.value.records] == [b"2"]
    (other,) = told
    assert (other.user.data, other.placed) == (b"1", None)
    for outcome in (one, other):
        assert {attempt.code for attempt in outcome.attempts} == {"InternalFailure"}
        assert [tried.at for tried in outcome.attempts[:2]] == pytest.approx([1030.0, 1059.9])
    assert (made.counters.expired, made.buffered_records) == (2, 1)
    stream.faults.refused = 0.0
    made.close()
    assert stream.users() == [("later", b"3")]
    assert made.buffered_bytes == 0


def test_a_record_is_tried_once_however_late() -> None:
    stream, clock = MemoryKinesis(1), Clock()
    made = producer(stream, clock, live_seconds_max=60.0)
    made.put("k", b"x")
    clock.seconds += 3600
    made.tick()
    assert stream.users() == [("k", b"x")]


def test_flush_raises_what_was_handed_back_when_it_is_done() -> None:
    stream = MemoryKinesis(4, faults=Faults(throttled=1.0))
    made = producer(stream, live_seconds_max=60.0)
    made.put_many([f"k{n}" for n in range(9)], [b"x"] * 9)
    with pytest.raises(HandedBackError) as error:
        made.flush()
    assert sorted(user.partition_key for user in error.value.records) == [f"k{n}" for n in range(9)]
    assert made.buffered_bytes == 0 and made.counters.errors[THROTTLED] > 9
    assert max(len(one.attempts) for one in error.value.outcomes) == 20


def test_close_hands_back_what_it_cannot_send_in_time() -> None:
    stream, clock = MemoryKinesis(1, faults=Faults(throttled=1.0)), Clock()
    made = producer(stream, clock)
    made.put("k", b"x")
    assert not made.flush(seconds_max=3.0)
    assert clock.seconds == pytest.approx(1003.0) and made.buffered_records == 1
    with pytest.raises(HandedBackError):
        made.close(seconds_max=5.0)
    assert clock.seconds == pytest.approx(1008.0) and made.buffered_bytes == 0
    with pytest.raises(StreamgaugeError, match="closed"):
        made.put("k", b"y")
    made.close()
    assert made.flush()


def test_an_exception_of_the_caller_does_not_lose_what_was_taken() -> None:
    stream = MemoryKinesis(1)
    with pytest.raises(KeyError, match="the caller's"), producer(stream) as made:
        made.put("k", b"x")
        raise KeyError("the caller's")
    assert stream.users() == [("k", b"x")]
    stream, clock = MemoryKinesis(1, faults=Faults(throttled=1.0)), Clock()
    with pytest.raises(HandedBackError) as error, producer(stream, clock) as made:
        made.put("k", b"x")
        raise KeyError("the caller's")
    assert isinstance(error.value.__context__, KeyError)
    assert clock.seconds == pytest.approx(1009.0)


@pytest.mark.parametrize("operation", ["list_shards", "put_records"])
def test_where_the_stream_refuses_for_good_nothing_is_lost_or_half_taken(operation: str) -> None:
    from botocore.exceptions import ClientError

    class Refusing(MemoryKinesis):
        refuses = True

        def refuse(self, name: str) -> None:
            if self.refuses and name == operation:
                told = {"Error": {"Code": "AccessDeniedException", "Message": "x"}}
                raise ClientError(told, "ListShards" if name == "list_shards" else "PutRecords")

        def list_shards(self, **request: Any) -> Any:
            self.refuse("list_shards")
            return super().list_shards(**request)

        def put_records(self, **request: Any) -> Any:
            self.refuse("put_records")
            return super().put_records(**request)

    stream, clock = Refusing(2), Clock()
    made = producer(stream, clock)
    taken = []
    for number in range(5):
        try:
            made.put("k", b"%d" % number)
            taken.append(("k", b"%d" % number))
        except RefusedError as error:
            assert "the caller needs kinesis:" in str(error)
        clock.seconds += 1
    assert len(taken) == (0 if operation == "list_shards" else 1)
    assert made.counters.user_records_put == made.buffered_records == len(taken)
    if taken:
        with pytest.raises(RefusedError):
            made.close()
    stream.refuses = False
    made.put("k", b"last")
    made.close()
    assert stream.users() == [*taken, ("k", b"last")]


def test_only_the_throttled_shard_waits() -> None:
    stream, clock = MemoryKinesis(2), Clock()
    slow, fast = stream.open
    stream.faults.throttled_shards = {slow}
    made = producer(stream, clock, linger_seconds=0.0)
    slow_key, fast_key = next(keys_of(stream, slow)), next(keys_of(stream, fast))
    late = []
    for number in range(200):
        made.put(slow_key, b"s%d" % number)
        put_at = clock.seconds
        made.put(
            fast_key, b"f%d" % number, callback=lambda _, at=put_at: late.append(clock.now() - at)
        )
        made.tick()
        clock.seconds += 0.01
    assert late == [0.0] * 200
    assert made.counters.errors[THROTTLED] < 40  # in two seconds, with pauses that grow
    stream.faults.throttled_shards = set()
    made.close()
    assert firsts(stream.users())[slow_key] == [b"s%d" % n for n in range(200)]
    assert repeats(stream.users()) == 0


def test_memory_is_bounded_and_a_full_buffer_raises_or_waits() -> None:
    stream, clock = MemoryKinesis(2, faults=Faults(throttled=1.0)), Clock()
    made = producer(stream, clock, buffer_bytes_max=10_000, wait_for_room=False)
    taken = 0
    with pytest.raises(BufferFullError, match="stream s: .* of at most 10000"):
        while True:
            made.put(f"k{taken}", b"x" * 50)
            taken += 1
    assert 9_000 < made.buffered_bytes <= 10_000 and made.buffered_records == taken
    assert not clock.slept
    stream.faults.throttled = 0.0
    clock.seconds += 10
    made.put("k", b"there is room again")
    made.close()
    assert len(stream.users()) == taken + 1

    def ends(seconds: float) -> None:
        clock.sleep(seconds)
        if clock.seconds > 2000:
            stream.faults.throttled = 0.0

    stream, clock = MemoryKinesis(2, faults=Faults(throttled=1.0)), Clock()
    made = Producer(
        "s", Service("kinesis", stream), buffer_bytes_max=10_000, live_seconds_max=1e9,
        now=clock.now, sleep=ends, random=lambda: 0.5,
    )  # fmt: skip
    for number in range(100):
        made.put("k", b"%d" % number)
        assert made.buffered_bytes <= 10_000
    assert 2000 < clock.seconds < 2010
    made.close()
    assert firsts(stream.users())["k"] == [b"%d" % n for n in range(100)]


def test_the_bound_of_memory_is_one_of_real_memory() -> None:
    import tracemalloc

    stream = MemoryKinesis(2, faults=Faults(throttled=1.0))
    made = producer(stream, buffer_bytes_max=8 << 20, wait_for_room=False)
    tracemalloc.start()
    try:
        for number in range(1 << 20):
            made.put(f"device-{number % 1000}", b"%d" % number)
    except BufferFullError:
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert 4 << 20 < held <= 8 << 20


def test_a_callback_may_put_and_may_raise() -> None:
    stream = MemoryKinesis(1)
    made, told = producer(stream, linger_seconds=0.0), list[bytes]()

    def chain(outcome: Outcome) -> None:
        told.append(outcome.user.data)
        if len(told) < 3000:  # far beyond the depth of Python's stack
            made.put("k", b"%d" % len(told), callback=chain)

    made.put("k", b"0", callback=chain)
    made.flush()
    assert told == [b"%d" % n for n in range(3000)] == [data for _, data in stream.users()]

    def fails(outcome: Outcome) -> None:
        told.append(outcome.user.data)
        raise LookupError(outcome.user.data)

    told.clear()
    made.put_many(["a", "b"], [b"1", b"2"], callback=fails)
    for _ in range(2):
        with pytest.raises(LookupError):
            made.flush()
            made.tick()
    made.close()
    assert told == [b"1", b"2"] and made.buffered_bytes == 0
    assert stream.users()[-2:] == [("a", b"1"), ("b", b"2")]
