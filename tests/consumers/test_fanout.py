"""The fan-out host: whatever the stream, the sinks and the processes do, the oracle's alerts."""

from __future__ import annotations

import functools
import random
import threading
from collections.abc import Callable
from typing import Any

import pytest
from drawn_panes import PLAIN, TOML, reading, records_of, setup_of, told
from effort import examples
from hypothesis import given, settings
from hypothesis import strategies as st
from memory_stream import Faults, MemoryStream
from plain_panes import PlainPanes, order

from streamgauge import Alert, Record
from streamgauge.consumers.fanout import STATE, FanOut
from streamgauge.consumers.fanout_pool import Chunk, Done, Pool
from streamgauge.consumers.metrics import Metrics
from streamgauge.consumers.reading import DRAIN_SECONDS_MAX
from streamgauge.consumers.shard import Host
from streamgauge.engine.errors import FencedError, UnavailableError
from streamgauge.engine.pipeline import Outcome
from streamgauge.engine.sinks.local import MemorySink
from streamgauge.engine.stores.memory import MemoryStates
from streamgauge.rules import spec as specs
from streamgauge.rules.plan_fan_out import plan_merger, plan_reducer

SPEC = specs.parse(TOML.format(**PLAIN))
Sent = dict[str, list[tuple[bytes, int | None]]]


