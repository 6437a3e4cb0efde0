"""Small objects of closed hours merged into larger ones, which can be stopped at any point.

For each shard and hour, neighbours by position are merged into one object that is named by the
first and the last position of all; when it is written, they are removed. Between the two a position
lies in both: our own readers take it once, and the next run removes what is left, for an object
that lies within another one has nothing of its own (archive_objects.py). Nothing is ever missing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby

from ..folder import Place
from . import archive_objects as objects
from .archive_making import Making
from .archive_objects import UNDATED, Form, Held

CLOSED_AFTER_MS = (
    3_600_000  # after an hour's end: records come that late to a consumer that is well
)
_HOUR_MS = 3_600_000


@dataclass
class Merge:
    """What became of one shard and hour."""

    pipeline: str
    hour: str
    shard: str
    before: int  # objects
    after: int
    bytes: int  # of those written


def closed(hour: str, now_ms: int) -> bool:
    """Whether an hour is over for so long that what arrived in it is archived.

    Rows without an arrival time have no hour: theirs is never closed.
    """
    if hour == UNDATED:
        return False
    start = datetime.fromisoformat(f"{hour}:00:00+00:00").timestamp() * 1000
    return now_ms >= start + _HOUR_MS + CLOSED_AFTER_MS


def compact(
    place: Place, held: Iterable[Held], form: Form | None, max_bytes: int
) -> Iterator[Merge]:
    """Merge objects, those of one shard and hour at a time; tells each that has changed.

    Args:
        place: where they lie. held: objects of closed hours, none of them staged.
        form: of those written; None: that of the first one merged.
        max_bytes: objects are merged until they have as much, compressed.

    Raises:
        UnavailableError: it was refused; run it again.
        InputError: an object is none of an archive.
    """
    by_hour = sorted(held, key=lambda one: (one.pipeline, one.hour, one.shard))
    for (pipeline, hour, shard), group in groupby(
        by_hour, key=lambda one: (one.pipeline, one.hour, one.shard)
    ):
        there = sorted(group, key=lambda one: (one.first, (-one.last[0], -one.last[1])))
        kept, inside = _outer(there)
        if inside:
            place.delete([one.name for one in inside])
        written, after = 0, len(kept)
        folder = f"{objects.partition(pipeline, hour)}{shard}-"
        for parts in _groups(kept, max_bytes):
            made = _merged(place, parts, folder, form or parts[0].form)
            after += len(made) - len(parts)
            written += sum(one.size for one in made)
        if inside or written:
            yield Merge(pipeline, hour, shard, len(there), after, written)


def _outer(there: Sequence[Held]) -> tuple[list[Held], list[Held]]:
    """Objects by first position, those that lie within another one apart."""
    kept: list[Held] = []
    inside: list[Held] = []
    for one in there:
        within = kept and one.last <= kept[-1].last
        (inside if within else kept).append(one)
    return kept, inside


def _groups(kept: Sequence[Held], max_bytes: int) -> Iterator[list[Held]]:
    """Neighbours to be merged: as many as come to `max_bytes`, and always those that overlap."""
    group: list[Held] = []
    for one in kept:
        full = sum(part.size for part in group) + one.size > max_bytes
        if group and full and one.first > group[-1].last:
            if len(group) > 1:
                yield group
            group = []
        group.append(one)
    if len(group) > 1:
        yield group


def _merged(place: Place, parts: Sequence[Held], folder: str, form: Form) -> list[Held]:
    """Write one object in place of some, then remove them."""
    making = Making(place, parts, folder, form)
    while not making.step():
        pass
    names = [one.name for one in parts]
    assert not {one.name for one in making.made} & set(names), "no part holds all that is made"
    place.delete(names)
    return making.made
