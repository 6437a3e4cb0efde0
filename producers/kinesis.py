"""PutRecords: Kinesis records to a stream by single calls, each entry with its own outcome.

An answer with status 200 may say of some entries that they failed; boto3 does not send those again,
and neither does this: it tells. Where a call as a whole got no answer its records may lie in the
stream all the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from ..engine.aws import Service
from ..engine.errors import StreamgaugeError

ENTRIES_MAX = 500  # of one call
CALL_BYTES_MAX = 5 << 20  # of one call, partition keys included; the service takes 10 MiB by now
RECORD_BYTES_MAX = 1 << 20  # of one record, partition key included
KEY_CHARACTERS_MAX = 256
PAGES_MAX = 1000  # of a list of shards


class Put(NamedTuple):
    """One Kinesis record to be put; the explicit hash key alone says which shard takes it."""

    partition_key: str
    explicit_hash_key: int
    data: bytes

    @property
    def size(self) -> int:
        """What it counts for, in bytes."""
        return len(self.data) + len(self.partition_key.encode())


class Placed(NamedTuple):
    """Where a record lies."""

    shard_id: str
    sequence_number: str


class Failed(NamedTuple):
    """Why an entry was refused; it may succeed later."""

    code: str
    message: str


class OpenShard(NamedTuple):
    """A shard that takes records, with the first and last hash key of its range."""

    shard_id: str
    first: int
    last: int


class KinesisWriter:
    """Writes to one stream.

    Every method raises UnavailableError where the service is busy, down or out of reach, and
    StreamgaugeError where it refuses for good.
    """

    def __init__(self, service: Service, stream: str) -> None:
        """Take the service `kinesis` and the name or ARN of the stream."""
        self.stream = stream
        self._service = service
        self._arn = {"StreamARN": stream} if stream.startswith("arn:") else {}
        self._named = self._arn or {"StreamName": stream}

    def shards(self) -> list[OpenShard]:
        """The open shards, by the first hash key of their ranges."""
        request: dict[str, Any] = {**self._named, "ShardFilter": {"Type": "AT_LATEST"}}
        found = []
        for _ in range(PAGES_MAX):
            page = self._call("list_shards", **request)
            for shard in page["Shards"]:
                if "EndingSequenceNumber" not in shard["SequenceNumberRange"]:
                    keys = shard["HashKeyRange"]
                    first, last = int(keys["StartingHashKey"]), int(keys["EndingHashKey"])
                    found.append(OpenShard(shard["ShardId"], first, last))
            token = page.get("NextToken")
            if not token:
                return sorted(found, key=lambda shard: shard.first)
            request = {"NextToken": token}
        raise StreamgaugeError(f"stream {self.stream}: more than {PAGES_MAX} pages of shards")

    def put(self, records: Sequence[Put]) -> list[Placed | Failed]:
        """Put records with one call; the outcome of each, in their order.

        Args:
            records: at most ENTRIES_MAX, of at most CALL_BYTES_MAX together.
        """
        entries = [
            {
                "Data": record.data,
                "PartitionKey": record.partition_key,
                "ExplicitHashKey": str(record.explicit_hash_key),
            }
            for record in records
        ]
        answer = self._call("put_records", **self._named, Records=entries)
        told = answer["Records"]
        if len(told) != len(records):
            raise StreamgaugeError(
                f"stream {self.stream}: {len(told)} outcomes for {len(records)} records"
            )
        return [
            Failed(one["ErrorCode"], one.get("ErrorMessage") or "")
            if one.get("ErrorCode")
            else Placed(one["ShardId"], one["SequenceNumber"])
            for one in told
        ]

    def _call(self, operation: str, **request: Any) -> Any:
        return self._service.call(operation, f"stream {self.stream}", **request)
