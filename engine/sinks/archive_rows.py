"""The rows of the archive: one user record as it was read, to text that SQL engines read, and back.

| column | type | what |
|---|---|---|
| shard_id, sequence_number | text | the position, with |
| sub_sequence_number | int | its number in the aggregate, 0 where there is none |
| aggregated | bool | whether it came in an aggregate |
| arrival_time | int, ms UTC, or null | approximate arrival of its Kinesis record |
| partition_key | text | with \\xNN for bytes that are no UTF-8 |
| explicit_hash_key | text or null | decimal |
| data | text or null | the payload, where it is UTF-8 without NUL |
| data_base64 | text or null | the payload in base64, where it is not |
| partition_key_base64 | text or null | the key in base64, where it is no UTF-8 |
| reason, message | text or null | why it could not be opened; null for what is a user record |

Of every row exactly one of data and data_base64 is not null. A record that could not be opened is
archived with all its bytes: the archive is what was read.
"""

from __future__ import annotations

import base64
import gzip
import io
import zlib
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby, islice
from typing import Any

import msgspec
import numpy as np

from ..batch import NO_TIME, Position, Rejected, UserRecords, key_text
from ..errors import InputError
from ..records import Opened

LOST_STAGE = "deaggregate"  # of what could not be opened; it has no other
KEY_INDEX = "key_index"  # the one reason for which a user record of an aggregate is rejected alone


class ArchiveRow(msgspec.Struct, gc=False):
    """One row; the fields are the columns, in their order."""

    shard_id: str
    sequence_number: str
    sub_sequence_number: int
    aggregated: bool
    arrival_time: int | None
    partition_key: str
    explicit_hash_key: str | None = None
    data: str | None = None
    data_base64: str | None = None
    partition_key_base64: str | None = None
    reason: str | None = None
    message: str | None = None

    @property
    def order(self) -> tuple[int, int]:
        """What positions of one shard are compared by."""
        return int(self.sequence_number), self.sub_sequence_number

    def payload(self) -> bytes:
        """The original bytes."""
        if self.data is not None:
            return self.data.encode()
        return base64.b64decode(self.data_base64 or "")

    def key(self) -> bytes:
        """The partition key as it was read."""
        if self.partition_key_base64 is not None:
            return base64.b64decode(self.partition_key_base64)
        return self.partition_key.encode()


COLUMNS = ArchiveRow.__struct_fields__
BLOCK_ROWS = 8192  # read at once
_INT64 = 1 << 63
_ENCODER = msgspec.json.Encoder()
_DECODER = msgspec.json.Decoder(ArchiveRow)


def rows_of(opened: Opened) -> list[ArchiveRow]:
    """The rows of what was read of one shard, by position."""
    users = opened.users
    hash_keys: Iterable[str | None] = users.hash_keys or [None] * len(users)
    rows = []
    columns = (
        users.record.tolist(), users.sub.tolist(), users.aggregated.tolist(),
        users.arrival.tolist(), users.keys, hash_keys, users.data,
    )  # fmt: skip
    for record, sub, aggregated, arrival, key, hash_key, data in zip(*columns, strict=True):
        text, encoded = _text(data)
        name, encoded_key = _text(key)
        rows.append(
            ArchiveRow(
                users.shard_id,
                users.sequences[record],
                sub,
                aggregated,
                None if arrival == NO_TIME else arrival,
                key_text(key) if name is None else name,
                hash_key,
                text,
                encoded,
                encoded_key,
            )
        )
    if opened.lost:
        rows += map(_lost_row, opened.lost)
        rows.sort(key=lambda row: row.order)
    return rows


def opened_of(rows: Iterable[ArchiveRow]) -> Iterator[Opened]:
    """What was read, from rows by position; one for each shard in a row."""
    for shard_id, of_shard in groupby(rows, key=lambda row: row.shard_id):
        yield _opened(shard_id, list(of_shard))


def encode(rows: Sequence[ArchiveRow]) -> bytes:
    """Rows as NDJSON."""
    return _ENCODER.encode_lines(rows)


def pack(rows: Sequence[ArchiveRow], level: int) -> bytes:
    """Rows as gzip NDJSON; the same rows give the same bytes."""
    return gzip.compress(encode(rows), level, mtime=0)


def unpack(name: str, data: bytes) -> Iterator[list[ArchiveRow]]:
    """The rows of gzip NDJSON, at most BLOCK_ROWS at a time.

    Raises:
        InputError: it is none; names object and line.
    """
    before = 0
    rows: list[ArchiveRow] = []
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(data)) as lines:
            while block := list(islice(lines, BLOCK_ROWS)):
                rows = []
                rows.extend(map(_DECODER.decode, block))
                yield rows
                before, rows = before + len(rows), []
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise InputError(f"{name}: not a whole gzip file: {error}") from error
    except (ValueError, RecursionError) as error:
        line = before + len(rows) + 1
        raise InputError(f"{name}:{line}: not a row of an archive: {error}") from error


def _text(data: bytes) -> tuple[str | None, str | None]:
    """Bytes as text, else in base64."""
    if b"\0" not in data:
        try:
            return data.decode(), None
        except UnicodeDecodeError:
            pass
    return None, base64.b64encode(data).decode("ascii")


def _lost_row(row: Rejected) -> ArchiveRow:
    text, encoded = _text(row.data)
    return ArchiveRow(
        row.at.shard_id,
        row.at.sequence_number,
        row.at.sub_sequence_number,
        row.reason == KEY_INDEX,
        None if row.arrival_time is None else max(-_INT64, min(row.arrival_time, _INT64 - 1)),
        row.partition_key,
        None,
        text,
        encoded,
        None,
        row.reason,
        row.message,
    )


def _rejected(row: ArchiveRow) -> Rejected:
    assert row.reason is not None
    return Rejected(
        stage=LOST_STAGE,
        reason=row.reason,
        message=row.message or "",
        rule=None,
        at=Position(row.shard_id, row.sequence_number, row.sub_sequence_number),
        arrival_time=row.arrival_time,
        partition_key=row.partition_key,
        data=row.payload(),
    )


def _opened(shard_id: str, rows: list[ArchiveRow]) -> Opened:
    numbers: dict[str, int] = {}
    for row in rows:
        numbers.setdefault(row.sequence_number, len(numbers))
    good = [row for row in rows if row.reason is None]
    hash_keys: list[Any] = [row.explicit_hash_key for row in good]
    arrival = [NO_TIME if row.arrival_time is None else row.arrival_time for row in good]
    users = UserRecords(
        shard_id=shard_id,
        sequences=list(numbers),
        record=np.array([numbers[row.sequence_number] for row in good], np.int64),
        sub=np.array([row.sub_sequence_number for row in good], np.int64),
        data=[row.payload() for row in good],
        keys=[row.key() for row in good],
        arrival=np.array(arrival, np.int64),
        aggregated=np.array([row.aggregated for row in good], np.bool_),
        hash_keys=hash_keys if any(key is not None for key in hash_keys) else None,
    )
    return Opened(users, [_rejected(row) for row in rows if row.reason is not None])
