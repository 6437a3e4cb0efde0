"""The cloud of the demo, in this process: a stream, a table, a topic with a queue, a bucket."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import msgspec

from ..engine.aws import Service, make_client
from ..engine.batch import Alert
from ..engine.errors import StreamgaugeError

STREAM, TABLE, TOPIC, QUEUE, BUCKET = (
    "telemetry",
    "thresholds",
    "alerts",
    "alerts",
    "streamgauge-demo",
)
SHARDS = 4
MESSAGES_MAX = 10  # of one ReceiveMessage
PAGES_MAX = 100_000


class OneAtATime(Service):
    """A service that one thread calls at a time: what stands in for AWS here is not for several.

    One lock is for all of them, as a topic writes into a queue.
    """

    def __init__(self, name: str, lock: threading.Lock) -> None:
        """Take the lock that all services of the cloud share."""
        super().__init__(name)
        self._one = lock

    def call(self, operation: str, of: str, **request: Any) -> Any:
        """Make the call when its turn has come."""
        with self._one:
            return super().call(operation, of, **request)


class Cloud:
    """Clients of the services, and the names of what was made in them."""

    def __init__(self) -> None:
        """Make everything."""
        names = ("kinesis", "dynamodb", "sns", "sqs", "s3")
        self.kinesis, dynamodb, sns, sqs, s3 = map(make_client, names)
        self.kinesis.create_stream(StreamName=STREAM, ShardCount=SHARDS)
        dynamodb.create_table(
            TableName=TABLE,
            BillingMode="PAY_PER_REQUEST",
            KeySchema=[
                {"AttributeName": "device", "KeyType": "HASH"},
                {"AttributeName": "rule", "KeyType": "RANGE"},
            ],
            AttributeDefinitions=[
                {"AttributeName": name, "AttributeType": "S"} for name in ("device", "rule")
            ],
        )
        self.topic: str = sns.create_topic(Name=TOPIC)["TopicArn"]
        self.queue: str = sqs.create_queue(QueueName=QUEUE)["QueueUrl"]
        asked = sqs.get_queue_attributes(QueueUrl=self.queue, AttributeNames=["QueueArn"])
        sns.subscribe(
            TopicArn=self.topic,
            Protocol="sqs",
            Endpoint=asked["Attributes"]["QueueArn"],
            Attributes={"RawMessageDelivery": "true"},
        )
        s3.create_bucket(Bucket=BUCKET)
        lock = threading.Lock()
        self.services = {name: OneAtATime(name, lock) for name in names}

    def receive(self) -> list[Alert]:
        """Some alerts that lie in the queue, taken from it; [] where there are none."""
        sqs = self.services["sqs"]
        asked = {"QueueUrl": self.queue, "MaxNumberOfMessages": MESSAGES_MAX}
        found = sqs.call("receive_message", "the queue", **asked)
        messages = found.get("Messages", [])
        if messages:
            entries = [
                {"Id": str(number), "ReceiptHandle": message["ReceiptHandle"]}
                for number, message in enumerate(messages)
            ]
            sqs.call("delete_message_batch", "the queue", QueueUrl=self.queue, Entries=entries)
        return [msgspec.json.decode(message["Body"], type=Alert) for message in messages]

    def records(self) -> Iterator[dict[str, Any]]:
        """Everything in the stream, read back, as lines of Kinesis records in files."""
        for shard in self.kinesis.list_shards(StreamName=STREAM)["Shards"]:
            name = shard["ShardId"]
            iterator = self.kinesis.get_shard_iterator(
                StreamName=STREAM, ShardId=name, ShardIteratorType="TRIM_HORIZON"
            )["ShardIterator"]
            for _ in range(PAGES_MAX):
                answer = self.kinesis.get_records(ShardIterator=iterator)
                for record in answer["Records"]:
                    yield {
                        "ShardId": name,
                        "SequenceNumber": record["SequenceNumber"],
                        "ApproximateArrivalTimestamp": record[
                            "ApproximateArrivalTimestamp"
                        ].timestamp(),
                        "PartitionKey": record["PartitionKey"],
                        "Data": record["Data"],
                    }
                if not answer["Records"]:
                    break
                iterator = answer["NextShardIterator"]


@contextmanager
def in_process() -> Iterator[Cloud]:
    """A cloud that is in this process: no network, no account.

    Raises:
        StreamgaugeError: moto is not installed.
    """
    with ExitStack() as stack:
        stack.enter_context(_fake_account())
        try:
            from moto import mock_aws
        except ImportError:
            raise StreamgaugeError(
                "the demo's in-process cloud needs moto: pip install 'streamgauge[demo]'"
            ) from None
        stack.enter_context(mock_aws())
        yield Cloud()


@contextmanager
def _fake_account() -> Iterator[None]:
    """No setting of the shell leads to a real account, or past the services in this process."""
    before = {name: os.environ.pop(name) for name in list(os.environ) if name.startswith("AWS_")}
    os.environ.update(
        AWS_ACCESS_KEY_ID="testing",
        AWS_SECRET_ACCESS_KEY="testing",
        AWS_DEFAULT_REGION="us-east-1",
        AWS_EC2_METADATA_DISABLED="true",
        AWS_CONFIG_FILE=os.devnull,
        AWS_SHARED_CREDENTIALS_FILE=os.devnull,
    )
    try:
        yield
    finally:
        for name in [name for name in os.environ if name.startswith("AWS_")]:
            del os.environ[name]
        os.environ.update(before)
