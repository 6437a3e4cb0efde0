"""What a shard begins with that others were split or merged into: the last states of these."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from ..engine.pipeline import Pipeline
from ..engine.state import StateStore
from .recall import Recalled, recall

Log = Callable[..., None]


def ancestors(
    states: StateStore,
    name: str,
    shard_id: str,
    parents: Mapping[str, Sequence[str]],
    plan: Callable[[], Pipeline],
    log: Log,
) -> dict[str, tuple[Recalled, bool]]:
    """The newest state of each parent, and whether that is its last.

    It is not where a later object cannot be read: what lies between is still to be read again. A
    parent that has no object had no record that anyone handled: its own parents stand in its place.
    One whose objects are all unreadable is missing here, which the log tells twice:
    `state_incomplete` of the parent, `windows_start_empty` of the child.

    Args:
        states: the store. name: of the pipeline. shard_id: the child.
        parents: of each shard, as far as they are known.
        plan: makes an empty pipeline. log: told what cannot be read.
    """
    found: dict[str, tuple[Recalled, bool]] = {}
    waiting, seen = list(parents.get(shard_id, ())), {shard_id}
    while waiting:
        parent = waiting.pop(0)
        if parent in seen:
            continue
        seen.add(parent)
        generations = states.generations(name, parent)
        if not generations:
            waiting += parents.get(parent, ())
            continue
        recalled = recall(states, name, parent, generations, plan, log)
        if recalled is None:
            log("windows_start_empty", shard=shard_id, parent=parent)
        else:
            found[parent] = recalled, recalled.generation == generations[-1]
    return found


def joined(parents: Sequence[Pipeline], plan: Callable[[], Pipeline]) -> Pipeline:
    """The pipeline that a child begins with: empty, its parent's, or that of both together."""
    if not parents:
        return plan()
    first, *more = parents
    for other in more:
        both = plan()
        both.inherit(first, other)
        first = both
    return first