class Clock:
    """Time that only passes while somebody sleeps, and a little at each look."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def now(self) -> float:
        self.seconds += 1e-6
        return self.seconds

    def sleep(self, seconds: float) -> None:
        self.seconds += max(seconds, 1e-3)


class Shuffled:
    """A Pool that gives chunks back in an order drawn from a seed."""

    def __init__(self, chooser: random.Random, sleep: Callable[[float], None]) -> None:
        self.random, self.sleep = chooser, sleep
        self.reducer, self.chunks = plan_reducer(SPEC), list[Chunk]()

    @property
    def has_room(self) -> bool:
        return len(self.chunks) < 4

    def give(self, chunk: Chunk) -> None:
        self.chunks.append(chunk)

    def take(self, seconds: float) -> list[Done]:
        self.sleep(seconds)
        if not self.chunks or (self.random.random() < 0.3 and seconds):
            return []
        chunk = self.chunks.pop(self.random.randrange(len(self.chunks)))
        partial = self.reducer.reduce(chunk.records, chunk.shard_time, chunk.after)
        return [Done(chunk.shard_id, chunk.number, chunk.epoch, partial)]

    def close(self) -> None:
        pass


class Rig:
    """A host over memory that outlives its consumers."""

    def __init__(self, stream: MemoryStream, seed: int = 0, save_seconds: float = 1.0) -> None:
        self.clock, self.stream, self.random = Clock(), stream, random.Random(seed)
        self.alerts, self.errors, self.states = MemorySink(), MemorySink(), MemoryStates()
        self.save_seconds, self.log = save_seconds, list[dict[str, Any]]()
        self.outcomes: list[Outcome] = []

    def consumer(self, pool: Pool | None = None, **more: Any) -> FanOut:
        host = Host(
            pipeline="panes", reader=self.stream, plan=None,  # type: ignore[arg-type]
            alerts=self.alerts, errors=self.errors, states=self.states,
            save_seconds=self.save_seconds, observe=self.outcomes.append,
            log=lambda event, **fields: self.log.append({"event": event, **fields}),
            metrics=Metrics(), now=self.clock.now, random=self.random.random,
        )  # fmt: skip
        pool = pool or Shuffled(self.random, self.clock.sleep)
        make = functools.partial(plan_merger, SPEC)
        return FanOut(
            self.stream, host, make, pool, sleep=self.clock.sleep, **{"until_end": True, **more}
        )

    def said(self, event: str) -> list[dict[str, Any]]:
        return [one for one in self.log if one["event"] == event]

    @property
    def alerts_told(self) -> list[Alert]:
        """Each alert once: repeats have the same id, and are the same."""
        found = {alert.id: alert for alert in self.alerts.rows}
        assert all(found[alert.id] == alert for alert in self.alerts.rows)
        return list(found.values())  # type: ignore[arg-type]


def stream_of(sent: Sent, size: int = 1, **more: Any) -> MemoryStream:
    return MemoryStream(
        {shard: records_of(shard, rows, size) for shard, rows in sent.items()}, **more
    )


def a_stream(seed: int, shards: int = 3, count: int = 120) -> Sent:
    """Devices spread over shards, some readings late; the shards end at about one time."""
    chooser = random.Random(seed)
    found: Sent = {}
    for shard in range(shards):
        second, rows = 0.0, list[tuple[bytes, int | None]]()
        for _ in range(count):
            second += 40 / count
            behind = chooser.choice([0, 0, 0, 0.4, 3])
            value = chooser.choice([19.0, 20.5, 22.5, 24.25])
            rows.append(reading(f"d{chooser.randrange(4)}", second - behind, value, second))
        found[f"s{shard}"] = rows
    return found


def expected(sent: Sent) -> tuple[list[Any], list[bytes]]:
    """What an endless run must have told by now: windows that all shards are past."""
    oracle = PlainPanes(setup_of(PLAIN))
    for rows in sent.values():
        oracle.shard(rows)
    newest = min(max(at for _, at in rows if at is not None) for rows in sent.values())
    until = newest - oracle.setup.lateness - 1
    return order(oracle.alerts(until)), sorted(oracle.late)


@settings(max_examples=examples(60))
@given(
    seed=st.integers(0, 10**6), size=st.sampled_from([1, 3]),
    throttled=st.sampled_from([0.0, 0.2]), expired=st.sampled_from([0.0, 0.1]),
    again=st.sampled_from([0.0, 0.3]), copies=st.sampled_from([1, 2]),
)  # fmt: skip
def test_whatever_the_stream_does_the_alerts_are_the_oracle_s(
    seed: int, size: int, throttled: float, expired: float, again: float, copies: int
) -> None:
    sent = a_stream(seed)
    faults = Faults(throttled, expired, 0.1, again, copies)
    rig = Rig(stream_of(sent, size, faults=faults, random=random.Random(seed), limit=20), seed)
    rig.consumer().run()
    alerts, late = expected(sent)
    assert alerts and told(rig.alerts_told) == alerts
    assert sorted({row.data for row in rig.errors.rows}) == sorted(set(late))  # type: ignore[union-attr]
    assert len(rig.alerts.rows) == len(rig.alerts_told)


class Crash(Exception):
    """The process ends here."""


@settings(max_examples=examples(40))
@given(seed=st.integers(0, 10**6), lost=st.booleans())
def test_killed_anywhere_and_started_again_it_tells_the_same(seed: int, lost: bool) -> None:
    """Each consumer is stopped inside a call of a sink or the store, before or after its effect."""
    sent, chooser = a_stream(seed, count=60), random.Random(seed)
    rig = Rig(stream_of(sent, limit=15, random=random.Random(seed)), seed, save_seconds=0.3)
    left = iter(())
    for owner in (rig.alerts, rig.errors, rig.states):
        for name in ("deliver", "create"):
            if hasattr(owner, name):
                call = getattr(owner, name)

                def crashing(*given: Any, call: Any = call) -> None:
                    nonlocal left
                    go_on = next(left, None) is not None
                    if go_on or lost:
                        call(*given)
                    if not go_on:
                        raise Crash

                setattr(owner, name, crashing)
    for turn in range(60):
        left = iter(range(chooser.randrange(6) if turn < 40 else 10_000))
        consumer = rig.consumer()
        consumer._drain = lambda: None  # type: ignore[method-assign]  # as a kill does
        try:
            consumer.run()
            left = iter(range(10))
            FanOut._drain(consumer)
            break
        except Crash:
            continue
    alerts, late = expected(sent)
    assert told(rig.alerts_told) == alerts
    assert {row.data for row in rig.errors.rows} == set(late)  # type: ignore[union-attr]


def test_a_split_goes_on_with_the_children_and_nothing_is_evaluated_too_early() -> None:
    sent = a_stream(5, shards=3)
    parent = sent.pop("s2")
    cut = len(parent) // 2
    sent["s2"], sent["s3"], sent["s4"] = parent[:cut], parent[cut::2], parent[cut + 1 :: 2]
    rig = Rig(stream_of(
        sent, limit=10, random=random.Random(1), closed={"s2"},
        parents={"s3": ("s2",), "s4": ("s2",)},
    ))  # fmt: skip
    rig.consumer().run()
    oracle = PlainPanes(setup_of(PLAIN))
    for rows in sent.values():
        oracle.shard(rows)
    times = [max(at for _, at in sent[s] if at is not None) for s in ("s0", "s1", "s3", "s4")]
    assert told(rig.alerts_told) == order(oracle.alerts(min(times) - oracle.setup.lateness - 1))
    assert rig.said("shard_finished") == [{"event": "shard_finished", "shard": "s2"}]
    again = Rig(rig.stream)
    again.states = rig.states
    again.consumer().run()  # nothing is read twice
    assert again.alerts.rows == [] and "s2" not in again.stream.reads[len(rig.stream.reads) :]


def test_a_sink_that_is_down_holds_the_state_back_and_nothing_is_lost() -> None:
    sent = a_stream(3)
    rig = Rig(stream_of(sent, limit=10), save_seconds=0.01)
    rig.alerts.fail_next = 10**9
    stop = threading.Event()

    def sleep(seconds: float) -> None:
        Clock.sleep(rig.clock, seconds)
        if rig.clock.seconds > 30:
            stop.set()

    rig.clock.sleep = sleep  # type: ignore[method-assign]
    consumer = rig.consumer()
    consumer.run(stop.is_set)
    assert consumer.unsaved == [STATE]
    assert rig.clock.seconds < 30 + DRAIN_SECONDS_MAX + 6
    rig.alerts.fail_next = 0
    rig.consumer().run()
    assert told(rig.alerts_told) == expected(sent)[0]


def test_ctrl_c_saves_what_was_merged_and_the_next_run_goes_on() -> None:
    sent = a_stream(4)
    rig = Rig(stream_of(sent, limit=5), save_seconds=1e9)
    turns = iter(range(30))
    consumer = rig.consumer()
    consumer.run(lambda: next(turns, None) is None)
    assert consumer.unsaved == [] and rig.states.generations("panes", STATE) == [1]
    reads = len(rig.stream.reads)
    rig.consumer().run()
    assert len(rig.stream.reads) > reads
    assert told(rig.alerts_told) == expected(sent)[0]
    assert len(rig.alerts.rows) == len(rig.alerts_told)  # none came twice


def test_of_two_owners_one_loses_its_number_and_takes_over_what_the_other_knows() -> None:
    sent = a_stream(6)
    rig = Rig(stream_of(sent, limit=5), save_seconds=0.2)
    other = Rig(rig.stream)
    other.states = rig.states
    turns = iter(range(8))
    consumer = rig.consumer()

    def tend() -> None:
        if next(turns, None) is None and not other.outcomes:
            other.consumer().run()

    consumer._tend = tend
    consumer.run()
    assert rig.said("fenced")
    both = Rig(rig.stream)
    both.alerts.rows = [*rig.alerts.rows, *other.alerts.rows]
    assert told(both.alerts_told) == expected(sent)[0]


def test_one_that_is_fenced_again_and_again_gives_up(monkeypatch: pytest.MonkeyPatch) -> None:
    rig = Rig(stream_of(a_stream(6), limit=5), save_seconds=0.0)

    def create(*_: Any) -> None:
        raise FencedError("taken")

    monkeypatch.setattr(rig.states, "create", create)
    with pytest.raises(FencedError):
        rig.consumer().run()


def test_a_torn_state_object_is_passed_over() -> None:
    sent = a_stream(8)
    rig = Rig(stream_of(sent, limit=10), save_seconds=0.2)
    rig.consumer().run()
    newest = rig.states.generations("panes", STATE)[-1]
    rig.states.delete("panes", STATE, newest)
    rig.states.create("panes", STATE, newest, b"SGSTATE torn")
    rig.consumer().run()
    assert rig.said("state_unreadable")[0]["generation"] == newest
    assert told(rig.alerts_told) == expected(sent)[0]


def test_a_shard_without_records_holds_back_and_is_told_of() -> None:
    sent = a_stream(2, shards=1)
    records = {**stream_of(sent).records, "idle": list[Record]()}
    rig = Rig(MemoryStream(records, limit=50))
    rig.consumer().run()
    assert rig.alerts.rows == []
    assert rig.said("held_back")[0]["shard"] == "idle"


def test_a_shard_of_which_nothing_is_kept_any_more_holds_nothing_back() -> None:
    sent = a_stream(2, shards=2)
    rig = Rig(stream_of(sent, limit=50))
    rig.consumer().run()
    before = len(rig.alerts.rows)
    later = [reading("d0", 60 + n, 24.0, 60 + n) for n in range(9)]
    more = records_of("s0", [*sent["s0"], *later], 1)
    rig.stream = MemoryStream({"s0": more}, limit=50)
    rig.consumer().run()
    assert [one["shard"] for one in rig.said("shard_gone")] == ["s1"]
    assert len(rig.alerts.rows) > before


def test_what_a_device_is_can_be_asked() -> None:
    rig = Rig(stream_of(a_stream(2), limit=50))
    consumer = rig.consumer()
    assert consumer.inspect("d0") is None
    consumer.run()
    (row,) = consumer.inspect("d0") or []
    assert row["shard"] == STATE and row["rule"] == "hot" and row["state"] in ("ok", "firing")
    assert consumer.inspect("unknown") == []


def test_an_outage_beyond_the_limit_ends_it() -> None:
    rig = Rig(stream_of(a_stream(1), limit=5))

    def refuse(*_: Any) -> None:
        raise UnavailableError("down")

    rig.stream.read = refuse  # type: ignore[method-assign, assignment]
    with pytest.raises(UnavailableError, match="down"):
        rig.consumer().run()
