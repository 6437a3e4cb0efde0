"""PutRecords: Kinesis records to a stream by single calls, each entry with its own outcome.

An answer with status 200 may say of some entries that they failed; boto3 does not send those again,
and neither does this: it tells. Where a call as a whole got no answer its records may lie in the
stream all the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from ..engine.aws import Service
from ..engine.errors import StreamgaugeError, UnavailableError
from .put_body import PutRecords, Told

ENTRIES_MAX = 500  # of one call
CALL_BYTES_MAX = 5 << 20  # of one call, partition keys included; what emulators take
SERVICE_CALL_BYTES_MAX = 10 << 20  # the same, what the service takes by now
RECORD_BYTES_MAX = 1 << 20  # of one record, partition key included
KEY_CHARACTERS_MAX = 256
PAGES_MAX = 1000  # of a list of shards


class Put(NamedTuple):
    """One Kinesis record to be put; the explicit hash key alone says which shard takes it."""

    partition_key: str
    explicit_hash_key: int
    data: bytes


class Placed(NamedTuple):
    """Where a record lies."""

    shard_id: str
    sequence_number: str


class Failed(NamedTuple):
    """Why an entry was not put; it may succeed later.

    known: False where no answer came, so that the record may lie in the stream all the same.
    """

    code: str
    message: str
    known: bool = True


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
        self._put_records = PutRecords(service, stream)
        self._named = {"StreamARN" if stream.startswith("arn:") else "StreamName": stream}

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
            records: at most ENTRIES_MAX, of at most SERVICE_CALL_BYTES_MAX together.
        """
        entries = [
            {"Data": data, "PartitionKey": key, "ExplicitHashKey": str(number)}
            for key, number, data in records
        ]
        return [self._outcome(told) for told in self._put_records(entries)]

    def _outcome(self, told: Told) -> Placed | Failed:
        if told.error_code:
            return Failed(told.error_code, told.error_message or "")
        if told.shard_id is None or told.sequence_number is None:
            raise UnavailableError(f"stream {self.stream}: an outcome without shard or error")
        return Placed(told.shard_id, told.sequence_number)

    def _call(self, operation: str, **request: Any) -> Any:
        return self._service.call(operation, f"stream {self.stream}", **request)
