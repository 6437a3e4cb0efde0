"""The producer: nothing lost, and the order of each key, whatever fails."""

from __future__ import annotations

import inspect
import sys
from collections import Counter
from itertools import count
from types import FrameType
from typing import Any

from effort import examples
from hypothesis import given, settings
from hypothesis import strategies as st
from memory_kinesis import (
    Faults,
    MemoryKinesis,
    firsts,
    producer,
    run,
)

from streamgauge.producers.packer import Packer

LINES, FIRST = inspect.getsourcelines(Packer.take_quickly)
END = FIRST + LINES.index("        finally:\n")  # what comes there is done whatever happens
likely = st.sampled_from([0.0, 0.0, 0.1, 0.5])
rarely = st.sampled_from([0.0, 0.0, 0.02, 0.1])
faults = st.builds(
    Faults, refused=likely, throttled=rarely, reset=rarely, broken=rarely, lost=rarely,
    late=rarely, split=rarely, merged=rarely, list_fails=likely, list_old=likely,
)  # fmt: skip


@settings(max_examples=examples(150))
@given(
    seed=st.integers(0, 2**32), shards=st.integers(1, 5), many=st.integers(1, 200),
    keys=st.sampled_from([1, 7, 100]), faults=faults, whole=st.booleans(),
    size=st.sampled_from([64, 300, 3000, 51_200]), memory=st.sampled_from([3000, 1 << 26]),
)  # fmt: skip
def test_under_faults_nothing_is_lost_and_keys_keep_their_order(
    seed: int, shards: int, many: int, keys: int, faults: Faults, whole: bool, size: int,
    memory: int,
) -> None:  # fmt: skip
    stream = MemoryKinesis(shards, seed, faults)
    made, sent, told = run(
        stream, many, keys, aggregate=whole, aggregate_bytes_max=size, aggregate_users_max=20,
        buffer_bytes_max=memory, live_seconds_max=1e9,
    )  # fmt: skip
    assert firsts(stream.users()) == firsts(sent)
    assert firsts(stream.as_kcl()) == firsts(sent)  # nor lost to who drops astray aggregates
    assert Counter((one.user.partition_key, one.user.data) for one in told) == Counter(sent)
    for one in told:
        assert one.placed is not None
        there = stream.committed[int(one.placed.sequence_number) - 1]
        assert there.shard == one.placed.shard_id and stream.in_range(there)
        there_now = there.users[one.sub_sequence_number]
        assert there_now == (one.user.partition_key, one.user.data, one.user.hash_key)
    counters = made.counters
    assert (made.buffered_bytes, made.buffered_records, counters.expired) == (0, 0, 0)
    assert counters.user_records_put == counters.user_records_placed == many
    assert counters.calls == len(stream.calls)


@settings(max_examples=examples(60))
@given(
    seed=st.integers(0, 2**32), shards=st.integers(1, 9), many=st.integers(1, 300),
    keys=st.sampled_from([1, 7, 100]), size=st.sampled_from([64, 300, 51_200]),
    users=st.sampled_from([1, 3, 500]), ordered=st.booleans(),
)  # fmt: skip
def test_without_faults_each_record_comes_once_within_all_limits(
    seed: int, shards: int, many: int, keys: int, size: int, users: int, ordered: bool
) -> None:
    stream = MemoryKinesis(shards, seed)
    made, sent, _ = run(
        stream, many, keys, aggregate_bytes_max=size, aggregate_users_max=users, ordered=ordered
    )
    assert Counter(stream.users()) == Counter(sent)
    if ordered:
        assert firsts(stream.users()) == firsts(sent)
    for one in stream.committed:
        assert stream.in_range(one)
        assert len(one.users) <= users
        assert len(one.record.data) <= size or len(one.users) == 1
    counters = made.counters
    assert counters.kinesis_records == len(stream.committed)
    assert counters.bytes == sum(
        len(one.record.data) + len(one.record.partition_key.encode()) for one in stream.committed
    )
    assert (counters.retries, counters.wrong_shard, counters.errors) == (0, 0, Counter())


@settings(max_examples=examples(30))
@given(seed=st.integers(0, 2**32), faults=faults)
def test_unordered_loses_nothing_either(seed: int, faults: Faults) -> None:
    stream = MemoryKinesis(3, seed, faults)
    _, sent, told = run(
        stream, 150, 5, ordered=False, aggregate_bytes_max=300, live_seconds_max=1e9
    )
    assert set(stream.as_kcl()) == set(sent)
    assert len(told) == len(sent)


def test_unordered_fills_a_call_with_records_of_one_key() -> None:
    calls = {}
    for ordered in (True, False):
        stream = MemoryKinesis(1)
        made = producer(stream, aggregate=False, ordered=ordered)
        made.put_many(["k"] * 40, [b"x"] * 40)
        made.close()
        calls[ordered] = stream.calls
    assert calls == {True: [1] * 40, False: [40]}


class Signal(BaseException):
    """What a handler of a signal may raise between any two steps of the interpreter."""


def test_a_signal_between_any_two_steps_of_a_call_breaks_no_aggregate() -> None:
    """What was taken is whole and told as often as it is counted, and the producer goes on."""
    keys, datas = [f"k{n % 5}" for n in range(12)], [b"%d" % n for n in range(12)]
    for step in count(1):
        stream, left = MemoryKinesis(2), step
        made = producer(stream, linger_seconds=3600.0)
        told = list[Any]()

        def trace(frame: FrameType, event: str, _: Any) -> Any:
            nonlocal left
            if frame.f_code.co_name != "take_quickly":
                return None
            frame.f_trace_opcodes = True
            if event == "opcode" and frame.f_lineno < END:
                left -= 1
                if not left:
                    raise Signal
            return trace

        ended = False
        before = sys.gettrace()
        sys.settrace(trace)
        try:
            made.put_many(keys, datas, callback=told.append)
            ended = True
        except Signal:
            pass
        finally:
            sys.settrace(before)
        taken = made.counters.user_records_put
        assert made.buffered_bytes == sum(400 + len(data) + 8 for data in datas[:taken])
        last = [(key, b"last " + key.encode()) for key in ("k0", "new", "newer")]
        made.put_many(*zip(*last, strict=True), callback=told.append)
        made.close()
        put = [*zip(keys[:taken], datas[:taken], strict=True), *last]
        assert sorted(stream.users()) == sorted(put)
        assert sorted(one.user.data for one in told) == sorted(data for _, data in put)
        assert made.buffered_bytes == made.buffered_records == 0
        for one in told:
            there = stream.committed[int(one.placed.sequence_number) - 1]
            assert there.users[one.sub_sequence_number][1] == one.user.data
        if ended:
            break
    assert step > 500
