"""An archive read back: what was read from the stream, by position, each position once.

Objects may overlap (after a restart, or while they are being merged), and the rows of two hours may
be interleaved, for arrival times do not ascend strictly with positions. So objects that overlap are
merged by position; one that overlaps none, as nearly all, is handed on as it is.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from itertools import chain, islice

from .. import files
from ..errors import InputError, UnavailableError
from ..folder import Place
from ..records import Opened
from . import archive_objects as objects
from .archive_making import read
from .archive_objects import STAGED, Held, Order
from .archive_rows import BLOCK_ROWS, ArchiveRow, opened_of

LOOKS_MAX = 10  # for the objects that have taken the place of one that was listed


def pipelines(place: Place) -> list[str]:
    """The pipelines that an archive has objects of, as one part of a name each."""
    return sorted({one.pipeline for one in objects.known(place.sizes(""))})


def holds(place: Place, pipeline: str) -> bool:
    """Whether there is anything of a pipeline (one part of a name); looks no further."""
    return any(
        next(objects.known(place.sizes(below)), None) is not None
        for below in (f"{pipeline}/", f"{STAGED}/{pipeline}/")
    )


def listed(place: Place, pipeline: str) -> list[Held]:
    """All objects of a pipeline (one part of a name); staged ones are looked for first.

    So what is rolled meanwhile is seen once, or twice, and is never missed.
    """
    staged = list(objects.known(place.sizes(f"{STAGED}/{pipeline}/")))
    return staged + list(objects.known(place.sizes(f"{pipeline}/")))


def read_archive(place: Place, pipeline: str) -> Iterator[Opened]:
    """What was read of a pipeline's stream, shard after shard, each by position.

    A shard comes after those that it was split or merged from, as its first position is greater.
    Memory is bounded by the objects that overlap.

    Args:
        place: the archive's location. pipeline: its name.

    Raises:
        InputError: an object is none of an archive; names it.
        UnavailableError: the location cannot be read.
    """
    segment = files.segment(pipeline)
    shards: dict[str, list[Held]] = {}
    for one in listed(place, segment):
        shards.setdefault(one.shard, []).append(one)
    for held in sorted(shards.values(), key=lambda held: min(one.first for one in held)):
        for run in _runs(sorted(held, key=lambda one: (one.first, one.last))):
            yield from _read(place, run)


def _runs(held: Sequence[Held]) -> Iterator[list[Held]]:
    """Objects by position, those together that overlap one another."""
    run: list[Held] = []
    end: Order = (-1, -1)
    for one in held:
        if run and one.first > end:
            yield run
            run = []
        run.append(one)
        end = max(end, one.last)
    if run:
        yield run


def _read(place: Place, run: Sequence[Held]) -> Iterator[Opened]:
    if len(run) == 1:
        for block in _blocks(place, run[0]):
            yield from opened_of(block)
        return
    merged = _once(place, run)
    while block := list(islice(merged, BLOCK_ROWS)):
        yield from opened_of(block)


def _once(place: Place, run: Sequence[Held]) -> Iterator[ArchiveRow]:
    """The rows of objects that overlap, by position; an object is opened when it is needed."""
    waiting = list(reversed(run))
    open_: list[tuple[Order, int, ArchiveRow, Iterator[ArchiveRow]]] = []
    last: Order | None = None
    while open_ or waiting:
        if waiting and (not open_ or waiting[-1].first <= open_[0][0]):
            rows: Iterator[ArchiveRow] = chain.from_iterable(_blocks(place, waiting.pop()))
            number = len(waiting)
        else:
            order, number, row, rows = heapq.heappop(open_)
            if last is None or order > last:
                last = order
                yield row
        following = next(rows, None)
        if following is not None:
            heapq.heappush(open_, (following.order, number, following, rows))


def _blocks(place: Place, one: Held) -> Iterator[list[ArchiveRow]]:
    """The rows of one object, or of those that have taken its place since it was listed."""
    data = place.get(one.name)
    if data is not None:
        yield from read(one, data)
        return
    for _ in range(LOOKS_MAX):
        found = _instead(place, one)
        if found is None:
            continue
        for rows in found:
            yield [row for row in rows if one.first <= row.order <= one.last]
        return
    raise UnavailableError(f"{place.url(one.name)}: it is gone, and so is what took its place")


def _instead(place: Place, gone: Held) -> list[list[ArchiveRow]] | None:
    """The rows of all objects that overlap one which is gone; None: one of them is gone, too."""
    folder = f"{objects.partition(gone.pipeline, gone.hour)}{gone.shard}-"
    there = [one for one in objects.known(place.sizes(folder)) if one.shard == gone.shard]
    there = [one for one in there if one.first <= gone.last and gone.first <= one.last]
    if not there:
        raise InputError(f"{place.url(gone.name)}: it is gone, and nothing holds its rows")
    found: list[list[ArchiveRow]] = []
    for one in there:
        data = place.get(one.name)
        if data is None:
            return None
        found += read(one, data)
    rows = {row.order: row for rows in found for row in rows}
    return [[rows[order] for order in sorted(rows)]]
