"""The aggregating producer: user records to a stream, packed as the KPL packs them.

    from streamgauge.engine.aws import Service
    from streamgauge.producers.aggregator import Producer

    def done(outcome):  # optional: told what became of each record
        if outcome.placed is None:
            spool(outcome.user, outcome.attempts)

    with Producer("telemetry", Service("kinesis")) as producer:
        for device, payload in readings:
            producer.put(device, payload, callback=done)

What `put` takes reaches the stream, or is handed back with the history of its attempts; where `put`
raises, whatever it is, this record was not taken.

There is one buffer for each shard that records are predicted to go to, so that every aggregate lies
in one shard's range: a KCL drops the others whole. While the shards are not known records go out
alone. Records of one partition key reach a shard in the order of their puts, whatever fails;
`ordered=False` gives that up and fills calls better.

Nothing is sent but inside `put`, `put_many`, `tick`, `flush` and `close`: a caller that may be
silent for longer than `linger_seconds` calls `tick` as often as that, or as it says; or it takes
background.py, which has a thread for it. Not for several threads at once. docs/producer.md has the
guarantees, the limits and what differs from the KPL, whose aggregation-format.md, shard prediction
and retries are the source.
"""

from __future__ import annotations

import math
import random as random_module
import time
from collections.abc import Callable, Sequence
from typing import Any, Self

from ..engine.aws import Service
from ..engine.errors import StreamgaugeError
from ..engine.kpl import HASH_KEYS, MAGIC
from . import kinesis
from .accounts import Accounts
from .buffer import (
    OUTER_KEY,
    Key,
    Parcel,
    UserRecord,
    cost,
    known,
)
from .kinesis import KinesisWriter
from .outcomes import BufferFullError, Counters, Outcome, RecordError, SomeRefusedError
from .packer import Packer
from .rate import RATE
from .sender import Sender
from .shard_map import ShardMap

AGGREGATE_BYTES_MAX = 51_200  # as the KPL has it
AGGREGATE_USERS_MAX = 10_000
LINGER_SECONDS = 0.1
BUFFER_BYTES_MAX = 64 << 20  # of user records that are not in the stream yet
LIVE_SECONDS_MAX = 900.0  # of a user record, until it is handed back
EXIT_SECONDS_MAX = 9.0  # for what is on its way when a `with` is left by an exception or a signal
SLEEP_SECONDS_MAX = 1.0
QUICK_RECORDS = 500  # of `put_many` between two looks at the clock
WRAPPED_BYTES = 80  # of a lone record that is made an aggregate, beside its data; a bound

Callback = Callable[[Outcome], object]


