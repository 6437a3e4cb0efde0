"""The fan-out mode: the same alerts for every order of chunks, and those of the plain oracle."""

from __future__ import annotations

import random
from typing import Any

import pytest
from drawn_panes import (
    PLAIN,
    SHAPES,
    START,
    TOML,
    Sent,
    reading,
    records_of,
    setup_of,
    streams,
    told,
)
from effort import examples
from hypothesis import given, settings
from hypothesis import strategies as st
from plain_panes import PlainPanes, order

from streamgauge import Alert, Record
from streamgauge.engine.batch import NO_TIME, Position
from streamgauge.engine.counts import RuleCounts
from streamgauge.engine.pane_merger import Merger
from streamgauge.engine.panes import Partial, Reducer
from streamgauge.rules import spec as specs
from streamgauge.rules.plan_fan_out import plan_merger, plan_reducer


class Dispatch:
    """Cuts shards into chunks, has them reduced and merged in an order drawn by a test."""

    def __init__(self, toml: str, chooser: random.Random, size: int, many: int) -> None:
        self.spec = specs.parse(toml)
        self.reducer: Reducer = plan_reducer(self.spec)
        self.merger: Merger = plan_merger(self.spec)
        self.random, self.size, self.many = chooser, size, many
        self.alerts: list[Alert] = []
        self.rejected: list[bytes] = []
        self.counts = {rule.name: RuleCounts() for rule in self.spec.rules}

    def run(self, sent: Sent, kill: bool = False) -> None:
        waiting: dict[str, list[tuple[int, list[Record], int]]] = {}
        for shard, rows in sent.items():
            records, time = records_of(shard, rows, self.size), NO_TIME
            chunks = []
            while records:
                some = records[: self.random.randint(1, self.many)]
                records = records[len(some) :]
                chunks.append((len(chunks), some, time))
                time = max(time, *(NO_TIME if r.arrival is None else r.arrival for r in some))
            waiting[shard] = chunks
        self.merger.know(sent)
        back: dict[str, dict[int, Partial]] = {shard: {} for shard in sent}
        passed = dict.fromkeys(sent, 0)
        while any(waiting.values()):
            shard = self.random.choice([name for name, chunks in waiting.items() if chunks])
            chunks = waiting[shard]
            number, some, time = chunks.pop(self.random.randrange(min(3, len(chunks))))
            partial = self.reducer.reduce(some, time)
            self.merger.merge(partial)
            self.rejected += [row.data for row in partial.rejected]
            back[shard][number] = partial
            while passed[shard] in back[shard]:
                done = back[shard][passed[shard]]
                self.merger.passed(shard, done.position, done.shard_time)
                passed[shard] += 1
            if self.random.random() < 0.5:
                self.alerts += self.merger.evaluate(self.counts)
            if kill and self.random.random() < 0.3:
                saved, self.merger = self.merger.save(), plan_merger(self.spec)
                assert self.merger.restore(saved) == []
        self.alerts += self.merger.evaluate_all(self.counts)


@settings(max_examples=examples(300))
@given(SHAPES, streams(), st.integers(0, 10**6), st.sampled_from([1, 1, 4]), st.integers(1, 7),
       st.booleans())  # fmt: skip
def test_every_order_of_chunks_gives_the_oracle_s_alerts(
    shape: dict[str, Any], sent: Sent, seed: int, size: int, many: int, kill: bool
) -> None:
    oracle = PlainPanes(setup_of(shape))
    for rows in sent.values():
        oracle.shard(rows)
    dispatch = Dispatch(TOML.format(**shape), random.Random(seed), size, many)
    dispatch.run(sent, kill)
    assert told(dispatch.alerts) == order(
        [row for row in oracle.alerts() if abs(row[3]) != float("inf")]
    )
    assert sorted(dispatch.rejected) == sorted(oracle.late)
    assert [a.time for a in dispatch.alerts] == sorted(a.time for a in dispatch.alerts)
    assert len({a.id for a in dispatch.alerts}) == len(dispatch.alerts)


