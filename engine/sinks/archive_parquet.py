"""Rows of an archive as Parquet, by pyarrow; the only module that needs the extra `archive`.

Columns are plain, nullable and named as in archive_rows.py: Zstandard, row groups of some
thousand rows, statistics for each, so that a query for a shard or a time reads little.
"""

from __future__ import annotations

import importlib.util
import io
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from ..errors import InputError, StreamgaugeError
from .archive_rows import COLUMNS, ArchiveRow

if TYPE_CHECKING:
    import pyarrow

COMPRESSION = "zstd"
FORMAT_VERSION = "1"  # of our columns, in the file's metadata
_INTEGERS, _FLAGS = {"sub_sequence_number", "arrival_time"}, {"aggregated"}
_NEVER_NULL = {"shard_id", "sequence_number", "sub_sequence_number", "aggregated", "partition_key"}


def installed() -> bool:
    """Whether pyarrow can be imported."""
    return importlib.util.find_spec("pyarrow") is not None


class ParquetMaker:
    """Makes one Parquet file of rows, some at a time; what is done is compressed already."""

    def __init__(self) -> None:
        """Begin a file in memory.

        Raises:
            StreamgaugeError: pyarrow is not installed.
        """
        arrow, parquet = _pyarrow()
        self._arrow = arrow
        self._schema = _schema(arrow)
        self._buffer = io.BytesIO()
        self._writer = parquet.ParquetWriter(
            self._buffer, self._schema, compression=COMPRESSION, version="2.6"
        )

    def add(self, rows: Sequence[ArchiveRow]) -> None:
        """Write these rows as a row group."""
        table = self._arrow.table(
            [[getattr(row, name) for row in rows] for name in COLUMNS], schema=self._schema
        )
        self._writer.write_table(table)

    def close(self) -> bytes:
        """The whole file."""
        self._writer.close()
        return self._buffer.getvalue()


def read(name: str, data: bytes) -> Iterator[list[ArchiveRow]]:
    """The rows of a Parquet file, a row group at a time; columns that it lacks are null.

    Raises:
        InputError: it is none, or not of an archive; names the object.
        StreamgaugeError: pyarrow is not installed.
    """
    arrow, parquet = _pyarrow()
    try:
        file = parquet.ParquetFile(io.BytesIO(data))
        have = [column for column in COLUMNS if column in file.schema_arrow.names]
        if lacking := _NEVER_NULL - set(have):
            raise InputError(f"{name}: not of an archive: it lacks {', '.join(sorted(lacking))}")
        for group in range(file.num_row_groups):
            table = file.read_row_group(group, columns=have)
            columns: list[list[Any]] = [
                table[column].to_pylist() if column in have else [None] * table.num_rows
                for column in COLUMNS
            ]
            yield list(map(ArchiveRow, *columns))
    except (arrow.ArrowException, OSError) as error:
        raise InputError(f"{name}: not Parquet of an archive: {error}") from error


def _pyarrow() -> tuple[Any, Any]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        message = f"Parquet needs pyarrow: pip install 'streamgauge[archive]' ({error})"
        raise StreamgaugeError(message) from error
    return pyarrow, pyarrow.parquet


def _schema(arrow: Any) -> pyarrow.Schema:
    def kind(column: str) -> Any:
        if column in _INTEGERS:
            return arrow.int64()
        return arrow.bool_() if column in _FLAGS else arrow.string()

    fields = [arrow.field(name, kind(name), nullable=name not in _NEVER_NULL) for name in COLUMNS]
    return arrow.schema(fields, metadata={"streamgauge.archive": FORMAT_VERSION})
