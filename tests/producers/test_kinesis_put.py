"""Calls of PutRecords: their limits, and what failed sent again alone and in order."""

from __future__ import annotations

import random
from typing import Any

import pytest
from botocore.exceptions import ClientError
from hypothesis import given
from hypothesis import strategies as st
from memory_kinesis import THROTTLED, Clock, Faults, MemoryKinesis, firsts, keys_of, producer

from streamgauge.engine.aws import RefusedError, Service
from streamgauge.engine.sinks.base import PAUSE_SECONDS_FIRST, PAUSE_SECONDS_MAX
from streamgauge.producers.kinesis import Failed, KinesisWriter, Placed, Put
from streamgauge.producers.outcomes import Counters
from streamgauge.producers.sender import PAUSE_SECONDS_MIN, Pauses, Sender

GOOD = {"ShardId": "shardId-000000000000", "SequenceNumber": "7"}


class Parcel:
    """A Kinesis record of one user record."""

    def __init__(self, key: str, data: bytes) -> None:
        self.key, self.data = key, data
        self.keys, self.size = frozenset([key]), len(key.encode()) + len(data)

    def pack(self) -> Put:
        return Put(self.key, 0, self.data)


def sender(
    stream: Any,
    clock: Clock,
    ordered: bool = True,
    call_bytes_max: int = 5 << 20,
    rate: float | None = None,
) -> Sender:
    writer = KinesisWriter(Service("kinesis", stream), "s")
    return Sender(
        writer, Counters(), ordered=ordered, call_bytes_max=call_bytes_max, rate=rate,
        now=clock.now, random=random.Random(5).random,
    )  # fmt: skip


def drive(sending: Sender, clock: Clock) -> list[tuple[str, bytes]]:
    """Send until nothing is left; what was placed, in order."""
    placed = []
    while (due := sending.due(clock.now())) < float("inf"):
        clock.seconds = max(clock.seconds, min(due, clock.seconds + 10))
        while sent := sending.send(clock.now()):
            placed += [(p.key, p.data) for _, p, told in sent if isinstance(told, Placed)]
    return placed


# --- what goes into a call ------------------------------------------------------------------------


@pytest.mark.parametrize("ordered", [True, False])
def test_a_call_has_five_hundred_entries_at_most(ordered: bool) -> None:
    stream, clock = MemoryKinesis(1), Clock()
    sending = sender(stream, clock, ordered)
    for number in range(1203):
        sending.add("x", Parcel(f"k{number}", b"x"))
    assert len(drive(sending, clock)) == 1203
    assert stream.calls == [500, 500, 203]


@pytest.mark.parametrize(("more", "calls"), [(0, [4]), (1, [3, 1])])
def test_the_bytes_of_a_call_count_keys_to_the_byte(more: int, calls: list[int]) -> None:
    stream, clock = MemoryKinesis(1), Clock()
    stream.call_bytes_max = 4000
    sending = sender(stream, clock, call_bytes_max=4000)
    for number in range(4):
        data = b"x" * (997 + (more if number == 3 else 0))
        sending.add(f"shard {number}", Parcel(f"\u00e9{number}", data))
    drive(sending, clock)
    assert stream.calls == calls


def test_a_record_larger_than_a_call_goes_alone() -> None:
    stream, clock = MemoryKinesis(1), Clock()
    sending = sender(stream, clock, call_bytes_max=100)
    for number in range(3):
        sending.add("x", Parcel(f"k{number}", b"x" * 500))
    drive(sending, clock)
    assert stream.calls == [1, 1, 1]


@given(st.lists(st.integers(0, 4), max_size=60), st.booleans())
def test_no_call_holds_two_records_of_a_key(keys: list[int], fails: bool) -> None:
    faults = Faults(refused=0.3 * fails)
    stream, clock = MemoryKinesis(1, 3, faults), Clock()
    put, seen = stream.put_records, []
    stream.put_records = lambda **given: seen.append(given["Records"]) or put(**given)  # type: ignore[method-assign]
    sending, sent = sender(stream, clock), []
    for number, key in enumerate(keys):
        sent.append((f"k{key}", b"%d" % number))
        sending.add("x", Parcel(*sent[-1]))
    placed = drive(sending, clock)
    assert firsts(placed) == firsts(sent) == firsts(stream.users())
    assert len(placed) == len(sent)
    for entries in seen:
        names = [entry["PartitionKey"] for entry in entries]
        assert len(names) == len(set(names))


def test_other_keys_pass_one_that_has_more_than_its_share() -> None:
    stream, clock = MemoryKinesis(1), Clock()
    sending = sender(stream, clock)
    for number in range(20):
        sending.add("x", Parcel("hot", b"%d" % number))
    for number in range(20):
        sending.add("x", Parcel(f"k{number}", b"x"))
    sending.send(clock.now())
    assert stream.calls == [21]


def test_a_long_queue_of_one_key_is_not_searched_to_its_end() -> None:
    stream, clock, asked = MemoryKinesis(1), Clock(), []

    class Counted(Parcel):
        @property
        def keys(self) -> Any:
            asked.append(self)
            return frozenset([self.key])

        @keys.setter
        def keys(self, _: Any) -> None:
            pass

    sending = sender(stream, clock)
    for number in range(10_000):
        sending.add("x", Counted("hot", b"%d" % number))
    sending.send(clock.now())
    assert len(asked) < 100


