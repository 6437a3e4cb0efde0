"""Where messages go: a file, standard output, a file of Kinesis records, a stream.

A destination tells which messages it has accepted, once each, as soon as it knows: the ledger and
the counters are made of that. MQTT is in mqtt_publish.py.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, BinaryIO

import msgspec

from ..engine.aws import Service
from ..engine.errors import StreamgaugeError
from ..engine.kpl import aggregate, hash_key
from .aggregator import Producer
from .messages import Messages
from .outcomes import ExpiredError

Accept = Callable[[list[bytes]], object]  # payloads that were accepted

FILE_SHARDS = 4  # of a file of Kinesis records
FILE_AGGREGATE_BYTES_MAX = 48_000
HASH_BITS = 128


class Destination(ABC):
    """Takes messages in their order.

    sent, accepted, refused: messages so far; what is none of the last two is on its way.
    """

    def __init__(self, accept: Accept = lambda payloads: None) -> None:
        """Take whom to tell."""
        self.sent = self.accepted = self.refused = 0
        self._accept = accept

    @abstractmethod
    def send(self, messages: Messages, at: int | None = None) -> None:
        """Take messages; may wait until there is room for them.

        Args:
            messages: in the order to be sent.
            at: the arrival time that a recording is to show, int ms; a live destination does not
                look at it.
        """

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

    What is sent at once is packed at once, so that every record's arrival time is the one told.
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

    def send(self, messages: Messages, at: int | None = None) -> None:
        """Write them, each shard's in their order."""
        by_shard: list[list[tuple[str, bytes, int | None]]] = [[] for _ in range(FILE_SHARDS)]
        hash_keys = messages.hash_keys or [None] * len(messages)
        for key, data, explicit in zip(messages.keys, messages.data, hash_keys, strict=True):
            by_shard[self._shard(key, explicit)].append((key, data, explicit))
        for shard, users in enumerate(by_shard):
            for part in self._packed(users):
                self._write(shard, part, at)
        self.sent += len(messages)
        self._accepted(messages.data)

    def drain(self) -> None:
        """Hand over what is buffered."""
        self._file.flush()

    def _shard(self, key: str, explicit: int | None) -> int:
        if explicit is not None:
            return explicit * FILE_SHARDS >> HASH_BITS
        found = self._shards.get(key)
        if found is None:
            found = self._shards[key] = hash_key(key.encode()) * FILE_SHARDS >> HASH_BITS
        return found

    def _packed(
        self, users: list[tuple[str, bytes, int | None]]
    ) -> list[list[tuple[str, bytes, int | None]]]:
        """Cut the user records of a shard into Kinesis records."""
        if not self._aggregated:
            return [[user] for user in users]
        parts: list[list[tuple[str, bytes, int | None]]] = []
        size = FILE_AGGREGATE_BYTES_MAX
        for user in users:
            cost = len(user[0]) + len(user[1]) + 16
            if size + cost > FILE_AGGREGATE_BYTES_MAX:
                parts.append([])
                size = 0
            parts[-1].append(user)
            size += cost
        return parts

    def _write(self, shard: int, users: list[tuple[str, bytes, int | None]], at: int | None) -> None:
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
        self._producer = Producer(
            name,
            service,
            aggregate=aggregated,
            report=lambda user, placed: self._told.append(user.data),
            **producer,
        )
        self._name = name

    def send(self, messages: Messages, at: int | None = None) -> None:
        """Put them; waits while the stream takes no more.

        Raises:
            StreamgaugeError: the stream refuses for good, or took nothing for a quarter of an hour.
        """
        hash_keys = messages.hash_keys or [None] * len(messages)
        for key, data, explicit in zip(messages.keys, messages.data, hash_keys, strict=True):
            self.sent += 1
            self._guarded(lambda k=key, d=data, e=explicit: self._producer.put(k, d, e))
        self._tell()

    def tend(self) -> None:
        """Send what is due."""
        self._guarded(self._producer.tick)
        self._tell()

    def drain(self) -> None:
        """Return once everything is in the stream."""
        self._guarded(self._producer.flush)
        self._tell()

    def _guarded(self, call: Callable[[], object]) -> None:
        try:
            call()
        except ExpiredError as error:
            self.refused += len(error.records)
            self._tell()
            raise StreamgaugeError(str(error)) from error

    def _tell(self) -> None:
        if self._told:
            told, self._told = self._told, []
            self._accepted(told)
