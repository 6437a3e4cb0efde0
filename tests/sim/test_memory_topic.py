"""The topic in memory against moto's: the same calls give the same answers, and the same messages.

A queue behind moto's topic says what a subscriber gets. moto's topic knows no deduplication, its
FIFO queue does; within one topic that comes to the same.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError, ReadTimeoutError
from memory_service import Odds, Refusal
from memory_topic import DEDUPLICATION_SECONDS, TOPIC, MemoryTopic
from moto import mock_aws

from streamgauge.engine.aws import Service, make_client
from streamgauge.engine.errors import UnavailableError


class Pair:
    """Moto's topic with a queue behind it, and ours."""

    def __init__(self, fifo: bool) -> None:
        self.client, self.queues = make_client("sns"), make_client("sqs")
        more = {"FifoTopic": "true"} if fifo else {}
        arn = self.client.create_topic(Name="alerts" + ".fifo" * fifo, Attributes=more)["TopicArn"]
        more = {"FifoQueue": "true"} if fifo else {}
        name = "q" + ".fifo" * fifo
        self.url = self.queues.create_queue(QueueName=name, Attributes=more)["QueueUrl"]
        found = self.queues.get_queue_attributes(QueueUrl=self.url, AttributeNames=["QueueArn"])
        self.client.subscribe(
            TopicArn=arn, Protocol="sqs", Endpoint=found["Attributes"]["QueueArn"],
            Attributes={"RawMessageDelivery": "true"},
        )  # fmt: skip
        self.ours = MemoryTopic(arn)

    def received(self) -> list[tuple[str, dict[str, str]]]:
        """Text and attributes of each message of moto's queue, in their order."""
        found = []
        while messages := self.queues.receive_message(
            QueueUrl=self.url, MaxNumberOfMessages=10, MessageAttributeNames=["All"]
        ).get("Messages"):
            for message in messages:
                given = message.get("MessageAttributes", {})
                found.append((message["Body"], {k: v["StringValue"] for k, v in given.items()}))
                handle = message["ReceiptHandle"]
                self.queues.delete_message(QueueUrl=self.url, ReceiptHandle=handle)
        return found


@pytest.fixture(params=[False, True], ids=["standard", "fifo"])
def pair(request: pytest.FixtureRequest) -> Iterator[Pair]:
    with mock_aws():
        yield Pair(request.param)


def answer(client: Any, topic: str, entries: list[dict[str, Any]]) -> Any:
    """The Ids that were taken and refused, or the code and status of a refusal."""
    try:
        given = client.publish_batch(TopicArn=topic, PublishBatchRequestEntries=entries)
    except ClientError as error:
        status = error.response["ResponseMetadata"]["HTTPStatusCode"]
        return error.response["Error"]["Code"], status, error.operation_name
    taken = [(entry["Id"], bool(entry["MessageId"])) for entry in given["Successful"]]
    return taken, [entry["Id"] for entry in given.get("Failed", [])]


def entry(rng: random.Random, number: int, fifo: bool) -> dict[str, Any]:
    one: dict[str, Any] = {"Id": str(number), "Message": rng.choice(["a", "ü\n", "{}", "x" * 99])}
    if rng.random() < 0.7:
        texts = ["hot", "d%0A", ""] if rng.random() < 0.05 else ["hot", "d%0A"]
        one["MessageAttributes"] = {
            name: {"DataType": "String", "StringValue": rng.choice(texts)}
            for name in ("rule", "device")
        }
    if fifo:
        one["MessageDeduplicationId"] = str(rng.randrange(30))
        if rng.random() < 0.99:
            one["MessageGroupId"] = rng.choice("gh")
    return one


