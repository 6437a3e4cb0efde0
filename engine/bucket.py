"""A prefix of an S3 bucket: where a location points, and the calls that sinks and stores make."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from .aws import RefusedError, Service
from .errors import StreamgaugeError, UnavailableError

SCHEME = "s3://"
KEY_BYTES_MAX = 1024
PAGES_MAX = 100_000  # of a list, a thousand keys each
DELETED_AT_ONCE_MAX = 1000
ABSENT = {"404", "NoSuchKey", "NotFound"}
TAKEN = {"412", "PreconditionFailed"}
UNTOLD = {"400", "403"}  # of an answer to HEAD, which has no body to say why
CONTESTED = {"409", "ConditionalRequestConflict"}  # another one writes the key at this moment


class Bucket:
    """The objects below one location, by names relative to it."""

    def __init__(self, location: str, service: Service) -> None:
        """Take `s3://bucket/prefix/`, with or without the last slash, and the service `s3`."""
        assert location.startswith(SCHEME), location
        self.bucket, _, prefix = location.removeprefix(SCHEME).partition("/")
        self.prefix = prefix if not prefix or prefix.endswith("/") else prefix + "/"
        self._service = service

    def url(self, name: str) -> str:
        """The whole name, for messages."""
        return f"{SCHEME}{self.bucket}/{self.prefix}{name}"

    def put(self, name: str, data: bytes, kind: str) -> None:
        """Write an object, or another in its place."""
        self._call("put_object", name, Body=data, ContentType=kind)

    def create(self, name: str, data: bytes, kind: str) -> bool:
        """Write an object that does not exist yet; False where the name is taken.

        Raises:
            UnavailableError: also where somebody else writes the same name at this moment: who has
                won is seen by the next call.
        """
        try:
            self._call("put_object", name, Body=data, ContentType=kind, IfNoneMatch="*")
        except RefusedError as error:
            if error.code in TAKEN:
                return False
            if error.code in CONTESTED:
                raise UnavailableError(str(error)) from error
            raise
        return True

    def get(self, name: str) -> bytes | None:
        """The bytes of an object, None where there is none."""
        try:
            answer = self._call("get_object", name)
        except RefusedError as error:
            if error.code in ABSENT:
                return None
            raise
        return self._read(answer["Body"], name)

    def exists(self, name: str) -> bool:
        """Whether there is an object of this name."""
        try:
            self._call("head_object", name)
        except RefusedError as error:
            if error.code in ABSENT:
                return False
            if error.code in UNTOLD:  # credentials that ran out, say: a list is told why
                return name in self.names(name)
            raise
        return True

    def names(self, below: str) -> Iterator[str]:
        """The names that begin with `below`, in the order of their bytes."""
        return (name for name, _ in self.sizes(below))

    def sizes(self, below: str) -> Iterator[tuple[str, int]]:
        """The names that begin with `below` with the bytes of each, in the order of the names."""
        request: dict[str, Any] = {"Bucket": self.bucket, "Prefix": self.prefix + below}
        for _ in range(PAGES_MAX):
            page = self._service.call("list_objects_v2", self.url(below), **request)
            for found in page.get("Contents", []):
                yield found["Key"].removeprefix(self.prefix), found["Size"]
            if not page.get("IsTruncated"):
                return
            request["ContinuationToken"] = page["NextContinuationToken"]
        raise StreamgaugeError(f"{self.url(below)}: more than {PAGES_MAX} pages of objects")

    def delete(self, names: Sequence[str]) -> None:
        """Remove objects; nothing happens where there are none.

        Raises:
            UnavailableError: also where the service would not remove some of them, whatever its
                reason: what is left lies there, and the caller may try again.
        """
        for start in range(0, len(names), DELETED_AT_ONCE_MAX):
            some = names[start : start + DELETED_AT_ONCE_MAX]
            keys = [{"Key": self.prefix + name} for name in some]
            answer = self._service.call(
                "delete_objects",
                self.url(some[0]),
                Bucket=self.bucket,
                Delete={"Objects": keys, "Quiet": True},
            )
            for error in answer.get("Errors", []):
                if error.get("Code") not in ABSENT:
                    where = f"{SCHEME}{self.bucket}/{error.get('Key')}"
                    cause = f"{error.get('Code')}: {error.get('Message', 'no message')}"
                    raise UnavailableError(f"DeleteObjects on {where}: {cause}")

    def _call(self, operation: str, name: str, **request: Any) -> Any:
        key = self.prefix + name
        if len(key.encode()) > KEY_BYTES_MAX:
            raise StreamgaugeError(f"{self.url(name)}: a key has at most {KEY_BYTES_MAX} bytes")
        return self._service.call(operation, self.url(name), Bucket=self.bucket, Key=key, **request)

    def _read(self, body: Any, name: str) -> bytes:
        """All bytes of an answer, which come over the network as they are read."""
        from botocore.exceptions import BotoCoreError

        try:
            data: bytes = body.read()
        except (BotoCoreError, OSError) as error:
            raise UnavailableError(f"{self.url(name)}: {error}") from error
        return data
