"""The shards of a Kinesis stream, read with boto3."""

from __future__ import annotations

from typing import Any, NamedTuple

from ..engine.aws import RefusedError, Service
from ..engine.batch import Position, Record
from ..engine.errors import StreamgaugeError, UnavailableError
from ..engine.records import arrival_ms
from . import kinesis_answers
from .shard import Fetched

RECORDS_MAX = 10_000  # of one read; the service gives no more
PAGES_MAX = 1000  # of a list of shards
EXPIRED = "ExpiredIteratorException"
HINTS = {  # what mends a refusal, beyond what engine/aws.py says
    "InvalidArgumentException": "where the stream was made anew, remove its old state objects",
    "ResourceNotFoundException": "check source.stream, the region and the account",
}


class ListedShard(NamedTuple):
    """A shard as ListShards tells of it; parents are those that it was split or merged from."""

    shard_id: str
    parents: tuple[str, ...]


class KinesisReader:
    """Reads the shards of one stream.

    Every method raises UnavailableError where the service is busy, down or out of reach, and
    StreamgaugeError where it refuses for good.
    """

    def __init__(self, service: Service, stream: str) -> None:
        """Take the service `kinesis` and the name or ARN of the stream."""
        service.prepare(kinesis_answers.attach)
        self._service = service
        self._name = stream
        self._arn = {"StreamARN": stream} if stream.startswith("arn:") else {}
        self._stream = self._arn or {"StreamName": stream}

    def shards(self) -> list[ListedShard]:
        """All shards that still hold records, closed ones too."""
        found: list[ListedShard] = []
        request = self._stream
        for _ in range(PAGES_MAX):
            page = self._call("list_shards", **request)
            for shard in page["Shards"]:
                keys = ("ParentShardId", "AdjacentParentShardId")
                parents = tuple(shard[key] for key in keys if shard.get(key))
                found.append(ListedShard(shard["ShardId"], parents))
            token = page.get("NextToken")
            if not token:
                return found
            request = {"NextToken": token}  # goes without the name
        raise StreamgaugeError(f"stream {self._name}: more than {PAGES_MAX} pages of shards")

    def iterator(self, shard_id: str, position: Position | None, inclusive: bool) -> str:
        """A new iterator after a position (at it, if `inclusive`); None: the oldest record."""
        where = {"ShardIteratorType": "TRIM_HORIZON"}
        if position is not None:
            kind = "AT_SEQUENCE_NUMBER" if inclusive else "AFTER_SEQUENCE_NUMBER"
            where = {
                "ShardIteratorType": kind,
                "StartingSequenceNumber": position.sequence_number,
            }
        request = {**self._stream, "ShardId": shard_id, **where}
        answer = self._call("get_shard_iterator", **request)
        iterator: str = answer["ShardIterator"]
        return iterator

    def read(self, shard_id: str, iterator: str) -> Fetched | None:
        """The next records; None where the iterator has expired."""
        request = {**self._arn, "ShardIterator": iterator, "Limit": RECORDS_MAX}
        try:
            with kinesis_answers.of_shard(shard_id):
                answer = self._call("get_records", **request)
        except RefusedError as error:
            if error.code == EXPIRED:
                return None
            raise
        return kinesis_answers.fetched(answer) or _fetched(shard_id, answer)

    def _call(self, operation: str, **request: Any) -> Any:
        try:
            return self._service.call(operation, f"stream {self._name}", **request)
        except RefusedError as error:
            if error.code in HINTS:
                raise RefusedError(error.cause, error.code, HINTS[error.code]) from error
            raise


def _fetched(shard_id: str, answer: dict[str, Any]) -> Fetched:
    """What was read, of an answer that botocore has parsed."""
    try:
        records = [
            Record(
                shard_id,
                given["SequenceNumber"],
                given["Data"],
                given.get("PartitionKey", ""),  # a producer may name none
                arrival_ms(given.get("ApproximateArrivalTimestamp")),
            )
            for given in answer["Records"]
        ]
    except (AttributeError, KeyError, TypeError) as error:
        raise UnavailableError(f"shard {shard_id}: no answer of GetRecords: {error!r}") from error
    return Fetched(records, answer.get("NextShardIterator"), answer.get("MillisBehindLatest", 0))
