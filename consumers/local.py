"""The host on this machine: one process that reads every shard of a stream in turn.

Each shard has a pipeline and a memory of its own. A shard's children start when it is read to its
end. Ctrl-C and SIGTERM are the command's affair: it hands in `stopping`, which is looked at between
two steps; then what was applied is delivered and saved. Several processes: workers.py.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Protocol

from ..engine.errors import StreamgaugeError
from .listing import Lister, Listing
from .reading import SLEEP_SECONDS_MAX, Reading
from .shard import Host, Reader, Shard


class Stream(Reader, Lister, Protocol):
    """A stream as this host needs it; `KinesisReader` is one."""


class LocalConsumer:
    """Drives the shards of a stream until it is told to stop, or all are at their tip.

    reading: the shards. listing: which of the stream's are known, and started. After a run
    `reading.unsaved` names shards of which something is left over, `listing.unread` those that
    could not be started because a parent of theirs never ended.
    """

    def __init__(
        self,
        stream: Stream,
        host: Host,
        *,
        until_end: bool = False,
        sleep: Callable[[float], object] = time.sleep,
        tend: Callable[[], object] = lambda: None,
    ) -> None:
        """Do nothing yet.

        Args:
            stream: what to read. host: what its shards share.
            until_end: stop once every shard is at its tip.
            sleep: waits for seconds. tend: called between two steps, to answer questions.
        """
        self.listing = Listing(stream, host.now, host.random, host.log)
        self.reading = Reading(host, until_end=until_end)
        self._host = host
        self._until_end = until_end
        self._sleep = sleep
        self._tend = tend

    @property
    def shards(self) -> dict[str, Shard]:
        """The shards started so far, by id."""
        return self.reading.shards

    @property
    def unsaved(self) -> list[str]:
        """Shards of which something could not be delivered or saved before the end."""
        return self.reading.unsaved

    @property
    def unread(self) -> list[str]:
        """Shards that could not be started, as a parent of theirs has not ended."""
        return self.listing.unread

    def inspect(self, device: str) -> list[dict[str, Any]] | None:
        """What every shard and rule knows of a device; None while that is not known yet."""
        return self.reading.inspect(device) if self.listing.known else None

    def run(self, stopping: Callable[[], bool] = lambda: False) -> None:
        """Read, apply, deliver and save until there is nothing to do or `stopping` says so.

        At the end, and also where an error ends it, what was applied is delivered and saved, as far
        as that goes within DRAIN_SECONDS_MAX.

        Raises:
            StreamgaugeError: nobody can go on: the stream is not there, a service was down for too
                long, another owner goes on writing the state.
        """
        try:
            while not stopping() and not self._at_end():
                self._tend()
                self._turn()
        except (StreamgaugeError, OSError):
            self.reading.drain(self._sleep)
            raise
        self.reading.drain(self._sleep)

    def _at_end(self) -> bool:
        """Whether a run to the end is there: all shards at their tip, and none to be looked for."""
        if not self._until_end or not self.listing.known:
            return False
        return self._host.now() < self.listing.due_at and self.reading.at_end

    def _turn(self) -> None:
        """Do the step that has been due for longest, or sleep until one is."""
        now = self._host.now()
        self._host.metrics.set("last_turn_timestamp_seconds", self._host.wall())
        if now >= self.listing.due_at:
            for shard_id, parents in self.listing.look():
                self.reading.start(shard_id, parents)
            return
        shard = self.reading.next()
        due_at = self.listing.due_at
        due_at = due_at if shard is None else min(shard.ready_at, due_at)
        if shard is None or due_at > now:
            self._sleep(min(due_at - now, SLEEP_SECONDS_MAX))
        elif self.reading.step(shard):
            self.listing.finish(shard.shard_id)
