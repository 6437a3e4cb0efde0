"""The stream read again where a state lies before the checkpoint: applied, and told to nobody."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from ..engine.pipeline import Outcome, Pipeline
from .shard import Reader

Insist = Callable[[Callable[[], Any]], Any]  # makes a call, and again where it is refused


def read_again(
    stream: Reader,
    pipeline: Pipeline,
    shard_id: str,
    before: str | None,
    insist: Insist,
    tell: Callable[[Outcome], object] = lambda outcome: None,
) -> None:
    """Push what lies between the last position of a pipeline and a record.

    What comes of it is dropped: the sinks had acknowledged it before that record was handed out.

    Args:
        stream: how the shard is read. pipeline: goes on from its position, else from the oldest
            record.
        before: the sequence number of the record to stop at; None: the end of a closed shard.
        insist: makes each call; an UnavailableError that it raises leaves, and what was pushed
            stays pushed, so that the next call goes on there.
        tell: takes each outcome, where the sinks may lack the end of it.
    """
    iterator: str | None = None
    while True:
        if iterator is None:
            at = pipeline.positions.get(shard_id)
            iterator = insist(partial(stream.iterator, shard_id, at, True))
        fetched = insist(partial(stream.read, shard_id, iterator))
        if fetched is None:  # the iterator has expired
            iterator = None
            continue
        records = [
            one
            for one in fetched.records
            if before is None or int(one.sequence_number) < int(before)
        ]
        if records:
            tell(insist(partial(pipeline.push, records)))
        there = len(records) < len(fetched.records) or fetched.iterator is None
        if there or (not fetched.records and fetched.behind == 0):
            return
        iterator = fetched.iterator
