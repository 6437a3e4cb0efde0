"""The faults that a producer must survive, by name: a ledger says that nothing was lost.

P5 and P6, which end a process, are in test_producer_process.py.
"""

from __future__ import annotations

import statistics
from collections import Counter
from itertools import islice
from typing import Any

import pytest
from memory_kinesis import THROTTLED, Clock, Faults, MemoryKinesis, firsts, keys_of, producer

from streamgauge.engine.kpl import hash_key
from streamgauge.producers.aggregator import Producer
from streamgauge.producers.outcomes import BufferFullError, Outcome, RecordError
from streamgauge.producers.packer import WRONG_SHARD

each_seed = pytest.mark.parametrize("seed", range(5))


class Ledger:
    """What was put, and what came of it."""

    def __init__(self, stream: MemoryKinesis, **more: Any) -> None:
        self.stream, self.clock = stream, Clock()
        self.made: Producer = producer(stream, self.clock, **more)
        self.put_rows: list[tuple[str, bytes]] = []
        self.accepted: list[Outcome] = []

    def put(self, key: str, more: bytes = b"") -> None:
        data = b"%d " % len(self.put_rows) + more
        self.made.put(key, data, callback=self.accepted.append)
        self.put_rows.append((key, data))

    def fleet(self, many: int, devices: int = 50, seconds: float = 0.001) -> None:
        for number in range(many):
            self.put(f"device-{number % devices}", b"." * 90)
            self.clock.seconds += seconds

    def close(self, duplicates_max: int | None = 0, kcl: bool = True) -> None:
        """Close, and check: all accepted, lost 0, inversions 0, raw duplicates within a bound."""
        self.made.close()
        assert all(outcome.placed for outcome in self.accepted)
        rows = [(one.user.partition_key, one.user.data) for one in self.accepted]
        assert Counter(rows) == Counter(self.put_rows)
        there = self.stream.users()
        lost = set(rows) - set(there)
        if kcl:
            lost |= set(rows) - set(self.stream.as_kcl())
        assert lost == set()
        assert firsts(there) == firsts(self.put_rows)
        duplicates = len(there) - len(set(there))
        assert duplicates_max is None or duplicates <= duplicates_max
        assert self.made.counters.user_records_placed == len(rows)


@each_seed
@pytest.mark.parametrize("share", [0.1, 0.5])
@pytest.mark.parametrize("aggregate", [True, False])
def test_p1_a_share_of_the_records_refused(share: float, aggregate: bool, seed: int) -> None:
    stream = MemoryKinesis(4, seed, Faults(refused=share))
    ledger = Ledger(stream, aggregate=aggregate, aggregate_bytes_max=1000)
    ledger.fleet(2000)
    ledger.close(duplicates_max=0)
    refused = ledger.made.counters.errors["InternalFailure"]
    assert refused == ledger.made.counters.retries > 10
    # Only what failed was sent again: every entry was either committed or refused.
    assert sum(stream.calls) == len(stream.committed) + refused


def test_p2_everything_throttled_for_a_minute() -> None:
    """The caller is held up by the full buffer, and nothing else comes of it."""
    stream = MemoryKinesis(4, faults=Faults(throttled=1.0))
    ledger = Ledger(stream, buffer_bytes_max=200_000, wait_for_room=False)
    over, raised, most = ledger.clock.seconds + 60.0, 0, 0
    while ledger.clock.seconds < over:
        try:
            ledger.put(f"device-{len(ledger.put_rows) % 50}", b"." * 90)
        except BufferFullError:
            raised += 1
        ledger.clock.seconds += 0.01
        most = max(most, ledger.made.buffered_bytes)
    assert raised > 1000 and 150_000 < most <= 200_000
    assert ledger.made.counters.errors[THROTTLED] < 1000  # the pauses grow
    stream.faults.throttled = 0.0
    ended = ledger.clock.seconds
    ledger.close(duplicates_max=0)
    assert ledger.clock.seconds - ended < 10.0
    assert {tried.code for one in ledger.accepted for tried in one.attempts} == {THROTTLED}
    assert ledger.made.counters.waits_for_room >= raised


@each_seed
def test_p3_the_answer_is_lost_after_the_commit(seed: int) -> None:
    stream = MemoryKinesis(4, seed, Faults(lost=0.3))
    ledger = Ledger(stream, aggregate_bytes_max=2000)
    ledger.fleet(2000)
    ledger.close(duplicates_max=None)
    there = stream.users()
    again = sum(len(one.attempts) for one in ledger.accepted)
    assert again > 0 and len(there) - len(set(there)) == again  # what was sent again, no more
    assert ledger.made.counters.calls_unanswered > 5


