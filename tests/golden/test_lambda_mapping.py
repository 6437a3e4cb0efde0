"""The handler under a mapping that retries, bisects, kills sandboxes, and cuts into lanes."""

from __future__ import annotations

import random
from typing import Any

import pytest
from lambda_drive import Memories, compare, event, fresh, in_shards, packed, told
from lambda_mapping import Mapping, TimedOut
from plain_kpl import Kinesis

from streamgauge.consumers import lambda_handler
from streamgauge.consumers.lambda_handler import Handler
from streamgauge.engine.errors import OrderError, UnavailableError

HARSH = 0.35  # of the effects of a run that fail, or kill the sandbox


class Places:
    """Sinks and states that fail, or kill the sandbox, before or after their effect."""

    def __init__(self, memories: Memories, seed: int) -> None:
        self.memories, self.draw = memories, random.Random(seed)

    def disturbed(self) -> Handler:
        """A sandbox; some of its effects will fail."""
        held = fresh(self.memories, now=iter(range(10**9)).__next__)
        for name, method in (("_alerts", "deliver"), ("_errors", "deliver"), ("_states", "create")):
            setattr(held, name, Failing(getattr(held, name), method, self.draw))
        return held


class Failing:
    def __init__(self, of: Any, method: str, draw: random.Random) -> None:
        self._of, self._method, self._draw = of, method, draw

    def __getattr__(self, name: str) -> Any:
        call = getattr(self._of, name)
        if name != self._method or self._draw.random() > HARSH:
            return call
        error = self._draw.choice([TimedOut("timeout"), RuntimeError("a bug"),
                                   UnavailableError("refused")])  # fmt: skip
        after = self._draw.random() < 0.5

        def failing(*given: Any, **more: Any) -> Any:
            if after:
                call(*given, **more)
            raise error

        return failing


@pytest.mark.parametrize("bisect", [True, False], ids=["bisect", "whole"])
@pytest.mark.parametrize(
    "aggregated", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["plain", "aggregated"]
)
def test_under_timeouts_errors_and_partial_answers(aggregated: bool, bisect: bool) -> None:
    """Every record is applied once; of K13 the mapping gives nothing up."""
    memories = Memories()
    records = packed(5) if aggregated else told()
    mapping = Mapping(Places(memories, 7).disturbed, batch_size=40, bisect=bisect)
    for of in in_shards(records).values():
        mapping.drain(of)
    kinds = {type(error) for error in mapping.errors}
    assert {TimedOut, RuntimeError} <= kinds and mapping.given_up == []
    compare(memories, records)


def test_what_no_try_mends_goes_to_the_destination_and_the_shard_goes_on() -> None:
    """A record that kills the handler alone: bisecting finds it, what stands beside it is done."""
    memories, (of, *_) = Memories(), list(in_shards(told()).values())
    poison = of[60]

    def make() -> Any:
        held = fresh(memories)

        def handle(given: Any, context: Any) -> Any:
            if any(one["kinesis"]["sequenceNumber"] == poison.sequence for one in given["Records"]):
                raise TimedOut("out of memory")
            return held(given, context)

        return handle

    mapping = Mapping(make, batch_size=40, retries=2)
    mapping.drain(of)
    assert mapping.given_up == [[poison]]
    compare(memories, [one for one in of if one is not poison])


def of_keys(number: int) -> list[Kinesis]:
    """A shard of several outer keys."""
    data = b'{"device": "d%d", "ts": %d, "value": 1}'
    return [Kinesis("s", str(n), data % (n % 7, 1_700_000_000_000 + n), f"key-{n % 7}", None)
            for n in range(1, number + 1)]  # fmt: skip


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("warm", [True, False], ids=["one sandbox", "many"])
def test_a_factor_above_one_is_named_and_no_record_is_skipped(seed: int, warm: bool) -> None:
    memories = Memories()
    memories.stream.records["s"] = []
    counted: list[dict[str, Any]] = []

    def log(event: str, **fields: Any) -> None:
        counted.append(fields | {"event": event})

    one = fresh(memories, log=log)
    make = (lambda: one) if warm else (lambda: fresh(memories, log=log))
    mapping = Mapping(make, batch_size=10, lanes=3, retries=0, bisect=False, seed=seed)
    mapping.drain(of_keys(300))
    lost = [record for batch in mapping.given_up for record in batch]
    applied = sum(line["records"] for line in counted if line["event"] == "invoked")
    assert lost and applied + len(lost) == 300
    assert {type(error) for error in mapping.errors} == {OrderError}
    assert "ParallelizationFactor 1" in str(mapping.errors[0])
    told_lines = [line["cause"] for line in counted if line["event"] == "out_of_order"]
    assert told_lines == [str(error) for error in mapping.errors]


def test_lanes_that_run_at_once_fence_each_other_and_are_named() -> None:
    memories = Memories()
    memories.stream.records["s"] = []
    events: list[dict[str, Any]] = []
    records = of_keys(40)
    lanes = [[one for one in records if (one.key < "key-3") is low] for low in (True, False)]
    first, second = (
        fresh(memories),
        fresh(memories, log=lambda e, **f: events.append(f | {"event": e})),
    )
    create = second._states.create

    def overtaken(*given: Any) -> None:
        second._states.create = create  # type: ignore[method-assign]
        assert first(event(lanes[0]), None) == {"batchItemFailures": []}
        create(*given)

    second._states.create = overtaken  # type: ignore[method-assign]
    answer = second(event(lanes[1]), None)
    assert answer == {"batchItemFailures": [{"itemIdentifier": lanes[1][0].sequence}]}
    (line,) = [line for line in events if line["event"] == "fenced"]
    assert "ParallelizationFactor 1" in line["hint"]
    with pytest.raises(OrderError, match=f"record {lanes[1][0].sequence} "):
        second(event(lanes[1]), None)


def test_numbers_out_of_order_within_a_batch_are_named() -> None:
    memories = Memories()
    memories.stream.records["s"] = []
    one, two, three = of_keys(3)
    with pytest.raises(OrderError, match="record 2 comes after later ones"):
        fresh(memories)(event([one, three, two]), None)
    assert memories.store.generations("torture", "s") == []


def test_what_was_not_done_in_time_and_is_overtaken_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(lambda_handler, "PIECE_RECORDS", 2)
    memories = Memories()
    memories.stream.records["s"] = []
    records = of_keys(6)
    answer = fresh(memories, now=iter(range(10**9)).__next__)(event(records[:4]), Short())
    assert answer == {"batchItemFailures": [{"itemIdentifier": records[2].sequence}]}
    fresh(memories)(event(records[4:]), None)
    with pytest.raises(OrderError, match=f"record {records[2].sequence} "):
        fresh(memories)(event(records[2:4]), None)


class Short:
    """The context of an invocation that has time for a piece, and no more."""

    def get_remaining_time_in_millis(self) -> int:
        return 5001
