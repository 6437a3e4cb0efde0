"""Where messages go: a file, standard output, a file of Kinesis records, a stream.

A destination tells which messages it has accepted, once each, as soon as it knows: the ledger and
the counters are made of that. MQTT is in mqtt_publish.py.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, BinaryIO

import msgspec

from ..engine.aws import Service
from ..engine.errors import StreamgaugeError
from ..engine.kpl import aggregate, hash_key
from .aggregator import Producer
from .messages import Messages
from .outcomes import Outcome, RecordError

Accept = Callable[[list[bytes]], object]  # payloads that were accepted
_User = tuple[str, bytes, int | None]  # partition key, payload, explicit hash key

FILE_SHARDS = 4  # of a file of Kinesis records
FILE_AGGREGATE_BYTES_MAX = 48_000
FILE_WAITING_MAX = 1_000_000  # messages of one arrival time
HASH_BITS = 128


class Destination:
    """Takes messages in their order.

    sent, accepted, refused: messages so far; what is none of the last two is on its way.
    refusal: why the first one was refused, for a person.
    """

    def __init__(self, accept: Accept = lambda payloads: None) -> None:
        """Take whom to tell."""
        self.sent = self.accepted = self.refused = 0
        self.refusal = ""
        self._accept = accept

    def send(self, messages: Messages, at: int | None = None) -> None:
        """Take messages; may wait until there is room for them.

        Args:
            messages: in the order to be sent.
            at: the arrival time that a recording is to show, int ms; a live destination does not
                look at it.
        """
        raise NotImplementedError

    def tend(self) -> None:
        """Do what is due; called often, also while nothing is sent."""

    def drain(self) -> None:
        """Return once everything sent is accepted or refused."""

    def close(self) -> None:
        """Let go of what is held, whatever is still on its way."""

    def _accepted(self, payloads: list[bytes]) -> None:
        self.accepted += len(payloads)
        self._accept(payloads)


class Lines(Destination):
    """Writes each payload as one line to an open file: NDJSON where the payloads are JSON."""

    def __init__(self, file: BinaryIO, accept: Accept = lambda payloads: None) -> None:
        """Take the file; whoever opened it closes it."""
        super().__init__(accept)
        self._file = file

    def send(self, messages: Messages, at: int | None = None) -> None:
        """Write them; a payload with a line end in it becomes two lines, as it would anywhere."""
        if messages.data:
            self.sent += len(messages)
            self._file.write(b"\n".join(messages.data) + b"\n")
            self._accepted(messages.data)

    def tend(self) -> None:
        """Hand over what is buffered."""
        self._file.flush()

    def drain(self) -> None:
        """Hand over what is buffered."""
        self._file.flush()


class RecordLines(Destination):
    """Writes Kinesis records as GetRecords gives them, one a line, as of a stream of four shards.

    What has one arrival time is packed together, however it is sent, so that the bytes do not
    depend on the pace.
    """

    def __init__(
        self, file: BinaryIO, accept: Accept = lambda payloads: None, aggregated: bool = True
    ) -> None:
        """Take the file; `aggregated` False makes a Kinesis record of each message."""
        super().__init__(accept)
        self._file, self._aggregated = file, aggregated
        self._encode = msgspec.json.Encoder().encode
        self._shards: dict[str, int] = {}  # of each partition key
        self._number = 0
        self._waiting: list[_User] = []  # of one arrival time
        self._at: int | None = None

    def send(self, messages: Messages, at: int | None = None) -> None:
        """Take them; they are written when a later arrival time comes, or by `drain`."""
        if at != self._at or len(self._waiting) >= FILE_WAITING_MAX:
            self._write_waiting()
        self._at = at
        hash_keys = messages.hash_keys or [None] * len(messages)
        self._waiting += zip(messages.keys, messages.data, hash_keys, strict=True)
        self.sent += len(messages)

    def drain(self) -> None:
        """Write what waits, and hand over what is buffered."""
        self._write_waiting()
        self._file.flush()

    def _write_waiting(self) -> None:
        """Write what waits, each shard's in its order."""
        by_shard: list[list[_User]] = [[] for _ in range(FILE_SHARDS)]
        waiting, self._waiting = self._waiting, []
        for user in waiting:
            by_shard[self._shard(user[0], user[2])].append(user)
        for shard, users in enumerate(by_shard):
            for part in self._packed(users):
                self._write(shard, part, self._at)
        if waiting:
            self._accepted([data for _, data, _ in waiting])

    def _shard(self, key: str, explicit: int | None) -> int:
        if explicit is not None:
            return explicit * FILE_SHARDS >> HASH_BITS
        found = self._shards.get(key)
        if found is None:
            found = self._shards[key] = hash_key(key.encode()) * FILE_SHARDS >> HASH_BITS
        return found

    def _packed(self, users: list[_User]) -> list[list[_User]]:
        """Cut the user records of a shard into Kinesis records."""
        if not self._aggregated:
            return [[user] for user in users]
        parts: list[list[_User]] = []
        size = FILE_AGGREGATE_BYTES_MAX
        for user in users:
            cost = len(user[0]) + len(user[1]) + 16
            if size + cost > FILE_AGGREGATE_BYTES_MAX:
                parts.append([])
                size = 0
            parts[-1].append(user)
            size += cost
        return parts

    def _write(self, shard: int, users: list[_User], at: int | None) -> None:
        self._number += 1
        line: dict[str, Any] = {
            "ShardId": f"shardId-{shard:012}",
            "SequenceNumber": str(self._number),
            "PartitionKey": users[0][0],
            "Data": aggregate(users) if self._aggregated else users[0][1],
        }
        if at is not None:
            line["ApproximateArrivalTimestamp"] = at / 1000
        self._file.write(self._encode(line) + b"\n")


