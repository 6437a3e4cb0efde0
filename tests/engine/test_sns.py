"""Alerts to a topic: what arrives, what is sent again, and what can stop a shard."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from botocore.exceptions import ClientError, ReadTimeoutError
from moto import mock_aws

from streamgauge import Alert
from streamgauge.engine.aws import Service, make_client
from streamgauge.engine.errors import StreamgaugeError, UnavailableError
from streamgauge.engine.sinks import sns
from streamgauge.engine.sinks.sns import SnsAlerts

TOPIC = "arn:aws:sns:us-east-1:123456789012:alerts"


def alert(number: int, device: str = "d") -> Alert:
    return Alert(
        id=f"id-{number}", pipeline="p", rule="hot", device=device, state="firing", time=number,
        value=90.5, samples=5, threshold=90.0, threshold_version=None, window_start=number - 60_000,
        window_end=number, first_position="s:1:0", last_position=f"s:{number}:0",
        severity="warning",
    )  # fmt: skip


class Topic:
    """A client of SNS in memory that refuses what it is told to."""

    def __init__(self) -> None:
        self.taken: list[dict[str, Any]] = []
        self.calls: list[int] = []
        self.refuse: set[str] = set()  # alert ids
        self.fault = False
        self.raises: list[Exception] = []
        self.lose = 0

    def publish_batch(self, TopicArn: str, PublishBatchRequestEntries: list[Any]) -> Any:
        assert TopicArn.startswith(TOPIC)
        self.calls.append(len(PublishBatchRequestEntries))
        if self.raises:
            raise self.raises.pop(0)
        answer: dict[str, list[Any]] = {"Successful": [], "Failed": []}
        for entry in PublishBatchRequestEntries:
            if json.loads(entry["Message"])["id"] in self.refuse:
                failed = {"Id": entry["Id"], "Code": "Throttled", "Message": "slow down",
                          "SenderFault": self.fault}  # fmt: skip
                if self.fault:
                    failed["Code"] = "InvalidParameter"
                answer["Failed"].append(failed)
            else:
                self.taken.append(entry)
                answer["Successful"].append({"Id": entry["Id"], "MessageId": "m"})
        if self.lose:
            self.lose -= 1
            raise ReadTimeoutError(endpoint_url="http://127.0.0.1:1")
        return answer

    @property
    def ids(self) -> list[str]:
        return [json.loads(entry["Message"])["id"] for entry in self.taken]


def made(topic: Topic, name: str = TOPIC) -> SnsAlerts:
    return SnsAlerts(name, Service("sns", topic))


@pytest.fixture
def queue() -> Iterator[tuple[str, Any, str]]:
    with mock_aws():
        topic = make_client("sns").create_topic(Name="alerts")["TopicArn"]
        client = make_client("sqs")
        url = client.create_queue(QueueName="q")["QueueUrl"]
        found = client.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])
        arn = found["Attributes"]["QueueArn"]
        raw = {"RawMessageDelivery": "true"}
        make_client("sns").subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arn, Attributes=raw)
        yield topic, client, url


def test_alerts_arrive_in_a_queue_with_attributes(queue: tuple[str, Any, str]) -> None:
    topic, client, url = queue
    rows = [alert(number, "d\n\ufffe") for number in range(23)]
    SnsAlerts(topic, Service("sns")).deliver(rows)
    found: dict[str, Alert] = {}
    while messages := client.receive_message(
        QueueUrl=url, MaxNumberOfMessages=10, MessageAttributeNames=["All"]
    ).get("Messages"):
        for message in messages:
            given = msgspec.json.decode(message["Body"], type=Alert)
            found[given.id] = given
            values = {k: v["StringValue"] for k, v in message["MessageAttributes"].items()}
            assert values == {"rule": "hot", "device": "d%0A%EF%BF%BE", "state": "firing",
                              "severity": "warning"}  # fmt: skip
            client.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
    assert sorted(found.values(), key=lambda row: row.time) == rows


def test_of_a_batch_only_what_was_refused_comes_again() -> None:
    topic = Topic()
    sink, rows = made(topic), [alert(number) for number in range(25)]
    topic.refuse = {"id-3", "id-14"}
    with pytest.raises(UnavailableError, match="Throttled: slow down"):
        sink.deliver(rows)
    sink.deliver([alert(100)])  # of another shard, in between
    topic.refuse = set()
    sink.deliver(rows)
    assert sorted(topic.ids) == sorted(row.id for row in [*rows, alert(100)])
    sink.deliver(rows)  # after a restart of the shard: all of it
    assert len(topic.ids) == 2 * len(rows) + 1


def test_an_answer_that_was_lost_repeats_the_same_ids() -> None:
    topic = Topic()
    topic.lose = 1
    sink = made(topic)
    with pytest.raises(UnavailableError):
        sink.deliver([alert(1)])
    sink.deliver([alert(1)])
    assert topic.ids == ["id-1", "id-1"]


def test_expired_credentials_are_looked_for_anew() -> None:
    old, new = Topic(), Topic()
    error = {"Error": {"Code": "ExpiredTokenException", "Message": "x"}}
    old.raises = [ClientError(error, "PublishBatch")]
    clients = iter([old, new])
    sink = SnsAlerts(TOPIC, Service("sns", make=lambda: next(clients)))
    with pytest.raises(UnavailableError, match="renew"):
        sink.deliver([alert(1)])
    sink.deliver([alert(1)])
    assert (old.ids, new.ids) == ([], ["id-1"])


def test_a_row_that_can_never_be_taken_says_which_and_why() -> None:
    topic = Topic()
    topic.refuse, topic.fault = {"id-1"}, True
    with pytest.raises(StreamgaugeError, match="id-1.*InvalidParameter") as caught:
        made(topic).deliver([alert(0), alert(1)])
    assert not isinstance(caught.value, UnavailableError)


def test_no_device_can_stop_the_shard() -> None:
    topic = Topic()
    made(topic).deliver([alert(number, "\u00e9" * 400_000) for number in range(12)])
    message = json.loads(topic.taken[0]["Message"])
    assert message["device_bytes"] == 800_000
    assert len(message["device"].encode()) <= sns.TEXT_BYTES_MAX
    assert sum(topic.calls) == 12
    value = topic.taken[0]["MessageAttributes"]["device"]["StringValue"]
    assert len(value.encode()) <= sns.ATTRIBUTE_BYTES_MAX


def test_a_fifo_topic_keeps_the_order_of_each_device() -> None:
    topic = Topic()
    sink = made(topic, TOPIC + ".fifo")
    rows = [alert(n, f"d{n % 2}") for n in range(6)]
    topic.refuse = {"id-2"}
    with pytest.raises(UnavailableError):
        sink.deliver(rows)
    assert "id-4" not in topic.ids  # of the same device, after the refused one
    topic.refuse = set()
    sink.deliver(rows)
    for device in range(2):
        mine = [one for one in topic.ids if int(one[3:]) % 2 == device]
        assert mine == sorted(mine) and len(mine) == 3
    groups = {entry["MessageGroupId"] for entry in topic.taken}
    assert len(groups) == 2 and all(len(group) <= 128 for group in groups)
    assert [e["MessageDeduplicationId"] for e in topic.taken] == topic.ids
