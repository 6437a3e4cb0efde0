"""One merger's memory: parts that wait, chunks that count, windows.

    parts   chunk 3: 0, 2 of 3     chunk 4: all            in any order, any number of times
    marks   chunk 3: of 3 parts    chunk 4: of 1 part
    taken   0, 1, 2  -----------> 3 when its part 1 is there, then 4

A chunk counts when its mark and all parts that this names are there, and all chunks of its shard
before it count. It counts once: what comes of it later is a repeat. A shard is finished when all
its chunks count; its children are known by then.
"""

from __future__ import annotations

from typing import Any

import msgspec

from ..engine import pane_parts, state
from ..engine.batch import Position
from ..engine.errors import OrderError, StateError
from ..engine.pane_merger import Merger
from .pane_wire import End, Mark, Part

MODE = "fan_out_lambda"

Making = dict[int, bytes]  # contents of the parts of one making of a chunk, by number


class Commits:
    """What one merger of a pipeline knows.

    merger: its windows. taken: how many chunks of each shard count. seen: by shard of the panes
    stream the last sequence number that was handed over.
    """

    def __init__(self, merger: Merger, number: int, mergers: int) -> None:
        """Start with an empty memory; it is merger `number` of so many."""
        self.merger, self.number, self.mergers = merger, number, mergers
        self.taken: dict[str, int] = {}
        self.seen: dict[str, str] = {}
        self._parts: dict[str, dict[int, dict[str, Making]]] = {}  # by shard, chunk and digest
        self._ends: dict[str, dict[int, End]] = {}  # by shard and chunk
        self._finishing: dict[str, int] = {}  # chunks of shards that have ended

    def part(self, part: Part) -> bool:
        """Take a part; False where it is a repeat.

        Raises:
            StateError: it is of another number of mergers.
        """
        self._check(part)
        if part.chunk < self.taken.get(part.shard, 0):
            return False
        chunks = self._parts.setdefault(part.shard, {})
        making = chunks.setdefault(part.chunk, {}).setdefault(part.digest, {})
        if part.number in making:
            return False
        making[part.number] = part.content
        self._advance(part.shard)
        return True

    def mark(self, mark: Mark) -> bool:
        """Take a mark; False where it says nothing new.

        Raises:
            OrderError: a shard goes on that was finished: its mapping did not read it to its end
                before its children.
            StateError: as of `part`.
        """
        self._check(mark)
        merger, news = self.merger, False
        unknown = set(mark.shards) - merger.finished - merger.times.keys()
        if unknown:
            merger.know(unknown)
            news = True
        for shard, chunks in mark.finished.items():
            if shard not in merger.finished and self._finishing.get(shard) != chunks:
                self._finishing[shard] = chunks
                merger.know([shard])
                news = True
        ends = self._ends.setdefault(mark.shard, {})
        for end in mark.ends:
            if end.chunk >= self.taken.get(mark.shard, 0) and end.chunk not in ends:
                if mark.shard in merger.finished:
                    what = f"chunk {end.chunk} of shard {mark.shard}, which was finished"
                    raise OrderError(f"{what}: its children were handed over before its end")
                ends[end.chunk] = end
                news = True
        self._advance(mark.shard)
        for shard in list(self._finishing):
            self._finish(shard)
        return news

    @property
    def waiting(self) -> dict[str, int]:
        """By shard the chunk that is marked, and of which not all parts are there."""
        return {
            shard: self.taken.get(shard, 0)
            for shard, ends in self._ends.items()
            if self.taken.get(shard, 0) in ends
        }

    @property
    def held_back_by(self) -> str | None:
        """The shard whose time is the oldest: nothing beyond it is evaluated."""
        times = self.merger.times
        return min(times, key=lambda shard: (times[shard], shard), default=None)

    def _advance(self, shard: str) -> None:
        """Take the chunks that are whole, in their order."""
        ends = self._ends.get(shard, {})
        while (end := ends.get(self.taken.get(shard, 0))) is not None:
            makings = self._parts.get(shard, {}).get(end.chunk, {})
            making = makings.get(end.digest, {})
            if len(making) < end.parts:
                return
            for number in range(end.parts):
                self.merger.merge(pane_parts.read(making[number], shard, self.merger.rules))
            self.merger.passed(shard, Position(shard, end.last), end.shard_time)
            self.taken[shard] = end.chunk + 1
            del ends[end.chunk]
            self._parts.get(shard, {}).pop(end.chunk, None)
        self._finish(shard)

    def _finish(self, shard: str) -> None:
        if self._finishing.get(shard) == self.taken.get(shard, 0):
            del self._finishing[shard]
            self.merger.finish(shard)

    def _check(self, told: Part | Mark) -> None:
        if told.mergers != self.mergers:
            raise StateError(
                f"merger {self.number}: panes are cut for {told.mergers} mergers; delivery.mergers"
                f" is {self.mergers}: it stays as it is for the life of a state.location"
            )

    def save(self) -> bytes:
        """The next state object."""
        parts = [
            [shard, chunk, digest, number, content]
            for shard, chunks in self._parts.items()
            for chunk, makings in chunks.items()
            for digest, making in makings.items()
            for number, content in making.items()
        ]
        ends = [
            [shard, *msgspec.structs.astuple(end)]
            for shard, of in self._ends.items()
            for end in of.values()
        ]
        return state.encode("full", {
            "pipeline": self.merger.name, "mode": MODE, "merger": self.number,
            "mergers": self.mergers, "seen": self.seen, "taken": self.taken,
            "finishing": self._finishing, "parts": parts, "ends": ends,
            "windows": self.merger.save(),
        })  # fmt: skip

    def restore(self, data: bytes) -> list[str]:
        """Take over a state object; the names of rules that start empty, as they have changed.

        Raises:
            StateError: it cannot be read, or is of another pipeline, mode or number of mergers.
        """
        _, body = state.decode(data)
        found = tuple(body.get(key) for key in ("pipeline", "mode", "merger", "mergers"))
        wanted = (self.merger.name, MODE, self.number, self.mergers)
        if found != wanted:
            raise StateError(f"state of {found}, not of {wanted}")
        try:
            self.taken, self._finishing = dict(body["taken"]), dict(body["finishing"])
            self.seen = dict(body["seen"])
            for shard, chunk, digest, number, content in body["parts"]:
                chunks = self._parts.setdefault(shard, {})
                chunks.setdefault(chunk, {}).setdefault(digest, {})[number] = content
            for shard, *end in body["ends"]:
                self._ends.setdefault(shard, {})[end[0]] = End(*end)
            windows: Any = body["windows"]
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise StateError(f"a state object lacks what it should hold: {error!r}") from error
        return self.merger.restore(windows)