@pytest.mark.parametrize("seed", range(2))
def test_it_answers_as_moto_does(pair: Pair, seed: int) -> None:
    rng, ours = random.Random(seed), pair.ours
    seen = set()
    for turn in range(30):
        size = rng.choice([1, 2, 5, 10, 11])
        entries = [entry(rng, number, ours.fifo) for number in range(size)]
        if rng.random() < 0.2:
            entries[-1]["Id"] = "0"
        topic = ours.arn if rng.random() < 0.9 else ours.arn.replace("alerts", "absent")
        expected = answer(pair.client, topic, entries)
        assert answer(ours.client(), topic, entries) == expected, (seed, turn, entries)
        seen.add(expected[0] if isinstance(expected[0], str) else "well")
    assert seen >= {"well", "NotFound", "TooManyEntriesInBatchRequest", "BatchEntryIdsNotDistinct"}
    got = [
        (
            message.text,
            {k: v["StringValue"] for k, v in message.entry.get("MessageAttributes", {}).items()},
        )
        for message in ours.messages
    ]
    received = pair.received()
    assert sorted(got, key=repr) == sorted(received, key=repr)
    if ours.fifo:
        assert len(ours.messages) < len(ours.accepted)
    else:
        assert got == received


def message(text: str = "x", **more: Any) -> dict[str, Any]:
    return {"Id": "0", "Message": text, **more}


def test_the_real_service_refuses_more_than_moto() -> None:
    """Limits and characters of the SNS API's pages on Publish and PublishBatch."""
    client = MemoryTopic().client()
    assert answer(client, TOPIC, [])[0] == "EmptyBatchRequest"
    long = [{"Id": str(n), "Message": "x" * 30_000} for n in range(9)]
    assert answer(client, TOPIC, long)[0] == "BatchRequestTooLong"
    assert answer(client, TOPIC, long[:8]) == ([(str(n), True) for n in range(8)], [])
    for text in ("\ufffe", "\x00", "\x1f", ""):
        assert answer(client, TOPIC, [message(text)]) == ([], ["0"])
    fifo = MemoryTopic(TOPIC + ".fifo")
    assert answer(fifo.client(), fifo.arn, [message(MessageGroupId="g")])[0] == "InvalidParameter"


def test_a_fifo_topic_forgets_what_it_has_seen() -> None:
    clock = [0.0]
    topic = MemoryTopic(TOPIC + ".fifo", now=lambda: clock[0])
    one = message(MessageGroupId="g", MessageDeduplicationId="d")
    for seconds in (0.0, 1.0, DEDUPLICATION_SECONDS - 1.0, float(DEDUPLICATION_SECONDS)):
        clock[0] = seconds
        assert answer(topic.client(), topic.arn, [one]) == ([("0", True)], [])
    assert [given.at for given in topic.messages] == [0.0, DEDUPLICATION_SECONDS]
    assert len(topic.accepted) == 4


def test_its_faults_are_errors_as_boto3_raises_them() -> None:
    clock, waited = [0.0], list[float]()
    topic = MemoryTopic(now=lambda: clock[0], spend=waited.append)
    service = Service("sns", make=topic.client)

    def publish() -> Any:
        entries = [message()]
        return service.call(
            "publish_batch", "topic", TopicArn=TOPIC, PublishBatchRequestEntries=entries
        )

    topic.throttle_next = 1
    with pytest.raises(UnavailableError, match="Throttling"):
        publish()
    topic.down_until = 5.0
    with pytest.raises(EndpointConnectionError):
        topic.client().publish_batch(TopicArn=TOPIC, PublishBatchRequestEntries=[message()])
    topic.silent = True
    with pytest.raises(UnavailableError, match="timeout"):
        publish()
    clock[0] = 5.0
    assert topic.messages == [] and waited == [2.0]
    topic.lose_next = 1
    with pytest.raises(ReadTimeoutError):
        topic.client().publish_batch(TopicArn=TOPIC, PublishBatchRequestEntries=[message()])
    assert len(topic.messages) == 1 and waited == [2.0, 4.0]
    topic.refuses = lambda entry: ("KMSThrottling", False)
    assert publish()["Failed"] == [
        {"Id": "0", "Code": "KMSThrottling", "Message": "KMSThrottling", "SenderFault": False}
    ]
    topic.heal()
    topic.odds = Odds(failed=1.0)
    with pytest.raises(UnavailableError, match="InternalError"):
        publish()
    topic.odds = Odds()
    for refusal in (None, Refusal("SignatureDoesNotMatch", 403, "no")):
        topic.expire(refusal)
        for _ in range(2):
            with pytest.raises(UnavailableError, match="ExpiredToken|SignatureDoesNotMatch"):
                publish()
        topic.renew()
        topic.refuses = lambda entry: None
        assert publish()["Successful"]
