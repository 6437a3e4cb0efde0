"""Streams and limits for the simulation, drawn from a seed."""

from __future__ import annotations

import itertools
import random
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import drive
import generate
import memory_stream
from generate import Plan
from simulation import Simulation

Kind = TypeVar("Kind", bound=Simulation)


def generated(seed: int, kind: type[Kind] = Simulation) -> Kind:  # type: ignore[assignment]
    """A simulation of a stream drawn from the seed: a few devices, much of it out of order."""
    rng = random.Random(seed)
    scale = rng.choice([10, 1000, 60_000])
    rules = tuple(
        generate.rule_text(
            number, length, rng.choice(generate.STATISTICS), rng.choice(["above", "below"]),
            rng.choice([90.0, 71.5, 93.12]), rng.choice([0.0, 2.0]), rng.randint(1, 3),
            rng.choice([0, 0, scale]), "", "#",
        )
        for number, length in enumerate((scale, 3 * scale))
    )  # fmt: skip
    plan = Plan(scale, (scale, 3 * scale), scale, rules, arrivals=True, skew=3 * scale)
    items = [
        {"device": "a", "rule": "rule0", "value": 71.5, "version": 1},
        {"device": "a", "rule": "rule0", "value": 95.0, "version": 2,
         "effective_from": generate.START + 5 * scale},
        {"device": "7", "rule": "rule1", "value": 60.0, "clear_margin": 1.0},
    ]  # fmt: skip
    drawn = (
        generate.seeded(seed + 1_000_000 * turn, devices=4, count=40, plan=plan, odd=0.3, shards=2)
        for turn in itertools.count()
    )
    case = next(case for case in drawn if has_ids_of_its_own(case, items))
    records = memory_stream.by_shard(given for batch in case.batches for given in batch)
    toml = case.toml + '[thresholds]\ntable = "thresholds"\nrefresh = "1s"\n'
    return kind(seed, toml, records, items)


def has_ids_of_its_own(case: generate.Case, items: Sequence[Mapping[str, Any]]) -> bool:
    """Not so where a device is forgotten and comes back with the very times of its old alerts."""
    alerts = drive.oracle_of(case.toml, items, case.batches).alerts
    changes = [tuple(alert[key] for key in ("rule", "device", "state", "time")) for alert in alerts]
    return len(set(changes)) == len(changes)