@each_seed
@pytest.mark.parametrize("fault", ["broken", "reset", "late"])
def test_p4_an_error_or_a_reset_in_the_middle(fault: str, seed: int) -> None:
    stream = MemoryKinesis(4, seed, Faults(**{fault: 0.3}))
    ledger = Ledger(stream, aggregate_bytes_max=2000)
    ledger.fleet(2000)
    ledger.close(duplicates_max=None)
    sent = sum(1 + len(one.attempts) for one in ledger.accepted)
    assert len(ledger.put_rows) <= len(stream.users()) <= sent
    assert ledger.made.counters.calls_unanswered > 5
    if fault == "reset":
        assert len(stream.users()) == len(ledger.put_rows)


@each_seed
def test_p7_shards_change_between_the_building_and_the_put_of_an_aggregate(seed: int) -> None:
    """A KCL drops an aggregate with one record out of range whole: it gets every record."""
    stream = MemoryKinesis(4, seed)
    ledger = Ledger(stream)
    ledger.fleet(500)
    for _ in range(6):
        ledger.fleet(150, seconds=0.0)  # the buffers are filling
        stream.split()
        stream.split()
        ledger.made.flush()
        ledger.fleet(150, seconds=0.0)
        stream.merge()
        ledger.made.flush()
    wrong = ledger.made.counters.wrong_shard
    assert wrong > 0 and not all(map(stream.in_range, stream.committed))
    ledger.close(duplicates_max=None)
    again = [one for one in ledger.accepted if one.attempts]
    assert {tried.code for one in again for tried in one.attempts} == {WRONG_SHARD}
    assert len(stream.users()) == len(ledger.put_rows) + sum(len(one.attempts) for one in again)


@pytest.mark.parametrize("more", [-1, 0, 1])
def test_p8_a_record_under_at_and_over_the_limit(more: int) -> None:
    stream = MemoryKinesis(2)
    ledger = Ledger(stream)
    ledger.fleet(100)
    size = (1 << 20) - len("device-1") - len(b"100 ") + more
    if more > 0:
        with pytest.raises(RecordError, match="'device-1': 1048577 bytes .* at most 1048576"):
            ledger.put("device-1", b"x" * size)
    else:
        ledger.put("device-1", b"x" * size)
    ledger.fleet(100)
    ledger.close(duplicates_max=0)
    assert len(stream.users()) == 200 + (more <= 0)
    assert ledger.made.counters.refused == (more > 0)


def test_p9_one_hot_shard_throttled() -> None:
    """The 99th percentile of the others' latency is what it is without."""
    slowest: dict[bool, float] = {}
    for throttled in (False, True):
        stream = MemoryKinesis(4)
        ledger, hot = Ledger(stream), stream.open[0]
        stream.faults.throttled_shards = {hot} if throttled else set()
        hot_keys = list(islice(keys_of(stream, hot), 5))
        others = [key for shard in stream.open[1:] for key in islice(keys_of(stream, shard), 5)]
        latencies: list[float] = []

        def told(outcome: Outcome, ledger: Ledger = ledger, into: list[float] = latencies) -> None:
            into.append(ledger.clock.now() - outcome.user.since)

        for number in range(3000):
            ledger.put(hot_keys[number % 5])
            ledger.made.put(others[number % 15], b"%d" % number, callback=told)
            ledger.clock.seconds += 0.002
        slowest[throttled] = statistics.quantiles(latencies, n=100)[98]
        assert len(latencies) > 2900
        if throttled:
            assert not ledger.accepted and ledger.made.counters.errors[THROTTLED] > 3
        stream.faults.throttled_shards = set()
        ledger.made.close()
        assert firsts(stream.users()).keys() == {*hot_keys, *others}
        assert all(one.placed for one in ledger.accepted) and len(ledger.accepted) == 3000
    assert slowest[True] == pytest.approx(slowest[False], abs=0.005)


def test_hash_keys_at_both_ends_of_the_range() -> None:
    stream = MemoryKinesis(3)
    ledger = Ledger(stream)
    top = (1 << 128) - 1
    for number in (0, 1, top - 1, top, hash_key(b"k")):
        for _ in range(3):
            data = b"%d" % len(ledger.put_rows)
            ledger.made.put(f"k{number}", data, number, callback=ledger.accepted.append)
            ledger.put_rows.append((f"k{number}", data))
    ledger.close(duplicates_max=0)
    shards = {data: one.shard for one in stream.committed for _, data, _ in one.users}
    assert [shards[b"%d" % n] for n in (0, 3, 6, 9)] == [stream.open[0]] * 2 + [stream.open[2]] * 2
