"""Alerts to a topic: what arrives, what is sent again, and what can stop a shard."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from memory_service import Refusal
from memory_topic import TOPIC, MemoryTopic
from moto import mock_aws

from streamgauge import Alert
from streamgauge.engine.aws import Service, make_client
from streamgauge.engine.errors import StreamgaugeError, UnavailableError
from streamgauge.engine.sinks import sns
from streamgauge.engine.sinks.sns import SnsAlerts


def alert(number: int, device: str = "d") -> Alert:
    return Alert(
        id=f"id-{number}", pipeline="p", rule="hot", device=device, state="firing", time=number,
        value=90.5, samples=5, threshold=90.0, threshold_version=None, window_start=number - 60_000,
        window_end=number, first_position="s:1:0", last_position=f"s:{number}:0",
        severity="warning",
    )  # fmt: skip


def made(topic: MemoryTopic) -> SnsAlerts:
    return SnsAlerts(topic.arn, Service("sns", make=topic.client))


def ids(topic: MemoryTopic) -> list[str]:
    """The ids of the messages in their order, repeats too."""
    return [json.loads(message.text)["id"] for message in topic.messages]


def refuse(topic: MemoryTopic, *refused: str, code: str = "Throttled", fault: bool = False) -> None:
    """Have the topic refuse the alerts of these ids from now on."""
    topic.refuses = lambda entry: (
        (code, fault) if json.loads(entry["Message"])["id"] in refused else None
    )


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
    topic = MemoryTopic()
    sink, rows = made(topic), [alert(number) for number in range(25)]
    refuse(topic, "id-3", "id-14")
    with pytest.raises(UnavailableError, match="alert id-3: Throttled"):
        sink.deliver(rows)
    sink.deliver([alert(100)])  # of another shard, in between
    refuse(topic)
    sink.deliver(rows)
    assert sorted(ids(topic)) == sorted(row.id for row in [*rows, alert(100)])
    assert topic.sent == [10, 10, 5, 1, 2]
    sink.deliver(rows)  # after a restart of the shard: all of it
    assert len(ids(topic)) == 2 * len(rows) + 1


def test_a_topic_that_takes_nothing_is_not_asked_for_the_rest() -> None:
    topic = MemoryTopic()
    topic.refused = 1.0
    with pytest.raises(UnavailableError):
        made(topic).deliver([alert(number) for number in range(35)])
    assert topic.sent == [10]


def test_an_answer_that_was_lost_repeats_the_same_ids() -> None:
    topic = MemoryTopic()
    topic.lose_next = 1
    sink = made(topic)
    with pytest.raises(UnavailableError):
        sink.deliver([alert(1)])
    sink.deliver([alert(1)])
    assert ids(topic) == ["id-1", "id-1"]


@pytest.mark.parametrize(
    "refusal",
    [
        Refusal("ExpiredToken", 403, "x"),
        Refusal("ExpiredTokenException", 400, "x"),
        Refusal("SignatureDoesNotMatch", 403, "x"),
        Refusal("RequestExpired", 400, "x"),
    ],
)
def test_expired_credentials_are_looked_for_anew(refusal: Refusal) -> None:
    topic = MemoryTopic()
    sink = made(topic)
    sink.deliver([alert(0)])
    topic.expire(refusal)
    for _ in range(2):
        with pytest.raises(UnavailableError, match=refusal.code):
            sink.deliver([alert(1)])
    topic.renew()
    sink.deliver([alert(1)])
    assert ids(topic) == ["id-0", "id-1"]


def test_a_row_that_can_never_be_taken_says_which_and_why() -> None:
    topic = MemoryTopic()
    refuse(topic, "id-1", code="InvalidParameter", fault=True)
    with pytest.raises(StreamgaugeError, match="id-1.*InvalidParameter") as caught:
        made(topic).deliver([alert(0), alert(1)])
    assert not isinstance(caught.value, UnavailableError)


def test_no_device_can_stop_the_shard() -> None:
    topic = MemoryTopic()
    devices = ["\u00e9" * 400_000] * 12 + ["\ufffe\uffff\x7f", "\x00\x1f", "\U0001f600" * 300]
    made(topic).deliver([alert(number, device) for number, device in enumerate(devices)])
    found = [json.loads(message.text) for message in topic.messages]
    assert found[0]["device_bytes"] == 800_000
    assert len(found[0]["device"].encode()) <= sns.TEXT_BYTES_MAX
    assert [one["device"] for one in found[12:]] == devices[12:]
    assert sum(topic.sent) == len(devices)
    for message in topic.messages:
        value = message.entry["MessageAttributes"]["device"]["StringValue"]
        assert 0 < len(value.encode()) <= sns.ATTRIBUTE_BYTES_MAX


def test_a_fifo_topic_keeps_the_order_of_each_device() -> None:
    topic = MemoryTopic(TOPIC + ".fifo")
    sink = made(topic)
    rows = [alert(n, f"d{n % 2}") for n in range(6)]
    refuse(topic, "id-2")
    with pytest.raises(UnavailableError):
        sink.deliver(rows)
    assert "id-4" not in ids(topic)  # of the same device, after the refused one
    refuse(topic)
    sink.deliver(rows)
    for device in range(2):
        mine = [one for one in ids(topic) if int(one[3:]) % 2 == device]
        assert mine == sorted(mine) and len(mine) == 3
    groups = {message.entry["MessageGroupId"] for message in topic.messages}
    assert len(groups) == 2 and all(len(group) <= 128 for group in groups)
    assert [m.entry["MessageDeduplicationId"] for m in topic.messages] == ids(topic)


def test_a_fifo_topic_tells_subscribers_once_what_is_repeated_soon() -> None:
    topic = MemoryTopic(TOPIC + ".fifo")
    made(topic).deliver([alert(1), alert(2)])
    made(topic).deliver([alert(1), alert(2), alert(3)])  # another process, after a crash
    assert ids(topic) == ["id-1", "id-2", "id-3"]
    assert len(topic.accepted) == 5
