"""The newest state of a shard that can be read: a full state object and the deltas after it.

Generations are full or deltas. A chain begins with a full one; where an object of it cannot be
read, what lies before that one still can: the shard is read again from there, with the same answer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from ..engine import state
from ..engine.errors import StateError
from ..engine.pipeline import Pipeline
from ..engine.state import StateStore
from .shard import Log

FULL_EVERY = 64  # generations: so many objects are read at most, where all are well
FULL_KEPT = 3  # full ones that are kept, with what follows them


class Recalled(NamedTuple):
    """A pipeline with its memory, the generation it is of, and the full ones known of."""

    pipeline: Pipeline
    generation: int
    full: list[int]


def recall(
    states: StateStore,
    name: str,
    shard_id: str,
    generations: Sequence[int],
    plan: Callable[[], Pipeline],
    log: Log,
) -> Recalled | None:
    """The longest readable chain that ends at the newest generation possible; None: there is none.

    Args:
        states: the store. name: of the pipeline. shard_id: the shard.
        generations: those that there are, ascending. plan: makes an empty pipeline.
        log: told what cannot be read.
    """
    later: list[bytes] = []  # deltas, the newest first
    newest = generations[-1] if generations else 0
    for generation in reversed(generations):
        try:
            data = states.read(name, shard_id, generation)
            kind, _ = state.decode(data)
            if kind != "full":
                later.append(data)
                continue
            pipeline = plan()
            changed = pipeline.restore([data, *reversed(later)])
        except StateError as error:
            log("state_unreadable", shard=shard_id, generation=generation, cause=str(error))
            later, newest = [], generation - 1
            continue
        if pipeline.removed:
            log("rules_removed", shard=shard_id, devices_firing=pipeline.removed)
        if changed:
            log("rules_start_empty", shard=shard_id, rules=changed)
        return Recalled(pipeline, newest, [generation])
    if generations:
        log("state_incomplete", shard=shard_id, unreadable=list(generations))
    return None
