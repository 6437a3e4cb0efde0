"""Shards split and merged in the middle of windows: the answers of a stream that never was."""

from __future__ import annotations

import itertools
import json
import random
from pathlib import Path
from typing import Any

import drive
import generate
import msgspec
import pytest
from effort import examples
from generate import Plan
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from lambda_drive import Memories, drained, fresh
from memory_stream import MemoryStream
from plain_oracle import Oracle
from resharding import Resharded, resharded

from streamgauge import Alert
from streamgauge.consumers.local import LocalConsumer
from streamgauge.consumers.metrics import Metrics
from streamgauge.consumers.shard import Host
from streamgauge.engine.sinks.local import MemorySink
from streamgauge.engine.stores.memory import MemoryStates
from streamgauge.engine.stores.thresholds import FileThresholds
from streamgauge.rules import spec as specs
from streamgauge.rules.plan import Pipeline


class Clock:
    def __init__(self) -> None:
        self.time = 0.0

    def now(self) -> float:
        return self.time

    def sleep(self, seconds: float) -> None:
        self.time += seconds


def local(toml: str, thresholds: Path, made: Resharded, seed: int) -> drive.Answer:
    """The local host over the stream, from the oldest record to every tip."""
    rng = random.Random(seed)
    answer, clock, stream = drive.Answer(), Clock(), made.stream(rng)
    spec = specs.parse(toml)
    host = Host(
        pipeline=spec.pipeline.name, reader=stream, alerts=MemorySink(), errors=MemorySink(),
        plan=lambda: Pipeline.plan(spec, thresholds, one_shard=True),
        states=MemoryStates(), save_seconds=rng.choice([0.0, 5.0, 1000.0]),
        observe=lambda outcome: drive.take(answer, outcome), metrics=Metrics(),
        log=lambda event, **fields: None, now=clock.now, random=rng.random,
    )  # fmt: skip
    drive.take(answer, host.plan().push([]))
    consumer = LocalConsumer(stream, host, until_end=True, sleep=clock.sleep)
    consumer.run()
    assert consumer.unsaved == consumer.unread == []
    return answer


class Edges(Memories):
    """Edges in memory, with a table of limits and a stream of their own."""

    def __init__(self, table: Path, stream: MemoryStream) -> None:
        super().__init__()
        self.table, self.stream = table, stream

    def thresholds(self) -> FileThresholds:
        return FileThresholds(self.table)


def in_lambda(toml: str, table: Path, made: Resharded, seed: int) -> list[dict[str, Any]]:
    """The alerts of the Lambda host: a parent to its end, then its children, many sandboxes."""
    rng = random.Random(seed)
    edges = Edges(table, made.stream(rng))
    for of in made.records.values():
        drained(lambda: fresh(edges, toml), of, rng.choice([1, 5, 50]), cold=rng.random() < 0.5)
    rows = [row for row in edges.sink.rows if isinstance(row, Alert)]
    assert len({row.id for row in rows}) == len(rows)
    return [msgspec.to_builtins(row) for row in rows]


def by_device(rows: list[dict[str, Any]]) -> dict[tuple[str, str], list[dict[str, Any]]]:
    """Shards are read side by side, so only a device's order is one."""
    found: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in drive.exact(rows):
        found.setdefault((row["device"], row["rule"]), []).append(row)
    return found


def compare(answer: drive.Answer, oracle: Oracle) -> None:
    assert by_device(answer.statistics) == by_device(oracle.statistics)
    assert by_device(drive.without_id(answer.alerts)) == by_device(oracle.alerts)
    assert answer.counts == oracle.totals()


@st.composite
def cases(draw: st.DrawFn, size: int = 60) -> tuple[str, list[dict[str, Any]], Resharded]:
    plan = draw(generate.plans())
    told = generate.users_of(plan, draw(generate.events(plan, 6, size)))
    change = st.sampled_from([""] * 12 + [f"{what} {n}" for what in ("split", "merge")
                                          for n in range(3)])  # fmt: skip
    changes = draw(st.lists(change, min_size=len(told), max_size=len(told)))
    pieces = itertools.cycle(draw(st.sampled_from([[1], [4], [1, 3, 9]])))
    made = resharded(told, iter(changes), pieces, draw(st.integers(1, 3)))
    return plan.toml(), draw(generate.limits(plan)), made


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("resharding") / "thresholds.ndjson"


def check(table: Path, case: tuple[str, list[dict[str, Any]], Resharded], seed: int) -> None:
    toml, thresholds, made = case
    table.write_text("".join(json.dumps(item) + "\n" for item in thresholds))
    compare(local(toml, table, made, seed), drive.oracle_of(toml, thresholds, [made.in_order]))


@settings(
    max_examples=examples(60),
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(case=cases(), seed=st.integers(0, 9))
def test_the_answer_is_that_of_the_whole_stream(
    table: Path, case: tuple[str, list[dict[str, Any]], Resharded], seed: int
) -> None:
    check(table, case, seed)


@settings(
    max_examples=examples(40),
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(case=cases(size=40), seed=st.integers(0, 9))
def test_the_alerts_in_lambda_are_those_of_the_whole_stream(
    table: Path, case: tuple[str, list[dict[str, Any]], Resharded], seed: int
) -> None:
    toml, thresholds, made = case
    table.write_text("".join(json.dumps(item) + "\n" for item in thresholds))
    oracle = drive.oracle_of(toml, thresholds, [made.in_order])
    names = [[alert[key] for key in drive.CHANGE] for alert in oracle.alerts]
    assume(len(names) == len({*map(tuple, names)}))  # none comes again after a silence
    alerts = in_lambda(toml, table, made, seed)
    assert by_device(drive.without_id(alerts)) == by_device(oracle.alerts)


PLAN = Plan(1000, (1000, 3000), 1000, (
    generate.rule_text(0, 1000, "mean", "above", 90.0, 2.0, 1, 0, "", "#"),
    generate.rule_text(1, 3000, "stddev", "below", 9.0, 0.5, 2, 1000, "", "#"),
), arrivals=True, skew=3000)  # fmt: skip


@pytest.mark.parametrize(
    "seed", [0, 1, *(pytest.param(n, marks=pytest.mark.slow) for n in range(2, 30))]
)
def test_long_streams(seed: int, table: Path) -> None:
    rng = random.Random(seed)
    events = [
        generate.Event(rng.randrange(12), rng.choice([0, 2, 3, 4, 7]),
                       f"{rng.randrange(500, 1300) / 10}", rng.choice([0, 3, 3, 4, 5, 6]))
        for _ in range(400)
    ]  # fmt: skip
    users = generate.users_of(PLAN, events)
    kinds = [""] * 300 + [f"{what} {n}" for what in ("split", "merge", "merge") for n in range(4)]
    changes = iter(lambda: rng.choice(kinds), None)
    made = resharded(users, changes, iter(lambda: rng.choice([1, 2, 30]), None), 2)
    assert len(made.closed) > 5
    check(table, (PLAN.toml(), [], made), seed)
