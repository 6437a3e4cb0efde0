"""The aggregating producer: user records to a stream, packed as the KPL packs them.

    from streamgauge.engine.aws import Service
    from streamgauge.producers.aggregator import Producer

    with Producer("telemetry", Service("kinesis")) as producer:
        for device, payload in readings:
            producer.put(device, payload)

There is one buffer for each shard that records are predicted to go to, so that every aggregate lies
in one shard's range: a KCL drops the others whole. While the shards are not known records go out
alone. A buffer is packed when it is full or its first record is due.

Records of one partition key reach the stream in the order of their puts. Of a shard at most one
Kinesis record is on its way, and what was refused goes again before what comes after it; the price
is one Kinesis record a shard and call. `ordered=False` packs calls full instead.

Nothing is sent but inside `put`, `tick`, `flush` and `close`: a caller that may be silent for
longer than `linger_seconds` calls `tick` in between. Not for several threads at once.

Sources of the format and of its rules: the KPL's aggregation-format.md and its shard prediction.
"""

from __future__ import annotations

import random as random_module
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Self

from ..engine.aws import Service
from ..engine.errors import UnavailableError
from ..engine.kpl import HASH_KEYS, hash_key
from .buffer import Buffer, Outgoing, UserRecord
from .kinesis import (
    CALL_BYTES_MAX,
    ENTRIES_MAX,
    KEY_CHARACTERS_MAX,
    RECORD_BYTES_MAX,
    Failed,
    KinesisWriter,
    Placed,
)
from .outcomes import BufferFullError, Counters, ExpiredError, RecordError
from .shard_map import PAUSE_SECONDS_FIRST, PAUSE_SECONDS_MAX, UNKNOWN, ShardMap

AGGREGATE_BYTES_MAX = 51_200  # as the KPL has it
AGGREGATE_USERS_MAX = 10_000
LINGER_SECONDS = 0.1
BUFFER_BYTES_MAX = 64 << 20  # of user records that are not in the stream yet
LIVE_SECONDS_MAX = 900.0  # of a user record, until it is handed back
SLEEP_SECONDS_MAX = 1.0


class _Lane:
    """What waits for one shard, in order."""

    def __init__(self) -> None:
        self.buffer = Buffer()
        self.queue: deque[Outgoing] = deque()
        self.due = 0.0  # when the buffer must be packed
        self.wait_until = 0.0
        self.pause = PAUSE_SECONDS_FIRST

    @property
    def users(self) -> Iterator[UserRecord]:
        for outgoing in self.queue:
            yield from outgoing.users
        yield from self.buffer.users

    def close(self) -> None:
        """Pack what is in the buffer."""
        if len(self.buffer):
            self.queue.append(self.buffer.pack())
            self.buffer = Buffer()


