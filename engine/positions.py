"""Where retained samples came from: numbers of Kinesis records to shard and sequence number.

Kept because an alert names the position of the earliest sample in its window. Sequence numbers are
long texts, so they are held as one text a batch and dropped once no sample needs them.
"""

from __future__ import annotations

from bisect import bisect_right
from typing import Any, NamedTuple

import numpy as np

from .batch import SUB_BITS, Ints, Position

RECORDS_BETWEEN_PRUNES_MIN = 65_536


class _Chunk(NamedTuple):
    shard_id: str
    first: int  # the first number
    dense: bool  # the numbers follow each other without a gap
    numbers: Ints  # sorted; one for each sequence number
    text: str  # the sequence numbers one after the other
    ends: Ints  # where each one ends in the text

    @classmethod
    def of(cls, shard_id: str, numbers: Ints, text: str, ends: Ints) -> _Chunk:
        first = int(numbers[0])
        dense = int(numbers[-1]) - first == len(numbers) - 1
        return cls(shard_id, first, dense, numbers, text, ends)

    def sequence(self, index: int) -> str:
        start = int(self.ends[index - 1]) if index else 0
        return self.text[start : int(self.ends[index])]

    def some(self, index: Ints) -> tuple[str, Ints]:
        """The sequence numbers at these places as one text, and the length of each."""
        sizes = np.diff(self.ends, prepend=0)
        width = int(sizes[0])
        if (sizes == width).all() and self.text.isascii():
            table = np.frombuffer(self.text.encode("ascii"), np.uint8).reshape(-1, width)
            return table[index].tobytes().decode("ascii"), sizes[index]
        return "".join([self.sequence(place) for place in index.tolist()]), sizes[index]


class PositionLog:
    """Numbers Kinesis records in order of arrival and tells the position of a serial again."""

    def __init__(self) -> None:
        """Start with record number 0."""
        self.next = 0
        self._chunks: list[_Chunk] = []
        self._firsts: list[int] = []
        self._held = 0
        self._prune_at = RECORDS_BETWEEN_PRUNES_MIN

    def add(self, shard_id: str, sequences: list[str]) -> int:
        """Number these Kinesis records; the number of the first one."""
        first = self.next
        self.next += len(sequences)
        if sequences:
            numbers = np.arange(first, self.next)
            ends = np.cumsum(np.fromiter(map(len, sequences), np.int64, len(sequences)))
            self._append(_Chunk.of(shard_id, numbers, "".join(sequences), ends))
        return first

    def _append(self, chunk: _Chunk) -> None:
        self._chunks.append(chunk)
        self._firsts.append(chunk.first)
        self._held += len(chunk.numbers)

    def position(self, serial: int) -> Position:
        """The position that a serial stands for."""
        number = serial >> SUB_BITS
        chunk = self._chunks[bisect_right(self._firsts, number) - 1]
        index = number - chunk.first
        if not chunk.dense:
            index = int(np.searchsorted(chunk.numbers, number))
            assert chunk.numbers[index] == number, serial
        return Position(chunk.shard_id, chunk.sequence(index), serial & ((1 << SUB_BITS) - 1))

    @property
    def full(self) -> bool:
        """True when it is time to call `prune`."""
        return self._held >= self._prune_at

    def prune(self, live: Ints) -> None:
        """Forget all records but those numbered in `live` (int64, sorted)."""
        saved = self.save(live)
        self._chunks, self._firsts, self._held = [], [], 0
        self.restore(saved, self.next)
        self._prune_at = 2 * self._held + RECORDS_BETWEEN_PRUNES_MIN

    def save(self, live: Ints) -> list[dict[str, Any]]:
        """The records numbered in `live` (sorted), neighbours of one shard together."""
        saved: list[dict[str, Any]] = []
        for chunk in self._chunks:
            low, high = np.searchsorted(live, (chunk.numbers[0], chunk.numbers[-1] + 1))
            if low == high:
                continue
            numbers = live[low:high]
            text, sizes = chunk.some(np.searchsorted(chunk.numbers, numbers))
            if saved and saved[-1]["shard_id"] == chunk.shard_id:
                part = saved[-1]
            else:
                part = {"shard_id": chunk.shard_id, "numbers": [], "text": [], "ends": []}
                saved.append(part)
            part["numbers"].append(numbers)
            part["text"].append(text)
            part["ends"].append(sizes)
        for part in saved:
            part["numbers"] = np.concatenate(part["numbers"])
            part["text"] = "".join(part["text"])
            part["ends"] = np.cumsum(np.concatenate(part["ends"]))
        return saved

    def restore(self, saved: list[dict[str, Any]], next_number: int) -> None:
        """Add what `save` gave; numbering goes on at `next_number`."""
        for part in saved:
            self._append(_Chunk.of(part["shard_id"], part["numbers"], part["text"], part["ends"]))
        self.next = max(self.next, next_number)
