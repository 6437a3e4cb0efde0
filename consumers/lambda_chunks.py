"""How one shard of the source was cut into chunks: recorded before any of them is sent.

    cut      |--- 0 ---|--- 1 ---|-- 2 --|        intervals of positions, for ever
    outcome   told      parts     none yet        what of them is known

A chunk without an outcome is sent again, the same interval, never cut anew. Its outcome says of how
many parts it is made at each merger; it is recorded before it is told, so that all mergers are told
the same. A chunk that the mapping gave up has an outcome, too: of no parts at all.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from ..engine import state
from ..engine.batch import NO_TIME, Record
from ..engine.errors import StateError
from . import handed
from .pane_wire import End, Mark

CHUNK_BYTES_MAX = 1 << 20  # of data; a worker is handed at most 6 MB, of a third more as text
GONE_MAX = 100  # chunks that were given up, and are remembered
_RECORD_BYTES = 64  # around each record's data

Outcome = list[tuple[int, str]]  # of each merger: how many parts, and their digest


class Cut(msgspec.Struct):
    """One chunk: numbers of its first and last record, how many there are, shard time around it."""

    number: int
    first: str
    last: str
    records: int
    before: int
    after: int
    outcome: Outcome | None = None

    def holds(self, record: Record) -> bool:
        """Whether a record lies in it."""
        return int(self.first) <= int(record.sequence_number) <= int(self.last)


class Log(msgspec.Struct):
    """What is known of one shard.

    next: number of the next chunk. last: sequence number up to which it is cut, empty at the start.
    time: int ms, shard time there. cuts: those that are not known to be told to all mergers.
    shards, finished: to be told with the first. closed: its children have begun, nothing can come.
    gone: first and last number of the chunks that were given up lately.
    noted: what was handed over last, as handed.py has it.
    """

    mergers: int
    next: int = 0
    last: str = ""
    time: int = NO_TIME
    cuts: list[Cut] = []
    shards: list[str] = []
    finished: dict[str, int] = {}
    closed: bool = False
    gone: list[tuple[str, str]] = []
    noted: list[tuple[str, bytes]] = []

    def cut(self, records: Sequence[Record]) -> bool:
        """Cut what was not cut before; whether there was anything."""
        end = int(self.last or -1)
        new = [record for record in records if int(record.sequence_number) > end]
        for some in _cut(new):
            before = self.time
            arrivals = (NO_TIME if one.arrival is None else one.arrival for one in some)
            self.time = max(before, *arrivals)
            first, last = some[0].sequence_number, some[-1].sequence_number
            self.cuts.append(Cut(self.next, first, last, len(some), before, self.time))
            self.next, self.last = self.next + 1, last
        known = handed.followed(handed.read(self.noted), [r.sequence_number for r in records], end)
        self.noted = [(first, data) for first, data in handed.noted(known)]
        return bool(new)

    def give_up(self, before: int | None) -> list[Cut]:
        """Settle the chunks without an outcome that end before a sequence number; None: all."""
        gone = [
            one for one in self.cuts
            if one.outcome is None and (before is None or int(one.last) < before)
        ]  # fmt: skip
        for one in gone:
            one.outcome = [(0, "")] * self.mergers
        self.gone = [*self.gone, *((one.first, one.last) for one in gone)][-GONE_MAX:]
        return gone

    def given_up(self, numbers: Sequence[str]) -> str | None:
        """The first of these records that lies in a chunk that was given up."""
        ends = [(int(first), int(last)) for first, last in self.gone]
        return next(
            (one for one in numbers if any(first <= int(one) <= last for first, last in ends)), None
        )

    def open(self, upto: int) -> list[Cut]:
        """The chunks without an outcome that begin at a sequence number or before."""
        return [one for one in self.cuts if one.outcome is None and int(one.first) <= upto]

    @property
    def settled(self) -> list[Cut]:
        """The chunks up to the first without an outcome."""
        places = [at for at, one in enumerate(self.cuts) if one.outcome is None]
        return self.cuts[: places[0]] if places else list(self.cuts)

    def marks(self, pipeline: str, shard: str) -> list[Mark]:
        """What each merger is to be told; nothing where there is nothing."""
        if not (settled := self.settled):
            return []
        found = []
        for merger in range(self.mergers):
            ends = []
            for one in settled:
                assert one.outcome is not None
                parts, digest = one.outcome[merger]
                ends.append(End(one.number, one.last, one.after, parts, digest))
            found.append(Mark(pipeline, self.mergers, merger, shard, ends, self.shards,
                              self.finished))  # fmt: skip
        return found

    def told(self, cuts: Sequence[Cut]) -> None:
        """Forget chunks that all mergers know, and what was told with the first of them."""
        if cuts:
            self.cuts = self.cuts[len(cuts) :]
            self.shards, self.finished = [], {}

    def save(self) -> bytes:
        """The next object of the log."""
        return state.encode("full", {"chunks": msgspec.msgpack.encode(self)})


def restore(data: bytes) -> Log:
    """The log that an object holds; StateError where it cannot be read."""
    _, body = state.decode(data)
    try:
        return msgspec.msgpack.decode(body["chunks"], type=Log)
    except (KeyError, TypeError, msgspec.DecodeError) as error:
        raise StateError(f"a list of chunks lacks what it should hold: {error}") from error


def _cut(records: Sequence[Record]) -> list[list[Record]]:
    """Records in their order, cut before CHUNK_BYTES_MAX is passed; none is empty."""
    found: list[list[Record]] = []
    size = CHUNK_BYTES_MAX
    for record in records:
        own = len(record.data) + _RECORD_BYTES
        if not found or size + own > CHUNK_BYTES_MAX:
            found.append([])
            size = 0
        found[-1].append(record)
        size += own
    return found


def memory(shard: str) -> str:
    """Where the log of a shard lies among the state objects."""
    return f"chunks-{shard}"
