"""Bodies of PutRecords made by hand, and answers read: what they say is what botocore's would."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import Any

import pytest
from botocore.awsrequest import AWSResponse
from botocore.exceptions import ReadTimeoutError
from hypothesis import given
from hypothesis import strategies as st
from memory_kinesis import THROTTLED, MemoryKinesis
from moto import mock_aws

from streamgauge.consumers import kinesis_answers
from streamgauge.engine.aws import RefusedError, Service, make_client
from streamgauge.engine.errors import UnavailableError
from streamgauge.producers.kinesis import Failed, KinesisWriter, Placed, Put
from streamgauge.producers.put_body import BEFORE_CALL, BEFORE_PARSE, HANDLER

GOOD = {"ShardId": "shardId-000000000000", "SequenceNumber": "7"}


class Raw:
    """The body of an answer, as urllib3 gives it."""

    def __init__(self, body: bytes) -> None:
        self.body = body

    def stream(self) -> Iterator[bytes]:
        yield self.body


class Endpoint:
    """Answers a boto3 client's requests, and keeps their bodies."""

    def __init__(self, client: Any = None) -> None:
        self.bodies: list[Any] = []
        self.status, self.answer = (
            200,
            json.dumps({"FailedRecordCount": 0, "Records": [GOOD]}).encode(),
        )
        self.client = client or make_client("kinesis")
        self.writer = KinesisWriter(Service("kinesis", self.client), "s")
        self.client.meta.events.register("before-send.kinesis.*", self.respond)

    def respond(self, request: Any, **_: Any) -> AWSResponse:
        self.bodies.append(json.loads(request.body))
        headers = {"x-amzn-RequestId": "r", "Content-Type": "application/x-amz-json-1.1"}
        return AWSResponse("http://127.0.0.1", self.status, headers, Raw(self.answer))

    def unhook(self) -> None:
        for event in (BEFORE_CALL, BEFORE_PARSE):
            self.client.meta.events.unregister(event, unique_id=HANDLER.format(event))


texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30)
puts = st.builds(Put, texts, st.integers(0, (1 << 128) - 1), st.binary(max_size=100))


@pytest.fixture(scope="module")
def endpoint() -> Endpoint:
    return Endpoint()


@given(records=st.lists(puts, min_size=1, max_size=5))
def test_a_body_says_what_botocores_would(endpoint: Endpoint, records: list[Put]) -> None:
    endpoint.bodies, endpoint.status = [], 200
    endpoint.answer = json.dumps(
        {"FailedRecordCount": 0, "Records": [GOOD] * len(records)}
    ).encode()
    assert endpoint.writer.put(records) == [Placed(*GOOD.values())] * len(records)
    entries = [
        {"Data": data, "PartitionKey": key, "ExplicitHashKey": str(number)}
        for key, number, data in records
    ]
    assert endpoint.writer._put_records.quick
    endpoint.client.put_records(StreamName="s", Records=entries)  # somebody else's call
    ours, botocores = endpoint.bodies
    assert ours == botocores
    assert [base64.b64decode(row["Data"]) for row in ours["Records"]] == [r.data for r in records]


one = [Put("k", 1, b"x")]


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        (GOOD, Placed("shardId-000000000000", "7")),
        ({**GOOD, "ErrorCode": None, "More": [1]}, Placed("shardId-000000000000", "7")),
        ({"ErrorCode": "InternalFailure"}, Failed("InternalFailure", "")),
        ({"ErrorCode": "E", "ErrorMessage": "why"}, Failed("E", "why")),
    ],
)
@pytest.mark.parametrize("hooked", [True, False])
def test_outcomes_are_read(told: Any, expected: Any, hooked: bool) -> None:
    endpoint = Endpoint()
    endpoint.writer._put_records.quick = hooked
    endpoint.answer = json.dumps({"Records": [told], "FailedRecordCount": 0}).encode()
    assert endpoint.writer.put(one) == [expected]


@pytest.mark.parametrize(
    "body",
    [b"", b"{}", b"[]", b'{"Records":[]}', b'{"Records":[{}]}', b'{"Records":[{},{}]}', b"<html>",
     b'{"Records":[{"ShardId":"s"}]}', b'{"Records":7}', b'{"Records":[{"ShardId":1}]}'],
)  # fmt: skip
@pytest.mark.parametrize("hooked", [True, False])
def test_an_answer_that_is_none_counts_as_none(body: bytes, hooked: bool) -> None:
    """The records may lie in the stream: they are to be sent again, and nobody is to stop."""
    endpoint = Endpoint()
    endpoint.writer._put_records.quick = hooked
    endpoint.answer = body
    with pytest.raises(UnavailableError):
        endpoint.writer.put(one)


