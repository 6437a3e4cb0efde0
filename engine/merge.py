"""Two memories as one: what a shard begins with that two others were merged into.

Each device goes on with one of them, whole: its windows and alert states are never mixed. A memory
can hold devices that live elsewhere by now, for both children of a shard that was split begin with
all that it knew. Which copy holds is told by where the device was last heard:

    heard last in a shard that the other memory goes back to, too    the other knows better: it
                                                                     has heard the device since,
                                                                     or forgotten it by right
    otherwise                                                        the later arrival
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from .batch import SUB_BITS, Bools, Ints

Body = Mapping[str, Any]  # of a full state object, as memory.py has it


def delta_over(one: Body, other: Body) -> dict[str, Any]:
    """`other` as the body of a delta which, laid over `one`, gives both.

    Both are full, of the same pipeline, and as this version writes them. Of equal arrival the
    device goes on as in `one`.
    """
    places = {name: place for place, name in enumerate(one["devices"])}
    partner = np.fromiter(
        (places.get(name, -1) for name in other["devices"]), np.int64, len(other["devices"])
    )
    shared = np.flatnonzero(partner >= 0)
    outdated, outdated_one = _outdated(other, one), _outdated(one, other)
    taken = ~outdated
    there = partner[shared]
    later = other["seen"][shared] > one["seen"][there]
    differ = outdated[shared] != outdated_one[there]
    taken[shared] = np.where(differ, outdated_one[there], later)
    outdated_one[there] = False  # not gone: one of the two copies holds
    lift = one["next"]
    return {
        "next": lift + other["next"],
        "positions": {**one["positions"], **other["positions"]},
        "shard_time": max(one["shard_time"], other["shard_time"]),
        "gone": [one["devices"][place] for place in np.flatnonzero(outdated_one).tolist()],
        "devices": [other["devices"][place] for place in np.flatnonzero(taken).tolist()],
        "seen": other["seen"][taken],
        "since": other["since"][taken] + (lift << SUB_BITS),
        "homes": other["homes"],
        "home": other["home"][taken],
        "log": [{**part, "numbers": part["numbers"] + lift} for part in other["log"]],
        "rules": {name: _rule(rule, taken, lift) for name, rule in other["rules"].items()},
    }


def _outdated(body: Body, other: Body) -> Bools:
    """Devices that were last heard in a shard which the other memory goes back to; (devices,)."""
    known = np.fromiter((shard in other["positions"] for shard in body["homes"]), np.bool_)
    return known[body["home"]]


def _rule(rule: Body, taken: Bools, lift: int) -> dict[str, Any]:
    """What is saved of one rule, of the devices taken, with records numbered from `lift` on."""
    samples = rule["samples"]
    kept = taken[samples["device"]]
    number: Ints = np.cumsum(taken) - 1
    rows: dict[str, Any] = {name: column[kept] for name, column in samples.items()}
    rows["device"] = number[rows["device"]].astype(np.int32)
    rows["serial"] = rows["serial"] + (lift << SUB_BITS)
    columns = {
        name: column[taken]
        for name, column in rule.items()
        if isinstance(column, np.ndarray)  # one value for each device
    }
    return {**columns, "fingerprint": rule["fingerprint"], "samples": rows}
