"""The objects of an archive: their names, which say what positions they hold.

    <pipeline>/year=YYYY/month=MM/day=DD/hour=HH/<shard>-<first seq>.<sub>-<last seq>.<sub>.parquet
    _staged/<pipeline>/<shard>/YYYY-MM-DDTHH/<first seq>.<sub>-<last seq>.<sub>.ndjson.gz

Year to hour are those of the arrival, UTC; rows without one are under year=0000 and so on. The
first are for all to read, in Parquet or gzip NDJSON; the second are rows on their way there, whose
folder SQL engines pass over (its name begins with an underscore).

One rule holds for every object: it has all rows of its shard and hour from its first to its last
position. So names alone tell what is there already, and a reader who takes the objects of a shard
by their first positions and each position once needs no other list.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Literal, NamedTuple

from .. import files
from ..batch import LAST_TIME
from ..errors import StreamgaugeError
from .archive_rows import ArchiveRow

Form = Literal["parquet", "ndjson.gz"]
Order = tuple[int, int]  # of a position: its numbers

STAGED = "_staged"
NDJSON: Form = "ndjson.gz"
PARQUET: Form = "parquet"
KINDS = {NDJSON: "application/gzip", PARQUET: "application/vnd.apache.parquet"}
UNDATED = "0000-00-00T00"

_SPAN = r"(\d+)\.(\d+)-(\d+)\.(\d+)\.(parquet|ndjson\.gz)"
_STAGED = re.compile(rf"{STAGED}/([^/]+)/([^/]+)/(\d{{4}}-\d\d-\d\dT\d\d)/{_SPAN}")
_MADE = re.compile(rf"([^/]+)/year=(\d{{4}})/month=(\d\d)/day=(\d\d)/hour=(\d\d)/([^/]+)-{_SPAN}")


class Held(NamedTuple):
    """One object: where its rows are from, and the positions of the first and the last.

    pipeline, shard: as one part of a name. hour: YYYY-MM-DDTHH. size: bytes.
    """

    name: str
    pipeline: str
    shard: str
    hour: str
    first: Order
    last: Order
    form: Form
    size: int

    @property
    def staged(self) -> bool:
        """Whether it is still to become part of an object for all to read."""
        return self.name.startswith(f"{STAGED}/")


def held(name: str, size: int) -> Held | None:
    """What the name of an object says; None where it is no object of an archive."""
    if match := _STAGED.fullmatch(name):
        pipeline, shard, hour, *span = match.groups()
    elif match := _MADE.fullmatch(name):
        pipeline, year, month, day, clock, shard, *span = match.groups()
        hour = f"{year}-{month}-{day}T{clock}"
    else:
        return None
    first, last = (int(span[0]), int(span[1])), (int(span[2]), int(span[3]))
    form = PARQUET if span[4] == PARQUET else NDJSON
    return Held(name, pipeline, shard, hour, first, last, form, size)


def known(sizes: Iterable[tuple[str, int]]) -> Iterator[Held]:
    """The objects of an archive among names with sizes."""
    return (one for name, size in sizes if (one := held(name, size)) is not None)


def hours(rows: Sequence[ArchiveRow]) -> dict[str, list[ArchiveRow]]:
    """Rows by the hour of their arrival, each in the order given."""
    found: dict[str, list[ArchiveRow]] = {}
    number, hour = -1, UNDATED
    for row in rows:
        at = row.arrival_time
        if at is None or not 0 <= at <= LAST_TIME:
            of_row = UNDATED
        else:
            if at // 3_600_000 != number:
                number = at // 3_600_000
                hour = datetime.fromtimestamp(number * 3600, UTC).strftime("%Y-%m-%dT%H")
            of_row = hour
        found.setdefault(of_row, []).append(row)
    return found


def staged_folder(pipeline: str, shard_id: str) -> str:
    """Where the staged rows of a shard lie."""
    return f"{STAGED}/{files.segment(pipeline)}/{files.segment(shard_id)}/"


def staged_name(pipeline: str, hour: str, rows: Sequence[ArchiveRow]) -> str:
    """The name of rows of one shard and hour, by position, that are on their way."""
    return f"{staged_folder(pipeline, rows[0].shard_id)}{hour}/" + _checked(_span(rows) + NDJSON)


def made_folder(pipeline: str, hour: str, shard_id: str) -> str:
    """What the names of the objects of one shard and hour begin with."""
    return f"{partition(files.segment(pipeline), hour)}{files.segment(shard_id)}-"


def partition(pipeline: str, hour: str) -> str:
    """The folder of an hour; `pipeline` is one part of a name already."""
    day, _, clock = hour.partition("T")
    year, month, date = day.split("-")
    return f"{pipeline}/year={year}/month={month}/day={date}/hour={clock}/"


def made_name(folder: str, first: Order, last: Order, form: Form) -> str:
    """The name of an object for all to read; `folder` as `made_folder` gives it.

    Raises:
        StreamgaugeError: it would be longer than file systems take.
    """
    directory, _, shard = folder.rpartition("/")
    span = f"{first[0]}.{first[1]}-{last[0]}.{last[1]}.{form}"
    return f"{directory}/{_checked(shard + span)}"


def _span(rows: Sequence[ArchiveRow]) -> str:
    ends = (f"{row.sequence_number}.{row.sub_sequence_number}" for row in (rows[0], rows[-1]))
    return "-".join(ends) + "."


def _checked(name: str) -> str:
    if len(name) > files.NAME_BYTES_MAX:
        raise StreamgaugeError(f"{name}: a name has at most {files.NAME_BYTES_MAX} bytes")
    return name
