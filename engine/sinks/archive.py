"""The archive: everything that was read, staged with each push and rolled into objects.

    deliver:  rows of a push  ->  _staged/...ndjson.gz       (then they are safe)
    roll:     staged objects  ->  one object for all to read, by size or age  ->  staged ones go

A push is acknowledged once its rows are staged, so no checkpoint ever waits for an object to fill.
What a crash leaves staged is found and rolled by the next owner of the shard; what it had rolled
already is known by the names of the objects. archive_objects.py says how they are called.

A host that cannot come back later (Lambda) delivers in final form: one object an hour and delivery.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from .. import files
from ..folder import Place
from ..records import Opened
from . import archive_objects as objects
from .archive_making import Making, maker
from .archive_objects import KINDS, NDJSON, Form, Held, held
from .archive_rows import ArchiveRow, pack, rows_of

STAGED_LEVEL = 1  # of gzip: these bytes live for a minute
KNOWN_BYTES_MAX = 4 << 20  # of staged objects that a shard keeps, so as not to fetch them


@dataclass(frozen=True)
class Archive:
    """Where the records of one pipeline are archived, and how.

    max_bytes: an object is closed when so many compressed bytes are staged for it. max_age: seconds
    from its first record until it is closed.
    """

    place: Place
    pipeline: str
    form: Form
    max_bytes: int
    max_age: float

    def shard(self, shard_id: str, now: Callable[[], float] = time.monotonic) -> ShardArchive:
        """The sink of one shard, whose owner this process is."""
        return ShardArchive(self, shard_id, now)

    def final(self) -> FinalArchive:
        """The sink of a host that cannot come back later."""
        return FinalArchive(self)


@dataclass
class ArchiveCounts:
    """What one shard's archive has done since it was made, for metrics."""

    records: int = 0  # rows staged, repeats too
    objects: int = 0  # made for all to read
    bytes: int = 0  # of these


@dataclass
class _Hour:
    """The staged objects of one hour, by name, and when the first one was met."""

    since: float
    bytes: int = 0
    staged: dict[str, Held] = field(default_factory=dict)

    def add(self, part: Held) -> None:
        if part.name not in self.staged:
            self.staged[part.name] = part
            self.bytes += part.size

    def remove(self, name: str) -> None:
        self.bytes -= self.staged.pop(name).size


