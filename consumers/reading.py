"""The shards that one process reads in turn: whose step is due, and the orderly end of all."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ..engine.errors import StreamgaugeError
from .backoff import Refusal
from .shard import Host, Shard

SLEEP_SECONDS_MAX = 0.2  # so that a wish to stop is seen soon
DRAIN_SECONDS_MAX = 6.0  # what a stop may take where a sink or the state store is down


class Reading:
    """Shards of one process, each with a pipeline and a memory of its own.

    shards: those started so far, by id. unsaved: after a drain, those of which something could not
    be delivered or saved in time; it is done again by the next start.
    """

    def __init__(self, host: Host, *, until_end: bool = False) -> None:
        """Read nothing yet; `until_end`: a shard at its tip is not read again."""
        self.shards: dict[str, Shard] = {}
        self.unsaved: list[str] = []
        self._host = host
        self._until_end = until_end

    @property
    def at_end(self) -> bool:
        """Whether every shard is at its tip or finished."""
        return all(shard.at_tip or shard.finished for shard in self.shards.values())

    @property
    def refused(self) -> dict[str, Refusal]:
        """Shards whose step was refused at the last try."""
        return {s.shard_id: s.refused for s in self.shards.values() if s.refused is not None}

    def inspect(self, device: str) -> list[dict[str, Any]] | None:
        """What every shard and rule knows of a device, one row each.

        None while the state of a shard is not loaded: it might know the device.
        """
        if not all(shard.loaded or shard.finished for shard in self.shards.values()):
            return None
        return [
            {"shard": shard.shard_id, **row}
            for shard in self.shards.values()
            for row in shard.inspect(device)
        ]

    def start(self, shard_id: str, parents: Sequence[str]) -> None:
        """Begin to read a shard, whose parents are finished or gone."""
        self.shards[shard_id] = Shard(shard_id, self._host, parents)

    def next(self) -> Shard | None:
        """The shard whose step has been due for longest, or will be first; None: there is none."""
        reading = (
            shard
            for shard in self.shards.values()
            if not shard.finished and not (self._until_end and shard.at_tip)
        )
        return min(reading, key=lambda shard: shard.ready_at, default=None)

    def step(self, shard: Shard) -> bool:
        """Do the step of a shard that is due; whether that finished the shard.

        Raises:
            StreamgaugeError: nobody can go on; see Shard.step.
        """
        shard.step()
        if not shard.finished:
            return False
        self._host.log("shard_finished", shard=shard.shard_id)
        shard.release()
        return True

    def drain(self, sleep: Callable[[float], object]) -> None:
        """Deliver and save what was applied, as far as DRAIN_SECONDS_MAX allow; read no more."""
        host = self._host
        until = host.now() + DRAIN_SECONDS_MAX
        pending = list(self.shards.values())
        for shard in pending:
            shard.finish()
        self.unsaved = []
        while pending := [shard for shard in pending if not shard.idle]:
            shard = min(pending, key=lambda shard: shard.ready_at)
            pause = shard.ready_at - host.now()
            try:
                if pause > 0 and host.now() < until:
                    sleep(min(pause, SLEEP_SECONDS_MAX))
                    continue
                if host.now() < until:
                    shard.step()
                    continue
                cause = f"not done within {DRAIN_SECONDS_MAX:g} s"
            except (StreamgaugeError, OSError) as error:
                cause = str(error)
            host.log("unsaved", shard=shard.shard_id, cause=cause)
            self.unsaved.append(shard.shard_id)
            pending.remove(shard)
        self._roll(until)

    def _roll(self, until: float) -> None:
        """Make objects of what is staged, while there is time; the rest is rolled by the next
        start."""
        host = self._host
        for shard in self.shards.values():
            if shard.shard_id in self.unsaved or not shard.loaded:
                continue
            try:
                while not shard.rolled and host.now() < until:
                    shard.roll()
            except (StreamgaugeError, OSError) as error:
                host.log("left_staged", shard=shard.shard_id, cause=str(error))
