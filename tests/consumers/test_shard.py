"""One shard's loop, step by step: its order, its pauses, and what it does when refused."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from typing import Any

import pytest
from memory_stream import MemoryStream

from streamgauge import Alert, Record, Rejected
from streamgauge.consumers.metrics import Metrics
from streamgauge.consumers.shard import (
    READ_SECONDS_MIN,
    TIP_SECONDS,
    Backoff,
    Fetched,
    Host,
    Shard,
)
from streamgauge.engine.errors import StateError, UnavailableError
from streamgauge.engine.sinks.base import PAUSE_SECONDS_MAX, RETRY_SECONDS_MAX
from streamgauge.engine.sinks.local import MemorySink
from streamgauge.engine.stores.memory import MemoryStates
from streamgauge.rules import spec as specs
from streamgauge.rules.plan import Pipeline

TOML = """
[pipeline]
name = "p"
[record]
device = "device"
time = "ts"
[[rules]]
name = "hot"
sql = "SELECT * FROM '#'"
measure = "value"
window = "1s"
threshold = 10.0
"""
START = 1_700_000_000_000
NAME, CHILD = "shardId-000000000000", "shardId-000000000001"


def readings(count: int, shard: str = NAME, first: int = 1) -> list[Record]:
    """Every second one is hot, so each makes an alert; every fifth is broken."""
    records = []
    for number in range(first, first + count):
        at = START + 10_000 * number
        message = {"device": "d", "ts": at, "value": 20 * (number % 2)}
        data = json.dumps(message).encode() if number % 5 else b"broken %d" % number
        records.append(Record(shard, str(number), data, "d", at))
    return records


class Table:
    """What tests hold in their hands: the shard and all that it was given."""

    def __init__(self, records: list[Record], limit: int = 10, save_seconds: float = 100.0) -> None:
        self.clock = 50.0
        self.order: list[str] = []
        self.log: list[dict[str, Any]] = []
        self.stream = MemoryStream({NAME: records}, limit=limit, random=random.Random(1))
        self.stream.random.randint = lambda low, high: high
        self.alerts, self.errors, self.states = MemorySink(), MemorySink(), MemoryStates()
        self.save_seconds = save_seconds
        self.shard = self.start()

    def start(self, name: str = NAME, parents: tuple[str, ...] = ()) -> Shard:
        spec = specs.parse(TOML)
        host = Host(
            metrics=Metrics(),
            pipeline="p", plan=lambda: Pipeline.plan(spec, one_shard=True), reader=self.stream,
            alerts=self.alerts, errors=self.errors, states=self.states,
            save_seconds=self.save_seconds, observe=lambda outcome: None,
            log=lambda event, **fields: self.log.append({"event": event, **fields}),
            now=lambda: self.clock, random=lambda: 1.0,
        )  # fmt: skip
        return Shard(name, host, parents)

    def steps(self, count: int) -> list[str]:
        """Do so many steps, each when it is due; their names."""
        names = []
        for _ in range(count):
            self.clock = max(self.clock, self.shard.ready_at)
            names.append(self.shard.due().__name__)
            self.shard.step()
        return names

    def until(self, done: Callable[[], bool]) -> None:
        while not done():
            self.steps(1)

    def events(self) -> list[str]:
        return [line["event"] for line in self.log]


def whole(count: int) -> Table:
    """A table at which so many readings were read without any trouble."""
    table = Table(readings(count))
    table.until(lambda: table.shard.at_tip)
    return table


def ids(table: Table) -> list[str]:
    return [row.id for row in table.alerts.rows if isinstance(row, Alert)]


def test_the_order_of_the_steps() -> None:
    table = Table(readings(20), save_seconds=0.0)
    once = ["read", "apply", "deliver", "deliver", "save", "prune"]
    assert table.steps(14) == ["load", *once, *once, "read"]
    assert table.shard.at_tip and table.shard.idle


def test_every_sink_is_asked_before_the_state_is_written() -> None:
    table = Table(readings(10), save_seconds=0.0)
    order: list[str] = []
    for name in ("alerts", "errors"):
        sink = getattr(table, name)
        sink.deliver = lambda rows, name=name: order.append(f"{name} deliver")
        sink.flush = lambda name=name: order.append(f"{name} flush")
    table.states.create = lambda *_: order.append("create")
    table.steps(6)
    assert order == [
        "alerts deliver", "errors deliver", "alerts flush", "errors flush", "create",
    ]  # fmt: skip


def test_state_is_saved_when_it_is_due_and_only_if_something_came() -> None:
    table = Table(readings(300), limit=10, save_seconds=2.0)
    table.until(lambda: table.shard.at_tip)
    saves = table.events().count("state_saved")
    assert 2 <= saves <= 30 * READ_SECONDS_MIN / 2.0 + 1
    table.steps(200)  # a quiet stream: two minutes of empty reads
    total = table.events().count("state_saved")
    assert total - saves <= 1
    assert table.shard.idle
    assert table.states.generations("p", NAME) == [total - 2, total - 1, total]


def test_a_shard_is_not_read_more_often_than_it_allows() -> None:
    table = Table(readings(100), limit=10)
    times = []
    read = table.stream.read
    table.stream.read = lambda *given: times.append(table.clock) or read(*given)
    table.steps(60)
    apart = [round(after - before, 6) for before, after in zip(times, times[1:], strict=False)]
    assert set(apart) == {READ_SECONDS_MIN, TIP_SECONDS}
    assert READ_SECONDS_MIN >= 1 / 5


def test_what_was_refused_is_delivered_again_and_nothing_else_is_done() -> None:
    table = Table(readings(10))
    table.alerts.fail_next = 3
    assert table.steps(9) == ["load", "read", "apply", *["deliver"] * 5, "read"]
    assert [row.time for row in table.alerts.rows if isinstance(row, Alert)] == [
        START + 10_000 * number for number in (1, 2, 3, 4, 7, 8, 9)
    ]
    assert len(table.errors.rows) == 2
    waits = [line for line in table.log if line["event"] == "waiting"]
    assert [(line["step"], line["seconds"]) for line in waits] == [
        ("deliver", 0.1), ("deliver", 0.2), ("deliver", 0.4),
    ]  # fmt: skip


def test_a_sink_that_has_acknowledged_is_not_asked_again() -> None:
    table = Table(readings(10))
    table.errors.fail_next = 2
    table.steps(8)
    assert len(table.alerts.rows) == 7
    assert len(table.errors.rows) == 2


def test_an_outage_beyond_the_limit_ends_the_loop_with_nothing_skipped() -> None:
    table = Table(readings(10), save_seconds=0.0)
    table.alerts.fail_next = 10**6
    began = table.clock
    with pytest.raises(UnavailableError):
        table.steps(10**4)
    assert RETRY_SECONDS_MAX <= table.clock - began <= RETRY_SECONDS_MAX + 2 * PAUSE_SECONDS_MAX
    assert table.states.generations("p", NAME) == []
    table.alerts.fail_next = 0
    table.shard = table.start()
    table.until(lambda: table.shard.at_tip)
    assert len(table.alerts.rows) == 7


def test_pauses_double_to_a_bound_and_begin_anew() -> None:
    backoff = Backoff(lambda: 0.0, lambda: 1.0)
    error = UnavailableError("down")
    pauses = [backoff.pause(error) for _ in range(9)]
    assert pauses == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0, 5.0]
    backoff.clear()
    assert backoff.pause(error) == 0.1


def test_pauses_have_full_jitter() -> None:
    rng = random.Random(2)
    pauses = []
    for _ in range(200):
        backoff = Backoff(lambda: 0.0, rng.random)
        for _ in range(7):
            pause = backoff.pause(UnavailableError("down"))
        pauses.append(pause)
    assert min(pauses) < 0.3 and max(pauses) > 4.7


def test_the_table_of_limits_being_down_makes_the_batch_wait() -> None:
    table = Table(readings(10))
    table.steps(2)
    push, down = Pipeline.push, [True, True]

    def refused(self: Pipeline, records: Any) -> Any:
        if down and down.pop():
            raise UnavailableError("the table is down")
        return push(self, records)

    pipeline = table.shard._pipeline
    assert isinstance(pipeline, Pipeline)
    pipeline.push = lambda records: refused(pipeline, records)
    assert table.steps(5) == ["apply", "apply", "apply", "deliver", "deliver"]
    assert len(table.alerts.rows) == 7
    assert table.stream.reads == [NAME]


def test_an_expired_iterator_goes_on_after_the_last_position() -> None:
    table = Table(readings(20))
    table.steps(5)
    asked: list[Any] = []
    iterator, read = table.stream.iterator, table.stream.read
    table.stream.read = lambda *_: None
    table.steps(2)
    table.stream.read = read
    table.stream.iterator = lambda *given: asked.append(given[1:]) or iterator(*given)
    table.until(lambda: table.shard.at_tip)
    ((position, inclusive),) = asked
    assert (position.sequence_number, inclusive) == ("10", False)
    assert ids(table) == ids(whole(20))


def test_a_start_from_a_state_reads_its_last_record_again() -> None:
    """Another host may have applied a part of it."""
    table = Table(readings(20), save_seconds=0.0)
    table.steps(7)
    table.shard = table.start()
    asked: list[Any] = []
    iterator = table.stream.iterator
    table.stream.iterator = lambda *given: asked.append(given[1:]) or iterator(*given)
    table.until(lambda: table.shard.at_tip)
    ((position, inclusive),) = asked
    assert (position.sequence_number, inclusive) == ("10", True)
    assert ids(table) == ids(whole(20))


def test_a_start_without_news_writes_no_state() -> None:
    table = Table(readings(10), save_seconds=0.0)
    table.until(lambda: table.shard.at_tip)
    for _ in range(3):
        table.shard = table.start()
        table.until(lambda: table.shard.at_tip)
    assert table.states.generations("p", NAME) == [1]


def test_finish_delivers_and_saves_what_was_applied() -> None:
    table = Table(readings(40), save_seconds=1000.0)
    table.steps(3)
    table.shard.finish()
    assert not table.shard.idle
    assert table.steps(4) == ["deliver", "deliver", "save", "prune"]
    assert table.shard.idle
    assert table.shard.position is not None and table.shard.position.sequence_number == "10"


def test_finish_leaves_what_was_read_only_to_the_next_start() -> None:
    table = Table(readings(10))
    table.steps(2)
    table.shard.finish()
    assert table.shard.idle and table.states.generations("p", NAME) == []


def test_a_closed_shard_is_saved_at_once_and_finished() -> None:
    table = Table(readings(10), save_seconds=1000.0)
    table.stream.closed = {NAME}
    assert table.steps(7)[-3:] == ["deliver", "save", "prune"]
    assert table.shard.finished
    table.shard.release()
    assert table.shard.finished


def test_an_object_that_cannot_be_removed_stops_nothing() -> None:
    table = Table(readings(30), save_seconds=0.0)
    table.until(lambda: table.states.generations("p", NAME) == [1, 2, 3])
    table.states.fail_next = 1
    assert table.steps(2) == ["prune", "read"]
    assert "prune_refused" in table.events()


def test_a_child_begins_with_the_windows_of_its_parent() -> None:
    """Firing in the parent, the device is resolved in the child, and its window spans both."""
    table = Table(readings(1))
    table.stream.closed = {NAME}
    table.until(lambda: table.shard.finished)
    at = START + 10_500
    message = json.dumps({"device": "d", "ts": at, "value": 0}).encode()
    table.stream.records = {CHILD: [Record(CHILD, "7", message, "d", at)]}
    table.shard = table.start(CHILD, (NAME,))
    table.until(lambda: table.shard.at_tip)
    fired, resolved = table.alerts.rows
    assert isinstance(fired, Alert) and isinstance(resolved, Alert)
    assert (fired.state, resolved.state) == ("firing", "resolved")
    assert (resolved.value, resolved.samples) == (10.0, 2)
    assert resolved.first_position == f"{NAME}:1:0"
    assert resolved.last_position == f"{CHILD}:7:0"


@pytest.mark.parametrize("merged", [False, True])
def test_a_child_that_cannot_inherit_says_so(merged: bool) -> None:
    """Of two parents the one that can be read is still gone on with."""
    other = "shardId-000000000009"
    table = Table(readings(1))
    table.stream.closed = {NAME}
    table.until(lambda: table.shard.finished)
    table.states.create("p", other, 1, b"SGSTATE")
    table.stream.records = {CHILD: []}
    table.log.clear()
    table.shard = table.start(CHILD, (NAME, other) if merged else (other,))
    table.until(lambda: table.shard.at_tip)
    assert [line for line in table.log if line["event"] == "windows_start_empty"] == [
        {"event": "windows_start_empty", "shard": CHILD, "parent": other}
    ]
    assert [row["state"] for row in table.shard.inspect("d")] == ["firing"] * merged


def test_a_child_without_records_hands_on_what_it_inherited() -> None:
    table = Table(readings(1))
    table.stream.closed = {NAME, CHILD}
    table.until(lambda: table.shard.finished)
    table.stream.records = {CHILD: [], "shardId-000000000002": []}
    for name, parent in ((CHILD, NAME), ("shardId-000000000002", CHILD)):
        table.shard = table.start(name, (parent,))
        table.until(lambda: table.shard.at_tip or table.shard.finished)
    assert [row["state"] for row in table.shard.inspect("d")] == ["firing"]


def test_a_child_of_parents_without_records_has_nothing_to_say() -> None:
    table = Table([])
    table.shard = table.start(NAME, ("shardId-000000000007",))
    table.until(lambda: table.shard.at_tip)
    assert table.events() == ["shard_started"]


def test_a_state_that_vanishes_while_it_is_looked_at_is_another_owner_s() -> None:
    table = Table(readings(10), save_seconds=0.0)
    table.steps(5)
    table.states.create("p", NAME, 1, b"of another owner")
    table.states.read = lambda *_: (_ for _ in ()).throw(StateError("gone"))
    assert table.steps(2) == ["save", "load"]
    assert "fenced" in table.events()


def test_no_log_line_holds_a_payload() -> None:
    table = Table(readings(50), save_seconds=0.0)
    table.alerts.fail_next = 2
    table.until(lambda: table.shard.at_tip)
    text = json.dumps(table.log)
    assert "broken" not in text and "value" not in text
    assert all(isinstance(row, Rejected) for row in table.errors.rows)


def test_a_read_of_a_closed_shard_is_a_bug() -> None:
    table = Table([])
    table.stream.closed = {NAME}
    table.stream.read = lambda *_: Fetched([], None, 0)
    table.steps(2)
    with pytest.raises(AssertionError):
        table.shard.read()
