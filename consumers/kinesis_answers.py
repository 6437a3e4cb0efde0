"""Answers of GetRecords, decoded by msgspec before botocore's own parser comes to them.

That parser goes through an answer value by value, and for small records costs more than all that
comes after it. `attach` puts a handler in front of it, which decodes the body of an answer to
`Record`s at once and leaves the parser an empty one. An answer that is not as expected (an error,
another protocol, a value of another type) is left as it is: it is parsed as ever, slower but never
differently. Signing, endpoints, retries, errors and stubs stay botocore's.

Only what is asked for within `of_shard` is taken, so that others who use the same client are given
what they always were. An old botocore that knows no such event parses all by itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any

import msgspec
import numpy as np

from ..engine.batch import Record
from ..engine.records import arrival_ms
from .shard import Fetched

EVENT = "before-parse.kinesis.GetRecords"
HANDLER = "streamgauge"  # under this name the handler stands in a client
_FETCHED = "StreamgaugeFetched"  # where it puts what it made, beside the keys of the answer
_SECONDS_MAX = 1e10  # of an arrival time that is rounded without more ado
_SURE = 0.49  # ms from a whole one: no rounding on the way can reach the half

_shard: ContextVar[str | None] = ContextVar("shard", default=None)


class _Row(msgspec.Struct, rename="pascal", gc=False):
    """What is read of a record; `data` is base64 in the body. Keys may be missing, never null."""

    sequence_number: str
    data: bytes
    partition_key: str = ""  # not there where the producer named none
    approximate_arrival_timestamp: float | None = None  # seconds


class _Answer(msgspec.Struct, rename="pascal"):
    records: list[_Row]
    next_shard_iterator: str | None = None
    millis_behind_latest: int | None = None


_decode = msgspec.json.Decoder(_Answer).decode


def attach(client: Any) -> None:
    """Put the handler into a boto3 client of Kinesis; a second time changes nothing."""
    client.meta.events.register(EVENT, _take, unique_id=HANDLER)


@contextmanager
def of_shard(shard_id: str) -> Iterator[None]:
    """Have GetRecords answers, which are of this shard, decoded here while this lasts."""
    token = _shard.set(shard_id)
    try:
        yield
    finally:
        _shard.reset(token)


def fetched(answer: Mapping[str, Any]) -> Fetched | None:
    """What the handler has made of an answer; None where it has left it to botocore."""
    found: Fetched | None = answer.get(_FETCHED)
    return found


def _take(
    response_dict: dict[str, Any], customized_response_dict: dict[str, Any], **_: Any
) -> None:
    """Handle the event: decode the body, if it is wanted and as expected."""
    shard_id = _shard.get()
    if shard_id is None or response_dict["status_code"] != 200:
        return
    found = _decoded(response_dict["body"], shard_id)
    if found is not None:
        customized_response_dict[_FETCHED] = found
        response_dict["body"] = b""


def _decoded(body: bytes, shard_id: str) -> Fetched | None:
    """The records of a body; None where botocore would refuse it, or might read it otherwise."""
    try:
        if not body.isascii():
            body.decode()  # msgspec does not look into what it skips
        answer = _decode(body)
        rows = answer.records
        arrivals = _arrivals([row.approximate_arrival_timestamp for row in rows])
    except (msgspec.DecodeError, RecursionError, ValueError, OverflowError, OSError):
        return None
    records = [
        Record(shard_id, row.sequence_number, row.data, row.partition_key, arrival)
        for row, arrival in zip(rows, arrivals, strict=True)
    ]
    return Fetched(records, answer.next_shard_iterator, answer.millis_behind_latest or 0)


def _arrivals(stamps: Sequence[float | None]) -> list[int | None]:
    """Seconds to int ms as by way of botocore, whose date-times are whole microseconds.

    Raises ValueError, OverflowError or OSError where there is no such date-time.
    """
    seconds = np.array(stamps, np.float64)  # None becomes NaN
    with np.errstate(invalid="ignore", over="ignore"):
        exact = seconds * 1000.0  # off by less than a thousandth below _SECONDS_MAX
        nearest = np.rint(exact)
        sure = (np.abs(exact - nearest) < _SURE) & (np.abs(seconds) < _SECONDS_MAX)
        found: list[int | None] = nearest.astype(np.int64).tolist()
    for row in np.flatnonzero(~sure).tolist():
        stamp = stamps[row]
        found[row] = None if stamp is None else arrival_ms(datetime.fromtimestamp(stamp, UTC))
    return found
