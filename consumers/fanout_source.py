"""A shard that the fan-out host reads: what was cut of it, and what came back."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from ..engine.batch import NO_TIME, Position, Record
from .backoff import Backoff, Refusal
from .fanout_pool import Chunk

CHUNK_BYTES_MAX = 1 << 20


@dataclass
class Source:
    """A shard that is read.

    inclusive: the next iterator is at the position, of which a part may be passed. shard_time: int
    ms, at the end of what was cut. cut: chunks. passed: of them merged, without a gap. back: the
    position and time of merged ones behind a gap, by number. newest: sequence number cut last.
    """

    shard_id: str
    backoff: Backoff
    iterator: str | None = None
    inclusive: bool = True
    closed: bool = False
    at_tip: bool = False
    shard_time: int = NO_TIME  # at the end of what was cut
    cut: int = 0  # chunks
    passed: int = 0  # of them merged, without a gap
    back: dict[int, tuple[Position | None, int]] = field(
        default_factory=dict
    )  # position and time, by number
    ready_at: float = 0.0
    refused: Refusal | None = None

    newest: int = -1
    waiting: deque[Chunk] = field(default_factory=deque)

    @property
    def done(self) -> bool:
        """Whether it is read to its end and all of it is merged."""
        return self.closed and self.passed == self.cut

    def fresh(self, records: list[Record]) -> list[Record]:
        """The records that were not cut before: a chunk is reduced without knowing the others."""
        found = []
        for record in records:
            number = int(record.sequence_number)
            if number > self.newest:
                found.append(record)
                self.newest = number
        return found


def chunks(records: list[Record]) -> list[list[Record]]:
    """Records cut where CHUNK_BYTES_MAX is reached; none is empty."""
    found: list[list[Record]] = []
    size = CHUNK_BYTES_MAX
    for record in records:
        if size >= CHUNK_BYTES_MAX:
            found.append([])
            size = 0
        found[-1].append(record)
        size += len(record.data)
    return found