class Stream(Destination):
    """Puts messages into a Kinesis stream through the aggregating producer, in order for each key.

    The one place where the fleet and a replay meet the producer.
    """

    def __init__(
        self,
        name: str,
        service: Service,
        accept: Accept = lambda payloads: None,
        aggregated: bool = True,
        **producer: Any,
    ) -> None:
        """Take the stream's name or ARN and the service `kinesis`; `producer` is for tests."""
        super().__init__(accept)
        self._told: list[bytes] = []
        self._handed_back = ""  # why, where the producer gave a message back
        self._producer = Producer(name, service, aggregate=aggregated, **producer)

    def send(self, messages: Messages, at: int | None = None) -> None:
        """Put them; waits while the stream takes no more.

        Raises:
            StreamgaugeError: the stream refuses for good, or took nothing for a quarter of an hour.
        """
        hash_keys = messages.hash_keys or [None] * len(messages)
        for key, data, explicit in zip(messages.keys, messages.data, hash_keys, strict=True):
            self.sent += 1
            try:
                self._producer.put(key, data, explicit, callback=self._done)
            except RecordError as error:
                self.refused += 1
                self.refusal = self.refusal or str(error)
        self._tell()

    def tend(self) -> None:
        """Send what is due."""
        self._producer.tick()
        self._tell()

    def drain(self) -> None:
        """Return once everything is in the stream."""
        self._producer.flush()
        self._tell()

    def _done(self, outcome: Outcome) -> None:
        if outcome.placed is not None:
            self._told.append(outcome.user.data)
            return
        self.refused += 1
        codes = ", ".join(dict.fromkeys(attempt.code for attempt in outcome.attempts))
        self._handed_back = f"not put in time; errors: {codes or 'none'}"

    def _tell(self) -> None:
        if self._told:
            told, self._told = self._told, []
            self._accepted(told)
        if self._handed_back:
            raise StreamgaugeError(f"stream: {self.refused:,} messages {self._handed_back}")
