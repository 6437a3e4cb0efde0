"""Recorded data as messages to be sent again, each with the time at which it is due.

Payloads stay byte for byte what they were. Of a file of Kinesis records the user records are sent,
with the partition keys they had, at the pace of their arrival times; of anything else each line or
row, at the pace of its event times.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby, islice
from typing import Any

from ..engine.batch import NO_TIME, Record, Rejected, UserRecords, key_text
from ..engine.fields import Fields
from ..engine.kpl import deaggregate
from ..engine.payload import Unreadable, message_of, walk
from ..engine.times import times_of
from ..producers.messages import Messages
from .csv_rows import Row, read_csv
from .inputs import Input
from .records import read_kinesis_lines

BLOCK_ROWS = 2_000  # read ahead
UNKNOWN_KEY = "unknown"  # of a message that does not say whose it is
AHEAD_MS = 60_000  # a time that is further ahead than this must be confirmed
FOLLOWERS = 100  # messages after it, of which half must agree
INTEGER_MAX = 1 << 63


@dataclass(frozen=True)
class Where:
    """Where in a payload to find what is needed, as dotted paths; `key` None: the device's."""

    time: str = "ts"
    time_unit: str = "ms"
    key: str | None = None
    topic: str = "topic"


DEVICE = "device"


class Recording:
    """Iterates over the messages of an input, some thousand at a time; `times` are int ms.

    A message without a time has NO_TIME. unopened: Kinesis records whose aggregate cannot be read;
    they are sent as they are.
    """

    def __init__(self, source: Input, form: str, where: Where, topics: bool) -> None:
        """Take an open input.

        Args:
            form: ndjson, csv or kinesis.
            topics: whether the topics are asked for; else they are empty.
        """
        self.unopened = 0
        self._source, self._form, self._where, self._topics = source, form, where, topics
        paths = [where.topic] if topics else []
        if form != "kinesis":
            paths.append(where.time)
        if form != "kinesis" or where.key is not None:
            paths.append(where.key or DEVICE)
        self._paths = list(dict.fromkeys(paths))
        self._fields = Fields(dict.fromkeys(self._paths, object))

    def __iter__(self) -> Iterator[Messages]:
        """Read on.

        Raises:
            InputError: the input is not what it is said to be; names file and line.
        """
        if self._form == "kinesis":
            records = read_kinesis_lines(self._source.lines(), self._source.name)
            for _, run in groupby(records, key=lambda record: record.shard_id):
                while some := list(islice(run, BLOCK_ROWS)):
                    yield from self._opened(some)
            return
        if self._form == "csv":
            rows = read_csv(self._source, "")
            payloads: Iterable[list[bytes]] = iter(
                lambda: [_bytes(row) for row in islice(rows, BLOCK_ROWS)], []
            )
        else:
            payloads = self._source.blocks()
        for block in payloads:
            for first in range(0, len(block), BLOCK_ROWS):
                yield self._of_payloads(block[first : first + BLOCK_ROWS])

    def _of_payloads(self, data: list[bytes]) -> Messages:
        values = self._read(data)
        where = self._where
        keys = list(map(_key, values[where.key or DEVICE]))
        times = _times(values[where.time], where.time_unit)
        return Messages(keys, data, self._topics_of(values, keys), times)

    def _opened(self, records: list[Record]) -> Iterator[Messages]:
        """The user records of a shard's records, in order."""
        users, rejected = deaggregate(records)
        if not rejected:
            yield self._of_users(users)
            return
        for record in records:  # one by one, so that each stands in its place
            users, rejected = deaggregate([record])
            if len(users):
                yield self._of_users(users)
            for row in rejected:
                yield self._of_rejected(row, record)

    def _of_users(self, users: UserRecords) -> Messages:
        values = self._read(users.data) if self._paths else {}
        if self._where.key is None:
            keys = list(map(key_text, users.keys))
        else:
            keys = list(map(_key, values[self._where.key]))
        hash_keys: list[int | None] = []
        if users.hash_keys is not None and self._where.key is None:
            hash_keys = [None if key is None else int(key) for key in users.hash_keys]
        topics = self._topics_of(values, keys)
        return Messages(keys, users.data, topics, users.arrival.tolist(), hash_keys)

    def _of_rejected(self, row: Rejected, record: Record) -> Messages:
        """What could not be opened, with all its bytes."""
        self.unopened += 1
        key = record.partition_key
        keys = [key if isinstance(key, str) else key_text(key)]
        arrival = NO_TIME if record.arrival is None else record.arrival
        topics = self._topics_of({self._where.topic: [None]}, keys)
        return Messages(keys, [row.data], topics, [arrival])

    def _read(self, data: list[bytes]) -> dict[str, list[Any]]:
        """The values at the paths; None where a payload is none, or has nothing there."""
        values, doubtful = self._fields.read(data)
        for row in doubtful:
            try:
                message: Any = message_of(data[row])
            except Unreadable:
                message = None
            for path in self._paths:
                values[path][row] = walk(message, path.split("."))
        return values

    def _topics_of(self, values: dict[str, list[Any]], keys: list[str]) -> list[str]:
        """Each message's own topic, `replay/KEY` for one that has none."""
        if not self._topics:
            return []
        found = values[self._where.topic]
        return [
            topic if type(topic) is str and topic else f"replay/{_level(key)}"
            for topic, key in zip(found, keys, strict=True)
        ]


