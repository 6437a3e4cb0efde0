"""Which shards of a stream are to be read: a child once its parents are read to their end."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from ..engine.errors import UnavailableError
from .backoff import Backoff
from .kinesis_reader import ListedShard
from .shard import Log

LIST_SECONDS = 60.0  # between two looks for shards that another process's reshard has made


class Lister(Protocol):
    """A stream as the listing needs it; `KinesisReader` is one."""

    def shards(self) -> list[ListedShard]:
        """All shards that still hold records, closed ones too."""
        ...


class Listing:
    """The shards of one stream: those handed out to be read, and those read to their end.

    due_at: when to look again, on the clock of the host. known: the stream has been listed.
    refused: the last look was. names: all shards, as of the last look that was not.
    unread: shards whose parents have not ended, as of the last look.
    """

    def __init__(
        self, stream: Lister, now: Callable[[], float], random: Callable[[], float], log: Log
    ) -> None:
        """Know of no shard; the first look is due."""
        self.started: set[str] = set()
        self.finished: set[str] = set()
        self.unread: list[str] = []
        self.known = self.refused = False
        self.names: set[str] = set()
        self.due_at = now()
        self._stream = stream
        self._now = now
        self._log = log
        self._backoff = Backoff(now, random)

    def look(self) -> list[ListedShard]:
        """The shards that can be started now: new ones whose parents are finished, or gone.

        Where the list is refused there are none, and the next look is put off.

        Raises:
            UnavailableError: it was refused for RETRY_SECONDS_MAX.
        """
        try:
            listed = self._stream.shards()
        except UnavailableError as error:
            pause = self._backoff.pause(error)
            self.refused = True
            self.due_at = self._now() + pause
            self._log("waiting", step="list", seconds=round(pause, 3), cause=str(error))
            return []
        self._backoff.clear()
        self.refused = False
        names = self.names = {shard.shard_id for shard in listed}
        new = [shard for shard in listed if shard.shard_id not in self.started]
        ready = [shard for shard in new if names & set(shard.parents) <= self.finished]
        self.started.update(shard.shard_id for shard in ready)
        self.unread = [shard.shard_id for shard in new if shard not in ready]
        self.known = True
        self.due_at = self._now() + LIST_SECONDS
        return ready

    def finish(self, shard_id: str) -> None:
        """Note that a shard is read to its end: its children can start."""
        self.finished.add(shard_id)
        self.due_at = self._now()
