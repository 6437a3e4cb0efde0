"""A Kinesis stream in memory behind clients shaped like boto3's, with the faults of the real one.

`MemoryKinesis` puts the service around a `MemoryStream`, so that the real `KinesisReader` reads it.
test_memory_reading.py holds it against moto.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

from botocore.hooks import HierarchicalEmitter
from memory_service import MemoryService, Refusal, fail
from memory_stream import MemoryStream

from streamgauge import Position, Record

NAME = "telemetry"
ABSENT = "ResourceNotFoundException"
EXPIRED_ITERATOR = Refusal("ExpiredIteratorException", 400, "Iterator expired.")
START = datetime(1970, 1, 1, tzinfo=UTC)


class MemoryKinesis(MemoryService):
    """The service around one stream.

    iterators: what was asked for by each GetShardIterator that was answered: its type, and the
    sequence number to start from.
    """

    THROTTLED = Refusal("ProvisionedThroughputExceededException", 400, "Rate exceeded for shard")
    FAILED = Refusal("InternalFailure", 500, "Internal service failure")
    EXPIRED = Refusal("ExpiredTokenException", 400, "The security token included is expired")

    def __init__(self, stream: MemoryStream, name: str = NAME, **how: Any) -> None:
        self.stream = stream
        self.name = name
        self.iterators: list[tuple[str, str | None]] = []
        super().__init__(**how)

    def client(self) -> MemoryKinesisClient:
        """A client with the credentials that are to be had now."""
        return MemoryKinesisClient(self, self.credentials)


class MemoryKinesisClient:
    """The part of boto3's Kinesis client that a reader needs."""

    def __init__(self, service: MemoryKinesis, credentials: int) -> None:
        self._service = service
        self._credentials = credentials
        self.meta = SimpleNamespace(events=HierarchicalEmitter())

    def list_shards(self, *, StreamName: str) -> dict[str, Any]:
        with self._service.call("ListShards", self._credentials):
            self._check("ListShards", StreamName)
            found = []
            for shard in self._service.stream.shards():
                keys = ("ParentShardId", "AdjacentParentShardId")
                parents = dict(zip(keys, shard.parents, strict=False))
                found.append({"ShardId": shard.shard_id, **parents})
            return {"Shards": found}

    def get_shard_iterator(
        self,
        *,
        StreamName: str,
        ShardId: str,
        ShardIteratorType: str,
        StartingSequenceNumber: str | None = None,
    ) -> dict[str, Any]:
        service = self._service
        with service.call("GetShardIterator", self._credentials):
            self._check("GetShardIterator", StreamName)
            if ShardId not in service.stream.records:
                fail("GetShardIterator", Refusal(ABSENT, 400, f"Shard {ShardId} not found"))
            service.iterators.append((ShardIteratorType, StartingSequenceNumber))
            at = None
            if ShardIteratorType != "TRIM_HORIZON":
                assert StartingSequenceNumber is not None
                at = Position(ShardId, StartingSequenceNumber, 0)
            inclusive = ShardIteratorType == "AT_SEQUENCE_NUMBER"
            return {"ShardIterator": service.stream.iterator(ShardId, at, inclusive)}

    def get_records(self, *, ShardIterator: str, Limit: int) -> dict[str, Any]:
        service = self._service
        with service.call("GetRecords", self._credentials):
            shard_id = ShardIterator.rpartition("/")[0]
            fetched = service.stream.read(shard_id, ShardIterator)
            if fetched is None:
                fail("GetRecords", EXPIRED_ITERATOR)
            assert len(fetched.records) <= Limit
            answer: dict[str, Any] = {
                "Records": [_told(record) for record in fetched.records],
                "MillisBehindLatest": fetched.behind,
            }
            if fetched.iterator is not None:
                answer["NextShardIterator"] = fetched.iterator
            return answer

    def _check(self, operation: str, name: str) -> None:
        if name != self._service.name:
            fail(operation, Refusal(ABSENT, 400, f"Stream {name} not found"))


def _told(record: Record) -> dict[str, Any]:
    """A record as botocore has parsed it."""
    told: dict[str, Any] = {
        "SequenceNumber": record.sequence_number,
        "Data": record.data,
        "PartitionKey": record.partition_key,
    }
    if record.arrival is not None:
        told["ApproximateArrivalTimestamp"] = START + timedelta(milliseconds=record.arrival)
    return told
