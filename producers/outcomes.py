"""What a producer has to tell: outcomes of records, counters, and what it could not do."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from ..engine.errors import StreamgaugeError

if TYPE_CHECKING:
    from .buffer import UserRecord
    from .kinesis import Placed


class Attempt(NamedTuple):
    """A try that put a record nowhere, or where it is not read; `at` on the producer's clock."""

    at: float
    code: str
    message: str


class Outcome(NamedTuple):
    """What became of a user record.

    placed: where it lies; None where it was handed back. sub_sequence_number: its place in the
    aggregate there. attempts: what was tried before, the newest of them.
    """

    user: UserRecord
    placed: Placed | None
    sub_sequence_number: int
    attempts: tuple[Attempt, ...]


class RecordError(StreamgaugeError):
    """A record can never be put: its key or its size is not what Kinesis takes."""


class SomeRefusedError(RecordError):
    """Of several records some can never be put: `refused`, by index. The others were taken."""

    def __init__(self, message: str, refused: dict[int, RecordError]) -> None:
        """Name the records."""
        super().__init__(message)
        self.refused = refused


class BufferFullError(StreamgaugeError):
    """There is no room for another record, and the producer was told not to wait for it."""


class HandedBackError(StreamgaugeError):
    """Records could not be put in time; `outcomes` has them with what was tried, in put order."""

    def __init__(self, message: str, outcomes: list[Outcome]) -> None:
        """Hand the records back: they are no longer the producer's."""
        super().__init__(message)
        self.outcomes = outcomes

    @property
    def records(self) -> list[UserRecord]:
        """The records."""
        return [outcome.user for outcome in self.outcomes]


@dataclass
class Counters:
    """What a producer has done since it was made; docs/producer.md says more of each."""

    user_records_put: int = 0  # taken by `put`
    user_records_placed: int = 0  # in the stream, as far as answers tell
    user_bytes_placed: int = 0  # memory that they took
    kinesis_records: int = 0
    bytes: int = 0  # of the Kinesis records
    calls: int = 0
    retries: int = 0  # entries that were refused and sent again
    calls_unanswered: int = 0  # whose records may lie in the stream all the same
    wrong_shard: int = 0  # aggregates that went to another shard than predicted, and again
    expired: int = 0  # user records handed back
    refused: int = 0  # user records that can never be put
    limited: int = 0  # times that a shard had to wait for its rate
    waits_for_room: int = 0  # puts that found the buffer full
    callback_errors: int = 0
    errors: Counter[str] = field(default_factory=Counter)  # by code
