"""Bodies of PutRecords, made and read by msgspec in place of botocore's serializer and parser.

These go through each entry value by value, and for small records cost more than all that comes
before (bench/producers.py). `attach` puts handlers into a client which do nothing but for calls of
PutRecords made here: there the body is ours, and so is the reading of the answer. Signing,
endpoints, errors and stubs stay botocore's. Where a handler is not called (another protocol, an
old botocore) calls are made as ever from then on.
"""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import msgspec

from ..engine.aws import Service
from ..engine.errors import StreamgaugeError, UnavailableError

BEFORE_CALL, BEFORE_PARSE = "before-call.kinesis.PutRecords", "before-parse.kinesis.PutRecords"
HANDLER = "streamgauge-{}"  # with the event, the name of a handler in a client: of one name
# botocore takes the first alone, also where the events differ, and says nothing.
_TOLD = "StreamgaugeTold"  # where what they read is put, beside the keys of the answer
# Should botocore not call the handler, this is what would be sent. No service takes it: the
# explicit hash key is no number.
_NOTHING = [{"Data": b"", "PartitionKey": "x", "ExplicitHashKey": "none"}]


class Told(msgspec.Struct, rename="pascal", gc=False):
    """What an answer says of one entry."""

    shard_id: str | None = None
    sequence_number: str | None = None
    error_code: str | None = None
    error_message: str | None = None


class _Answer(msgspec.Struct, rename="pascal"):
    records: list[Told]


@dataclass
class _Body:
    """The body that a call is to have, and whether it got it."""

    data: bytes
    used: bool = False


_decode = msgspec.json.Decoder(_Answer).decode
_body: ContextVar[_Body | None] = ContextVar("body", default=None)


def attach(client: Any) -> None:
    """Put the handlers into a boto3 client; a second time changes nothing."""
    if hasattr(client, "meta"):
        for event, handler in ((BEFORE_CALL, _give_body), (BEFORE_PARSE, _read_answer)):
            client.meta.events.register(event, handler, unique_id=HANDLER.format(event))


def _give_body(params: dict[str, Any], **_: Any) -> None:
    body = _body.get()
    if body is not None and "json" in params["headers"].get("Content-Type", ""):
        params["body"] = body.data
        body.used = True


def _read_answer(
    response_dict: dict[str, Any], customized_response_dict: dict[str, Any], **_: Any
) -> None:
    if _body.get() is None or response_dict["status_code"] != 200:
        return
    try:
        customized_response_dict[_TOLD] = _decode(response_dict["body"]).records
    except (msgspec.DecodeError, RecursionError):  # botocore finds the words for it
        return
    response_dict["body"] = b""


class PutRecords:
    """Calls PutRecords on one stream.

    quick: whether the handlers come to work; False from the first call on at which they did not.
    """

    def __init__(self, service: Service, stream: str) -> None:
        """Take the service `kinesis` and the name or ARN of the stream."""
        service.prepare(attach)
        self.quick = True
        self._service, self._of = service, f"stream {stream}"
        self._named = {"StreamARN" if stream.startswith("arn:") else "StreamName": stream}

    def __call__(self, entries: list[dict[str, Any]]) -> list[Told]:
        """What the answer says of each entry.

        Raises:
            UnavailableError: no answer came, or none of PutRecords.
            StreamgaugeError: the stream refuses for good.
        """
        try:
            told = self._called(entries)
        except (AttributeError, KeyError, TypeError, ValueError) as error:  # botocore, of no answer
            raise UnavailableError(f"{self._of}: no answer of PutRecords: {error!r}") from error
        if len(told) != len(entries):
            raise UnavailableError(f"{self._of}: {len(told)} outcomes for {len(entries)} records")
        return told

    def _called(self, entries: list[dict[str, Any]]) -> list[Told]:
        call, of = self._service.call, self._of
        if not self.quick or not hasattr(self._service.client, "meta"):
            answer = call("put_records", of, **self._named, Records=entries)
        else:
            body = _Body(msgspec.json.encode({**self._named, "Records": entries}))
            token = _body.set(body)
            try:
                answer = call("put_records", of, **self._named, Records=_NOTHING)
            except StreamgaugeError as error:
                if not body.used:  # then what was refused is nothing of ours
                    raise UnavailableError(f"{of}: botocore left a handler out") from error
                raise
            finally:
                _body.reset(token)
                self.quick = body.used
            if not body.used:
                raise UnavailableError(f"{of}: botocore left a handler out")
        found: list[Told] | None = answer.get(_TOLD)
        return msgspec.convert(answer["Records"], list[Told]) if found is None else found
