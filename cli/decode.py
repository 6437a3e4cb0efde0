"""`streamgauge decode`: the user records inside Kinesis records, and what cannot be opened."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager, nullcontext
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

if TYPE_CHECKING:
    from ..engine.batch import Record, Rejected, UserRecords

FOUND_PROBLEMS = 1
KINDS = ("dropped", "garbled", "passed_on")  # of differences


class Reference(StrEnum):
    """What decoding can be compared with."""

    AWS_KINESIS_AGG = "aws-kinesis-agg"


def command(
    source: Annotated[
        str,
        typer.Option(
            "--input",
            metavar="FILE|-",
            help="Kinesis records, one GetRecords record a line; .gz is unpacked.",
        ),
    ] = "-",
    compare: Annotated[
        Reference | None,
        typer.Option(help="Print only where that library gives something else."),
    ] = None,
) -> None:
    """Open Kinesis records: print the user records in them as NDJSON.

    A line of the input has the keys ShardId, SequenceNumber, PartitionKey, Data (base64) and,
    where known, ApproximateArrivalTimestamp (seconds). Aggregates of the Kinesis Producer Library
    are opened; what cannot be opened is printed as a rejected record, with reason and bytes. Counts
    go to stderr.

    With --compare only what the library makes of them otherwise is printed, a line each: what it
    drops without a word, garbles, or passes on as if a device had sent it. Then the exit status is
    1. The library runs in a process of its own.

    Example: streamgauge decode --input records.ndjson.gz > users.ndjson
    """
    from ..consumers.inputs import Input
    from ..consumers.records import read_kinesis_lines
    from ..engine.records import slices

    counts: Counter[str] = Counter()
    out = sys.stdout.buffer
    comparison = nullcontext(_lines) if compare is None else _comparison()
    with comparison as lines_of, closing(Input(source)) as opened:
        try:
            for records in slices(read_kinesis_lines(opened.lines(), opened.name)):
                lines = lines_of(records, counts)
                out.writelines(msgspec.json.encode(line) + b"\n" for line in lines)
        finally:
            out.flush()
            typer.echo(_summary(counts, compare), err=True)
    if any(counts[kind] for kind in KINDS):
        raise typer.Exit(FOUND_PROBLEMS)


def _summary(counts: Counter[str], compare: Reference | None) -> str:
    text = (
        f"{counts['records']} Kinesis records: {counts['users']} user records"
        f" ({counts['aggregated']} of them from aggregates), {counts['rejected']} rejected"
    )
    if compare is None:
        return text
    kinds = ", ".join(f"{counts[kind]} {kind.replace('_', ' ')}" for kind in KINDS)
    return f"{text}; differences to {compare}: {kinds}"


def _lines(records: list[Record], counts: Counter[str]) -> Iterator[dict[str, Any]]:
    """User records and rejected records, in the order of their positions."""
    from ..engine.kpl import deaggregate

    users, rejected = deaggregate(records)
    counts["records"] += len(records)
    if not rejected:
        _count(users, rejected, counts)
        yield from map(_user_line, *_columns(users))
        return
    for record in records:  # one by one, so that each stands in its place
        users, rejected = deaggregate([record])
        _count(users, rejected, counts)
        rows = [*map(_user_line, *_columns(users)), *(row.line() for row in rejected)]
        yield from sorted(rows, key=lambda row: int(row["sub_sequence_number"]))


def _count(users: UserRecords, rejected: list[Rejected], counts: Counter[str]) -> None:
    counts["users"] += len(users)
    counts["aggregated"] += int(users.aggregated.sum())
    counts["rejected"] += len(rejected)


def _columns(users: UserRecords) -> tuple[Iterable[Any], ...]:
    """What `_user_line` takes, row by row."""
    from ..engine.batch import key_text

    rows = len(users)
    return (
        [users.shard_id] * rows,
        [users.sequences[record] for record in users.record.tolist()],
        users.sub.tolist(),
        users.aggregated.tolist(),
        map(key_text, users.keys),
        users.hash_keys or [None] * rows,
        users.data,
    )


def _user_line(
    shard_id: str,
    sequence_number: str,
    sub: int,
    aggregated: bool,
    key: str,
    hash_key: str | None,
    data: bytes,
) -> dict[str, Any]:
    return {
        "shard_id": shard_id,
        "sequence_number": sequence_number,
        "sub_sequence_number": sub,
        "aggregated": aggregated,
        "partition_key": key,
        "explicit_hash_key": hash_key,
        "data": data,  # bytes are encoded as base64
    }


@contextmanager
def _comparison() -> Iterator[Any]:
    """What makes lines of records: the differences to the library, whose process lasts as long."""
    from .decode_compare import Library, differences

    with Library() as library:

        def differ(records: list[Record], counts: Counter[str]) -> Iterator[dict[str, Any]]:
            for record, told in zip(records, library.open(records), strict=True):
                ours = list(_lines([record], counts))
                for difference in differences(record, ours, told):
                    counts[difference["kind"]] += 1
                    yield difference

        yield differ
