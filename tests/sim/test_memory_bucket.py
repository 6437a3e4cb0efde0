"""The bucket in memory against moto's: the same calls give the same answers and refusals."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import pytest
from botocore.exceptions import ClientError, IncompleteReadError
from memory_bucket import BUCKET, MemoryBucket
from memory_service import Odds, Refusal
from moto import mock_aws

from streamgauge.engine.aws import Service, make_client
from streamgauge.engine.bucket import Bucket
from streamgauge.engine.errors import UnavailableError

KEYS = ["a", "a/1", "a/10", "a/2", "b/ü", "b/%2F x", "b/a+b", "c/\U0001f600", "c/\ufffd", "c"]


@pytest.fixture
def moto_client() -> Iterator[Any]:
    with mock_aws():
        client = make_client("s3")
        client.create_bucket(Bucket=BUCKET)
        yield client


def answer(client: Any, operation: str, request: dict[str, Any]) -> Any:
    """What a call gives, or the code and status of its refusal."""
    try:
        given = getattr(client, operation)(**request)
    except ClientError as error:
        status = error.response["ResponseMetadata"]["HTTPStatusCode"]
        return error.response["Error"]["Code"], status, error.operation_name
    names = ("IsTruncated", "KeyCount", "ContentLength", "Errors")
    found = {name: given[name] for name in names if name in given}
    if operation == "get_object":
        return given["Body"].read()
    if operation == "list_objects_v2":
        found["Contents"] = [(one["Key"], one["Size"]) for one in given.get("Contents", [])]
        found["more"] = bool(given.get("NextContinuationToken"))
    if operation == "delete_objects" and not request["Delete"]["Quiet"]:  # moto is never quiet
        found["Deleted"] = sorted(one["Key"] for one in given["Deleted"])
    return found


def drawn(rng: random.Random) -> tuple[str, dict[str, Any]]:
    """One call of those that sinks and stores need."""
    bucket = BUCKET if rng.random() < 0.95 else "absent-bucket"
    key = rng.choice(KEYS)
    operation = rng.choice(
        ["put_object"] * 3 + ["get_object", "head_object", "list_objects_v2", "delete_objects"]
    )
    if operation == "head_object":  # moto says more of a bucket than an answer to HEAD can
        bucket = BUCKET
    request: dict[str, Any] = {"Bucket": bucket, "Key": key}
    if operation == "put_object":
        request |= {"Body": rng.randbytes(rng.randrange(5)), "ContentType": "text/plain"}
        if rng.random() < 0.7:
            request["IfNoneMatch"] = "*"
    if operation == "list_objects_v2":
        size = {"MaxKeys": rng.choice([1, 2, 1000])} if rng.random() < 0.5 else {}
        request = {"Bucket": bucket, "Prefix": rng.choice(["", "a", "a/", "b/", "zz"]), **size}
    if operation == "delete_objects":
        keys = [{"Key": one} for one in rng.sample(KEYS, rng.randint(1, 3))]
        request = {"Bucket": bucket, "Delete": {"Objects": keys, "Quiet": rng.random() < 0.7}}
    return operation, request


@pytest.mark.parametrize("seed", range(3))
def test_it_answers_as_moto_does(moto_client: Any, seed: int) -> None:
    rng = random.Random(seed)
    ours = MemoryBucket().client()
    seen = set()
    for turn in range(150):
        operation, request = drawn(rng)
        expected = answer(moto_client, operation, request)
        assert answer(ours, operation, request) == expected, (seed, turn, operation, request)
        seen.add((operation, expected[0] if isinstance(expected, tuple) else "well"))
    assert seen >= {
        ("put_object", "well"), ("put_object", "PreconditionFailed"), ("get_object", "well"),
        ("get_object", "NoSuchKey"), ("head_object", "404"), ("delete_objects", "well"),
    }  # fmt: skip


def whole(client: Any, prefix: str, size: int) -> list[str]:
    """The keys of all pages."""
    found: list[str] = []
    more: dict[str, Any] = {}
    for _ in range(20):
        page = client.list_objects_v2(Bucket=BUCKET, Prefix=prefix, MaxKeys=size, **more)
        assert len(page.get("Contents", [])) <= size
        found += [one["Key"] for one in page.get("Contents", [])]
        if not page["IsTruncated"]:
            return found
        more = {"ContinuationToken": page["NextContinuationToken"]}
    raise AssertionError("no end")


@pytest.mark.parametrize("size", [1, 2, 3, 1000])
def test_its_pages_hold_what_those_of_moto_hold(moto_client: Any, size: int) -> None:
    ours = MemoryBucket().client()
    for client in (moto_client, ours):
        for key in KEYS:
            client.put_object(Bucket=BUCKET, Key=key, Body=b"x")
    for prefix in ("", "a", "a/", "b/", "z"):
        assert whole(ours, prefix, size) == whole(moto_client, prefix, size)
    assert whole(ours, "", size) == sorted(KEYS, key=str.encode)


def test_the_real_service_refuses_more_than_moto() -> None:
    """Limits of the S3 API's pages on PutObject, ListObjectsV2 and DeleteObjects."""
    bucket = MemoryBucket()
    client = bucket.client()
    put: dict[str, Any] = {"Bucket": BUCKET, "Body": b"x"}
    assert answer(client, "put_object", put | {"Key": "é" * 513})[0] == "KeyTooLongError"
    assert answer(client, "put_object", put | {"Key": "é" * 512}) == {}
    wrong = {"Bucket": BUCKET, "ContinuationToken": "x"}
    assert answer(client, "list_objects_v2", wrong)[0] == "InvalidArgument"
    many = [{"Key": str(number)} for number in range(1001)]
    delete: dict[str, Any] = {"Bucket": BUCKET, "Delete": {"Objects": many, "Quiet": True}}
    assert answer(client, "delete_objects", delete)[0] == "MalformedXML"
    assert list(bucket.objects) == ["é" * 512]


def test_its_faults_are_errors_as_boto3_raises_them() -> None:
    bucket = MemoryBucket()
    of = Bucket(f"s3://{BUCKET}/p", Service("s3", make=bucket.client))
    bucket.throttle_next = 1
    with pytest.raises(UnavailableError, match="SlowDown"):
        of.put("a", b"1", "")
    bucket.contested = 1.0
    with pytest.raises(UnavailableError, match="ConditionalRequestConflict"):
        of.create("a", b"1", "")
    of.put("a", b"0", "")  # without a condition nothing is contested
    bucket.heal()
    bucket.lose_next = 1
    with pytest.raises(UnavailableError, match="timeout"):
        of.put("a", b"12", "")
    assert bucket.objects == {"p/a": b"12"}
    bucket.cut = 1.0
    with pytest.raises(IncompleteReadError):
        bucket.client().get_object(Bucket=BUCKET, Key="p/a")["Body"].read()
    with pytest.raises(UnavailableError, match="p/a"):
        of.get("a")
    bucket.heal()
    bucket.kept = 1.0
    with pytest.raises(UnavailableError, match="InternalError"):
        of.delete(["a"])
    assert of.get("a") == b"12"
    bucket.heal()
    bucket.odds = Odds(failed=1.0)
    with pytest.raises(UnavailableError, match="HeadObject.*500"):
        of.exists("a")
    bucket.heal()
    for refusal in (None, Refusal("RequestTimeTooSkewed", 403, "too large")):
        bucket.expire(refusal)
        for _ in range(2):
            with pytest.raises(UnavailableError, match="ExpiredToken|RequestTimeTooSkewed"):
                of.get("a")
        bucket.renew()
        assert of.get("a") == b"12"
