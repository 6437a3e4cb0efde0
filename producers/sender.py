"""What waits to be put, shard by shard: packed into calls, and what failed sent again.

What failed is sent again alone, after pauses with full jitter, a shard at a time: the others do not
wait. Where a call as a whole got no answer its records may lie in the stream all the same: they are
sent again, and may then be there twice.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from itertools import islice
from typing import NamedTuple

from ..engine.errors import UnavailableError
from ..engine.sinks.base import PAUSE_SECONDS_FIRST, PAUSE_SECONDS_MAX
from .buffer import Parcel
from .kinesis import ENTRIES_MAX, Failed, KinesisWriter, Placed
from .outcomes import Counters
from .rate import Rate
from .shard_map import UNKNOWN

SKIPS_MAX = 32  # parcels of a shard that are passed over, to find others for the same call
PAUSE_SECONDS_MIN = 0.001  # so that no jitter makes a loop of calls


class Sent(NamedTuple):
    """A parcel that a call held, and what became of it; it is still in its lane where it failed."""

    shard: str
    parcel: Parcel
    outcome: Placed | Failed


class Pauses:
    """Pauses between tries of one thing, with full jitter.

    Each is uniform between 0 and a bound that doubles from PAUSE_SECONDS_FIRST to
    PAUSE_SECONDS_MAX.
    """

    def __init__(self, random: Callable[[], float]) -> None:
        """Start with the last try having gone well."""
        self._random = random
        self.clear()

    def clear(self) -> None:
        """Note that a try has gone well."""
        self._bound = PAUSE_SECONDS_FIRST

    def next(self) -> float:
        """Seconds to wait after a try that has not."""
        seconds = self._random() * self._bound
        self._bound = min(2 * self._bound, PAUSE_SECONDS_MAX)
        return max(seconds, PAUSE_SECONDS_MIN)


class Lane:
    """What waits for one shard, in order; nothing of it is sent before `ready_at`.

    wait_until: until when it waits after a failure. rate: None where it is not limited.
    """

    def __init__(self, pauses: Pauses, rate: Rate | None) -> None:
        """Hold nothing, and wait for nothing."""
        self.queue: deque[Parcel] = deque()
        self.wait_until = float("-inf")
        self.pauses, self.rate = pauses, rate

    def ready_at(self, now: float) -> float:
        """When something of it may be sent; in the past where at once."""
        limited = self.wait_until if self.rate is None else self.rate.ready_at(now)
        return max(self.wait_until, limited)


class Sender:
    """Sends parcels, shard by shard.

    ordered: of parcels of one shard that share a partition key one alone is in a call, and none
    goes before an earlier one has its place. Within a call Kinesis promises no order, and what
    failed would come after what did not. False: everything goes that fits, and keys lose order.
    """

    def __init__(
        self,
        writer: KinesisWriter,
        counters: Counters,
        *,
        ordered: bool,
        call_bytes_max: int,
        rate: float | None,
        now: Callable[[], float],
        random: Callable[[], float],
    ) -> None:
        """Hold nothing; `rate` is of what a shard takes, None does not limit it."""
        self.lanes: dict[str, Lane] = {}  # those that had their turn last come last
        self._writer, self._counters = writer, counters
        self._ordered, self._bytes_max, self._rate = ordered, call_bytes_max, rate
        self._now, self._random = now, random

    def add(self, shard: str, parcel: Parcel) -> None:
        """Put a parcel behind the others of its shard."""
        lane = self.lanes.get(shard)
        if lane is None:
            limited = self._rate is not None and shard != UNKNOWN
            rate = Rate(self._rate, self._now()) if limited else None  # type: ignore[arg-type]
            lane = self.lanes[shard] = Lane(Pauses(self._random), rate)
        lane.queue.append(parcel)

    def due(self, now: float) -> float:
        """When the first of the lanes that hold something may send; infinity where none does."""
        times = (lane.ready_at(now) for lane in self.lanes.values() if lane.queue)
        return min(times, default=float("inf"))

    def drain(self) -> Iterator[Parcel]:
        """Give all parcels up; shards that are to wait still do."""
        for name, lane in list(self.lanes.items()):
            yield from lane.queue
            lane.queue.clear()
            if lane.wait_until <= self._now():
                del self.lanes[name]

    def send(self, now: float) -> list[Sent]:
        """Make one call of what may be sent at `now`; nothing where there is none.

        Called with the same `now` until it sends nothing it comes to an end, whatever fails.

        Raises:
            StreamgaugeError: the stream refuses for good; every parcel is where it was.
        """
        chosen = self._choose(now)
        parcels = [parcel for _, _, taken in chosen for parcel in taken]
        if not parcels:
            return []
        try:
            outcomes = self._writer.put([parcel.pack() for parcel in parcels])
        except UnavailableError as error:
            outcomes = [_unanswered(error)] * len(parcels)
        sent, told = list[Sent](), iter(outcomes)
        for name, walked, taken in chosen:
            of = [Sent(name, parcel, next(told)) for parcel in taken]
            if of:
                self._settle(name, walked, of)
            sent += of
        return sent

    def _choose(self, now: float) -> list[tuple[str, int, list[Parcel]]]:
        """Of each lane that need not wait: its name, how far it was looked at, and what goes."""
        size = count = 0
        chosen: list[tuple[str, int, list[Parcel]]] = []
        for name, lane in self.lanes.items():
            if not lane.queue or lane.ready_at(now) > now:
                continue
            taken: list[Parcel] = []
            walked = 0
            rate, more = lane.rate, True
            alone = not self._ordered or len(lane.queue) == 1
            held: set[str] = set()  # keys of those before
            for parcel in islice(lane.queue, ENTRIES_MAX + SKIPS_MAX):
                if alone or held.isdisjoint(parcel.keys):
                    full = count == ENTRIES_MAX or size + parcel.size > self._bytes_max
                    if full and count:
                        return [*chosen, (name, walked, taken)]
                    taken.append(parcel)
                    count, size = count + 1, size + parcel.size
                    more = rate is None or rate.take(parcel.size)
                elif walked - len(taken) >= SKIPS_MAX:
                    break
                walked += 1
                if not more:
                    self._counters.limited += 1
                    break
                if not alone:
                    held.update(parcel.keys)
            chosen.append((name, walked, taken))
        return chosen

    def _settle(self, name: str, walked: int, of: list[Sent]) -> None:
        """Take what has its place out of a lane; let the lane wait where something failed."""
        lane = self.lanes[name] = self.lanes.pop(name)
        placed = {id(sent.parcel) for sent in of if isinstance(sent.outcome, Placed)}
        first = [lane.queue.popleft() for _ in range(walked)]
        lane.queue.extendleft(parcel for parcel in reversed(first) if id(parcel) not in placed)
        if len(placed) == len(of):
            lane.pauses.clear()
        else:
            lane.wait_until = self._now() + lane.pauses.next()


def _unanswered(error: UnavailableError) -> Failed:
    """What a call that failed as a whole says of each of its entries."""
    told = getattr(error.__cause__, "response", None) or {}  # None: of a call without an answer
    code = told.get("Error", {}).get("Code") or type(error.__cause__ or error).__name__
    status = told.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    return Failed(code, str(error), known=400 <= status < 500)
