"""An S3 bucket in memory, with the faults of the real one, behind clients shaped like boto3's.

`MemoryBucket` is the bucket, `client()` makes a client of it, so that the real `Service`,
`ErrorBucket` and `BucketStates` run over it. test_memory_bucket.py holds it against moto.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http import HTTPStatus
from typing import Any

from botocore.exceptions import ClientError
from botocore.response import StreamingBody
from memory_service import MemoryService, Refusal, fail

BUCKET = "bucket"
KEY_BYTES_MAX = 1024
DELETED_AT_ONCE_MAX = 1000
NO_BUCKET = Refusal("NoSuchBucket", 404, "The specified bucket does not exist")
NO_KEY = Refusal("NoSuchKey", 404, "The specified key does not exist.")
HEAD_NO_KEY = Refusal("404", 404, "Not Found")  # an answer to HEAD has no body to say more
LONG_KEY = Refusal("KeyTooLongError", 400, "Your key is too long")
MALFORMED = Refusal("MalformedXML", 400, "The XML you provided was not well-formed")
WRONG_TOKEN = Refusal("InvalidArgument", 400, "The continuation token provided is incorrect")
TAKEN = Refusal("PreconditionFailed", 412, "At least one of the pre-conditions did not hold")
CONTESTED = Refusal("ConditionalRequestConflict", 409, "A conflicting operation occurred")
NOT_REMOVED = {"Code": "InternalError", "Message": "We encountered an internal error."}


class MemoryBucket(MemoryService):
    """One bucket.

    objects: what is in it, to be looked at and damaged. puts: key and bytes of every write. on_put:
    is told of each, the moment it has taken effect, and what lay there before.
    contested: how likely a conditional write meets another one. cut: how likely the body of an
    answer breaks off. kept: how likely an object is not removed that should be. page_keys: of one
    page of a list.
    """

    THROTTLED = Refusal("SlowDown", 503, "Please reduce your request rate.")
    EXPIRED = Refusal("ExpiredToken", 400, "The provided token has expired.")

    def __init__(self, name: str = BUCKET, **how: Any) -> None:
        self.name = name
        self.objects: dict[str, bytes] = {}
        self.puts: list[tuple[str, bytes]] = []
        self.on_put: Callable[[str, bytes, bytes | None], object] = lambda key, data, old: None
        self.page_keys = 1000
        super().__init__(**how)

    def heal(self) -> None:
        super().heal()
        self.contested = self.cut = self.kept = 0.0

    def client(self) -> MemoryBucketClient:
        """A client with the credentials that are to be had now."""
        return MemoryBucketClient(self, self.credentials)

    def put(self, key: str, data: bytes) -> None:
        """Keep the bytes as they are given: they can be told by what they are, and by which."""
        old = self.objects.get(key)
        self.objects[key] = data
        self.puts.append((key, data))
        self.on_put(key, data, old)

    def _refuse(self, operation: str, credentials: int) -> None:
        try:
            super()._refuse(operation, credentials)
        except ClientError as error:
            if operation != "HeadObject":
                raise
            status = error.response["ResponseMetadata"]["HTTPStatusCode"]
            fail(operation, Refusal(str(status), status, HTTPStatus(status).phrase))

    def drawn(self, odds: float) -> bool:
        return self._drawn(odds)


class MemoryBucketClient:
    """The part of boto3's S3 client that sinks and stores need."""

    def __init__(self, bucket: MemoryBucket, credentials: int) -> None:
        self._bucket = bucket
        self._credentials = credentials

    def put_object(
        self, *, Bucket: str, Key: str, Body: bytes, ContentType: str = "", IfNoneMatch: str = ""
    ) -> dict[str, Any]:
        with self._call("PutObject", Bucket, writes=True) as bucket:
            _check_key("PutObject", Key)
            if IfNoneMatch:
                assert IfNoneMatch == "*", IfNoneMatch
                if bucket.drawn(bucket.contested):
                    fail("PutObject", CONTESTED)
                if Key in bucket.objects:
                    fail("PutObject", TAKEN)
            bucket.put(Key, bytes(Body))
            return {}

    def get_object(self, *, Bucket: str, Key: str) -> dict[str, Any]:
        with self._call("GetObject", Bucket) as bucket:
            if Key not in bucket.objects:
                fail("GetObject", NO_KEY)
            data = bucket.objects[Key]
            body = data[: len(data) // 2] if data and bucket.drawn(bucket.cut) else data
            return {"Body": StreamingBody(io.BytesIO(body), len(data))}

    def head_object(self, *, Bucket: str, Key: str) -> dict[str, Any]:
        with self._call("HeadObject", Bucket) as bucket:
            if Key not in bucket.objects:
                fail("HeadObject", HEAD_NO_KEY)
            return {"ContentLength": len(bucket.objects[Key])}

    def list_objects_v2(
        self, *, Bucket: str, Prefix: str = "", ContinuationToken: str = "", MaxKeys: int = 1000
    ) -> dict[str, Any]:
        with self._call("ListObjectsV2", Bucket) as bucket:
            if ContinuationToken and not ContinuationToken.startswith("after "):
                fail("ListObjectsV2", WRONG_TOKEN)
            after = ContinuationToken.removeprefix("after ")
            found = sorted(key for key in bucket.objects if key.startswith(Prefix) and key > after)
            size = min(MaxKeys, bucket.page_keys)
            page: dict[str, Any] = {"KeyCount": len(found[:size]), "IsTruncated": False}
            if found:
                page["Contents"] = [
                    {"Key": key, "Size": len(bucket.objects[key])} for key in found[:size]
                ]
            if len(found) > size:
                page |= {"IsTruncated": True, "NextContinuationToken": f"after {found[size - 1]}"}
            return page

    def delete_objects(self, *, Bucket: str, Delete: Mapping[str, Any]) -> dict[str, Any]:
        with self._call("DeleteObjects", Bucket, writes=True) as bucket:
            keys = [given["Key"] for given in Delete["Objects"]]
            if not 0 < len(keys) <= DELETED_AT_ONCE_MAX:
                fail("DeleteObjects", MALFORMED)
            kept = [key for key in keys if bucket.drawn(bucket.kept)]
            gone = [key for key in keys if key not in kept]
            for key in gone:
                bucket.objects.pop(key, None)
            answer: dict[str, Any] = {}
            if kept:
                answer["Errors"] = [{"Key": key, **NOT_REMOVED} for key in kept]
            if gone and not Delete.get("Quiet"):
                answer["Deleted"] = [{"Key": key} for key in gone]
            return answer

    @contextmanager
    def _call(self, operation: str, name: str, writes: bool = False) -> Iterator[MemoryBucket]:
        with self._bucket.call(operation, self._credentials, writes):
            if name != self._bucket.name:
                head = operation == "HeadObject"
                fail(operation, HEAD_NO_KEY if head else NO_BUCKET)
            yield self._bucket


def _check_key(operation: str, key: str) -> None:
    if len(key.encode()) > KEY_BYTES_MAX:
        fail(operation, LONG_KEY)
