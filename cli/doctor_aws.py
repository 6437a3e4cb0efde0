"""What `streamgauge doctor --aws` asks: calls that only read, each for one line."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from ..engine.aws import DENIED, RefusedError, Service
from ..engine.errors import StreamgaugeError, UnavailableError
from .doctor_checks import BROKEN, MISSING, OK, REFUSED, UNKNOWN, Check, locations

if TYPE_CHECKING:
    from ..rules.spec import Spec

NOBODY = "streamgauge-doctor"  # a device that no table has
NOT_THERE = {"NoSuchBucket", "NotFound", "NotFoundException", "ResourceNotFoundException", "404"}
BUCKET = "s3://"
KEYS = {"device": "HASH", "rule": "RANGE"}


class Asked:
    """Makes checks of calls; a service is made when it is first asked."""

    def __init__(self, service: Callable[[str], Service] = Service) -> None:
        """Make nothing yet; tests hand in their own services."""
        self._service = service
        self._services: dict[str, Service] = {}

    def call(self, service: str, operation: str, of: str, **request: Any) -> Any:
        """Make one call, as Service.call does."""
        if service not in self._services:
            self._services[service] = self._service(service)
        return self._services[service].call(operation, of, **request)

    def check(
        self, name: str, feature: str, ask: Callable[[], str | Check], *,
        make: str = "", needed: bool = True,
    ) -> Check:  # fmt: skip
        """What came of asking.

        Args:
            ask: makes calls; says what was found, or what is wrong with it.
            make: the command that makes what is asked about, where it is not there.
            needed: whether a consumer makes these calls, too.
        """
        try:
            found = ask()
        except RefusedError as error:
            if error.code in NOT_THERE:
                status, mend, needed = MISSING, make or error.hint, True
            else:
                status, mend = REFUSED, error.hint
                if error.code in DENIED and not needed:
                    status = UNKNOWN
            return Check(name, feature, status, error.cause, needed=needed, mend=mend)
        except UnavailableError as error:
            mend = "check the network and AWS_ENDPOINT_URL, or try again later"
            return Check(name, feature, BROKEN, str(error), needed=needed, mend=mend)
        except StreamgaugeError as error:
            return Check(name, feature, BROKEN, str(error), needed=needed)
        return found if isinstance(found, Check) else Check(name, feature, OK, found, needed=needed)


def identity(asked: Asked) -> Check:
    """Who the caller is."""

    def ask() -> str:
        return str(asked.call("sts", "get_caller_identity", "the caller")["Arn"])

    return asked.check("sts:GetCallerIdentity", "every AWS service", ask)


def pipeline(spec: Spec, asked: Asked) -> Iterator[Check]:
    """Everything that a pipeline file names in AWS, as far as reading shows it."""
    if spec.source.stream:
        yield from _stream(spec.source.stream, asked)
    if spec.thresholds.table is not None:
        yield from _table(spec.thresholds.table, asked)
    if spec.alerts.sns_topic is not None:
        yield _topic(spec.alerts.sns_topic, asked)
    for name, location in locations(spec):
        if location.startswith(BUCKET):
            yield _bucket(f"{name}.location", location, asked)


def not_shown(spec: Spec) -> list[str]:
    """The permissions that no call shows which only reads."""
    found = []
    if spec.alerts.sns_topic is not None:
        found.append("sns:Publish")
    if any(location.startswith(BUCKET) for _, location in locations(spec)):
        found += ["s3:PutObject", "s3:GetObject", "s3:DeleteObject"]
    return found


def _stream(stream: str, asked: Asked) -> Iterator[Check]:
    named = {"StreamARN": stream} if stream.startswith("arn:") else {"StreamName": stream}
    of, feature = f"stream {stream}", "source.stream"
    shards: list[dict[str, Any]] = []

    def list_them() -> str:
        shards.extend(asked.call("kinesis", "list_shards", of, **named)["Shards"])
        closed = sum("EndingSequenceNumber" in shard["SequenceNumberRange"] for shard in shards)
        return f"{len(shards)} shards, {closed} of them closed"

    def read() -> str:
        where = {**named, "ShardId": shards[0]["ShardId"], "ShardIteratorType": "TRIM_HORIZON"}
        iterator = asked.call("kinesis", "get_shard_iterator", of, **where)["ShardIterator"]
        arn = {"StreamARN": stream} if stream.startswith("arn:") else {}
        request = {**arn, "ShardIterator": iterator, "Limit": 1}
        answer = asked.call("kinesis", "get_records", of, **request)
        return f"{len(answer['Records'])} records read of {shards[0]['ShardId']}"

    name = shlex.quote(stream.rpartition("/")[2])
    make = f"aws kinesis create-stream --shard-count 1 --stream-name {name}"
    yield asked.check("kinesis:ListShards", feature, list_them, make=make)
    if shards:
        yield asked.check("kinesis:GetRecords", feature, read)


def _table(table: str, asked: Asked) -> Iterator[Check]:
    of, feature, named = f"table {table}", "thresholds.table", shlex.quote(table)
    make = (
        f"aws dynamodb create-table --table-name {named} --billing-mode PAY_PER_REQUEST"
        " --key-schema AttributeName=device,KeyType=HASH AttributeName=rule,KeyType=RANGE"
        " --attribute-definitions AttributeName=device,AttributeType=S"
        " AttributeName=rule,AttributeType=S"
    )

    def read() -> str:
        key = {"device": {"S": NOBODY}, "rule": {"S": NOBODY}}
        asked.call("dynamodb", "batch_get_item", of, RequestItems={table: {"Keys": [key]}})
        return "items can be read"

    def describe() -> str | Check:
        told = asked.call("dynamodb", "describe_table", of, TableName=table)["Table"]
        keys = {one["AttributeName"]: one["KeyType"] for one in told["KeySchema"]}
        kinds = {one["AttributeName"]: one["AttributeType"] for one in told["AttributeDefinitions"]}
        shown = ", ".join(f"{key} {kinds[key]} ({kind})" for key, kind in keys.items())
        if keys != KEYS or any(kinds[key] != "S" for key in keys):
            wanted = "device S (HASH), rule S (RANGE)"
            mend = "keys cannot be changed: make another table and name it in thresholds.table"
            return Check("dynamodb:DescribeTable", feature, BROKEN, shown, wanted, mend=mend)
        return f"{shown}, {str(told['TableStatus']).lower()}"

    yield asked.check("dynamodb:DescribeTable", feature, describe, make=make, needed=False)
    yield asked.check("dynamodb:BatchGetItem", feature, read, make=make)


def _topic(topic: str, asked: Asked) -> Check:
    def describe() -> str:
        told = asked.call("sns", "get_topic_attributes", f"topic {topic}", TopicArn=topic)
        attributes = told["Attributes"]
        kind = "a FIFO topic" if attributes.get("FifoTopic") == "true" else "a standard topic"
        return f"{kind}, {attributes.get('SubscriptionsConfirmed', '0')} subscriptions confirmed"

    fifo = " --attributes FifoTopic=true" if topic.endswith(".fifo") else ""
    make = f"aws sns create-topic --name {shlex.quote(topic.rpartition(':')[2])}{fifo}"
    name = "sns:GetTopicAttributes"
    return asked.check(name, "alerts.sns_topic", describe, make=make, needed=False)


def _bucket(name: str, location: str, asked: Asked) -> Check:
    bucket, _, prefix = location.removeprefix(BUCKET).partition("/")

    def look() -> str:
        request = {"Bucket": bucket, "Prefix": prefix, "MaxKeys": 1}
        found = asked.call("s3", "list_objects_v2", f"bucket {bucket}", **request)
        return f"{location}: {'objects' if found.get('KeyCount') else 'nothing'} there"

    make = f"aws s3 mb {BUCKET}{shlex.quote(bucket)}"
    return asked.check("s3:ListBucket", name, look, make=make)
