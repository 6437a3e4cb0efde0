"""A child in Lambda begins with what its parents knew, found by the list of shards."""

from __future__ import annotations

import itertools
import json
import random
from typing import Any

import pytest
from lambda_drive import ARN, Memories, event, fresh
from memory_stream import MemoryStream
from plain_kpl import Kinesis

from streamgauge import Alert, Record
from streamgauge.consumers.lambda_event import source_of
from streamgauge.consumers.lambda_handler import Handler
from streamgauge.engine.aws import RefusedError
from streamgauge.engine.errors import InputError, UnavailableError
from streamgauge.rules import spec as specs

START = 1_700_000_000_000
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
window = "60s"
statistic = "count"
threshold = 2.0
"""
DONE: dict[str, Any] = {"batchItemFailures": []}


def record(shard: str, number: int, device: str = "d") -> Kinesis:
    at = START + 1000 * number
    data = json.dumps({"device": device, "ts": at, "value": 1}).encode()
    return Kinesis(shard, str(number), data, device, at)


class Split:
    """Shards with parents; what is handed over lies in the stream, too."""

    def __init__(self, **parents: tuple[str, ...]) -> None:
        self.memories = Memories()
        self.memories.thresholds = lambda: None  # type: ignore[assignment, return-value]
        self.events: list[dict[str, Any]] = []
        self.held: dict[str, list[Record]] = {name: [] for name in parents}
        self.memories.stream = self.stream = MemoryStream(
            self.held, parents=parents, closed=set(parents), limit=2, random=random.Random(1)
        )

    def sandbox(self, **more: Any) -> Handler:
        def log(event: str, **fields: Any) -> None:
            self.events.append({"event": event, **fields})

        return fresh(self.memories, TOML, log=log, **more)

    def hand(self, *records: Kinesis, to: Handler | None = None) -> Any:
        for one in records:
            of = self.held[one.shard]
            if one.sequence not in [held.sequence_number for held in of]:
                of.append(Record(one.shard, one.sequence, one.data, one.key, one.arrival))
        return (to or self.sandbox())(event(list(records)), None)

    def tear(self, shard: str, generation: int) -> None:
        self.memories.store._objects["p", shard][generation] = b""

    @property
    def alerts(self) -> list[tuple[str, int, str | None]]:
        rows = [row for row in self.memories.sink.rows if isinstance(row, Alert)]
        return [(row.state, row.samples, row.first_position) for row in rows]


def test_a_child_goes_on_with_the_window_of_its_parent() -> None:
    made = Split(P=(), C=("P",))
    assert made.hand(record("P", 1), record("P", 2)) == DONE
    assert made.hand(record("C", 3)) == DONE
    assert made.alerts == [("firing", 3, "P:1:0")]


def test_a_shard_of_two_begins_with_both() -> None:
    made = Split(P=(), Q=(), C=("P", "Q"))
    made.hand(record("P", 1), record("P", 2))
    made.hand(record("Q", 1, "e"), record("Q", 2, "e"))
    made.hand(record("C", 3), record("C", 4, "e"))
    assert made.alerts == [("firing", 3, "P:1:0"), ("firing", 3, "Q:1:0")]


def test_in_the_place_of_a_parent_without_records_stand_its_own() -> None:
    """Lambda is never called for a shard in which nothing lies, so it has no state either."""
    made = Split(P=(), A=("P",), B=("P",), C=("A", "B"))
    made.hand(record("P", 1), record("P", 2))
    made.hand(record("C", 3))
    assert made.alerts == [("firing", 3, "P:1:0")]


def test_the_list_is_asked_only_where_there_is_no_state() -> None:
    made = Split(P=())
    made.hand(record("P", 1))
    made.stream.shards = lambda: pytest.fail("asked again")  # type: ignore[method-assign]
    assert made.hand(record("P", 2)) == DONE


@pytest.mark.parametrize("refused", ["AccessDeniedException", "ResourceNotFoundException"])
def test_without_the_list_nothing_is_guessed(refused: str) -> None:
    """The whole batch comes again, until the permission is there."""
    made = Split(P=(), C=("P",))
    made.hand(record("P", 1), record("P", 2))
    allowed = made.stream.shards

    def shards() -> Any:
        raise RefusedError("kinesis ListShards: no", refused)

    made.stream.shards = shards  # type: ignore[method-assign]
    with pytest.raises(RefusedError, match="ListShards"):
        made.hand(record("C", 3))
    assert made.memories.store.generations("p", "C") == [] and made.alerts == []
    made.stream.shards = allowed  # type: ignore[method-assign]
    assert made.hand(record("C", 3)) == DONE
    assert made.alerts == [("firing", 3, "P:1:0")]


def test_a_shard_that_is_not_listed_yet_waits() -> None:
    made = Split(P=(), C=("P",))
    of = record("C", 3)
    made.stream.records = {}
    assert made.hand(of) == {"batchItemFailures": [{"itemIdentifier": "3"}]}
    told = [line for line in made.events if line["event"] == "unavailable"]
    assert len(told) == 1 and "C" in told[0]["cause"]


def test_a_parent_whose_last_object_is_torn_is_read_to_its_end() -> None:
    made = Split(P=(), C=("P",))
    for number in (1, 2, 3):
        made.hand(record("P", number))
    told = list(made.alerts)
    made.tear("P", 3)
    made.hand(record("C", 4))
    assert made.alerts == told == [("firing", 3, "P:1:0")]
    assert [line["shard"] for line in made.events if line["event"] == "read_again"] == ["P"]


def test_a_parent_that_has_expired_is_gone_on_with_as_it_is_known() -> None:
    made = Split(P=(), C=("P",))
    for number in (1, 2, 3):
        made.hand(record("P", number))
    made.tear("P", 3)
    del made.held["P"]
    assert made.hand(record("C", 4)) == DONE
    assert made.alerts == [("firing", 3, "P:1:0")] * 2  # as far as it was known, not firing yet


def test_a_parent_that_cannot_be_read_is_told() -> None:
    made = Split(P=(), C=("P",))
    made.hand(record("P", 1))
    made.tear("P", 1)
    made.hand(record("C", 3))
    names = [line["event"] for line in made.events]
    assert "state_incomplete" in names and "windows_start_empty" in names


class Table:
    """A table of limits that is down for one device."""

    down = True

    def read(self, keys: Any) -> dict[Any, Any]:
        if self.down and any(device == "e" for device, _ in keys):
            raise UnavailableError("the table is down")
        return {}


def test_what_was_read_again_is_kept_while_the_batch_waits() -> None:
    """A batch that waits for a limit is tried again in the same sandbox."""
    made, table = Split(P=()), Table()
    for number in (1, 2, 3):
        made.hand(record("P", number))
    made.tear("P", 3)
    made.memories.thresholds = lambda: table  # type: ignore[assignment, return-value]
    held = made.sandbox(now=itertools.count().__next__)
    for _ in range(3):
        answer = made.hand(record("P", 4, "e"), to=held)
        assert answer == {"batchItemFailures": [{"itemIdentifier": "4"}]}
    assert [line["event"] for line in made.events].count("read_again") == 1
    table.down = False
    assert made.hand(record("P", 4, "e"), to=held) == DONE
    assert made.alerts == [("firing", 3, "P:1:0")]


def test_where_the_stream_is_named() -> None:
    assert source_of(event([record("P", 1)])) == ARN
    consumer = {"Records": [{"eventSourceARN": ARN + "/consumer/lambda:1700000000"}]}
    assert source_of(consumer) == ARN
    nothing: tuple[Any, ...] = ({}, {"Records": []}, {"Records": [{}]}, None, {"Records": [7]})
    assert [source_of(given) for given in nothing] == [None] * len(nothing)


def test_events_without_an_arn_take_the_stream_of_the_file() -> None:
    opened: list[str] = []
    made = Split(P=())

    def stream(name: str) -> MemoryStream:
        opened.append(name)
        return made.stream

    given = event([record("P", 1)])
    del given["Records"][0]["eventSourceARN"]
    with pytest.raises(InputError, match="eventSourceARN"):
        made.sandbox(stream=stream)(given, None)
    named = specs.parse(TOML + '[source]\nstream = "telemetry"\n')
    Handler(named, made.memories, stream=stream, log=lambda event, **_: None)(given, None)  # type: ignore[arg-type]
    assert opened == ["telemetry"]
