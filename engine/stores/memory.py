"""State objects in a dict: for tests, simulation and runs that need not outlive their process."""

from __future__ import annotations

from ..errors import FencedError, StateError, UnavailableError


class MemoryStates:
    """A StateStore in memory.

    `fail_next` is the number of calls, of any method, that will be refused with UnavailableError
    before anything happens; `lose_next` the number of `create` calls that will write and then
    raise it, as when an answer is lost on its way back.
    """

    def __init__(self) -> None:
        """Start empty and willing."""
        self.fail_next = 0
        self.lose_next = 0
        self._objects: dict[tuple[str, str], dict[int, bytes]] = {}

    def generations(self, pipeline: str, shard: str) -> list[int]:
        """The numbers of all objects there are, ascending."""
        return sorted(self._shard(pipeline, shard))

    def exists(self, pipeline: str, shard: str, generation: int) -> bool:
        """Whether there is an object of this number."""
        return generation in self._shard(pipeline, shard)

    def read(self, pipeline: str, shard: str, generation: int) -> bytes:
        """The bytes of one object; StateError where there is none."""
        objects = self._shard(pipeline, shard)
        if generation not in objects:
            raise StateError(f"no state object {generation} of {pipeline}/{shard}")
        return objects[generation]

    def create(self, pipeline: str, shard: str, generation: int, data: bytes) -> None:
        """Keep one object; FencedError where this generation or a later one exists."""
        assert 0 <= generation, generation
        objects = self._shard(pipeline, shard)
        if objects and max(objects) >= generation:
            raise FencedError(
                f"state object {generation} of {pipeline}/{shard} cannot be written:"
                f" {max(objects)} exists"
            )
        objects[generation] = bytes(data)
        if self.lose_next:
            self.lose_next -= 1
            raise UnavailableError("memory: the answer was lost")

    def delete(self, pipeline: str, shard: str, generation: int) -> None:
        """Remove one object; nothing happens where there is none."""
        self._shard(pipeline, shard).pop(generation, None)

    def prune(self, pipeline: str, shard: str, oldest_kept: int) -> None:
        """Remove all objects below `oldest_kept`, but never the newest one."""
        objects = self._shard(pipeline, shard)
        for generation in sorted(objects)[:-1]:
            if generation < oldest_kept:
                del objects[generation]

    def _shard(self, pipeline: str, shard: str) -> dict[int, bytes]:
        if self.fail_next:
            self.fail_next -= 1
            raise UnavailableError("memory: refused as asked")
        return self._objects.setdefault((pipeline, shard), {})
