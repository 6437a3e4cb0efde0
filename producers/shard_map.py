"""Which shard a hash key is predicted to go to: the open shards, listed now and then."""

from __future__ import annotations

import bisect
from collections.abc import Callable

from ..engine.errors import UnavailableError
from .kinesis import KinesisWriter, OpenShard

MAP_SECONDS_MAX = 300.0  # age of the list
PAUSE_SECONDS_FIRST = 0.05
PAUSE_SECONDS_MAX = 5.0

UNKNOWN = ""  # the shard of records that are sent while the shards are not known


class ShardMap:
    """The open shards of a stream by their ranges of hash keys; empty until it was listed once.

    ranges: by shard id. refused: how often the list was.
    """

    def __init__(
        self, writer: KinesisWriter, now: Callable[[], float], random: Callable[[], float]
    ) -> None:
        """List nothing yet."""
        self.ranges: dict[str, OpenShard] = {}
        self.refused = 0
        self._writer = writer
        self._now, self._random = now, random
        self._shards: list[OpenShard] = []
        self._ends: list[int] = []
        self._due = now()
        self._pause = PAUSE_SECONDS_FIRST

    @property
    def due(self) -> bool:
        """Whether it is time to list the shards."""
        return self._due <= self._now()

    def refresh(self) -> bool:
        """List the shards; where that is refused the old list stands. Whether it is new."""
        try:
            self._shards = self._writer.shards()
        except UnavailableError:
            self.refused += 1
            self._due = self._now() + self._random() * self._pause
            self._pause = min(2 * self._pause, PAUSE_SECONDS_MAX)
            return False
        self._pause = PAUSE_SECONDS_FIRST
        self._ends = [shard.last for shard in self._shards]
        self.ranges = {shard.shard_id: shard for shard in self._shards}
        self._due = self._now() + MAP_SECONDS_MAX
        return True

    def find(self, hash_key: int) -> str:
        """The shard whose range holds a hash key; UNKNOWN where none is known to."""
        place = bisect.bisect_left(self._ends, hash_key)
        if place == len(self._shards) or hash_key < self._shards[place].first:
            return UNKNOWN
        return self._shards[place].shard_id
