"""A stream whose shards are split and merged while it is written, each device's order kept.

A user record goes to the shard that holds the MD5 of its partition key at that moment, as Kinesis
has it, so a device's records lie in one shard at a time, and in its descendants later on.
"""

from __future__ import annotations

import hashlib
import itertools
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import drive
import plain_kpl
from memory_stream import MemoryStream
from plain_kpl import Kinesis, User

KEYS = 1 << 128


@dataclass
class Resharded:
    """Records of each shard in order; parents of each; those that are closed, in that order."""

    records: dict[str, list[Kinesis]] = field(default_factory=dict)
    parents: dict[str, tuple[str, ...]] = field(default_factory=dict)
    closed: list[str] = field(default_factory=list)

    @property
    def in_order(self) -> list[Kinesis]:
        """All records, each device's as they were written: parents first."""
        return [one for of in self.records.values() for one in of]

    def stream(self, rng: random.Random, limit: int = 9) -> MemoryStream:
        held = {name: [drive.record(one) for one in of] for name, of in self.records.items()}
        return MemoryStream(
            held, random=rng, limit=limit, closed=set(self.closed), parents=self.parents
        )


class Shards:
    """The open shards by the range of hash keys, the upper end not in it."""

    def __init__(self, made: Resharded) -> None:
        self.made = made
        self.open: list[tuple[int, int, str]] = []
        self._numbers = itertools.count()

    def add(self, low: int, high: int, *parents: str) -> None:
        name = f"shardId-{next(self._numbers):012}"
        self.open.append((low, high, name))
        self.open.sort()
        self.made.records[name] = []
        self.made.parents[name] = parents
        self.made.closed += parents

    def of(self, key: bytes) -> str:
        at = int.from_bytes(hashlib.md5(key).digest(), "big")
        return next(name for low, high, name in self.open if low <= at < high)

    def split(self, at: int) -> None:
        low, high, name = self.open.pop(at)
        middle = (low + high) // 2
        self.add(low, middle, name)
        self.add(middle, high, name)

    def merge(self, at: int) -> None:
        (low, _, name), (_, high, other) = self.open.pop(at), self.open.pop(at)
        self.add(low, high, name, other)


def resharded(
    users: Sequence[User], changes: Iterator[str], pieces: Iterator[int], start: int = 1
) -> Resharded:
    """Lay user records out over shards, packed; before each one comes a change, or "" for none.

    A change is "split N" or "merge N", N being the place among the open shards. Sequence numbers
    grow over the whole stream.
    """
    made = Resharded()
    shards = Shards(made)
    for number in range(start):
        shards.add(KEYS * number // start, KEYS * (number + 1) // start)
    told: dict[str, list[User]] = {}
    for number, user in enumerate(users, 1):
        what, _, place = next(changes).partition(" ")
        if what == "split":
            shards.split(int(place) % len(shards.open))
        elif what == "merge" and len(shards.open) > 1:
            shards.merge(int(place) % (len(shards.open) - 1))
        name = shards.of(user.key)
        told.setdefault(name, []).append(user._replace(shard=name, sequence=str(number)))
    first = 1
    for name in made.records:
        of = plain_kpl.repacked(told.get(name, []), pieces, first)
        made.records[name] = of
        first += len(of)
    return made
