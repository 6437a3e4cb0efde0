"""Messages on their way to a destination: one of them, or many as columns."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple


class Message(NamedTuple):
    """One message in the order sent: partition key and payload; time is int ms of the event."""

    key: str
    data: bytes
    device: str
    time: int


@dataclass(slots=True)
class Messages:
    """Messages as columns of equal length, in the order sent.

    keys: partition keys. data: payloads. topics: where MQTT publishes each. times: event times, int
    ms; empty where nobody asks for them. hash_keys: explicit hash keys, empty where no message has
    one.
    """

    keys: list[str] = field(default_factory=list)
    data: list[bytes] = field(default_factory=list)
    topics: list[str] = field(default_factory=list)
    times: list[int] = field(default_factory=list)
    hash_keys: list[int | None] = field(default_factory=list)

    def __len__(self) -> int:
        """The number of messages."""
        return len(self.data)

    def __iter__(self) -> Iterator[Message]:
        """Each message; its partition key is its device."""
        return map(Message, self.keys, self.data, self.keys, self.times)

    def part(self, first: int, last: int) -> Messages:
        """The messages from `first` on, `last` left out."""
        if first == 0 and last >= len(self.data):
            return self
        rows = slice(first, last)
        return Messages(
            self.keys[rows],
            self.data[rows],
            self.topics[rows],
            self.times[rows],
            self.hash_keys[rows],
        )

    def of(self, rows: list[int]) -> Messages:
        """The messages of these rows."""
        return Messages(
            [self.keys[row] for row in rows],
            [self.data[row] for row in rows],
            [self.topics[row] for row in rows] if self.topics else [],
            [self.times[row] for row in rows] if self.times else [],
            [self.hash_keys[row] for row in rows] if self.hash_keys else [],
        )

    def add(self, key: str, data: bytes, topic: str, time: int) -> None:
        """Put one more at the end."""
        self.keys.append(key)
        self.data.append(data)
        self.topics.append(topic)
        self.times.append(time)

    def extend(self, more: Messages) -> None:
        """Put more at the end."""
        self.keys += more.keys
        self.data += more.data
        self.topics += more.topics
        self.times += more.times
        self.hash_keys += more.hash_keys
