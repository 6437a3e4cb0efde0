"""An event source mapping as AWS describes it: batches, partial answers, bisecting, lanes.

Lambda Developer Guide, "Using Lambda with Kinesis": after a partial answer the batch is cut at the
lowest number reported, and the rest comes again; after an error it is halved where bisecting is on,
which uses up no retry; what is given up goes to the on-failure destination, as a range of numbers.
With a parallelisation factor above 1 a shard's records are cut into lanes by their outer key.
"""

from __future__ import annotations

import random
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from lambda_drive import event
from plain_kpl import Kinesis

Handle = Callable[[Any, Any], Any]
INVOCATIONS_MAX = 20_000


class TimedOut(BaseException):
    """The sandbox is killed: no handler catches this."""


@dataclass
class Mapping:
    """One mapping. `make` gives the handler of an invocation: a new one is a new sandbox.

    given_up: what went to the on-failure destination. invocations: how many there were.
    """

    make: Callable[[], Handle]
    batch_size: int = 100
    retries: int = -1  # -1: until the record expires
    bisect: bool = True
    lanes: int = 1
    seed: int = 0
    given_up: list[list[Kinesis]] = field(default_factory=list)
    errors: list[BaseException] = field(default_factory=list)
    invocations: int = 0

    def drain(self, shard: list[Kinesis]) -> None:
        """Hand over all records of a shard; its lanes take turns at random."""
        lanes = [list(self._batches([one for one in shard if self._lane(one) == lane]))
                 for lane in range(self.lanes)]  # fmt: skip
        draw = random.Random(self.seed)
        while waiting := [lane for lane in lanes if lane]:
            self._settle(draw.choice(waiting).pop(0))

    def _lane(self, one: Kinesis) -> int:
        return zlib.crc32(one.key.encode()) % self.lanes

    def _batches(self, records: list[Kinesis]) -> Iterator[list[Kinesis]]:
        for start in range(0, len(records), self.batch_size):
            yield records[start : start + self.batch_size]

    def _settle(self, batch: list[Kinesis]) -> None:
        """Hand a batch over until all of it is done, or given up."""
        waiting = [(batch, 0)]
        while waiting:
            now, tries = waiting.pop(0)
            if (failed := self._invoke(now)) is None:
                continue
            if failed > 0:  # what lies before it is done
                waiting.insert(0, (now[failed:], 0))
            elif self.bisect and len(now) > 1:
                half = len(now) // 2
                waiting[:0] = [(now[:half], tries), (now[half:], tries)]
            elif tries == self.retries:
                self.given_up.append(now)
            else:
                waiting.insert(0, (now, tries + 1))

    def _invoke(self, batch: list[Kinesis]) -> int | None:
        """How many records of a batch are done; None: all, 0: none."""
        self.invocations += 1
        assert self.invocations < INVOCATIONS_MAX
        try:
            answer = self.make()(event(batch), None)
        except (Exception, TimedOut) as error:
            self.errors.append(error)
            return 0
        numbers = [one["itemIdentifier"] for one in answer["batchItemFailures"]]
        if not numbers:
            return None
        places = [one.sequence for one in batch]
        if not all(number in places for number in numbers):
            return 0
        return min(map(places.index, numbers))