class ShardArchive:
    """A Sink of what was read of one shard; `roll` does the rest, in steps.

    Hand in all of a push at once: an object is named by its first and last position.
    """

    def __init__(self, archive: Archive, shard_id: str, now: Callable[[], float]) -> None:
        """Look nowhere yet; `now` gives seconds that never go back."""
        self.archive = archive
        self.shard_id = shard_id
        self.counts = ArchiveCounts()
        self._now = now
        self._looked = False
        self._hours: dict[str, _Hour] = {}
        self._known: dict[str, bytes] = {}
        self._known_bytes = 0
        self._making: tuple[str, list[str], Making] | None = None  # hour, what it is made of
        self._spent: list[str] = []  # staged objects whose rows are safe elsewhere

    def deliver(self, rows: Sequence[Opened]) -> None:
        """Stage one object for each hour; then the rows are safe."""
        for hour, of_hour in objects.hours(_rows(rows)).items():
            assert of_hour[0].shard_id == self.shard_id, of_hour[0].shard_id
            name = objects.staged_name(self.archive.pipeline, hour, of_hour)
            data = pack(of_hour, STAGED_LEVEL)
            self.archive.place.put(name, data, KINDS[NDJSON])
            self.counts.records += len(of_hour)
            self._note(name, len(data))
            if name not in self._known and self._known_bytes + len(data) <= KNOWN_BYTES_MAX:
                self._known[name] = data
                self._known_bytes += len(data)

    def flush(self) -> None:
        """Do nothing: nothing is held back."""

    def close(self) -> None:
        """Do nothing: what is staged is safe, and rolled by the next owner."""

    @property
    def staged_bytes(self) -> int:
        """Compressed bytes that are staged, as far as known."""
        return sum(hour.bytes for hour in self._hours.values())

    @property
    def empty(self) -> bool:
        """Whether nothing is left to roll, as far as known."""
        return self._looked and not (self._hours or self._making or self._spent)

    def due(self, closing: bool = False) -> bool:
        """Whether there is something to roll now; `closing`: everything staged counts as old."""
        if not self._looked or self._making or self._spent:
            return True
        return self._ripe(closing) is not None

    def roll(self, closing: bool = False) -> None:
        """Do one step of what is due.

        Raises:
            UnavailableError: it was refused; call again.
        """
        if not self._looked:
            self._look()
        elif self._spent:
            self._remove()
        elif self._making is not None:
            self._make()
        elif (hour := self._ripe(closing)) is not None:
            self._begin(hour)

    def _note(self, name: str, size: int) -> None:
        part = held(name, size)
        assert part is not None, name
        self._hours.setdefault(part.hour, _Hour(self._now())).add(part)

    def _look(self) -> None:
        """Find what an owner before has left staged."""
        archive = self.archive
        below = objects.staged_folder(archive.pipeline, self.shard_id)
        for part in objects.known(list(archive.place.sizes(below))):
            self._note(part.name, part.size)
        self._looked = True

    def _ripe(self, closing: bool) -> str | None:
        """The first hour of which an object is to be closed."""
        archive, now = self.archive, self._now()
        for name, hour in sorted(self._hours.items()):
            if closing or hour.bytes >= archive.max_bytes or now >= hour.since + archive.max_age:
                return name
        return None

    def _begin(self, hour: str) -> None:
        archive = self.archive
        folder = objects.made_folder(archive.pipeline, hour, self.shard_id)
        there = objects.known(list(archive.place.sizes(folder)))
        of_shard = files.segment(self.shard_id)
        covered = [(one.first, one.last) for one in there if one.shard == of_shard]
        parts: list[Held] = []
        staged = self._hours[hour].staged.values()
        for part in sorted(staged, key=lambda part: (part.first, part.last)):
            if sum(one.size for one in parts) >= archive.max_bytes:
                break
            parts.append(part)
        making = Making(
            archive.place, parts, folder, archive.form, covered=covered, known=self._known
        )
        self._making = hour, [part.name for part in parts], making

    def _make(self) -> None:
        assert self._making is not None
        hour, names, making = self._making
        if not making.step():
            return
        self.counts.objects += len(making.made)
        self.counts.bytes += sum(one.size for one in making.made)
        self._making = None
        self._spent = names
        left = self._hours[hour]
        for name in names:
            left.remove(name)
            self._known_bytes -= len(self._known.pop(name, b""))
        left.since = self._now()
        if not left.staged:
            del self._hours[hour]

    def _remove(self) -> None:
        self.archive.place.delete(self._spent)
        self._spent = []


class FinalArchive:
    """A Sink of what was read, which makes objects for all to read at once."""

    def __init__(self, archive: Archive) -> None:
        """Write nothing yet."""
        self.archive = archive
        self.counts = ArchiveCounts()

    def deliver(self, rows: Sequence[Opened]) -> None:
        """Write one object for each shard and hour."""
        archive = self.archive
        shards: dict[str, list[ArchiveRow]] = {}
        for row in _rows(rows):
            shards.setdefault(row.shard_id, []).append(row)
        for shard_id, of_shard in shards.items():
            for hour, of_hour in objects.hours(of_shard).items():
                folder = objects.made_folder(archive.pipeline, hour, shard_id)
                ends = of_hour[0].order, of_hour[-1].order
                name = objects.made_name(folder, *ends, archive.form)
                made = maker(archive.form)
                made.add(of_hour)
                data = made.close()
                archive.place.put(name, data, KINDS[archive.form])
                self.counts.records += len(of_hour)
                self.counts.objects += 1
                self.counts.bytes += len(data)

    def flush(self) -> None:
        """Do nothing: nothing is held back."""

    def close(self) -> None:
        """Do nothing: nothing is open between deliveries."""


def _rows(read: Sequence[Opened]) -> list[ArchiveRow]:
    return [row for opened in read for row in rows_of(opened)]
