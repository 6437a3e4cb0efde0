"""The shards of a Kinesis stream, read with boto3; its errors are translated here, by one table."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectionError,
    CredentialRetrievalError,
    HTTPClientError,
    IncompleteReadError,
)
from botocore.parsers import ResponseParserError

from ..engine.batch import Position, Record
from ..engine.errors import StreamgaugeError, UnavailableError
from ..engine.records import arrival_ms
from .shard import Fetched

RECORDS_MAX = 10_000  # of one read; the service gives no more
PAGES_MAX = 1000  # of a list of shards
# The loop above waits and reads again, so a call is made once and must not block a stop for long.
CONFIG = Config(connect_timeout=3, read_timeout=5, retries={"total_max_attempts": 1})

EXPIRED = "ExpiredIteratorException"
WAIT = {  # codes after which the same call may succeed later
    "ExpiredNextTokenException",
    "InternalFailure",
    "InternalFailureException",
    "InternalServerError",
    "KMSThrottlingException",
    "LimitExceededException",
    "ProvisionedThroughputExceededException",
    "RequestLimitExceeded",
    "RequestTimeout",
    "ResourceInUseException",
    "ServiceUnavailable",
    "ServiceUnavailableException",
    "SlowDown",
    "ThrottledException",
    "Throttling",
    "ThrottlingException",
    "TooManyRequestsException",
}
WAIT_TYPES = (  # raised where no answer came, or none that can be read
    ConnectionError,
    CredentialRetrievalError,
    HTTPClientError,
    IncompleteReadError,
    ResponseParserError,
)
HINTS = {  # what mends an error after which nobody can go on
    "AccessDeniedException": "the caller needs kinesis:ListShards, GetShardIterator, GetRecords",
    "ExpiredTokenException": "renew the credentials",
    "InvalidArgumentException": "where the stream was made anew, remove its old state objects",
    "NoCredentialsError": "give credentials in one of the ways that boto3 knows",
    "NoRegionError": "set AWS_DEFAULT_REGION",
    "ResourceNotFoundException": "check source.stream, the region and the account",
    "UnrecognizedClientException": "check the credentials",
}


class ListedShard(NamedTuple):
    """A shard as ListShards tells of it; parents are those that it was split or merged from."""

    shard_id: str
    parents: tuple[str, ...]


class KinesisReader:
    """Reads the shards of one stream through a boto3 client.

    Every method raises UnavailableError where the service is busy, down or out of reach, and
    StreamgaugeError where it refuses for good.
    """

    def __init__(self, client: Any, stream: str) -> None:
        """Take a boto3 Kinesis client and the name or ARN of the stream."""
        self._client = client
        self._name = stream
        self._arn = {"StreamARN": stream} if stream.startswith("arn:") else {}
        self._stream = self._arn or {"StreamName": stream}

    def shards(self) -> list[ListedShard]:
        """All shards that still hold records, closed ones too."""
        found: list[ListedShard] = []
        request = self._stream
        for _ in range(PAGES_MAX):
            page = self._call(self._client.list_shards, **request)
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
        answer = self._call(self._client.get_shard_iterator, **request)
        iterator: str = answer["ShardIterator"]
        return iterator

    def read(self, shard_id: str, iterator: str) -> Fetched | None:
        """The next records; None where the iterator has expired."""
        request = {**self._arn, "ShardIterator": iterator, "Limit": RECORDS_MAX}
        answer = self._call(self._client.get_records, **request)
        if answer is None:
            return None
        records = [
            Record(
                shard_id,
                given["SequenceNumber"],
                given["Data"],
                given["PartitionKey"],
                arrival_ms(given.get("ApproximateArrivalTimestamp")),
            )
            for given in answer["Records"]
        ]
        behind = answer.get("MillisBehindLatest", 0)
        return Fetched(records, answer.get("NextShardIterator"), behind)

    def _call(self, method: Callable[..., Any], **request: Any) -> Any:
        """The answer; None where the iterator in the request has expired."""
        try:
            return method(**request)
        except ClientError as error:
            code = error.response.get("Error", {}).get("Code", "")
            status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
            if code == EXPIRED:
                return None
            cause = f"{error.operation_name} on stream {self._name}: {_text(error)}"
            if code in WAIT or status == 429 or status >= 500:
                raise UnavailableError(cause) from error
            raise StreamgaugeError(cause + _hint(code)) from error
        except WAIT_TYPES as error:
            raise UnavailableError(f"stream {self._name}: {error}") from error
        except BotoCoreError as error:
            cause = f"stream {self._name}: {error}"
            raise StreamgaugeError(cause + _hint(type(error).__name__)) from error


def kinesis_client() -> Any:
    """A boto3 client by boto3's own chain of region, endpoint and credentials."""
    from boto3.session import Session

    try:
        return Session().client("kinesis", config=CONFIG)
    except BotoCoreError as error:
        raise StreamgaugeError(f"Kinesis: {error}{_hint(type(error).__name__)}") from error


def _text(error: ClientError) -> str:
    told = error.response.get("Error", {})
    return f"{told.get('Code', 'no code')}: {told.get('Message', 'no message')}"


def _hint(code: str) -> str:
    return f" ({HINTS[code]})" if code in HINTS else ""