class Producer:
    """Puts user records into one stream, aggregated, in order, and none lost.

    counters: what it has done.
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
        record_bytes_max: int = kinesis.RECORD_BYTES_MAX,
        call_bytes_max: int = kinesis.CALL_BYTES_MAX,
        rate: float | None = RATE,
        linger_seconds: float = LINGER_SECONDS,
        live_seconds_max: float = LIVE_SECONDS_MAX,
        buffer_bytes_max: int = BUFFER_BYTES_MAX,
        wait_for_room: bool = True,
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
            call_bytes_max: of one PutRecords call; up to 10 MiB where the endpoint takes that.
            rate: the most that a shard is given, in what it takes (1,000 records and 1 MiB a
                second); None does not limit it.
            linger_seconds: the longest a user record waits for others.
            live_seconds_max: a user record that is not in the stream by then is handed back.
            buffer_bytes_max: memory of all that is on its way. wait_for_room: False raises
                BufferFullError where it is reached, instead of sending until there is room.
            now, sleep, random: handed in by tests.
        """
        self.counters = Counters()
        writer = KinesisWriter(service, stream)
        self._stream, self._aggregate = stream, aggregate
        self._record_bytes_max = record_bytes_max
        plain_max = record_bytes_max - 4 * kinesis.KEY_CHARACTERS_MAX - WRAPPED_BYTES
        self._linger, self._live = linger_seconds, live_seconds_max
        self._buffer_max, self._wait_for_room = buffer_bytes_max, wait_for_room
        self._now, self._sleep = now, sleep
        self._accounts = Accounts(stream, self.counters, now)
        self._sender = Sender(
            writer, self.counters, ordered=ordered, call_bytes_max=call_bytes_max, rate=rate,
            now=now, random=random,
        )  # fmt: skip
        self._packer = Packer(
            ShardMap(writer, now, random), self._sender, self._accounts, self.counters,
            bytes_max=min(aggregate_bytes_max, record_bytes_max - len(OUTER_KEY)),
            users_max=aggregate_users_max, alone_max=plain_max, aggregate=aggregate,
            linger_seconds=linger_seconds, now=now, random=random,
        )  # fmt: skip
        self._closed = False

    def __enter__(self) -> Self:
        """The producer itself."""
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        """Close; after an exception for at most EXIT_SECONDS_MAX."""
        self.close(math.inf if kind is None else EXIT_SECONDS_MAX)

    @property
    def buffered_bytes(self) -> int:
        """Memory of the user records that are on their way, with an overhead for each."""
        return self._accounts.held

    @property
    def buffered_records(self) -> int:
        """The number of user records that are on their way."""
        told = self.counters
        return told.user_records_put - told.user_records_placed - told.expired

    def put(
        self,
        partition_key: str,
        data: bytes,
        explicit_hash_key: int | None = None,
        *,
        callback: Callback | None = None,
    ) -> None:
        """Take one user record; after an exception of those below it is not taken.

        Where a signal's handler raises, `counters.user_records_put` tells.

        Args:
            partition_key: 1 to 256 characters. data: its bytes.
            explicit_hash_key: chooses the shard in place of the key's MD5; 0 .. 2**128 - 1.
            callback: told the outcome, once. It may put records itself.

        Raises:
            RecordError: Kinesis can never take it; the other records are not concerned.
            BufferFullError: there is no room (only without `wait_for_room`).
            HandedBackError: others, put before, could not be sent in time.
            StreamgaugeError: the stream refuses for good, or the producer is closed.
        """
        if self._closed:
            raise StreamgaugeError(f"stream {self._stream}: the producer is closed")
        try:
            key = self._checked(partition_key, data, explicit_hash_key)
        except RecordError:
            self.counters.refused += 1
            raise
        if self._now() >= self._packer.due:
            self.tick()
        size = cost(partition_key, data)
        if self._accounts.held and self._accounts.held + size > self._buffer_max:
            self._make_room(size)
        number = key.hash_key if explicit_hash_key is None else explicit_hash_key
        order, since = self.counters.user_records_put, self._now()
        user = UserRecord(partition_key, data, explicit_hash_key, number, order, since, callback)
        before = self._accounts.held
        try:
            self._accounts.held = before + size
            self.counters.user_records_put = order + 1
            self._packer.take(user, key)
        except BaseException:  # a signal; what is not there is not waited for
            if not self._packer.holds(order):
                self._accounts.held, self.counters.user_records_put = before, order
            raise

    def put_many(
        self,
        keys: Sequence[str],
        datas: Sequence[bytes],
        explicit_hash_keys: Sequence[int | None] | None = None,
        *,
        callback: Callback | None = None,
    ) -> None:
        """Take several user records, in order, as `put` takes each, but faster.

        Raises:
            SomeRefusedError: some can never be put; all others were taken.
            ValueError: the sequences differ in length; none was taken.
            StreamgaugeError: as `put`; how many were taken, `counters.user_records_put` tells.
        """
        keys, datas = as_list(keys), as_list(datas)
        hashes = [None] * len(keys) if explicit_hash_keys is None else as_list(explicit_hash_keys)
        if not len(keys) == len(datas) == len(hashes):
            more = "" if explicit_hash_keys is None else f" and {len(hashes)} explicit hash keys"
            raise ValueError(f"{len(keys)} partition keys for {len(datas)} data{more}")
        refused: dict[int, RecordError] = {}
        index = 0
        while index < len(keys):
            if explicit_hash_keys is None:
                index += self._take_quickly(keys, datas, index, callback)
                if index == len(keys):
                    break
            try:
                self.put(keys[index], datas[index], hashes[index], callback=callback)
            except RecordError as error:
                refused[index] = error
            index += 1
        for first, why in refused.items():
            what = f"{len(refused)} of {len(keys)} records can never be put; number {first}: {why}"
            raise SomeRefusedError(what, refused)

    def _take_quickly(
        self, keys: Sequence[str], datas: Sequence[bytes], index: int, callback: Callback | None
    ) -> int:
        """Take records from `index` on while nothing but a buffer is concerned; how many.

        The first that asks for more is left to `put`: another shard, a full buffer, no room.
        """
        now, end = self._now(), index + QUICK_RECORDS
        if self._closed or now >= self._packer.due:
            return 0
        return self._packer.take_quickly(
            keys[index:end],
            datas[index:end],
            self._buffer_max - self._accounts.held,
            now,
            callback,
        )

    def tick(self) -> float:
        """Send what is due; seconds until something will be.

        Raises:
            HandedBackError: records could not be put in time. StreamgaugeError: refused for good.
        """
        pause = self._step(everything=False)
        self._accounts.claim()
        return pause

    def flush(self, seconds_max: float = math.inf) -> bool:
        """Send until nothing is on its way, at most for so long; whether that was reached.

        Raises as `tick` does, records that were handed back at the end.
        """
        self._drain(0, seconds_max)
        self._accounts.claim()
        return not self._accounts.held

    def close(self, seconds_max: float = math.inf) -> None:
        """Flush, and hand back what is not sent in time; puts are refused from then on.

        Raises as `flush` does. Where the stream refuses for good nothing is given up: call again.
        """
        if not self._closed:
            self._drain(0, seconds_max)
            self._closed = True
            self._accounts.hand_back(self._packer.take_out())
            self._accounts.tell()
        self._accounts.claim()

    def _drain(self, held_max: int, seconds_max: float) -> None:
        end = self._now() + seconds_max
        while self._accounts.held > held_max:
            pause = self._step(everything=True)
            left = end - self._now()
            if self._accounts.held <= held_max or left <= 0:
                return
            self._sleep(min(pause, left, SLEEP_SECONDS_MAX))

    def _make_room(self, size: int) -> None:
        self.counters.waits_for_room += 1
        room = max(0, self._buffer_max - size)
        self._drain(room, math.inf if self._wait_for_room else 0.0)
        self._accounts.claim()
        if self._accounts.held > room:
            held = f"{self._accounts.held} bytes wait to be put, of at most {self._buffer_max}"
            raise BufferFullError(f"stream {self._stream}: {held}")

    def _checked(self, partition_key: str, data: bytes, explicit: int | None) -> Key:
        """What is known of the partition key of a record that Kinesis can take."""
        key = known(partition_key)
        if not isinstance(data, bytes):
            raise RecordError(f"data: expected bytes, found {type(data).__name__}")
        if explicit is not None and not 0 <= explicit < HASH_KEYS:
            raise RecordError(f"explicit hash key {explicit} is outside 0 .. 2**128 - 1")
        size = key.size + len(data)
        if self._aggregate and data.startswith(MAGIC):  # alone it is made an aggregate
            size = Parcel.of([UserRecord(partition_key, data, explicit, 0)], True).size
        if size > self._record_bytes_max:
            found = f"{size} bytes with its key, expected at most {self._record_bytes_max}"
            raise RecordError(f"record of {partition_key[:60]!r}: {found}")
        return key

    def _step(self, everything: bool) -> float:
        """Send what is packed and what is due, or everything; tell; seconds until the next."""
        now, packer = self._now(), self._packer
        packer.due = -math.inf  # until all of it went well
        try:
            packer.look(now)
            while True:
                packer.pack_due(now, everything)
                sent = self._sender.send(now)
                if not sent:
                    break
                packer.settle(sent)
            packer.due = min(packer.first_due, self._sender.due(self._now()))
        finally:
            self._accounts.hand_back(self._overdue())
            self._accounts.tell()
        return max(0.0, packer.due - self._now()) if self._accounts.held else self._linger

    def _overdue(self) -> list[UserRecord]:
        """Take out the user records whose time is over; in a lane the oldest come first."""
        last, found = self._now() - self._live, list[UserRecord]()
        for lane in self._sender.lanes.values():
            while lane.queue and lane.queue[0].since <= last:
                users = lane.queue.popleft().users
                found += [user for user in users if user.since <= last]
                rest = [user for user in users if user.since > last]
                if rest:
                    lane.queue.appendleft(Parcel.of(rest, self._aggregate))
        return found


def as_list(values: Sequence[Any]) -> Sequence[Any]:
    """A numpy array as a list of Python's own objects; other sequences as they are."""
    found: Sequence[Any] = values.tolist() if hasattr(values, "tolist") else values
    return found
