"""The torture file through the Lambda handler: the oracle's alerts, however it is disturbed."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from lambda_drive import (
    TOML,
    Memories,
    compare,
    drained,
    event,
    fresh,
    in_shards,
    packed,
    streamed,
    told,
)
from plain_kpl import Kinesis

from streamgauge import Alert
from streamgauge.consumers import lambda_handler
from streamgauge.consumers.lambda_event import records_of
from streamgauge.consumers.lambda_handler import Handler, handler
from streamgauge.consumers.recall import FULL_EVERY
from streamgauge.engine import state
from streamgauge.engine.errors import ConfigError, InputError, StreamgaugeError
from streamgauge.rules import spec as specs


class Context:
    def __init__(self, milliseconds: int) -> None:
        self.milliseconds = milliseconds

    def get_remaining_time_in_millis(self) -> int:
        return self.milliseconds


@pytest.mark.parametrize("cold", [False, True], ids=["warm", "cold"])
@pytest.mark.parametrize("size", [pytest.param(7, marks=pytest.mark.slow), 100])
@pytest.mark.parametrize("make", [told, lambda: packed(1), lambda: packed(1000)],
                         ids=["as told", "plain", "aggregated"])  # fmt: skip
def test_the_alerts_are_the_oracle_s(
    make: Callable[[], list[Kinesis]], size: int, cold: bool
) -> None:
    memories, records = Memories(), make()
    drained(lambda: fresh(memories), records, size, cold)
    compare(memories, records)


def faults(memories: Memories) -> Iterator[None]:
    """Refuse sinks and store in turn, before and after the effect."""
    for place in itertools.cycle([memories.sink, memories.rows, memories.store]):
        for name in ("fail_next", "lose_next"):
            setattr(place, name, 1)
            yield
            yield


def test_refusals_before_and_after_each_effect_change_nothing() -> None:
    memories, records = Memories(), told()
    schedule = faults(memories)

    def disturbed() -> Handler:
        next(schedule)
        return fresh(memories, now=iter(range(10**9)).__next__)

    drained(disturbed, records, 29, cold=True)
    memories.sink.fail_next = memories.rows.fail_next = memories.store.fail_next = 0
    compare(memories, records)


def test_records_that_come_again_are_applied_once() -> None:
    memories, records = Memories(), told()
    for of in in_shards(records).values():
        held = fresh(memories)
        for at in range(0, len(of), 20):
            for _ in range(3):
                assert held(event(of[max(0, at - 10) : at + 20]), None) == {"batchItemFailures": []}
    compare(memories, records)


def test_another_invocation_that_has_gone_on_is_seen() -> None:
    memories, records = Memories(), told()
    (shard, of), *_ = in_shards(records).items()
    first, second = fresh(memories), fresh(memories)
    first(event(of[:20]), None)
    second(event(of[20:40]), None)
    first(event(of[40:]), None)  # its memory is old, and is not used
    assert memories.store.generations("torture", shard) == [1, 2, 3]
    compare(memories, of)


def test_state_is_deltas_and_now_and_then_whole() -> None:
    memories, held = Memories(), None
    (shard, of), *_ = in_shards(packed(1)).items()
    held = fresh(memories)
    for one in of[: 2 * FULL_EVERY + 3]:
        held(event([one]), None)
    objects = {g: state.decode(memories.store.read("torture", shard, g))[0]
               for g in memories.store.generations("torture", shard)}  # fmt: skip
    full = [generation for generation, kind in objects.items() if kind == "full"]
    assert full == [1, 1 + FULL_EVERY, 1 + 2 * FULL_EVERY]
    drained(lambda: fresh(memories), of[2 * FULL_EVERY + 3 :], 50, cold=True)
    compare(memories, of)


ALSO = [pytest.param(torn, marks=pytest.mark.slow) for torn in ([1], [3], [4])]


@pytest.mark.parametrize("torn", [[2], [3, 4], [1, 2, 3, 4], *ALSO], ids=str)
@pytest.mark.parametrize(
    "gone", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["torn", "gone"]
)
def test_behind_an_object_that_cannot_be_read_the_stream_is_read_again(
    torn: list[int], gone: bool
) -> None:
    """From the last readable state up to what the mapping hands over, and told to nobody."""
    memories, records = Memories(), told()
    (shard, of), *_ = in_shards(records).items()
    memories.stream = streamed(records)
    held = fresh(memories)
    for at in range(0, 40, 10):
        held(event(of[at : at + 10]), None)
    objects = memories.store._objects["torture", shard]
    for generation in torn:
        if gone and generation != max(objects):  # of the newest nobody would know
            del objects[generation]
        else:
            objects[generation] = objects[generation][:-1]
    before = [row.id for row in memories.sink.rows], [str(row.at) for row in memories.rows.rows]
    events: list[str] = []
    again = fresh(memories, log=lambda e, **_: events.append(e))
    again(event(of[40:41]), None)
    assert ("state_incomplete" in events) == (1 in torn)
    assert "read_again" in events and ("state_unreadable" in events or 1 in torn)
    for row in (*memories.sink.rows[len(before[0]) :], *memories.rows.rows[len(before[1]) :]):
        assert of[40].sequence in (row.last_position if isinstance(row, Alert) else str(row.at))
    assert state.decode(memories.store.read("torture", shard, max(objects)))[0] == "full"
    drained(lambda: fresh(memories), of[41:], 10, cold=True)
    compare(memories, of)


def test_what_is_read_again_is_not_read_once_more_when_time_is_up() -> None:
    memories, records = Memories(), told()
    (shard, of), *_ = in_shards(records).items()
    memories.stream = streamed(records)
    first = fresh(memories)
    first(event(of[:10]), None)
    first(event(of[10:100]), None)
    objects = memories.store._objects["torture", shard]
    objects[2] = b""
    held = fresh(memories, now=iter(range(10**9)).__next__)
    failed = {"batchItemFailures": [{"itemIdentifier": of[100].sequence}]}
    tries = 0
    while held(event(of[100:]), Context(45_000)) == failed:
        tries += 1
        assert tries < 20
    assert tries > 1 and len(memories.stream.reads) < 90
    compare(memories, of)


def test_after_a_change_of_a_rule_the_next_object_is_full() -> None:
    """A delta would stand on windows that are no more."""
    memories, of = Memories(), next(iter(in_shards(told()).values()))
    fresh(memories)(event(of[:20]), None)
    changed = TOML.replace('window = "60s"', 'window = "50s"', 1)
    assert changed != TOML
    spec = specs.parse(changed)
    for at in (20, 40):
        Handler(spec, memories, log=lambda event, **_: None)(event(of[at : at + 20]), None)  # type: ignore[arg-type]
    objects = [state.decode(memories.store.read("torture", of[0].shard, g))[0] for g in (1, 2, 3)]
    assert objects == ["full", "full", "delta"]


def test_the_deadline_is_kept_and_the_rest_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lambda_handler, "PIECE_RECORDS", 10)
    memories = Memories()
    of = next(iter(in_shards(told()).values()))
    seconds = itertools.count()
    held = fresh(memories, now=lambda: float(next(seconds)))
    answer = held(event(of), Context(5001))
    assert answer["batchItemFailures"] == [{"itemIdentifier": of[10].sequence}]
    assert held(event(of[10:]), Context(10**9)) == {"batchItemFailures": []}
    compare(memories, of)


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({}, "Records of a Kinesis"),
        (None, "Records of a Kinesis"),
        ({"Records": [{"Sns": {}}]}, r"Records\[0\]: expected a record of a Kinesis"),
        ({"Records": [{"eventID": "s:1", "kinesis": {"sequenceNumber": "1", "data": "?"}}]},
         r"Records\[0\]: kinesis.data: expected base64"),
        ({"Records": [{"eventID": "1", "kinesis": {"sequenceNumber": "1", "data": ""}}]},
         r"Records\[0\]: eventID"),
    ],
)  # fmt: skip
def test_what_is_no_event_of_a_stream(given: Any, named: str) -> None:
    with pytest.raises(InputError, match=named):
        records_of(given)


def test_no_records_are_nothing_to_do() -> None:
    assert fresh(Memories())({"Records": []}, None) == {"batchItemFailures": []}


def test_what_it_cannot_do_is_refused_by_name() -> None:
    spec = specs.parse(TOML.replace("[source]", '[source]\nout_of_range = "reject"'))
    with pytest.raises(ConfigError, match="source.out_of_range"):
        Handler(spec, Memories())  # type: ignore[arg-type]


def test_the_entry_reads_its_file_at_the_first_event(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("STREAMGAUGE_PIPELINE", "absent.toml")
    with pytest.raises(StreamgaugeError, match="absent.toml"):
        handler({"Records": []}, None)
    (tmp_path / "pipeline.toml").write_text(TOML)
    monkeypatch.delenv("STREAMGAUGE_PIPELINE")
    assert handler({"Records": []}, None) == {"batchItemFailures": []}
