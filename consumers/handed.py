"""Which Kinesis records a mapping has handed over lately: the proof that none was passed over.

A position says how far a shard is applied, and what lies before it has been. That holds where the
mapping hands over one batch of a shard after the other. With a parallelisation factor above 1 it
cuts the shard's records by their outer partition key into lanes that overtake each other:

    lane a   1   3   5           applied: the position is 5
    lane b     2   4   6         2 and 4 lie before it, and nobody has applied them

So each state object notes a hash of the last numbers handed over. A number between the first of
them and the position that is not among them was passed over: it is no repeat, and may not be
skipped as one.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from ..engine.errors import OrderError

ONE_LANE = "the mapping must have ParallelizationFactor 1, and be the only one of this pipeline"
_CRC = np.dtype("<u4")
BATCHES_MAX = 16  # that are remembered beside the last one,
NUMBERS_MAX = 1000  # and their numbers, 4 bytes each in a state object


class Handed(NamedTuple):
    """The numbers of one batch: the first one, and the CRC-32 of the text of each."""

    first: int
    hashes: tuple[int, ...]


def noted(batches: Sequence[Handed]) -> list[list[Any]]:
    """As it stands in a state object."""
    return [[str(of.first), np.array(of.hashes, _CRC).tobytes()] for of in batches]


def read(found: Any) -> tuple[Handed, ...]:
    """What a state object notes; nothing where another host wrote it, or a version before."""
    try:
        return tuple(
            Handed(int(first), tuple(np.frombuffer(data, _CRC).tolist())) for first, data in found
        )
    except (TypeError, ValueError):
        return ()


def passed_over(known: Sequence[Handed], numbers: Sequence[str], last: int) -> str | None:
    """The first number at or before `last`, the position, that was surely never handed over.

    None where there is no such one. Of numbers before those that are known nothing can be said.
    """
    if not known:
        return None
    first, hashes = known[0].first, {one for of in known for one in of.hashes}
    return next(
        (one for one in numbers if first <= int(one) <= last and _hash(one) not in hashes), None
    )


def check_order(shard: str, numbers: Sequence[str], last: int, known: Sequence[Handed]) -> None:
    """Raise OrderError where a batch does not stand in the order of its shard."""
    order = [int(number) for number in numbers]
    found = next((n for n, a, b in zip(numbers[1:], order, order[1:], strict=False) if b < a), None)
    found = found or passed_over(known, numbers, last)
    if found is not None:
        raise OrderError(
            f"shard {shard}: record {found} comes after later ones, which are applied: {ONE_LANE}."
            " A factor above 1 cuts a shard by the outer partition key, and aggregates with it"
        )


def followed(known: Sequence[Handed], numbers: Sequence[str], last: int) -> tuple[Handed, ...]:
    """What is known once these numbers are applied, of which those up to `last` are repeats."""
    new = [one for one in numbers if int(one) > last] if known else list(numbers)
    if not new:
        return tuple(known)
    kept: list[Handed] = []
    left = NUMBERS_MAX
    for of in reversed(known[-BATCHES_MAX:]):
        left -= len(of.hashes)
        if left < 0:
            break
        kept.insert(0, of)
    return (*kept, Handed(int(new[0]), tuple(map(_hash, new))))


def _numbers(data: bytes) -> tuple[int, ...]:
    return tuple(np.frombuffer(data, _CRC).tolist())


def _hash(number: str) -> int:
    return zlib.crc32(number.encode())
