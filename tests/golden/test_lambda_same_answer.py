"""The torture file through the Lambda handler: the oracle's alerts, however it is disturbed."""

from __future__ import annotations

import base64
import itertools
from collections.abc import Callable, Iterator
from typing import Any

import drive
import msgspec
import plain_kpl
import pytest
import torture
from plain_kpl import Kinesis

from streamgauge import Alert
from streamgauge.consumers import lambda_handler
from streamgauge.consumers.lambda_handler import Handler, handler, records_of
from streamgauge.consumers.recall import FULL_EVERY
from streamgauge.engine.errors import ConfigError, InputError, StreamgaugeError, UnavailableError
from streamgauge.engine.sinks.local import MemorySink
from streamgauge.engine.stores.memory import MemoryStates
from streamgauge.engine.stores.thresholds import FileThresholds
from streamgauge.rules import spec as specs

TOML = (torture.HERE / "torture.toml").read_text()
TABLE = torture.HERE / "torture-thresholds.ndjson"


class Memories:
    """Edges in memory, which outlive a handler."""

    def __init__(self) -> None:
        self.sink, self.rows, self.store = MemorySink(), MemorySink(), MemoryStates()

    def alerts(self) -> MemorySink:
        return self.sink

    def errors(self) -> MemorySink:
        return self.rows

    def states(self) -> MemoryStates:
        return self.store

    def thresholds(self) -> FileThresholds:
        return FileThresholds(TABLE)


class Context:
    def __init__(self, milliseconds: int) -> None:
        self.milliseconds = milliseconds

    def get_remaining_time_in_millis(self) -> int:
        return self.milliseconds


def fresh(memories: Memories, **more: Any) -> Handler:
    return Handler(
        specs.parse(TOML), memories, log=lambda event, **fields: None, sleep=lambda _: None, **more
    )


def event(given: list[Kinesis]) -> dict[str, Any]:
    return {"Records": [
        {"eventID": f"{one.shard}:{one.sequence}", "eventSource": "aws:kinesis",
         "kinesis": {"sequenceNumber": one.sequence, "partitionKey": one.key,
                     "data": base64.b64encode(one.data).decode(),
                     **({} if one.arrival is None else
                        {"approximateArrivalTimestamp": one.arrival / 1000})}}
        for one in given
    ]}  # fmt: skip


def in_shards(records: list[Kinesis]) -> dict[str, list[Kinesis]]:
    found: dict[str, list[Kinesis]] = {}
    for one in records:
        found.setdefault(one.shard, []).append(one)
    return found


def drained(
    make: Callable[[], Handler], records: list[Kinesis], size: int, cold: bool = False
) -> None:
    """As the mapping does: a batch again from the first record reported, until all is done."""
    for of in in_shards(records).values():
        held = make()
        at, tries = 0, 0
        while at < len(of):
            batch = of[at : at + size]
            if cold:
                held = make()
            try:
                answer = held(event(batch), None)["batchItemFailures"]
            except UnavailableError:
                answer = [{"itemIdentifier": batch[0].sequence}]
            tries += 1
            assert tries < 10_000
            if not answer:
                at += len(batch)
                continue
            (one,) = answer
            at += [given.sequence for given in batch].index(one["itemIdentifier"])


def told() -> list[Kinesis]:
    """The torture file in the order of each shard, its repeats left to the tests."""
    seen: dict[str, int] = {}
    found = []
    for one in plain_kpl.read(torture.HERE / "torture.ndjson"):
        if int(one.sequence) > seen.get(one.shard, -1):
            seen[one.shard] = int(one.sequence)
            found.append(one)
    return found


def packed(size: int) -> list[Kinesis]:
    return plain_kpl.repacked(torture.users(), itertools.repeat(size))


def compare(memories: Memories, records: list[Kinesis]) -> None:
    """Alerts by the definition of the same, and every rejected row with its bytes."""
    oracles = [drive.oracle_of(TOML, torture.thresholds(), [of])
               for of in in_shards(records).values()]  # fmt: skip
    keys = ("rule", "device", "time", "state")
    wanted = sorted((a for o in oracles for a in o.alerts), key=lambda a: [a[k] for k in keys])
    unique = {row.id: msgspec.to_builtins(row) for row in memories.sink.rows
              if isinstance(row, Alert)}  # fmt: skip
    found = sorted(drive.without_id(unique.values()), key=lambda a: [a[k] for k in keys])
    assert drive.exact(found) == drive.exact(wanted)
    rejected = {(str(row.at), row.rule): row.data for row in memories.rows.rows}  # type: ignore[union-attr]
    assert rejected == {
        (row["position"], row["rule"]): row["user"].data for o in oracles for row in o.rejected
    }


@pytest.mark.parametrize("cold", [False, True], ids=["warm", "cold"])
@pytest.mark.parametrize("size", [7, 100])
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
    from streamgauge.engine import state

    objects = {g: state.decode(memories.store.read("torture", shard, g))[0]
               for g in memories.store.generations("torture", shard)}  # fmt: skip
    full = [generation for generation, kind in objects.items() if kind == "full"]
    assert full == [1, 1 + FULL_EVERY, 1 + 2 * FULL_EVERY]
    drained(lambda: fresh(memories), of[2 * FULL_EVERY + 3 :], 50, cold=True)
    compare(memories, of)


@pytest.mark.parametrize("torn", [1, 2, 3, 4])
def test_a_torn_state_object_is_gone_behind(torn: int) -> None:
    memories, records = Memories(), told()
    (shard, of), *_ = in_shards(records).items()
    held = fresh(memories)
    for at in range(0, 40, 10):
        held(event(of[at : at + 10]), None)
    objects = memories.store._objects["torture", shard]
    objects[torn] = objects[torn][:-1]
    events: list[str] = []
    again = Handler(specs.parse(TOML), memories, log=lambda e, **_: events.append(e))  # type: ignore[arg-type]
    again(event(of), None)  # from the start: what is behind the recalled position is a repeat
    assert "state_unreadable" in events and ("state_incomplete" in events) == (torn == 1)
    compare(memories, of)


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
    spec = specs.parse(TOML + '[archive]\nlocation = "archive/"\n')
    with pytest.raises(ConfigError, match="archive"):
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
