"""Messages as payload and topic, and the batch of columns that a decoder would make of them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
from msgspec import UNSET

from streamgauge.engine.batch import Batch, Column, UserRecords, Verdict
from streamgauge.engine.devices import Devices
from streamgauge.rules import message
from streamgauge.rules.filter import verdict_of
from streamgauge.rules.interpret import Dialect, evaluate
from streamgauge.rules.sql import parse


class Message(message.Message):
    """A payload and its topic, as the exact evaluator sees it."""

    def __init__(self, body: Any, topic: str | None = None) -> None:
        there = {name: value for name, value in body.items() if value is not UNSET}
        super().__init__(json.dumps(there).encode(), topic, body=there)


def batch_of(messages: Sequence[Message], reads: Sequence[str], topics: bool = True) -> Batch:
    """A batch of these messages with one column for each path."""
    rows, data = len(messages), [message.payload for message in messages]
    none = np.zeros(rows, np.int64)
    sequences = [str(row) for row in range(rows)]
    users = UserRecords("shard", sequences, np.arange(rows), none, data, [b""] * rows, none,
                        np.zeros(rows, np.bool_))  # fmt: skip
    values = {path: [message.value(path) for message in messages] for path in reads}
    topic = [UNSET if message.topic is None else message.topic for message in messages]
    numbers = np.arange(len(messages))
    return Batch(
        users, Devices(), numbers, numbers, numbers, numbers,
        {path: Column.of(found) for path, found in values.items()},
        Column.of(topic) if topics else None,
    )  # fmt: skip


def exact_verdicts(sql: str, messages: Sequence[Message], dialect: Dialect) -> list[Verdict]:
    """What WHERE says by the exact evaluator alone, of the tree as it was parsed."""
    where = parse(sql).query.where
    assert where is not None
    return [verdict_of(evaluate(where, message, dialect)) for message in messages]