class Producer:
    """Puts user records into one stream, aggregated, in order, and none lost.

    counters: what it has done. A record is on its way from `put` until `report` tells its place.
    """

    def __init__(
        self,
        stream: str,
        service: Service,
        *,
        aggregate: bool = True,
        ordered: bool = True,
        aggregate_bytes_max: int = AGGREGATE_BYTES_MAX,
        aggregate_users_max: int = AGGREGATE_USERS_MAX,
        record_bytes_max: int = RECORD_BYTES_MAX,
        linger_seconds: float = LINGER_SECONDS,
        live_seconds_max: float = LIVE_SECONDS_MAX,
        buffer_bytes_max: int = BUFFER_BYTES_MAX,
        wait_for_room: bool = True,
        report: Callable[[UserRecord, Placed], None] | None = None,
        now: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], object] = time.sleep,
        random: Callable[[], float] = random_module.random,
    ) -> None:
        """Do nothing yet; the shards are listed at the first put.

        Args:
            stream: name or ARN. service: `kinesis`.
            aggregate: False sends each user record alone. ordered: see above.
            aggregate_bytes_max, aggregate_users_max: an aggregate is packed before it passes these.
            record_bytes_max: of a user record with its key; the stream's own limit.
            linger_seconds: the longest a user record waits for others.
            live_seconds_max: a user record that is not in the stream by then is handed back.
            buffer_bytes_max: of all that is on its way. wait_for_room: False raises BufferFullError
                where it is reached, instead of sending until there is room.
            report: told the place of each user record. now, sleep, random: handed in by tests.
        """
        self.counters = Counters()
        self._writer = KinesisWriter(service, stream)
        self._aggregate, self._ordered = aggregate, ordered
        self._bytes_max, self._users_max = aggregate_bytes_max, aggregate_users_max
        self._record_bytes_max = record_bytes_max
        self._linger, self._live = linger_seconds, live_seconds_max
        self._buffer_max, self._wait_for_room = buffer_bytes_max, wait_for_room
        self._report = report
        self._now, self._sleep, self._random = now, sleep, random
        self._lanes: dict[str, _Lane] = {}
        self._held = 0  # bytes of the user records on their way
        self._map = ShardMap(self._writer, now, random)

    def __enter__(self) -> Self:
        """The producer itself."""
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        """Put everything; after an exception, what can be put at once."""
        if kind is None:
            self.close()

    @property
    def buffered_bytes(self) -> int:
        """Bytes of the user records that are on their way."""
        return self._held

    def put(
        self,
        partition_key: str,
        data: bytes,
        explicit_hash_key: int | None = None,
        token: Any = None,
    ) -> None:
        """Take one user record.

        Args:
            partition_key: 1 to 256 characters. data: its bytes.
            explicit_hash_key: chooses the shard in place of the key's MD5; 0 .. 2**128 - 1.
            token: comes back with `report`.

        Raises:
            RecordError: Kinesis can never take it; the other records are not concerned.
            BufferFullError: there is no room (only without `wait_for_room`).
            ExpiredError: other records could not be put in time; this one is taken.
            StreamgaugeError: the stream refuses for good.
        """
        user = self._checked(partition_key, data, explicit_hash_key, token)
        if self._held + user.size > self._buffer_max:
            self._make_room(user.size)
        self._held += user.size
        self.counters.user_records_put += 1
        self._take(user)
        self.tick()

    def put_many(self, records: Iterable[tuple[str, bytes]]) -> None:
        """Take several: partition key and data of each, in order; as `put`, once for each."""
        for partition_key, data in records:
            self.put(partition_key, data)

    def tick(self) -> float:
        """Send what is due; seconds until something will be.

        Raises:
            ExpiredError: records could not be put in time. StreamgaugeError: refused for good.
        """
        now = self._now()
        for lane in self._lanes.values():
            if len(lane.buffer) and lane.due <= now:
                lane.close()
        while batch := self._batch():
            self._send(batch)
        self._expire()
        times = [lane.wait_until if lane.queue else lane.due for lane in self._lanes.values()
                 if lane.queue or len(lane.buffer)]  # fmt: skip
        return max(0.0, min(times, default=now + self._linger) - self._now())

    def flush(self) -> None:
        """Return once everything is in the stream; raises as `tick` does."""
        while self._held:
            for lane in self._lanes.values():
                lane.close()
            pause = self.tick()
            if self._held and pause > 0:
                self._sleep(min(pause, SLEEP_SECONDS_MAX))

    def close(self) -> None:
        """Flush; there is nothing else to release."""
        self.flush()

    def _checked(
        self, partition_key: str, data: bytes, explicit: int | None, token: Any
    ) -> UserRecord:
        if not 1 <= len(partition_key) <= KEY_CHARACTERS_MAX:
            raise RecordError(
                f"partition key: expected 1 to {KEY_CHARACTERS_MAX} characters,"
                f" found {len(partition_key)}"
            )
        try:
            key = partition_key.encode()
        except UnicodeEncodeError as error:
            raise RecordError(f"partition key: no text that UTF-8 holds: {error.reason}") from None
        if explicit is not None and not 0 <= explicit < HASH_KEYS:
            raise RecordError(f"explicit hash key {explicit} is outside 0 .. 2**128 - 1")
        if len(key) + len(data) > self._record_bytes_max:
            raise RecordError(
                f"record of {partition_key[:60]!r}: {len(key) + len(data)} bytes with its key,"
                f" expected at most {self._record_bytes_max}"
            )
        number = hash_key(key) if explicit is None else explicit
        return UserRecord(partition_key, data, explicit, number, self._now(), token)

    def _make_room(self, size: int) -> None:
        if not self._wait_for_room:
            raise BufferFullError(
                f"{self._held} bytes wait to be put, of at most {self._buffer_max}"
            )
        while self._held and self._held + size > self._buffer_max:
            for lane in self._lanes.values():
                lane.close()
            pause = self.tick()
            if self._held + size > self._buffer_max and pause > 0:
                self._sleep(min(pause, SLEEP_SECONDS_MAX))

    def _take(self, user: UserRecord) -> None:
        """Put a user record behind the others of its shard."""
        if self._map.due:
            self._refresh()
        shard = self._map.find(user.hash_key)
        lane = self._lanes.get(shard)
        if lane is None:
            lane = self._lanes[shard] = _Lane()
        if shard == UNKNOWN or not self._aggregate:
            lane.queue.append(Outgoing.of((user,)))
            return
        if len(lane.buffer) and lane.buffer.with_another(user) > self._bytes_max:
            lane.close()
        buffer = lane.buffer
        if not len(buffer):
            lane.due = user.since + self._linger
        buffer.add(user)
        if buffer.bytes >= self._bytes_max or len(buffer) >= self._users_max:
            lane.close()

    def _refresh(self) -> None:
        """List the shards; what waits for one that is not open any more is predicted anew."""
        self._map.refresh()
        for user in self._left(()):
            self._take(user)  # before any later record of its key

    def _left(self, shards: Iterable[str]) -> list[UserRecord]:
        """Take what waits for these shards, and for all that are not known to be open, in order.

        Later records of a key go to another shard by now: the earlier ones must go before them.
        """
        ranges = self._map.ranges
        closed = [one for one in self._lanes if ranges and one not in ranges]
        left: list[UserRecord] = []
        for shard in dict.fromkeys((*shards, *closed)):
            lane = self._lanes.pop(shard, None)
            left += lane.users if lane is not None else ()
        return left

    def _batch(self) -> list[tuple[str, Outgoing]]:
        """What the next call puts: the first of each shard that need not wait, or what fits."""
        now, found, size = self._now(), list[tuple[str, Outgoing]](), 0
        for shard, lane in self._lanes.items():
            if lane.wait_until > now:
                continue
            for outgoing in lane.queue:
                size += outgoing.put.size
                if len(found) == ENTRIES_MAX or (found and size > CALL_BYTES_MAX):
                    return found
                found.append((shard, outgoing))
                if self._ordered:
                    break
        return found

    def _send(self, batch: list[tuple[str, Outgoing]]) -> None:
        """Put a batch; what was refused stays where it was, at the head of its shard."""
        self.counters.calls += 1
        try:
            outcomes = self._writer.put([outgoing.put for _, outgoing in batch])
        except UnavailableError as error:
            self.counters.calls_unanswered += 1
            self.counters.errors[type(error).__name__] += 1
            for shard in {shard for shard, _ in batch}:
                self._put_off(self._lanes[shard])
            return
        astray: list[tuple[str, Outgoing, Placed]] = []
        for (shard, outgoing), outcome in zip(batch, outcomes, strict=True):
            lane = self._lanes[shard]
            if isinstance(outcome, Failed):
                self.counters.errors[outcome.code] += 1
                self.counters.retries += 1
                if lane.wait_until <= self._now():
                    self._put_off(lane)
                continue
            lane.queue.remove(outgoing)
            lane.pause = PAUSE_SECONDS_FIRST
            self.counters.kinesis_records += 1
            self.counters.bytes += outgoing.put.size
            if shard not in (UNKNOWN, outcome.shard_id):
                astray.append((shard, outgoing, outcome))
            else:
                self._placed(outgoing, outcome)
        if astray:
            self._find(astray)

    def _put_off(self, lane: _Lane) -> None:
        """Let a shard wait, with full jitter."""
        lane.wait_until = self._now() + self._random() * lane.pause
        lane.pause = min(2 * lane.pause, PAUSE_SECONDS_MAX)

    def _find(self, astray: list[tuple[str, Outgoing, Placed]]) -> None:
        """See to records that went to another shard than predicted.

        Where a user record lies outside the range of the shard that took it, all of its aggregate
        go again: a KCL drops such an aggregate whole. The shard predicted is likely closed: what
        waits for it is predicted anew, in its order, behind them.
        """
        self._map.refresh()
        ranges = self._map.ranges
        again: list[UserRecord] = []
        for _, outgoing, placed in astray:
            there = ranges.get(placed.shard_id)
            if there is not None and all(
                there.first <= user.hash_key <= there.last for user in outgoing.users
            ):
                self._placed(outgoing, placed)
            else:
                self.counters.wrong_shard += 1
                again += outgoing.users
        again += self._left(shard for shard, _, _ in astray)
        for user in again:
            self._take(user)

    def _placed(self, outgoing: Outgoing, placed: Placed) -> None:
        self.counters.user_records_placed += len(outgoing.users)
        for user in outgoing.users:
            self._held -= user.size
            if self._report is not None:
                self._report(user, placed)

    def _expire(self) -> None:
        """Hand back what is too old; a shard's later records stay."""
        oldest = self._now() - self._live
        back: list[UserRecord] = []
        for lane in self._lanes.values():
            while lane.queue and lane.queue[0].users[0].since < oldest:
                users = lane.queue.popleft().users
                back += users
        if back:
            self.counters.expired += len(back)
            self._held -= sum(user.size for user in back)
            codes = ", ".join(f"{code} {times}" for code, times in self.counters.errors.items())
            raise ExpiredError(
                f"stream {self._writer.stream}: {len(back)} records could not be put within"
                f" {self._live:g} s; errors so far: {codes}",
                back,
            )
