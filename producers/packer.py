"""Which parcels user records go in: one buffer a predicted shard, packed when it is full or due.

Shards are predicted as the KPL does it. What lands in another one than predicted is seen to here.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from .accounts import Accounts
from .buffer import KEYS_KNOWN_MAX, Buffer, Key, Parcel, UserRecord, cost, known
from .kinesis import ENTRIES_MAX, Failed
from .outcomes import Counters
from .sender import Pauses, Sender, Sent
from .shard_map import UNKNOWN, ShardMap

CALL_BYTES_WORTH = 256 << 10  # packed records that are worth a call before they are due
WRONG_SHARD = "WrongShard"


class Packer:
    """Hands parcels to a sender, and sees to the outcomes of its calls.

    buffers: by shard. routes: what is known of partition keys, and their shards, while those stay.
    due: when something is to be done, set anew after each round of sending.
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
        linger_seconds: float,
        now: Callable[[], float],
        random: Callable[[], float],
    ) -> None:
        """Hold nothing; the arguments are those of the producer."""
        self.buffers: dict[str, Buffer] = {}
        self.routes: dict[str, tuple[Key, str]] = {}
        self.due = -math.inf
        self.bytes_max, self.users_max = bytes_max, users_max
        self._map, self._sender, self._accounts, self._counters = shards, sender, accounts, counters
        self._aggregate, self._linger, self._now = aggregate, linger_seconds, now
        self._blind = False  # the list of shards is known to be out of date
        self._look_at, self._pauses = math.inf, Pauses(random)
        self._astray: list[Sent] = []  # aggregates in a shard that was not predicted
        self._fresh_bytes = self._fresh_count = 0  # of parcels packed since the last call

    @property
    def first_due(self) -> float:
        """When the first of the buffers must be packed; infinity where there is none."""
        firsts = (buffer.users[0].since for buffer in self.buffers.values())
        return min(firsts, default=math.inf) + self._linger

    def take(self, user: UserRecord, key: Key) -> None:
        """Put a user record behind the others of its shard."""
        shard = UNKNOWN if self._blind else self._map.find(user.hash_key)
        if shard == UNKNOWN or not self._aggregate:
            return self._add(shard, Parcel.of([user], self._aggregate))
        buffer = self.buffers.get(shard)
        size = cost(user.partition_key, user.data)
        if buffer is None or not buffer.add(user, key, size, self.bytes_max):
            if buffer is not None:
                self.pack(shard)
            buffer = self.buffers[shard] = Buffer()
            buffer.add(user, key, size, None)
            self.due = min(self.due, user.since + self._linger)
        if user.explicit_hash_key is None:
            if len(self.routes) >= KEYS_KNOWN_MAX:
                self.routes.clear()
            self.routes[user.partition_key] = key, shard
        if buffer.bytes >= self.bytes_max or len(buffer.users) >= self.users_max:
            self.pack(shard)

    def pack(self, shard: str) -> None:
        """Make a parcel of a buffer."""
        self._add(shard, Parcel(self.buffers.pop(shard), True))

    def pack_due(self, now: float, everything: bool) -> None:
        """Make parcels of the buffers that are due, or of all, before a call is made."""
        for shard, buffer in list(self.buffers.items()):
            if everything or buffer.users[0].since + self._linger <= now:
                self.pack(shard)
        self._fresh_bytes = self._fresh_count = 0

    def _add(self, shard: str, parcel: Parcel) -> None:
        self._sender.add(shard, parcel)
        self._fresh_bytes += parcel.size
        self._fresh_count += 1
        worth = self._fresh_bytes >= CALL_BYTES_WORTH or self._fresh_count >= ENTRIES_MAX
        self.due = -math.inf if worth else min(self.due, parcel.users[0].since + self._linger)

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
            elif len(parcel.users) == 1:  # its own hash key has chosen the shard
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