def test_a_window_is_evaluated_once_nothing_can_come_before_it() -> None:
    """One that has seen 3.0 s of its shard, with a second of lateness, is past the end at 1 s."""
    spec = specs.parse(TOML.format(**PLAIN))
    reducer, merger, counts = plan_reducer(spec), plan_merger(spec), {"hot": RuleCounts()}
    merger.know(["a", "b"])

    def take(shard: str, number: int, row: tuple[bytes, int]) -> list[Alert]:
        record = Record(shard, str(number), row[0], "k", row[1])
        partial = reducer.reduce([record], merger.times[shard])
        merger.merge(partial)
        merger.passed(shard, partial.position, partial.shard_time)
        return merger.evaluate(counts)

    assert take("a", 1, reading("d", 0.5, 30.0, 0.5)) == []
    assert take("a", 2, reading("d", 9.0, 30.0, 9.0)) == []  # the other shard is not known yet
    assert take("b", 1, reading("e", 2.0, 10.0, 2.0)) == []  # at the end, and not past it
    (alert,) = take("b", 2, reading("e", 2.0, 10.0, 2.001))
    assert (alert.device, alert.time, alert.state) == ("d", START + 1000, "firing")
    assert (alert.first_position, alert.last_position) == (None, None)
    assert (alert.window_start, alert.window_end) == (START - 2000, START + 1000)
    assert merger.positions == {"a": Position("a", "2"), "b": Position("b", "2")}


def test_a_shard_that_is_finished_holds_nothing_back() -> None:
    spec = specs.parse(TOML.format(**PLAIN))
    reducer, merger, counts = plan_reducer(spec), plan_merger(spec), {"hot": RuleCounts()}
    merger.know(["a", "b"])
    for shard, row in (("a", reading("d", 0.5, 30.0, 0.5)), ("b", reading("e", 9.0, 1.0, 9.0))):
        partial = reducer.reduce([Record(shard, "1", row[0], "k", row[1])])
        merger.merge(partial)
        merger.passed(shard, partial.position, partial.shard_time)
    assert merger.evaluate(counts) == []
    merger.finish("a")
    assert [a.time for a in merger.evaluate(counts)] == [START + 1000]
    merger.finish("b")
    assert merger.evaluate(counts) == []  # its children may come
    assert counts["hot"].alerts == 1


def test_the_last_known_state_is_the_same_after_save_and_restore() -> None:
    spec = specs.parse(TOML.format(**PLAIN))
    reducer, merger = plan_reducer(spec), plan_merger(spec)
    merger.know(["a"])
    rows = [reading(f"d{n % 9}", n / 3, 1e300 if n == 5 else n / 7, n / 3) for n in range(60)]
    records = [Record("a", str(n + 1), data, "k", at) for n, (data, at) in enumerate(rows)]
    partial = reducer.reduce(records)
    merger.merge(partial)
    merger.passed("a", partial.position, partial.shard_time)
    merger.evaluate({"hot": RuleCounts()})
    again = plan_merger(spec)
    assert again.restore(merger.save()) == []
    assert again.save() == merger.save()
    assert (again.positions, again.times, again.done) == (
        merger.positions, merger.times, merger.done
    )  # fmt: skip


def test_another_rule_starts_empty_and_another_mode_is_refused() -> None:
    spec = specs.parse(TOML.format(**PLAIN))
    merger = plan_merger(spec)
    other = plan_merger(specs.parse(TOML.format(**{**PLAIN, "window": 5})))
    assert other.restore(merger.save()) == ["hot"]
    with pytest.raises(Exception, match="fan_out"):
        from streamgauge.rules.plan import Pipeline

        ordered = TOML.format(**PLAIN).replace('mode = "fan_out"', "")
        merger.restore(Pipeline.plan(specs.parse(ordered)).save())
