"""What `aws-kinesis-agg` makes of Kinesis records, and where it differs from streamgauge.

The library is met here only. Its import puts its own folder in front of sys.path; that is undone.
"""

from __future__ import annotations

import base64
import contextlib
import io
import sys
from collections.abc import Callable, Iterable, Iterator
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..engine.batch import Record

Open = Callable[..., Iterable[dict[str, Any]]]  # iter_deaggregate_records
_COMPARED = ("aggregated", "partition_key", "explicit_hash_key", "data")


def library() -> Open | None:
    """Its function that opens records, None where it is not installed."""
    path = list(sys.path)
    try:
        from aws_kinesis_agg.deaggregator import iter_deaggregate_records
    except ImportError:
        return None
    finally:
        sys.path[:] = path
    found: Open = iter_deaggregate_records
    return found


def differences(
    record: Record, ours: list[dict[str, Any]], iter_deaggregate: Open
) -> Iterator[dict[str, Any]]:
    """Each value in which the two readings of one Kinesis record differ.

    Args:
        ours: the lines that `streamgauge decode` prints for it.
        iter_deaggregate: what `library` gave.
    """
    theirs, said = _theirs(record, iter_deaggregate)
    place = {"shard_id": record.shard_id, "sequence_number": record.sequence_number}
    for sub, (mine, other) in enumerate(zip_longest(ours, theirs)):
        at = {**place, "sub_sequence_number": mine["sub_sequence_number"] if mine else sub}
        if mine is None or other is None or "reason" in mine:
            yield {
                **at,
                "field": "record",
                "streamgauge": _outcome(mine),
                "aws-kinesis-agg": said or _outcome(other),
            }
            continue
        for field in _COMPARED:
            mine_value, other_value = (_shown(row[field]) for row in (mine, other))
            if mine_value != other_value:
                yield {
                    **at,
                    "field": field,
                    "streamgauge": mine_value,
                    "aws-kinesis-agg": other_value,
                }


def _outcome(line: dict[str, Any] | None) -> str:
    if line is None:
        return "nothing"
    return f"rejected: {line['reason']}" if "reason" in line else "a user record"


def _shown(value: Any) -> Any:
    return base64.b64encode(value).decode("ascii") if isinstance(value, bytes) else value


def _theirs(record: Record, iter_deaggregate: Open) -> tuple[list[dict[str, Any]], str]:
    """The library's user records under our keys, and what it said or raised on the way."""
    given = {
        "SequenceNumber": record.sequence_number,
        "PartitionKey": record.partition_key,
        "ApproximateArrivalTimestamp": record.arrival,
        "Data": record.data,
    }
    lines: list[dict[str, Any]] = []
    said = io.StringIO()
    with contextlib.redirect_stderr(said):
        try:
            for row in iter_deaggregate([given], data_format="Boto3"):
                user = row["kinesis"]
                aggregated = bool(user.get("aggregated"))
                lines.append(
                    {
                        "aggregated": aggregated,
                        "partition_key": user["partitionKey"],
                        "explicit_hash_key": user.get("explicitHashKey"),
                        "data": base64.b64decode(user["data"]) if aggregated else user["data"],
                    }
                )
        except Exception as error:  # whatever a hostile record makes it raise
            return lines, f"{type(error).__name__}: {error}"
    return lines, said.getvalue().partition("\n")[0]
