"""The fan-out mode in Lambda: whatever dies, fails or comes again, the alerts of the oracle."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest
from drawn_panes import PLAIN, SHAPES, START, TOML, Sent, reading, setup_of, streams, told
from effort import examples
from fan_drive import LAMBDA, Fan
from hypothesis import given, settings
from hypothesis import strategies as st
from plain_panes import PANE, PlainPanes, order

from streamgauge.consumers.lambda_chunks import restore

END = 600_000  # ms after START, when each shard tells its last


def ended(sent: Sent, at: int = END) -> Sent:
    """The same, and one more record of each shard, which all that was before lies before."""
    return {
        shard: [*rows, (json.dumps(
            {"device": f"end-{shard}", "ts": START + at, "v": 0.0}).encode(), START + at)]
        for shard, rows in sent.items()
    }  # fmt: skip


def wanted(shape: dict[str, Any], sent: Sent, until: int = END) -> tuple[list[Any], list[bytes]]:
    """What the oracle says: alerts of all windows that can be evaluated, and late payloads."""
    oracle = PlainPanes(setup_of(shape))
    for rows in sent.values():
        oracle.shard(rows)
    last = (START + until - shape["lateness"] * 1000 - 1) // PANE * PANE
    alerts = [row for row in oracle.alerts(last) if abs(row[3]) != float("inf")]
    return order(alerts), sorted(oracle.late)


def compare(fan: Fan, shape: dict[str, Any], sent: Sent, until: int = END) -> None:
    alerts, late = wanted(shape, sent, until)
    assert told(fan.told) == alerts
    assert fan.rejected == late
    cut = fan.cut_once()
    for shard, records in fan.source.records.items():  # each record in one chunk, in its order
        assert cut.get(shard, []) == [record.sequence_number for record in records]


def a_stream(seed: int, shards: int = 2, many: int = 60) -> Sent:
    """Devices over shards, with values that go up and down; some are late."""
    draw = random.Random(seed)
    found: Sent = {}
    for shard in range(shards):
        second, rows = 0.0, list[tuple[bytes, int | None]]()
        for _ in range(many):
            second += 40 / many
            behind = draw.choice([0, 0, 0, 0.4, 3, 12])
            value = draw.choice([19.0, 20.5, 22.5, 24.25])
            rows.append(reading(f"d{draw.randrange(5)}", second - behind, value, second))
        found[f"shardId-{shard:012}"] = rows
    return ended(found)


@settings(max_examples=examples(60), deadline=None)
@given(SHAPES, streams(), st.integers(0, 10**6), st.sampled_from([1, 1, 4]))
def test_every_order_of_delivery_gives_the_oracle_s_alerts(
    shape: dict[str, Any], sent: Sent, seed: int, size: int
) -> None:
    sent = ended(sent)
    fan = Fan(TOML.format(**shape) + LAMBDA, sent, seed, size)
    fan.run()
    compare(fan, shape, sent)


FAULTS = dict(refused=0.1, lost=0.1, broken=0.1, late=0.05, split=0.02, merged=0.02)


@pytest.mark.parametrize("seed", range(examples(12)))
def test_whatever_dies_and_fails_the_alerts_are_the_oracle_s(seed: int) -> None:
    """Functions are killed at any call, workers fail, the panes stream refuses and is resharded."""
    sent = a_stream(seed)
    fan = Fan(TOML.format(**PLAIN) + LAMBDA, sent, seed, **FAULTS)
    fan.deadly, fan.failing = 0.05, 0.1
    fan.run()
    assert len(wanted(PLAIN, sent)[0]) > 10
    compare(fan, PLAIN, sent)


PARENTS = {"shardId-000000000002": (0,), "shardId-000000000003": (0,),
           "shardId-000000000004": (1, 3), "shardId-000000000005": (4,)}  # fmt: skip


@pytest.mark.parametrize("seed", range(examples(8)))
def test_the_source_is_resharded_under_them(seed: int) -> None:
    """Split and merged, with shards in which nothing lay; the oracle knows of no parents."""
    draw = random.Random(seed)
    parents = {name: tuple(f"shardId-{n:012}" for n in of) for name, of in PARENTS.items()}
    whole = a_stream(seed, 6, 25)
    leaves = {"shardId-000000000002", "shardId-000000000005"}
    sent = {name: rows if name in leaves else rows[:-1] for name, rows in whole.items()}
    empty = draw.choice([name for name in sent if name not in leaves])
    sent[empty] = []
    fan = Fan(TOML.format(**PLAIN) + LAMBDA, sent, seed, parents=parents, **FAULTS)
    fan.deadly, fan.failing = 0.02, 0.05
    fan.run()
    assert len(wanted(PLAIN, sent)[0]) > 10
    compare(fan, PLAIN, sent)
    objects = {name: fan.store._objects["panes", f"chunks-{name}"] for name in {*sent} - {empty}}
    closed = {name for name, of in objects.items() if restore(of[max(of)]).closed}
    assert closed == set(sent) - leaves - {empty}


def test_a_child_that_says_nothing_yet_holds_all_windows_back() -> None:
    """Of a split, one half has told its time and the other may still hold anything."""
    sent = a_stream(1, 3, 20)
    names = list(sent)
    sent[names[0]] = sent[names[0]][:-1]
    parents = dict.fromkeys(names[1:], (names[0],))
    fan = Fan(TOML.format(**PLAIN) + LAMBDA, sent, parents=parents)
    assert fan.give(names[0], 100) == 20 and fan.give(names[1], 100) == 21
    while fan.unread:
        fan.merge_some()
    assert fan.told == []
    assert fan.said("held_back")[-1]["shard"] == names[2]
    fan.run()
    compare(fan, PLAIN, sent)


def test_the_panes_stream_can_be_resharded_at_any_time() -> None:
    """Each merger goes with its records, from shard to shard, and its memory is never cut."""
    sent = a_stream(7)
    fan = Fan(TOML.format(**PLAIN) + LAMBDA, sent, 7, shards=1)
    for _ in range(12):
        fan.give(fan.random.choice(fan.undone), 8)
        fan.kinesis.split() if fan.random.random() < 0.6 else fan.kinesis.merge()
        fan.merge_some(cold=True)
    fan.run()
    holders = {(one.record.partition_key, one.shard) for one in fan.kinesis.committed}
    assert len(holders) > 8 and len({key for key, _ in holders}) == 3
    compare(fan, PLAIN, sent)


@pytest.mark.parametrize("seed", range(examples(8)))
def test_behind_a_state_that_cannot_be_read_the_panes_stream_is_read_again(seed: int) -> None:
    """Also when it was resharded since, and while other things fail."""
    sent = a_stream(seed)
    fan = Fan(TOML.format(**PLAIN) + LAMBDA, sent, seed, **FAULTS)
    fan.deadly, fan.tearing = 0.02, 0.3
    fan.run(cold=0.6)
    assert fan.said("read_again") and fan.said("state_unreadable")
    compare(fan, PLAIN, sent)
