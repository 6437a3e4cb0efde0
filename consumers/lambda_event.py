"""The event that a Kinesis event source mapping hands to a function.

It is that of "Using Lambda with Kinesis" in the AWS Lambda Developer Guide: records of one shard,
whose id stands before the last colon of eventID. With enhanced fan-out eventSourceARN is that of
the consumer, which begins with that of its stream.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import Any

from ..engine.batch import Record
from ..engine.errors import InputError
from ..engine.records import arrival_ms


def records_of(event: Any) -> list[Record]:
    """The Kinesis records of an event.

    Raises:
        InputError: it is none of a Kinesis event source mapping; names record and key.
    """
    given = event.get("Records") if isinstance(event, Mapping) else None
    if not isinstance(given, list):
        raise InputError("event: expected the Records of a Kinesis event source mapping")
    if "window" in event:
        raise InputError(
            "event: window: the mapping has a tumbling window; take TumblingWindowInSeconds away"
        )
    return [_record(number, one) for number, one in enumerate(given)]


def source_of(event: Any) -> str | None:
    """The ARN of the stream that the records of an event are of; None where they do not say it."""
    try:
        arn = event["Records"][0]["eventSourceARN"]
    except (KeyError, IndexError, TypeError):
        return None
    return arn.partition("/consumer/")[0] if isinstance(arn, str) and arn else None


def _record(number: int, given: Any) -> Record:
    where = f"event: Records[{number}]"
    try:
        kinesis, identity = given["kinesis"], given["eventID"]
        shard, _, sequence = identity.rpartition(":")
        record = Record(
            shard_id=shard,
            sequence_number=kinesis["sequenceNumber"],
            data=base64.b64decode(kinesis["data"], validate=True),
            partition_key=kinesis.get("partitionKey", ""),
            arrival=arrival_ms(kinesis.get("approximateArrivalTimestamp")),
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{where}: expected a record of a Kinesis stream: {error!r}") from None
    except (binascii.Error, ValueError) as error:
        raise InputError(f"{where}: kinesis.data: expected base64: {error}") from None
    if not shard or sequence != record.sequence_number or not sequence.isdecimal():
        raise InputError(f"{where}: eventID: expected shard:sequence, found {identity!r}")
    return record
