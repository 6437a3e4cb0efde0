"""The state objects of one merger: the newest that can be read, and the next one.

All are full: what a merger holds is what is in its windows.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from ..engine.errors import FencedError, StateError, UnavailableError
from ..engine.pane_merger import Merger
from .recall import oldest_kept, written
from .shard import Host

Insist = Callable[[Callable[[], Any]], Any]  # makes a call, again where it is refused


class Objects:
    """Knows the numbers of the objects there are."""

    def __init__(self, host: Host, shard: str, insist: Insist) -> None:
        """Take the store of the host; `shard` names the memory there."""
        self._host, self._shard, self._insist = host, shard, insist
        self._generation, self._full = 0, list[int]()

    def load(self, make: Callable[[], Merger]) -> Merger:
        """A merger with the newest state that can be read; an empty one where there is none."""
        host, merger = self._host, make()
        states, name, shard = host.states, host.pipeline, self._shard
        found: list[int] = self._insist(lambda: states.generations(name, shard))
        self._generation, self._full = max(found, default=0), []
        for generation in reversed(found):
            try:
                data = self._insist(partial(states.read, name, shard, generation))
                changed = merger.restore(data)
            except StateError as error:
                cause = str(error)
                host.log("state_unreadable", shard=shard, generation=generation, cause=cause)
                merger = make()
                continue
            if changed:
                host.log("rules_start_empty", shard=shard, rules=changed)
            self._full = [generation]
            host.log("shard_started", shard=shard, generation=generation)
            return merger
        if found:
            host.log("state_incomplete", shard=shard, unreadable=found)
        host.log("shard_started", shard=shard, generation=None)
        return merger

    def save(self, merger: Merger) -> None:
        """Write the next object, and remove what is not kept any more.

        Raises:
            FencedError: its number is taken: another owner goes on.
        """
        host, name, shard = self._host, self._host.pipeline, self._shard
        data, generation = merger.save(self._full), self._generation + 1
        try:
            self._insist(lambda: host.states.create(name, shard, generation, data))
        except FencedError:
            if not self._wrote(generation, data):
                raise
        self._generation, self._full = generation, written(self._full, generation)
        host.log("state_saved", shard=shard, generation=generation)
        oldest = oldest_kept(self._full)
        if oldest is not None:
            try:
                host.states.prune(name, shard, oldest)
            except UnavailableError as error:
                host.log("prune_refused", shard=shard, cause=str(error))

    def _wrote(self, generation: int, data: bytes) -> bool:
        """Whether the object in the way is our own: written, with the answer lost."""
        host, name, shard = self._host, self._host.pipeline, self._shard
        found: list[int] = self._insist(lambda: host.states.generations(name, shard))
        if found[-1:] != [generation]:
            return False
        try:
            there: bytes = self._insist(lambda: host.states.read(name, shard, generation))
        except StateError:
            return False
        return there == data
