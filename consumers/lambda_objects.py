"""The numbered objects of one memory in Lambda, all of them full: the newest one, and the next.

Objects are created only if absent, so of two invocations that go on from one object one wins; the
other is told (FencedError), forgets what it has done, and its records come again.
"""

from __future__ import annotations

from ..engine.errors import StateError
from ..engine.state import StateStore

KEPT = 3  # of the newest objects
PRUNE_EVERY = 16  # generations; each look for old ones is a list


class Objects:
    """Knows the number of the newest object of one memory, as it was last seen."""

    def __init__(self, states: StateStore, pipeline: str, memory: str) -> None:
        """Call nothing yet; `memory` is in the place of a shard id."""
        self._states, self._pipeline, self._memory = states, pipeline, memory
        self.generation = 0

    def current(self) -> bool:
        """Whether nobody has gone on since: one HEAD."""
        return not self._states.exists(self._pipeline, self._memory, self.generation + 1)

    def load(self) -> bytes | None:
        """The newest object; None where there is none.

        Raises:
            StateError: it is there, but not to be had.
        """
        found = self.generations()
        return None if not found else self.read(found[-1])

    def generations(self) -> list[int]:
        """The numbers of all objects there are, ascending; the newest is noted."""
        found = self._states.generations(self._pipeline, self._memory)
        self.generation = max(found, default=0)
        return found

    def read(self, generation: int) -> bytes:
        """One object; StateError where it is not there."""
        return self._states.read(self._pipeline, self._memory, generation)

    def save(self, data: bytes) -> None:
        """Write the next object.

        Raises:
            FencedError: another invocation has gone on.
            UnavailableError: it is not known to be written; load again.
        """
        self._states.create(self._pipeline, self._memory, self.generation + 1, data)
        self.generation += 1

    def prune(self) -> None:
        """Now and then remove what is not kept any more.

        Raises:
            UnavailableError: they are still there, which does no harm.
        """
        if self.generation % PRUNE_EVERY == 0:
            self._states.prune(self._pipeline, self._memory, self.generation - KEPT + 1)


def unreadable(memory: str, cause: StateError) -> StateError:
    """What is said of an object that cannot be read, and what can be done."""
    return StateError(
        f"{memory}: its newest state object cannot be read: {cause}. Nothing is guessed: put it"
        " back (docs/lambda.md, The fan-out mode), or begin at another state.location"
    )
