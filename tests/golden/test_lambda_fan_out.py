"""The fan-out mode in Lambda: whatever dies, fails or comes again, the alerts of the oracle."""

from __future__ import annotations

import json
from typing import Any

import pytest
from drawn_panes import PLAIN, SHAPES, START, TOML, Sent, reading, setup_of, streams, told
from effort import examples
from fan_drive import LAMBDA, Fan
from hypothesis import given, settings
from hypothesis import strategies as st
from plain_panes import PANE, PlainPanes, order

END = 120_000  # ms after START, when each shard tells its last


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


def a_stream(seed: int, shards: int = 2, many: int = 60) -> Sent:
    """Devices over shards, with values that go up and down; some are late."""
    import random

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
