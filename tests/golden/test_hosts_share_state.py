"""One state location, two hosts: a shard goes from Lambda to the local host and back."""

from __future__ import annotations

import itertools
import random
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
from streamgauge.consumers.metrics import Metrics
from streamgauge.consumers.recall import FULL_EVERY, FULL_KEPT
from streamgauge.consumers.shard import Host, Shard
from streamgauge.engine import state
from streamgauge.rules import spec as specs
from streamgauge.rules.plan import Pipeline as Planned


class Local:
    """The local host over the same edges, one shard at a time."""

    def __init__(self, memories: Memories, save_seconds: float = 0.0) -> None:
        self.clock = 0.0
        self.events: list[dict[str, Any]] = []
        spec = specs.parse(TOML)
        self.host = Host(
            pipeline="torture", reader=memories.stream, alerts=memories.sink,
            plan=lambda: Planned.plan(spec, memories.thresholds(), one_shard=True),
            errors=memories.rows, states=memories.store, save_seconds=save_seconds,
            observe=lambda outcome: None, metrics=Metrics(), now=lambda: self.clock,
            log=lambda event, **fields: self.events.append({"event": event, **fields}),
            random=lambda: 0.0,
        )  # fmt: skip

    def read(self, shard_id: str) -> Shard:
        """From the last state to all that has arrived, and an orderly end."""
        shard = Shard(shard_id, self.host)
        while not (shard.at_tip and shard.idle):
            self.clock = max(self.clock, shard.ready_at)
            shard.step()
            if shard.at_tip:
                shard.finish()
        return shard


@pytest.mark.parametrize(
    "seed", [0, *(pytest.param(n, marks=pytest.mark.slow) for n in range(1, 6))]
)
@pytest.mark.parametrize("aggregated", [False, True], ids=["as told", "aggregated"])
def test_the_alerts_are_the_oracle_s_whoever_reads(seed: int, aggregated: bool) -> None:
    rng = random.Random(seed)
    memories, records = Memories(), packed(9) if aggregated else told()
    memories.stream = streamed(records, arrived=dict.fromkeys(in_shards(records), 0))
    for shard_id, of in in_shards(records).items():
        at, lambda_next = 0, rng.random() < 0.5
        while at < len(of):
            end = min(len(of), at + rng.randrange(1, len(of) // 4))
            if lambda_next:
                drained(lambda: fresh(memories), of[at:end], rng.choice([1, 7]), cold=at % 2 == 0)
            else:
                memories.stream.arrived[shard_id] = end
                Local(memories, rng.choice([0.0, 1000.0])).read(shard_id)
            at, lambda_next = end, not lambda_next
    compare(memories, records)


def kinds(memories: Memories, shard_id: str) -> dict[int, str]:
    store = memories.store
    return {
        number: state.decode(store.read("torture", shard_id, number))[0]
        for number in store.generations("torture", shard_id)
    }


def test_no_delta_loses_what_it_stands_on() -> None:
    """Whoever removes old objects keeps the last full ones and all that follows them."""
    memories, (of, *_) = Memories(), in_shards(packed(1)).values()
    memories.stream = streamed(of, arrived={of[0].shard: 0})
    shard_id, at = of[0].shard, 0
    for turn in range(8):
        for one in of[at : at + 3]:
            drained(lambda: fresh(memories), [one], 1)
        at += 3
        if turn % 2:
            at += 3
            memories.stream.arrived[shard_id] = at
            Local(memories).read(shard_id)
        found = kinds(memories, shard_id)
        assert list(found) == list(range(min(found), max(found) + 1))
        assert found[min(found)] == "full"
        assert list(found.values()).count("full") <= FULL_KEPT
    assert "delta" in found.values() and 1 not in found


@pytest.mark.slow
def test_sandboxes_that_live_shortly_leave_no_more_behind() -> None:
    """Each knows of the full objects before its time, for the last one notes them."""
    memories, (of, *_) = Memories(), in_shards(packed(1)).values()
    repeated = itertools.islice(itertools.cycle(of), 5 * FULL_EVERY)
    for number, one in enumerate(repeated):
        if number % 10 == 0:
            held = fresh(memories)
        assert held(event([one]), None) == {"batchItemFailures": []}
    found = kinds(memories, of[0].shard)
    assert list(found.values()).count("full") == FULL_KEPT
    assert len(found) <= FULL_KEPT * FULL_EVERY


def halves(torn: list[int]) -> tuple[Memories, list[Kinesis], Local]:
    """Five objects by Lambda, some of them torn; then the local host reads on."""
    memories, (of, *_) = Memories(), in_shards(told()).values()
    memories.stream = streamed(of)
    drained(lambda: fresh(memories), of[:50], 10, cold=True)
    objects = memories.store._objects["torture", of[0].shard]
    for number in torn:
        objects[number] = objects[number][:-1]
    return memories, of, Local(memories)


def told_again(memories: Memories) -> list[str]:
    ids = [row.id for row in memories.sink.rows if isinstance(row, Alert)]
    return [one for number, one in enumerate(ids) if one in ids[:number]]


ALSO = [pytest.param(torn, marks=pytest.mark.slow) for torn in ([4, 5], [2], [3])]


@pytest.mark.parametrize("torn", [[5], [1], [2, 4], *ALSO], ids=str)
def test_behind_a_torn_object_nothing_changes(torn: list[int]) -> None:
    memories, of, local = halves(torn)
    local.read(of[0].shard)
    compare(memories, of)
    unreadable = [line for line in local.events if line["event"] == "state_unreadable"]
    assert [line["generation"] for line in unreadable] == sorted(torn, reverse=True)


def test_what_a_later_object_vouches_for_is_not_told_again() -> None:
    """The second of five is torn: the last one says how far the sinks had everything."""
    memories, of, local = halves([2])
    before = len(memories.sink.rows), len(memories.rows.rows)
    local.read(of[0].shard)
    assert told_again(memories) == []
    places = [str(row.at) for row in memories.rows.rows]  # type: ignore[union-attr]
    assert len(set(places[before[1] :]) & set(places[: before[1]])) == 0
    compare(memories, of)


def test_what_nobody_vouches_for_is_told_again_with_the_same_ids() -> None:
    """How far the sinks had everything stood in the object that is torn."""
    memories, of, local = halves([3, 4, 5])
    local.read(of[0].shard)
    assert told_again(memories)
    compare(memories, of)
