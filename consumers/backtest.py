"""The host for recorded data: tests and back-tests drive a pipeline through here.

One state for the whole input, in file order. An input is opened (`Input`), read as an iterator of
records (`read`) and pushed batch by batch (`run`). The wall clock has no part in it: what a
record's arrival time is, the input says.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator
from itertools import chain, count, repeat

import msgspec
import numpy as np

from ..engine.batch import NO_TIME, Record, UserRecords
from ..engine.errors import InputError
from ..engine.pipeline import Outcome, Pipeline
from ..engine.records import Opened
from .csv_rows import Row, read_csv
from .inputs import Input
from .records import read_kinesis_lines

SHARD = "file"  # the shard id where an input has none; a sequence number is a line number from 1
FORMATS = ("ndjson", "csv", "kinesis")
BATCH_RECORDS_MAX = 8192
BATCH_BYTES_MAX = 1 << 20


class _KinesisLine(msgspec.Struct):
    """What a GetRecords record in a file has, and a device message has not."""

    SequenceNumber: str
    Data: str
    PartitionKey: str


def guess_format(source: Input) -> str:
    """The format of an input: by its name, else by its first line, which stays to be read."""
    if source.name.removesuffix(".gz").endswith(".csv"):
        return "csv"
    try:
        msgspec.json.decode(source.peek(), type=_KinesisLine)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return "ndjson"
    return "kinesis"


def read(source: Input, form: str) -> Iterator[Record]:
    """The records of an input in one of `FORMATS`.

    Raises:
        InputError: the input is not what it is said to be; names file and line.
    """
    if form == "ndjson":
        return read_ndjson(source)
    return read_csv(source, SHARD) if form == "csv" else read_kinesis(source)


def read_ndjson(source: Input) -> Iterator[Record]:
    """Each line, without its line end, is one user record; an empty line is one that is no JSON.

    A line is a user record whatever its bytes are, so the records carry sub-sequence number 0: they
    are not searched for a KPL aggregate.
    """
    return chain.from_iterable(
        map(Record, repeat(SHARD), map(str, count(source.line + 1)), lines,
            repeat(""), repeat(None), repeat(0))
        for lines in source.blocks()
    )  # fmt: skip


def batches(source: Input, form: str, shard: str = SHARD) -> Iterator[Record | UserRecords]:
    """As `read`, but lines that are user records each come in batches, which is quicker.

    `shard` is the shard id of such lines.
    """
    if form != "ndjson":
        yield from read(source, form)
        return
    for block in source.blocks():
        for start in range(0, len(block), BATCH_RECORDS_MAX):
            lines = block[start : start + BATCH_RECORDS_MAX]
            first, rows = source.line + start + 1, len(lines)
            yield UserRecords(
                shard_id=shard,
                sequences=list(map(str, range(first, first + rows))),
                record=np.arange(rows),
                sub=np.zeros(rows, np.int64),
                data=lines,
                keys=[b""] * rows,
                arrival=np.full(rows, NO_TIME),
                aggregated=np.zeros(rows, np.bool_),
            )


def read_kinesis(source: Input) -> Iterator[Record]:
    """GetRecords records, one a line; positions may go back only to ones that were read.

    Of every Kinesis record eight bytes are remembered, which tell a repeat from a file that is out
    of order.
    """
    shards: dict[str, _Numbers] = {}
    for record in read_kinesis_lines(source.lines(), source.name):
        shard = shards.get(record.shard_id)
        if shard is None:
            shard = shards[record.shard_id] = _Numbers()
        if not shard.take(int(record.sequence_number)):
            raise InputError(
                f"{source.name}: line {source.line}: sequence number {record.sequence_number} of"
                f" shard {record.shard_id} comes after a greater one and was not read before: the"
                " records of a shard must stand in the order of their sequence numbers"
            )
        yield record


class _Numbers:
    """The sequence numbers read of one shard, each as 64 bits of it."""

    def __init__(self) -> None:
        self.newest = -1
        self.digests = array("q")
        self.repeated = -1  # where the last repeat was found: the next one mostly follows it

    def take(self, number: int) -> bool:
        """Note the next number; False if it is neither new nor a repeat."""
        digest = hash(number)
        if number > self.newest:
            self.newest = number
            self.digests.append(digest)
            return True
        following = self.repeated + 1
        if number == self.newest:
            self.repeated = len(self.digests) - 1
        elif following < len(self.digests) and self.digests[following] == digest:
            self.repeated = following
        else:
            found = np.flatnonzero(np.array(self.digests) == digest)
            if not found.size:
                return False
            self.repeated = int(found[0])
        return True


def run(
    pipeline: Pipeline,
    records: Iterable[Record | UserRecords | Opened],
    *,
    batch_records: int = BATCH_RECORDS_MAX,
    batch_bytes: int = BATCH_BYTES_MAX,
) -> Iterator[Outcome]:
    """Push all records through a pipeline; each outcome is handed out before the next batch.

    The answer does not depend on the bounds of a batch. The names in an outcome's statistics hold
    until the next one.
    """
    for batch in _batches(records, batch_records, batch_bytes):
        outcome = pipeline.push(batch)
        if outcome.rejected and isinstance(batch, list):
            _restore_lines(outcome, batch)
        yield outcome


def _batches(
    records: Iterable[Record | UserRecords | Opened], records_max: int, bytes_max: int
) -> Iterator[list[Record] | UserRecords | Opened]:
    """Cut records into lists of at most `records_max`, which end where `bytes_max` is reached.

    What comes in batches already stays as it is.
    """
    batch: list[Record] = []
    size = 0
    for record in records:
        if isinstance(record, UserRecords | Opened):
            assert not batch, "records in batches and single ones do not mix"
            yield record
            continue
        batch.append(record)
        size += len(record.data)
        if len(batch) >= records_max or size >= bytes_max:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _restore_lines(outcome: Outcome, batch: list[Record]) -> None:
    """Give rejected rows of a CSV file their original bytes, and the fault of the row as reason."""
    rows = {row.sequence_number: row for row in batch if isinstance(row, Row)}
    for index, rejected in enumerate(outcome.rejected):
        row = rows.get(rejected.at.sequence_number)
        if row is not None:
            fault = {"reason": "csv", "message": row.fault} if row.fault else {}
            outcome.rejected[index] = msgspec.structs.replace(rejected, data=row.line, **fault)