@pytest.mark.parametrize(
    ("status", "code", "error"),
    [(400, THROTTLED, UnavailableError), (400, "ValidationException", RefusedError),
     (500, "InternalFailure", UnavailableError), (503, "x", UnavailableError)],
)  # fmt: skip
def test_errors_stay_botocores(status: int, code: str, error: type[Exception]) -> None:
    endpoint = Endpoint()
    endpoint.status, endpoint.answer = status, json.dumps({"__type": code, "message": "m"}).encode()
    with pytest.raises(error, match=f"PutRecords on stream s: {code}"):
        endpoint.writer.put(one)


def test_both_handlers_run_beside_others_of_ours_in_one_client() -> None:
    """botocore drops a handler without a word where another has its `unique_id`."""
    client, left = make_client("kinesis"), []
    kinesis_answers.attach(client)
    endpoint = Endpoint(client)
    client.meta.events.register(BEFORE_PARSE, lambda response_dict, **_: left.append(response_dict))
    assert endpoint.writer.put(one) == [Placed(*GOOD.values())]
    assert endpoint.writer._put_records.quick
    assert left[0]["body"] == b"", "botocore was left the answer to parse"


@pytest.mark.parametrize("status", [200, 400])
def test_where_botocore_calls_no_handler_nothing_wrong_is_written(status: int) -> None:
    """Such a call is refused by the service, for its hash key; the next ones are made as ever."""
    endpoint = Endpoint()
    endpoint.unhook()
    good, endpoint.status = endpoint.answer, status
    if status == 400:
        endpoint.answer = b'{"__type":"InvalidArgumentException","message":"the hash key"}'
    with pytest.raises(UnavailableError, match="left a handler out"):
        endpoint.writer.put(one)
    (row,) = endpoint.bodies[0]["Records"]
    assert not row["ExplicitHashKey"].isdecimal()
    endpoint.status, endpoint.answer = 200, good
    assert endpoint.writer.put(one) == [Placed(*GOOD.values())]
    assert base64.b64decode(endpoint.bodies[1]["Records"][0]["Data"]) == b"x"


def test_an_arn_names_the_stream() -> None:
    endpoint, arn = Endpoint(), "arn:aws:kinesis:us-east-1:123456789012:stream/s"
    KinesisWriter(Service("kinesis", endpoint.client), arn).put(one)
    assert endpoint.bodies[0]["StreamARN"] == arn and "StreamName" not in endpoint.bodies[0]


def test_shards_are_listed_to_the_last_page_and_closed_ones_left_out() -> None:
    stream = MemoryKinesis(5)
    stream.split(stream.open[1])
    writer = KinesisWriter(Service("kinesis", stream), "s")
    found = writer.shards()
    assert [shard.shard_id for shard in found] == sorted(stream.open, key=stream.ranges.__getitem__)
    assert {shard.shard_id: (shard.first, shard.last) for shard in found} == {
        name: stream.ranges[name] for name in stream.open
    }


@mock_aws
def test_moto_takes_bodies_made_by_hand() -> None:
    client = make_client("kinesis")
    client.create_stream(StreamName="s", ShardCount=2)
    writer = KinesisWriter(Service("kinesis", client), "s")
    told = writer.put([Put("\u00e9", 1, b"\x00\xff"), Put("k", (1 << 128) - 2, b"")])
    assert writer._put_records.quick
    assert [placed.shard_id[-1] for placed in told if isinstance(placed, Placed)] == ["0", "1"]
    iterator = client.get_shard_iterator(
        StreamName="s", ShardId="shardId-000000000000", ShardIteratorType="TRIM_HORIZON"
    )["ShardIterator"]
    (record,) = client.get_records(ShardIterator=iterator)["Records"]
    assert (record["PartitionKey"], record["Data"]) == ("\u00e9", b"\x00\xff")


def test_timeouts_of_botocore_carry_no_answer() -> None:
    """Their attribute `response` is there, and None."""
    assert ReadTimeoutError(endpoint_url="x").response is None  # type: ignore[attr-defined]
