"""What a producer has to tell: its counters, and what it could not do."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from ..engine.errors import StreamgaugeError
from .buffer import UserRecord


class RecordError(StreamgaugeError):
    """A record can never be put: its key or its size is not what Kinesis takes."""


class BufferFullError(StreamgaugeError):
    """There is no room for another record, and the producer was told not to wait for it."""


class ExpiredError(StreamgaugeError):
    """Records could not be put in time; `records` are handed back, nothing of them is kept."""

    def __init__(self, message: str, records: list[UserRecord]) -> None:
        """Hand the records back."""
        super().__init__(message)
        self.records = records


@dataclass
class Counters:
    """What a producer has done since it was made."""

    user_records_put: int = 0  # taken by `put`
    user_records_placed: int = 0  # in the stream, as far as answers tell
    kinesis_records: int = 0
    bytes: int = 0  # of the Kinesis records
    calls: int = 0
    retries: int = 0  # entries that were refused and sent again
    calls_unanswered: int = 0  # whose records may lie in the stream all the same
    wrong_shard: int = (
        0  # aggregates that went to another shard than predicted, and were sent again
    )
    expired: int = 0
    errors: Counter[str] = field(default_factory=Counter)  # by code