def test_lanes_take_turns_where_a_call_cannot_hold_all() -> None:
    stream, clock = MemoryKinesis(1), Clock()
    sending = sender(stream, clock, call_bytes_max=300)
    for shard in range(6):
        for number in range(4):
            sending.add(f"shard {shard}", Parcel(f"k{shard}", b"%d" % number + b"x" * 90))
    turns = []
    while sent := sending.send(clock.now()):
        turns += [shard for shard, _, _ in sent]
    assert turns == [f"shard {n}" for n in range(6)] * 4


# --- what failed ----------------------------------------------------------------------------------


def test_failed_entries_alone_are_sent_again() -> None:
    stream, clock = MemoryKinesis(1), Clock()
    refuse = {"k3", "k7"}
    put = stream._put

    def refusing(entry: dict[str, Any]) -> dict[str, str]:
        if entry["PartitionKey"] in refuse:
            refuse.remove(entry["PartitionKey"])
            return {"ErrorCode": THROTTLED, "ErrorMessage": "slow down"}
        return put(entry)

    stream._put = refusing  # type: ignore[method-assign]
    sending = sender(stream, clock)
    for number in range(10):
        sending.add(f"shard {number}", Parcel(f"k{number}", b"x"))
    sent = sending.send(clock.now())
    failed = [(p.key, told) for _, p, told in sent if isinstance(told, Failed)]
    assert failed == [
        ("k3", (THROTTLED, "slow down", True)),
        ("k7", (THROTTLED, "slow down", True)),
    ]
    assert sending.send(clock.now()) == []  # they wait
    drive(sending, clock)
    assert sum(stream.calls) == 12 and len(stream.users()) == 10


def test_a_shard_that_failed_waits_and_holds_back_the_keys_after() -> None:
    stream, clock = MemoryKinesis(2), Clock()
    slow, fast = stream.open
    made = producer(stream, clock, aggregate=False, linger_seconds=0.0)
    stream.faults.throttled_shards = {slow}
    a, b = next(keys_of(stream, slow)), next(keys_of(stream, fast))
    made.put_many([a, b], [b"1", b"1"])
    made.tick()
    made.put_many([a, b], [b"2", b"2"])
    made.tick()
    assert stream.users() == [(b, b"1"), (b, b"2")]
    stream.faults.throttled_shards = set()
    made.close()
    assert stream.users()[2:] == [(a, b"1"), (a, b"2")]


@pytest.mark.parametrize(
    ("fault", "code", "known", "unanswered"),
    [
        ("throttled", THROTTLED, True, 0),
        ("broken", "ServiceUnavailable", False, 1),
        ("lost", "ReadTimeoutError", False, 1),
        ("reset", "EndpointConnectionError", False, 1),
    ],
)
def test_a_call_that_failed_as_a_whole_is_made_again(
    fault: str, code: str, known: bool, unanswered: int
) -> None:
    stream, clock = MemoryKinesis(1, faults=Faults(**{fault: 1.0})), Clock()
    told: list[Any] = []
    made = producer(stream, clock)
    made.put("k", b"x", callback=told.append)
    assert not made.flush(seconds_max=0.0)
    assert (dict(made.counters.errors), made.counters.calls_unanswered) == ({code: 1}, unanswered)
    stream.faults = Faults()
    made.close()
    assert set(stream.users()) == {("k", b"x")}
    assert len(stream.users()) == 1 + (fault == "lost")
    assert [tried.code for tried in told[0].attempts] == [code]
    sending = sender(MemoryKinesis(1, faults=Faults(**{fault: 1.0})), clock)
    sending.add("x", Parcel("k", b"x"))
    ((_, _, failed),) = sending.send(clock.now())
    assert isinstance(failed, Failed) and failed.known is known


def test_a_call_refused_for_good_leaves_everything_where_it_was() -> None:
    class Gone(MemoryKinesis):
        def put_records(self, **_: Any) -> Any:
            answer = {"Error": {"Code": "ResourceNotFoundException", "Message": "x"}}
            raise ClientError(answer, "PutRecords")

    clock = Clock()
    sending = sender(Gone(1), clock)
    for number in range(3):
        sending.add("x", Parcel("k", b"%d" % number))
    with pytest.raises(RefusedError, match="check the name"):
        sending.send(clock.now())
    assert [parcel.data for parcel in sending.drain()] == [b"0", b"1", b"2"]


@pytest.mark.parametrize("drawn", [0.0, 0.3, 1.0])
def test_pauses_have_full_jitter(drawn: float) -> None:
    pauses, bound = Pauses(lambda: drawn), PAUSE_SECONDS_FIRST
    for _ in range(12):
        assert pauses.next() == max(drawn * bound, PAUSE_SECONDS_MIN)
        bound = min(2 * bound, PAUSE_SECONDS_MAX)
    pauses.clear()
    assert pauses.next() == max(drawn * PAUSE_SECONDS_FIRST, PAUSE_SECONDS_MIN)


def test_a_step_ends_though_every_call_fails_at_once() -> None:
    """The clock stands, no jitter: each lane is tried once."""
    stream, clock = MemoryKinesis(1, faults=Faults(throttled=1.0)), Clock()
    writer = KinesisWriter(Service("kinesis", stream), "s")
    sending = Sender(
        writer, Counters(), ordered=True, call_bytes_max=300, rate=None, now=clock.now,
        random=lambda: 0.0,
    )  # fmt: skip
    for number in range(9):
        sending.add(f"shard {number}", Parcel("k", b"x" * 90))
    while sending.send(clock.now()):
        pass
    assert stream.calls == [3, 3, 3]
