"""Which parcels user records go in: one buffer a predicted shard, packed when it is full or due.

Shards are predicted as the KPL does it. What lands in another one than predicted is seen to here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

from .accounts import Accounts
from .buffer import (
    HEADS,
    KEYS_KNOWN_MAX,
    SIZE_BITS,
    Buffer,
    Key,
    Parcel,
    UserRecord,
    head_of,
    known,
)
from .kinesis import ENTRIES_MAX, Failed
from .outcomes import Counters, Outcome, RecordError
from .sender import Pauses, Sender, Sent
from .shard_map import UNKNOWN, ShardMap

CALL_BYTES_WORTH = 1 << 20  # packed records that are worth a call before they are due
WRONG_SHARD = "WrongShard"


class Packer:
    """Hands parcels to a sender, and sees to the outcomes of its calls.

    buffers: by shard. routes: what is known of partition keys, and their shards, while those stay.
    alone_max: bytes of data that are no record by themselves, whatever their key. due: when
    something is to be done, set anew after each round of sending.
    """

    def __init__(
        self,
        shards: ShardMap,
        sender: Sender,
        accounts: Accounts,
        counters: Counters,
        *,
        aggregate: bool,
        bytes_max: int,
        users_max: int,
        alone_max: int,
        linger_seconds: float,
        now: Callable[[], float],
        random: Callable[[], float],
    ) -> None:
        """Hold nothing; the arguments are those of the producer."""
        self.buffers: dict[str, Buffer] = {}
        self.routes: dict[str, tuple[Key, str]] = {}
        self.due = -math.inf
        self.bytes_max, self.users_max, self.alone_max = bytes_max, users_max, alone_max
        self._map, self._sender, self._accounts, self._counters = shards, sender, accounts, counters
        self._aggregate, self._linger, self._now = aggregate, linger_seconds, now
        self._blind = False  # the list of shards is known to be out of date
        self._look_at, self._pauses = math.inf, Pauses(random)
        self._astray: list[Sent] = []  # aggregates in a shard that was not predicted
        self._fresh_bytes = self._fresh_count = 0  # of parcels packed since the last call

    @property
    def first_due(self) -> float:
        """When the first of the buffers must be packed; infinity where there is none."""
        firsts = (buffer.since for buffer in self.buffers.values())
        return min(firsts, default=math.inf) + self._linger

    def take(self, user: UserRecord, key: Key) -> None:
        """Put a user record behind the others of its shard."""
        shard = self._shard(user.hash_key)
        if shard == UNKNOWN or not self._aggregate:
            return self._add(shard, Parcel.of([user], self._aggregate))
        buffer = self.buffers.get(shard)
        if buffer is None or not buffer.add(user, key, self.bytes_max):
            if buffer is not None:
                self.pack(shard)
            buffer = self.buffers[shard] = Buffer()
            buffer.add(user, key, None)
            self.due = min(self.due, user.since + self._linger)
        if buffer.bytes >= self.bytes_max or len(buffer.names) >= self.users_max:
            self.pack(shard)

    def holds(self, number: int) -> bool:
        """Whether the newest record was taken, which an exception in `take` leaves open.

        What is not whole of it is forgotten.
        """
        self.buffers = {name: one for name, one in self.buffers.items() if one.forget()}
        if any(buffer.numbers[-1] == number for buffer in self.buffers.values()):
            return True
        newest = [lane.queue[-1] for lane in self._sender.lanes.values() if lane.queue]
        return any(parcel.users[-1].number == number for parcel in newest)

    def _shard(self, hash_key: int) -> str:
        return UNKNOWN if self._blind else self._map.find(hash_key)

    def _route(self, partition_key: str) -> tuple[Key, str] | None:
        """What is known of a partition key, and its shard; None where `take` has to see to it."""
        try:
            key = known(partition_key)
        except RecordError:
            return None
        shard = self._shard(key.hash_key)
        if shard == UNKNOWN or not self._aggregate:
            return None
        if len(self.routes) >= KEYS_KNOWN_MAX:
            self.routes.clear()
        route = self.routes[partition_key] = key, shard
        return route

    def take_quickly(
        self,
        keys: Iterable[str],
        datas: Iterable[bytes],
        held_max: int,
        since: float,
        callback: Callable[[Outcome], object] | None,
    ) -> int:
        """Put records behind the others of their shards while nothing but buffers is concerned.

        The first that asks for more ends it: another shard, a full buffer, no room, no plain bytes.

        Args:
            held_max: memory for all of them. since, callback: of all.

        Returns:
            How many were taken; they are accounted for, also where a signal ends it.
        """
        routes, buffers, heads = self.routes, self.buffers, HEADS
        bytes_max, rows_max, alone_max = self.bytes_max, 2 * self.users_max - 2, self.alone_max
        held = more = 0
        first = number = self._counters.user_records_put
        try:
            for key, data in zip(keys, datas, strict=True):
                route = routes.get(key) or self._route(key)
                if route is None or type(data) is not bytes:
                    break
                of, shard = route
                buffer = buffers.get(shard)
                size = len(data)
                more = held + size + of.cost
                if buffer is None or more > held_max or size > alone_max:
                    break
                places, rows = buffer.places, buffer.rows
                place = places.get(key)
                total = buffer.bytes + size
                if new := place is None:
                    place = len(places)
                    total += len(of.field)
                head = heads.get(place << SIZE_BITS | size) or head_of(place, size)
                total += len(head)
                if total >= bytes_max or len(rows) >= rows_max:
                    break
                buffer.bytes = total
                if new:
                    buffer.keys[place:] = [of.field]  # in place of what a signal has left there
                    places[key] = place
                buffer.names.append(key)
                buffer.numbers.append(number)
                rows += (head, data)  # from here on it is taken, whatever signal comes
                held = more
                number += 1
        finally:
            taken = sum(buffer.note(since, callback) for buffer in buffers.values())
            held = more if taken > number - first else held
            self._accounts.held += held
            self._counters.user_records_put += taken
        return taken

    def pack(self, shard: str) -> None:
        """Make a parcel of a buffer."""
        self._add(shard, Parcel(self.buffers.pop(shard), True))

    def pack_due(self, now: float, everything: bool) -> None:
        """Make parcels of the buffers that are due, or of all, before a call is made."""
        for shard, buffer in list(self.buffers.items()):
            if everything or buffer.since + self._linger <= now:
                self.pack(shard)
        self._fresh_bytes = self._fresh_count = 0

    def _add(self, shard: str, parcel: Parcel) -> None:
        self._sender.add(shard, parcel)
        self._fresh_bytes += parcel.size
        self._fresh_count += 1
        worth = self._fresh_bytes >= CALL_BYTES_WORTH or self._fresh_count >= ENTRIES_MAX
        self.due = -math.inf if worth else min(self.due, parcel.since + self._linger)

    def settle(self, sent: list[Sent]) -> None:
        """See to the outcomes of one call."""
        counters = self._counters
        counters.calls += 1
        for shard, parcel, outcome in sent:
            if isinstance(outcome, Failed):
                counters.errors[outcome.code] += 1
                counters.retries += 1
                self._accounts.note(parcel, outcome.code, outcome.message)
                continue
            counters.kinesis_records += 1
            counters.bytes += parcel.size
            if shard in (UNKNOWN, outcome.shard_id):
                self._accounts.placed(parcel, outcome)
            elif parcel.count == 1:  # its own hash key has chosen the shard
                self._accounts.placed(parcel, outcome)
                self._look_at = min(self._look_at, self._now() + self._pauses.next())
            else:
                self._astray.append(Sent(shard, parcel, outcome))
        last = sent[-1].outcome
        counters.calls_unanswered += isinstance(last, Failed) and not last.known
        if self._astray:
            self._look()

    def look(self, now: float) -> None:
        """List the shards, where it is time for that."""
        if self._map.due or self._astray or now >= self._look_at:
            self._look()

    def _look(self) -> None:
        """List the shards, and see to aggregates in a shard that was not predicted.

        Where a user record lies outside the range of the shard that took its aggregate, all of it
        goes again, before any later record of its keys: a KCL drops such an aggregate whole. Where
        the new list does not know that shard either, it is not to be relied on: until it changes
        records go alone, for what is alone cannot go astray.
        """
        before, blind = self._map.ranges, self._blind
        self._map.refresh()
        ranges = self._map.ranges
        changed = ranges != before
        self._blind = blind and not changed
        again: list[UserRecord] = []
        for shard, parcel, placed in self._astray:
            assert not isinstance(placed, Failed)
            there = ranges.get(placed.shard_id)
            if there and all(there.first <= user.hash_key <= there.last for user in parcel.users):
                self._accounts.placed(parcel, placed)
                continue
            self._counters.wrong_shard += 1
            self._accounts.note(parcel, WRONG_SHARD, f"expected {shard}, found {placed.shard_id}")
            again += parcel.users
            self._blind = self._blind or there is None or not changed
        self._astray = []
        if changed:
            self._pauses.clear()
        self._look_at = self._now() + self._pauses.next() if self._blind else math.inf
        if again or changed or self._blind != blind:
            self.routes.clear()
            for user in sorted([*again, *self.take_out()], key=lambda user: user.number):
                self.take(user, known(user.partition_key))

    def take_out(self) -> list[UserRecord]:
        """Take out all user records that are on their way."""
        users = [user for parcel in self._sender.drain() for user in parcel.users]
        users += [user for buffer in self.buffers.values() for user in buffer.users]
        users += [user for sent in self._astray for user in sent.parcel.users]
        self.buffers, self._astray = {}, []
        return users
