"""What only S3 has: refusals half-way, owners that race, and the error stream in a bucket."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError
from memory_bucket import MemoryBucket
from memory_service import Refusal
from moto import mock_aws

from streamgauge.engine.aws import RefusedError, Service, make_client
from streamgauge.engine.batch import Position, Rejected
from streamgauge.engine.errors import FencedError, InputError, StreamgaugeError, UnavailableError
from streamgauge.engine.sinks.errors_directory import ErrorDirectory, read_errors
from streamgauge.engine.sinks.errors_s3 import ErrorBucket, read_error_bucket
from streamgauge.engine.stores.s3 import BucketStates


@pytest.fixture
def client() -> Iterator[Any]:
    with mock_aws():
        made = make_client("s3")
        made.create_bucket(Bucket="bucket")
        yield made


class Faulty:
    """A client of S3 that runs something before a call, or refuses it."""

    def __init__(self, client: Any) -> None:
        self.client, self.before, self.after = client, dict[str, Any](), dict[str, Any]()

    def __getattr__(self, operation: str) -> Any:
        def call(**request: Any) -> Any:
            self.before.pop(operation, lambda: None)()
            answer = getattr(self.client, operation)(**request)
            self.after.pop(operation, lambda: None)()
            return answer

        return call


def refused(code: str, status: int) -> Any:
    def refuse() -> None:
        told = {"Error": {"Code": code, "Message": "x"},
                "ResponseMetadata": {"HTTPStatusCode": status}}  # fmt: skip
        raise ClientError(told, "PutObject")

    return refuse


def unanswered() -> None:
    raise EndpointConnectionError(endpoint_url="http://127.0.0.1:1")


def row(number: int, arrival: int | None = 1_700_049_600_000, shard: str = "s") -> Rejected:
    at = Position(shard, str(number), 0)
    return Rejected(
        stage="decode", reason="not_json", message="no", rule=None, at=at, arrival_time=arrival,
        partition_key="k", data=b"\xff" * number,
    )  # fmt: skip


ROWS = [row(1), row(2), row(3, None), row(4, 1_700_053_200_000), row(1, shard="a/b")]


def test_the_error_stream_is_the_same_in_a_bucket_as_in_a_directory(
    client: Any, tmp_path: Path
) -> None:
    bucket = ErrorBucket("s3://bucket/errors", "p", Service("s3"))
    folder = ErrorDirectory(tmp_path, "p")
    for sink in (bucket, folder):
        sink.deliver(ROWS)
        sink.deliver(ROWS[1:])
    names = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.gz")}
    listed = client.list_objects_v2(Bucket="bucket")["Contents"]
    assert {one["Key"] for one in listed} == {f"errors/{name}" for name in names}
    for name in names:
        body = client.get_object(Bucket="bucket", Key=f"errors/{name}")["Body"].read()
        assert body == (tmp_path / name).read_bytes()
    found = list(read_error_bucket("s3://bucket/errors/", "p", service=Service("s3")))
    assert sorted(map(str, found)) == sorted(map(str, read_errors(tmp_path)))
    assert len(found) == len(ROWS)
    assert list(read_error_bucket("s3://bucket/errors/", "q", service=Service("s3"))) == []


def test_an_object_that_is_none_is_named(client: Any) -> None:
    client.put_object(Bucket="bucket", Key="errors/p/undated/x.ndjson.gz", Body=b"no gzip")
    with pytest.raises(InputError, match="s3://bucket/errors/p/undated/x.ndjson.gz:1"):
        list(read_error_bucket("s3://bucket/errors/", service=Service("s3")))


@pytest.mark.parametrize(
    "fault", [refused("SlowDown", 503), refused("InternalError", 500), unanswered]
)
def test_an_outage_loses_no_error_record(fault: Any, client: Any) -> None:
    faulty = Faulty(client)
    sink = ErrorBucket("s3://bucket/errors/", "p", Service("s3", faulty))
    faulty.before["put_object"] = fault
    with pytest.raises(UnavailableError):
        sink.deliver(ROWS)
    sink.deliver(ROWS)
    found = list(read_error_bucket("s3://bucket/errors/", service=Service("s3")))
    assert len(found) == len(ROWS)


def test_what_will_not_pass_says_what_mends_it(client: Any) -> None:
    with pytest.raises(RefusedError, match="NoSuchBucket.*check the bucket"):
        ErrorBucket("s3://absent/errors/", "p", Service("s3")).deliver(ROWS)
    faulty = Faulty(client)
    faulty.before["put_object"] = refused("AccessDenied", 403)
    with pytest.raises(RefusedError, match="needs s3:PutObject"):
        ErrorBucket("s3://bucket/e/", "p", Service("s3", faulty)).deliver(ROWS)
    with pytest.raises(StreamgaugeError, match="at most 1024 bytes"):
        ErrorBucket("s3://bucket/" + "x" * 1000, "p", Service("s3")).deliver(ROWS)


def test_of_two_owners_at_once_one_wins(client: Any) -> None:
    faulty = Faulty(client)
    slow = BucketStates("s3://bucket/state/", Service("s3", faulty))
    quick = BucketStates("s3://bucket/state/", Service("s3"))
    faulty.before["put_object"] = lambda: quick.create("p", "s", 1, b"quick")
    with pytest.raises(FencedError):
        slow.create("p", "s", 1, b"slow")
    assert quick.read("p", "s", 1) == b"quick"


def test_an_owner_that_was_stopped_and_comes_back_has_lost(client: Any) -> None:
    """Its number is free again, for the others have pruned it."""
    faulty = Faulty(client)
    stopped = BucketStates("s3://bucket/state/", Service("s3", faulty))
    others = BucketStates("s3://bucket/state/", Service("s3"))

    def meanwhile() -> None:
        for generation in range(1, 6):
            others.create("p", "s", generation, b"x")
        others.prune("p", "s", 3)

    faulty.before["put_object"] = meanwhile
    with pytest.raises(FencedError, match="5 of this shard exists"):
        stopped.create("p", "s", 1, b"late")
    assert max(others.generations("p", "s")) == 5


def test_an_answer_lost_is_no_other_owner_to_be_found(client: Any) -> None:
    faulty = Faulty(client)
    states = BucketStates("s3://bucket/state/", Service("s3", faulty))
    faulty.after["put_object"] = unanswered
    with pytest.raises(UnavailableError):
        states.create("p", "s", 1, b"mine")
    with pytest.raises(FencedError):
        states.create("p", "s", 1, b"mine")
    assert states.read("p", "s", 1) == b"mine"


def test_a_contested_name_is_tried_again(client: Any) -> None:
    faulty = Faulty(client)
    states = BucketStates("s3://bucket/state/", Service("s3", faulty))
    faulty.before["put_object"] = refused("ConditionalRequestConflict", 409)
    with pytest.raises(UnavailableError):
        states.create("p", "s", 1, b"x")
    states.create("p", "s", 1, b"x")


def test_an_answer_to_head_that_says_nothing_is_asked_for_in_words() -> None:
    """S3 gives 400 or 403 to a HEAD with credentials that ran out, and no body with the cause."""
    bucket = MemoryBucket("bucket")
    states = BucketStates("s3://bucket/state/", Service("s3", make=bucket.client))
    states.create("p", "s", 1, b"x")
    for refusal in (None, Refusal("RequestTimeTooSkewed", 403, "x")):
        bucket.expire(refusal)
        for _ in range(2):
            with pytest.raises(UnavailableError, match="ExpiredToken|RequestTimeTooSkewed"):
                states.exists("p", "s", 1)
        bucket.renew()
        assert states.exists("p", "s", 1) and not states.exists("p", "s", 2)
