"""What is decoded in botocore's place is the same, and what cannot be is left to botocore."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from botocore.awsrequest import AWSResponse
from botocore.stub import Stubber
from effort import examples
from hypothesis import example, given, settings
from hypothesis import strategies as st
from moto import mock_aws

from streamgauge.consumers.kinesis_answers import EVENT, HANDLER, attach
from streamgauge.consumers.kinesis_reader import KinesisReader
from streamgauge.consumers.shard import Fetched
from streamgauge.engine.aws import Service, make_client
from streamgauge.engine.batch import Record
from streamgauge.engine.errors import StreamgaugeError, UnavailableError
from streamgauge.engine.records import arrival_ms

SHARD = "shardId-000000000000"
ROW = {"SequenceNumber": "9", "Data": "eA==", "PartitionKey": "k"}


class Endpoint:
    """Answers every request of a client with one body. `parsed` counts what botocore parses."""

    def __init__(self) -> None:
        self.status, self.body, self.parsed = 200, b"", 0
        self.client = make_client("kinesis")
        self.reader = KinesisReader(Service("kinesis", self.client), "s")
        self.client.meta.events.register("before-send.kinesis.*", self.answer)
        self.client.meta.events.register_last(EVENT, self.count)

    def answer(self, **_: Any) -> AWSResponse:
        headers = {"x-amzn-RequestId": "r", "Content-Type": "application/x-amz-json-1.1"}
        return AWSResponse("http://127.0.0.1", self.status, headers, Raw(self.body))

    def count(self, response_dict: dict[str, Any], **_: Any) -> None:
        self.parsed += response_dict["body"] != b""

    def read(self, body: bytes, status: int = 200) -> Fetched | None:
        self.body, self.status, self.parsed = body, status, 0
        return self.reader.read(SHARD, "i")


class Raw:
    """The body of an answer, as urllib3 gives it."""

    def __init__(self, body: bytes) -> None:
        self.body = body

    def stream(self) -> Iterator[bytes]:
        yield self.body


class Ordinary(Endpoint):
    """What a reader gives that leaves all to botocore; an error of any kind as its type."""

    def get(self, body: bytes) -> Any:
        self.body = body
        answer = self.client.get_records(ShardIterator="i")
        records = [
            Record(
                SHARD, row["SequenceNumber"], row["Data"], row.get("PartitionKey", ""),
                arrival_ms(row.get("ApproximateArrivalTimestamp")),
            )
            for row in answer["Records"]
        ]  # fmt: skip
        behind = answer.get("MillisBehindLatest", 0)
        return Fetched(records, answer.get("NextShardIterator"), behind)


@pytest.fixture(scope="module")
def endpoint() -> Endpoint:
    return Endpoint()


@pytest.fixture(scope="module")
def ordinary() -> Ordinary:
    return Ordinary()


def body_of(*rows: Any, **more: Any) -> bytes:
    return json.dumps({"Records": rows, "NextShardIterator": "j", **more}).encode()


def test_an_answer_is_decoded_without_botocore(endpoint: Endpoint) -> None:
    row = {**ROW, "ApproximateArrivalTimestamp": 1767312000.123, "EncryptionType": "KMS"}
    body = body_of(row, {**ROW, "SequenceNumber": "10"}, MillisBehindLatest=7)
    assert endpoint.read(body) == Fetched(
        [Record(SHARD, "9", b"x", "k", 1_767_312_000_123), Record(SHARD, "10", b"x", "k")], "j", 7
    )
    assert endpoint.parsed == 0


# Bodies as a service might write them; the usual ones are decoded without botocore.
stamps = st.one_of(
    st.integers(0, 4_000_000_000),
    st.integers(0, 4_000_000_000_000).map(lambda ms: ms / 1000),
    st.integers(0, 4_000_000_000_000_000).map(lambda us: us / 1_000_000),
    st.integers(0, 4_000_000_000_000).map(lambda ms: (ms + 0.5) / 1000),
    st.floats(0, 2e11),
)
usual_rows = st.fixed_dictionaries(
    {
        "SequenceNumber": st.integers(0, 10**56).map(str),
        "Data": st.binary().map(lambda data: base64.b64encode(data).decode()),
    },
    optional={
        "PartitionKey": st.text(st.characters(codec="utf-8"), min_size=1),
        "ApproximateArrivalTimestamp": stamps,
        "EncryptionType": st.sampled_from(["NONE", "KMS"]),
        "More": st.recursive(st.none() | st.integers() | st.text(), st.lists),
    },
)
usual = st.fixed_dictionaries(
    {"Records": st.lists(usual_rows, max_size=4)},
    optional={
        "NextShardIterator": st.none() | st.text("AB/+="),
        "MillisBehindLatest": st.integers(0, 10**12),
        "ChildShards": st.just(
            [{"ShardId": "s", "ParentShards": ["p"],
              "HashKeyRange": {"StartingHashKey": "0", "EndingHashKey": "1"}}]
        ),
        "More": st.none() | st.booleans(),
    },
)  # fmt: skip
# Values that no service should write; each of them is written somewhere in a body.
odd_values = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.just([]), st.just({}),
    st.integers(-(10**30), 10**30), st.floats(-1e3, 1e3), st.text("AQZ019+/=-_ \n", max_size=9),
    st.sampled_from(["QR==", "QQ==QQ==", "QUJD=", "2026-01-02T03:04:05Z", "1767312000.5"]),
)  # fmt: skip


@st.composite
def odd_bodies(draw: st.DrawFn) -> bytes:
    body = draw(usual)
    where: dict[str, Any] = body
    if body["Records"] and draw(st.integers(0, 9)):
        where = draw(st.sampled_from(body["Records"]))
    keys = ("SequenceNumber", "Data", "PartitionKey", "ApproximateArrivalTimestamp",
            "NextShardIterator", "MillisBehindLatest", "Records")  # fmt: skip
    where[draw(st.sampled_from(keys))] = draw(odd_values)
    return written(body, draw)


def written(body: Any, draw: st.DrawFn) -> bytes:
    """As JSON: escaped or not, compact or not, and with slashes escaped as some writers do."""
    compact = draw(st.sampled_from([(",", ":"), (", ", " : ")]))
    text = json.dumps(body, ensure_ascii=draw(st.booleans()), separators=compact)
    if draw(st.booleans()):
        text = text.replace("/", "\\/")
    return text.encode(errors="surrogatepass")


@st.composite
def usual_bodies(draw: st.DrawFn) -> bytes:
    return written(draw(usual), draw)


def bits(fetched: Fetched | None) -> str:
    """All that there is to tell apart, types too: `repr` shows 0 and 0.0 differently."""
    return repr(fetched)


@given(usual_bodies())
def test_a_usual_answer_is_that_of_botocore(
    endpoint: Endpoint, ordinary: Ordinary, body: bytes
) -> None:
    assert bits(endpoint.read(body)) == bits(ordinary.get(body))
    assert endpoint.parsed == 0


@given(odd_bodies())
@example(body_of({**ROW, "Data": "QR=="}))
@example(body_of(ROW, ROW, {**ROW, "ApproximateArrivalTimestamp": 1e300}))
@example(body_of({**ROW, "ApproximateArrivalTimestamp": 253402300800}))
@example(body_of({**ROW, "ApproximateArrivalTimestamp": -1.0005}))
@example(body_of({**ROW, "ApproximateArrivalTimestamp": 1.00149995}))
@example(body_of({**ROW, "ApproximateArrivalTimestamp": 1767312000.0005}))
@example(body_of(ROW, MillisBehindLatest=0.0))
@example(b"")
@example(b"null")
@example(b'\xef\xbb\xbf{"Records":[]}')
@example(b'{"Records":[],"More":"\xff"}')
@example(b'{"Records":[],"Records":[{"SequenceNumber":"1","Data":""}]}')
@example(b'{"Records":[{"SequenceNumber":"1","Data":"","PartitionKey":"\\ud800"}]}')
@example(b"\xbfgRecords\x80\xff")  # CBOR
@example(b"[" * 100_000)
@settings(max_examples=examples(300))
def test_an_odd_answer_is_that_of_botocore(
    endpoint: Endpoint, ordinary: Ordinary, body: bytes
) -> None:
    try:
        expected = bits(ordinary.get(body))
    except Exception as error:
        with pytest.raises((UnavailableError, StreamgaugeError, type(error))):
            endpoint.read(body)
    else:
        assert bits(endpoint.read(body)) == expected


def test_what_is_not_as_expected_is_left_to_botocore(endpoint: Endpoint) -> None:
    odd = body_of({**ROW, "ApproximateArrivalTimestamp": "2026-01-02T00:00:00Z"}, ROW)
    assert endpoint.read(odd) == Fetched(
        [Record(SHARD, "9", b"x", "k", 1_767_312_000_000), Record(SHARD, "9", b"x", "k")], "j", 0
    )
    assert endpoint.parsed == 1


@pytest.mark.parametrize("body", [b"<html>sign in</html>", b"{}", b'{"Records":[null]}'])
def test_what_is_no_answer_at_all_is_waited_for(endpoint: Endpoint, body: bytes) -> None:
    with pytest.raises(UnavailableError, match=f"{SHARD}: no answer of GetRecords"):
        endpoint.read(body)


def test_an_error_is_read_by_botocore(endpoint: Endpoint) -> None:
    records = {"Records": [], "message": "slow down"}
    error = {"__type": "ProvisionedThroughputExceededException", **records}
    with pytest.raises(UnavailableError, match="Throughput.*slow down"):
        endpoint.read(json.dumps(error).encode(), status=400)
    assert endpoint.parsed == 1
    expired = {"__type": "ExpiredIteratorException", "message": "old", "Records": []}
    assert endpoint.read(json.dumps(expired).encode(), status=400) is None


def test_others_who_use_the_client_are_given_what_they_always_were(endpoint: Endpoint) -> None:
    stamp = datetime(2026, 1, 2, tzinfo=UTC)
    body = body_of({**ROW, "ApproximateArrivalTimestamp": stamp.timestamp()}, More=1)
    assert endpoint.read(body) is not None
    expected = {**ROW, "Data": b"x", "ApproximateArrivalTimestamp": stamp}
    answers = []

    def ask() -> None:
        answers.append(endpoint.client.get_records(ShardIterator="i"))

    inside = [ask, lambda: endpoint.read(body), ask]
    for work in inside:
        work()
    thread = threading.Thread(target=ask)
    thread.start()
    thread.join()
    assert [answer["Records"] for answer in answers] == [[expected]] * 3
    assert {*answers[0]} == {"Records", "NextShardIterator", "ResponseMetadata"}


def test_a_client_is_given_the_handler_once_however_many_read_with_it() -> None:
    service, made = Service("kinesis", make=lambda: make_client("kinesis")), []
    service.prepare(made.append)
    readers = [KinesisReader(service, name) for name in "ab"]
    assert readers and made == []
    first = service.client
    KinesisReader(service, "c")
    assert made == [first]
    attach(first)
    assert handlers(first) == 1


def test_a_renewed_client_has_the_handler_too() -> None:
    with mock_aws():
        service = Service("kinesis")
        reader = KinesisReader(service, "s")
        service.client.create_stream(StreamName="s", ShardCount=1)
        service.client.put_record(StreamName="s", Data=b"x", PartitionKey="k")
        before = service.client
        service.renew()
        fetched = reader.read(SHARD, reader.iterator(SHARD, None, True))
        assert service.client is not before and handlers(service.client) == 1
        assert fetched is not None and [record.data for record in fetched.records] == [b"x"]


def handlers(client: Any) -> int:
    """How often the handler of this package is called for an answer."""
    registered = client.meta.events._emitter._handlers.prefix_search(EVENT)
    return sum(handler.__module__ == attach.__module__ for handler in registered)


@pytest.mark.parametrize("with_handler", [True, False])
def test_moto_and_stubs_are_read_with_and_without_it(with_handler: bool) -> None:
    with mock_aws():
        client = make_client("kinesis")
        reader, parsed = KinesisReader(Service("kinesis", client), "s"), []
        if not with_handler:
            client.meta.events.unregister(EVENT, unique_id=HANDLER)
        client.meta.events.register_last(
            EVENT, lambda response_dict, **_: parsed.append(bool(response_dict["body"]))
        )
        client.create_stream(StreamName="s", ShardCount=1)
        client.put_record(StreamName="s", Data=b"x", PartitionKey="k")
        fetched = reader.read(SHARD, reader.iterator(SHARD, None, True))
        assert fetched is not None
        (record,) = fetched.records
        assert (record.data, record.partition_key) == (b"x", "k")
        assert parsed == [not with_handler]
        with Stubber(client) as stubber:
            row = {"SequenceNumber": "9", "Data": b"x", "PartitionKey": "k"}
            stubber.add_response("get_records", {"Records": [row], "MillisBehindLatest": 7})
            assert reader.read(SHARD, "i") == Fetched([Record(SHARD, "9", b"x", "k")], None, 7)
