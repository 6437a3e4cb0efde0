"""`streamgauge decode`: the user records inside Kinesis records, and what cannot be opened."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import closing
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

if TYPE_CHECKING:
    from ..engine.batch import Record, Rejected, UserRecords

FOUND_PROBLEMS = 1


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
    go to stderr. With --compare the exit status is 1 if there are differences.

    Example: streamgauge decode --input records.ndjson.gz > users.ndjson
    """
    from ..consumers.inputs import Input
    from ..consumers.records import read_kinesis_lines
    from ..engine.records import slices

    differ = None if compare is None else _comparison()
    counts: Counter[str] = Counter()
    out = sys.stdout.buffer
    with closing(Input(source)) as opened:
        try:
            for records in slices(read_kinesis_lines(opened.lines(), opened.name)):
                lines = _lines(records, counts) if differ is None else differ(records, counts)
                out.writelines(msgspec.json.encode(line) + b"\n" for line in lines)
        finally:
            out.flush()
            typer.echo(_summary(counts, compare), err=True)
    if counts["differences"]:
        raise typer.Exit(FOUND_PROBLEMS)


def _summary(counts: Counter[str], compare: Reference | None) -> str:
    text = (
        f"{counts['records']} Kinesis records: {counts['users']} user records"
        f" ({counts['aggregated']} of them from aggregates), {counts['rejected']} rejected"
    )
    return text if compare is None else f"{text}; {counts['differences']} differences to {compare}"


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


def _comparison() -> Any:
    from .decode_compare import library

    found = library()
    if found is None:
        typer.echo(
            "streamgauge: error: aws-kinesis-agg is not installed; to have it:"
            " pip install 'streamgauge[interop]'",
            err=True,
        )
        raise typer.Exit(FOUND_PROBLEMS)

    def differ(records: list[Record], counts: Counter[str]) -> Iterator[dict[str, Any]]:
        from .decode_compare import differences

        for record in records:
            ours = list(_lines([record], counts))
            for difference in differences(record, ours, found):
                counts["differences"] += 1
                yield difference

    return differ
