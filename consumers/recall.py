"""The newest state of a shard that can be read: a full state object and the deltas after it.

    generation   1     2      3      4     5      6
                 full  delta  delta  full  delta  delta
                                     `--- what is read: a chain

Both hosts write and read one format: a shard can be handed from one to the other. A chain begins
with a full object; where an object of it cannot be read, or is not there, what lies before that one
still can be: the stream is read again from its position, with the same answer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from ..engine import state
from ..engine.batch import Alert, Forwarded, Position, Rejected
from ..engine.errors import StateError
from ..engine.pipeline import Outcome, Pipeline
from ..engine.state import Decoded, StateStore

FULL_EVERY = 64  # generations: so many objects are read at most, where all are well
FULL_KEPT = 3  # full ones that are kept, with what follows them


class Recalled(NamedTuple):
    """A pipeline with its memory, and the objects that it is made of.

    generation: of the newest of them. full: the numbers of the last full ones that are kept, known
    from what their owners noted. sound: a delta may follow; not so where it would not stand on the
    newest object there is, or on one of another definition of a rule. told: a position up to which
    the sinks have acknowledged everything, though this memory does not go so far; None: not known,
    or no farther. handed: what the newest of the objects notes of a mapping, where Lambda wrote it.
    """

    pipeline: Pipeline
    generation: int
    full: list[int]
    sound: bool
    told: Position | None
    handed: Any = None


def recall(
    states: StateStore,
    name: str,
    shard_id: str,
    generations: Sequence[int],
    plan: Callable[[], Pipeline],
    log: Callable[..., None],
) -> Recalled | None:
    """The longest readable chain that ends at the newest generation possible; None: there is none.

    Args:
        states: the store. name: of the pipeline. shard_id: the shard.
        generations: those that there are, ascending. plan: makes an empty pipeline.
        log: told what cannot be read.
    """
    chain: list[Decoded] = []  # the newest first
    newest = lowest = 0  # its generations
    told: Position | None = None

    def drop(generation: int, cause: str) -> None:
        nonlocal told
        log("state_unreadable", shard=shard_id, generation=generation, cause=cause)
        told = told or _position(chain, shard_id)
        chain.clear()

    for generation in reversed(generations):
        if chain and generation != lowest - 1:
            drop(lowest - 1, "it is not there")
        try:
            chain.append(state.decode(states.read(name, shard_id, generation)))
            newest, lowest = newest if len(chain) > 1 else generation, generation
            if chain[-1][0] == "delta":
                continue
            pipeline = plan()
            changed = pipeline.take_over(chain[::-1])
        except StateError as error:
            drop(generation, str(error))
            continue
        if pipeline.removed:
            log("rules_removed", shard=shard_id, devices_firing=pipeline.removed)
        if changed:
            log("rules_start_empty", shard=shard_id, rules=changed)
        full = [one for one in _earlier(chain[-1]) if one in generations]
        sound = newest == generations[-1] and not changed
        kept = [*full, generation][-FULL_KEPT:]
        return Recalled(pipeline, newest, kept, sound, told, chain[0][1].get("handed"))
    if generations:
        log("state_incomplete", shard=shard_id, unreadable=list(generations))
    return None


def written(full: Sequence[int], generation: int) -> list[int]:
    """The full objects that are kept once one of this number is written."""
    return [*full, generation][-FULL_KEPT:]


def oldest_kept(full: Sequence[int]) -> int | None:
    """The number below which objects can go; None while fewer than FULL_KEPT full ones are known.

    A full object is never removed before the deltas that stand on it.
    """
    return full[0] if len(full) == FULL_KEPT else None


def is_ours(states: StateStore, name: str, shard_id: str, generation: int, data: bytes) -> bool:
    """Whether the newest object, in the way of ours, is our own: written, with the answer lost."""
    if states.generations(name, shard_id)[-1:] != [generation]:
        return False
    try:
        return states.read(name, shard_id, generation) == data
    except StateError:  # removed meanwhile: others have gone on
        return False


def untold(
    outcome: Outcome, told: Position | None
) -> tuple[list[Alert], list[Rejected], list[Forwarded]]:
    """The rows of an outcome that the sinks do not have yet: each list, one for a sink.

    Args:
        outcome: of records of one shard. told: see Recalled.
    """
    if told is None:
        return outcome.alerts, outcome.rejected, outcome.forwarded
    alerts = [row for row in outcome.alerts if _order(row.last_position) > told.order]
    rejected = [row for row in outcome.rejected if row.at.order > told.order]
    return alerts, rejected, [row for row in outcome.forwarded if row.at.order > told.order]


def _order(position: str | None) -> tuple[int, int]:
    """The order of a position as an alert names it."""
    assert position is not None, "an alert of the ordered mode names the sample that caused it"
    _, sequence, sub = position.rsplit(":", 2)
    return int(sequence), int(sub)


def _position(chain: Sequence[Decoded], shard_id: str) -> Position | None:
    """The position of the newest object of a chain that cannot be used."""
    try:
        sequence, sub = chain[0][1]["positions"][shard_id]
        return Position(shard_id, str(int(sequence)), int(sub))
    except (IndexError, KeyError, TypeError, ValueError):
        return None


def _earlier(full: Decoded) -> list[int]:
    """The full objects before this one, as its owner noted them; a version before did not."""
    noted = full[1].get("earlier", [])
    return [one for one in noted if type(one) is int] if type(noted) is list else []
