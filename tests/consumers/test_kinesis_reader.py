"""How a stream is read with boto3, and what becomes of each way in which that fails."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from botocore import exceptions
from botocore.parsers import ResponseParserError
from botocore.stub import Stubber
from moto import mock_aws

from streamgauge.consumers.kinesis_reader import KinesisReader, ListedShard
from streamgauge.engine.aws import RENEW, WAIT, Service, make_client
from streamgauge.engine.batch import Position, Record
from streamgauge.engine.errors import StreamgaugeError, UnavailableError

FIRST, SECOND = "shardId-000000000000", "shardId-000000000001"


@pytest.fixture
def client() -> Iterator[Any]:
    with mock_aws():
        made = make_client("kinesis")
        made.create_stream(StreamName="s", ShardCount=2)
        yield made


@pytest.fixture(scope="module")
def plain() -> Any:
    return make_client("kinesis")


@pytest.fixture
def stubbed(plain: Any) -> Iterator[tuple[KinesisReader, Stubber]]:
    with Stubber(plain) as stubber:
        yield KinesisReader(Service("kinesis", plain), "s"), stubber


def put(client: Any, count: int) -> None:
    for number in range(count):
        client.put_record(StreamName="s", Data=b"%d" % number, PartitionKey="k" * (number + 1),
                          ExplicitHashKey="0")  # fmt: skip


def test_records_come_as_they_were_put(client: Any) -> None:
    before = time.time()
    put(client, 3)
    reader = KinesisReader(Service("kinesis", client), "s")
    fetched = reader.read(FIRST, reader.iterator(FIRST, None, True))
    assert fetched is not None and fetched.iterator and fetched.behind == 0
    assert all(isinstance(record, Record) for record in fetched.records)
    assert [(r.shard_id, r.data, r.partition_key) for r in fetched.records] == [
        (FIRST, b"0", "k"), (FIRST, b"1", "kk"), (FIRST, b"2", "kkk"),
    ]  # fmt: skip
    for record in fetched.records:
        assert record.arrival is not None
        assert before * 1000 - 1 <= record.arrival <= time.time() * 1000 + 1
    again = reader.read(FIRST, fetched.iterator)
    assert again is not None and again.records == []


@pytest.mark.parametrize(("inclusive", "left"), [(True, [b"1", b"2"]), (False, [b"2"])])
def test_an_iterator_is_at_or_after_a_position(
    client: Any, inclusive: bool, left: list[bytes]
) -> None:
    put(client, 3)
    reader = KinesisReader(Service("kinesis", client), "s")
    everything = reader.read(FIRST, reader.iterator(FIRST, None, True))
    assert everything is not None
    position = Position(FIRST, everything.records[1].sequence_number, 4)
    fetched = reader.read(FIRST, reader.iterator(FIRST, position, inclusive))
    assert fetched is not None and [record.data for record in fetched.records] == left


def test_a_stream_may_be_named_by_its_arn(client: Any) -> None:
    arn = client.describe_stream_summary(StreamName="s")["StreamDescriptionSummary"]["StreamARN"]
    put(client, 1)
    reader = KinesisReader(Service("kinesis", client), arn)
    assert [shard.shard_id for shard in reader.shards()] == [FIRST, SECOND]
    assert reader.read(FIRST, reader.iterator(FIRST, None, True))


def shard(name: str, **more: str) -> dict[str, Any]:
    ranges = {"StartingHashKey": "0", "EndingHashKey": "1"}
    return {"ShardId": name, "HashKeyRange": ranges,
            "SequenceNumberRange": {"StartingSequenceNumber": "1"}, **more}  # fmt: skip


def test_shards_come_in_pages_with_their_parents(stubbed: tuple[KinesisReader, Stubber]) -> None:
    reader, stubber = stubbed
    pages = [
        {"Shards": [shard("a"), shard("b")], "NextToken": "t"},
        {"Shards": [shard("c", ParentShardId="a"),
                    shard("d", ParentShardId="a", AdjacentParentShardId="b")]},
    ]  # fmt: skip
    stubber.add_response("list_shards", pages[0], {"StreamName": "s"})
    stubber.add_response("list_shards", pages[1], {"NextToken": "t"})
    assert reader.shards() == [
        ListedShard("a", ()), ListedShard("b", ()), ListedShard("c", ("a",)),
        ListedShard("d", ("a", "b")),
    ]  # fmt: skip


def test_the_last_answer_of_a_closed_shard(stubbed: tuple[KinesisReader, Stubber]) -> None:
    reader, stubber = stubbed
    given = {"SequenceNumber": "9", "Data": b"x", "PartitionKey": "k",
             "ApproximateArrivalTimestamp": datetime(2026, 1, 2, tzinfo=UTC)}  # fmt: skip
    stubber.add_response("get_records", {"Records": [given], "MillisBehindLatest": 7})
    fetched = reader.read("a", "i")
    assert fetched is not None
    assert (fetched.iterator, fetched.behind) == (None, 7)
    assert fetched.records == [Record("a", "9", b"x", "k", 1_767_312_000_000)]


def test_a_record_may_have_no_partition_key(stubbed: tuple[KinesisReader, Stubber]) -> None:
    reader, stubber = stubbed
    given = {"SequenceNumber": "9", "Data": b"x"}
    stubber.add_response("get_records", {"Records": [given], "NextShardIterator": "j"})
    assert reader.read("a", "i") == ([Record("a", "9", b"x")], "j", 0)


def test_an_expired_iterator_is_none(stubbed: tuple[KinesisReader, Stubber]) -> None:
    reader, stubber = stubbed
    stubber.add_client_error("get_records", "ExpiredIteratorException")
    assert reader.read("a", "i") is None


@pytest.mark.parametrize("code", sorted(WAIT | RENEW))
def test_what_may_pass_is_waited_for(code: str, stubbed: tuple[KinesisReader, Stubber]) -> None:
    reader, stubber = stubbed
    stubber.add_client_error("get_records", code, "slow down", 400)
    with pytest.raises(UnavailableError, match=f"GetRecords on stream s: {code}: slow down"):
        reader.read("a", "i")


@pytest.mark.parametrize("status", [429, 500, 502, 503])
def test_so_is_a_code_that_nobody_knows(
    status: int, stubbed: tuple[KinesisReader, Stubber]
) -> None:
    reader, stubber = stubbed
    stubber.add_client_error("list_shards", "Odd", http_status_code=status)
    with pytest.raises(UnavailableError):
        reader.shards()


@pytest.mark.parametrize(
    ("code", "hint"),
    [
        ("ResourceNotFoundException", "source.stream"),
        ("AccessDeniedException", "needs kinesis:GetShardIterator"),
        ("InvalidArgumentException", "state objects"),
        ("KMSDisabledException", "KMSDisabledException"),
    ],
)
def test_what_will_not_pass_ends_it(
    code: str, hint: str, stubbed: tuple[KinesisReader, Stubber]
) -> None:
    reader, stubber = stubbed
    stubber.add_client_error("get_shard_iterator", code)
    with pytest.raises(StreamgaugeError, match=hint) as caught:
        reader.iterator("a", None, True)
    assert not isinstance(caught.value, UnavailableError)


URL = "http://127.0.0.1:1"
NO_ANSWER = [
    exceptions.EndpointConnectionError(endpoint_url=URL),
    exceptions.ConnectTimeoutError(endpoint_url=URL),
    exceptions.ReadTimeoutError(endpoint_url=URL),
    exceptions.ConnectionClosedError(endpoint_url=URL),
    exceptions.SSLError(endpoint_url=URL, error="x"),
    exceptions.IncompleteReadError(actual_bytes=1, expected_bytes=2),
    ResponseParserError("no JSON"),
]


@pytest.mark.parametrize("error", NO_ANSWER, ids=lambda error: type(error).__name__)
def test_no_answer_is_waited_for(error: Exception) -> None:
    def fail(**_: Any) -> None:
        raise error

    client = make_client("kinesis")
    client.meta.events.register("before-send.kinesis.*", fail)
    reader = KinesisReader(Service("kinesis", client), "s")
    with pytest.raises(UnavailableError, match="stream s"):
        reader.shards()
    with pytest.raises(UnavailableError, match="stream s"):
        reader.read("a", "i")


def test_a_server_that_is_not_there_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_KINESIS", URL)
    with pytest.raises(UnavailableError, match="stream s"):
        KinesisReader(Service("kinesis"), "s").shards()


def test_missing_settings_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    with pytest.raises(StreamgaugeError, match="give credentials"):
        KinesisReader(Service("kinesis"), "s").shards()
    monkeypatch.delenv("AWS_DEFAULT_REGION")
    with pytest.raises(StreamgaugeError, match="AWS_DEFAULT_REGION"):
        make_client("kinesis")


def test_a_call_is_made_once_and_soon_given_up() -> None:
    """The loop above waits and goes on; a stop must be through within ten seconds."""
    config = make_client("kinesis").meta.config
    assert config.connect_timeout + config.read_timeout <= 8
    assert config.retries["total_max_attempts"] == 1