def _bytes(row: Row) -> bytes:
    return row.line if row.fault else row.data


def _key(value: Any) -> str:
    """A partition key of a value, as device ids are read."""
    if type(value) is str and value:
        return value
    return str(value) if type(value) is int else UNKNOWN_KEY


def _level(key: str) -> str:
    """A key as one level of a topic."""
    return "".join("_" if character in "+#/\0" else character for character in key)


def _times(values: list[Any], unit: str) -> list[int]:
    """The times of values that may be anything; NO_TIME where one is no time."""
    kinds = (str,) if unit == "iso8601" else (int, float)
    rows = [row for row, value in enumerate(values) if type(value) in kinds and _counts(value)]
    if len(rows) == len(values):
        all_times: list[int] = times_of(values, unit).tolist() if values else []
        return all_times
    times = [NO_TIME] * len(values)
    if rows:
        found = times_of([values[row] for row in rows], unit).tolist()
        for row, time in zip(rows, found, strict=True):
            times[row] = time
    return times


def _counts(value: str | int | float) -> bool:
    """Whether a number can be a time at all."""
    if isinstance(value, int):
        return abs(value) < INTEGER_MAX
    return isinstance(value, str) or math.isfinite(value)


class Schedule:
    """When recorded messages are due, at a multiple of their own pace.

    The recording's clock is the latest time so far; what is older is due at once. One device whose
    clock is ahead must not stop all the others: a time more than a minute ahead counts only if half
    of the hundred messages after it are no further behind it than a minute. No pause is longer than
    `pause_max`; where one is cut short, everything after it comes that much earlier.

    cut: pauses that were cut short, and astray: times that were not believed.
    """

    def __init__(self, speed: float, pause_max: float) -> None:
        """Begin at 0 with the first time.

        Args:
            speed: above 0; 2 is twice as fast as recorded. pause_max: seconds.
        """
        self.cut = self.astray = 0
        self._speed, self._pause_max = speed, pause_max
        self._clock: int | None = None
        self._due = 0.0

    def due(self, times: list[int], after: list[int]) -> list[float]:
        """When each message is due, in seconds since the beginning.

        Args:
            times: int ms or NO_TIME, in order. after: those of messages that follow, at least
                FOLLOWERS unless the recording ends there.
        """
        found = []
        known = [*times, *after[:FOLLOWERS]]
        for row, time in enumerate(times):
            clock = self._clock
            if time == NO_TIME:
                pass
            elif clock is None:
                self._clock = time
            elif time > clock:
                self._advance(time, known[row + 1 : row + 1 + FOLLOWERS])
            found.append(self._due)
        return found

    def _advance(self, time: int, after: list[int]) -> None:
        assert self._clock is not None
        ahead = time - self._clock
        if ahead > AHEAD_MS:
            followers = [other for other in after if other != NO_TIME]
            agreeing = sum(other >= time - AHEAD_MS for other in followers)
            if 2 * agreeing < len(followers):
                self.astray += 1
                return
        pause = ahead / 1000 / self._speed
        if pause > self._pause_max:
            self.cut += 1
            pause = self._pause_max
        self._clock = time
        self._due += pause


def scheduled(
    blocks: Iterable[Messages], schedule: Schedule
) -> Iterator[tuple[Messages, list[float]]]:
    """Messages with the seconds at which each is due; a block is held until the next ones tell."""
    held: list[Messages] = []
    for block in blocks:
        held.append(block)
        while len(held) > 1 and sum(map(len, held[1:])) >= FOLLOWERS:
            first = held.pop(0)
            yield first, schedule.due(first.times, _following(held))
    while held:
        first = held.pop(0)
        yield first, schedule.due(first.times, _following(held))


def _following(blocks: list[Messages]) -> list[int]:
    times: list[int] = []
    for block in blocks:
        times += block.times[: FOLLOWERS - len(times)]
        if len(times) >= FOLLOWERS:
            break
    return times
