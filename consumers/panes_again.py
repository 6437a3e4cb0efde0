"""The panes stream read again, behind a state object of a merger that cannot be read.

A merger takes records in any order and however often, so more may be read than is needed: from
what an older object has seen of each shard. Only what the mapping has handed over before was told.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from ..engine.batch import Position, Record
from ..engine.errors import UnavailableError
from .lambda_sandbox import Deadline, Stream

READS_MAX = 100_000  # of one shard

Take = Callable[[Record], object]


def read_again(
    stream: Stream, seen: Mapping[str, str], first: Record, until: Deadline, take: Take
) -> None:
    """Hand over the records of the first one's shard that lie before it.

    Args:
        seen: by shard the sequence number up to which they are known. first: of the event at hand.

    Raises:
        UnavailableError: the stream does not answer, or time is up.
    """
    end = int(first.sequence_number)
    for record in _from(stream, first.shard_id, seen.get(first.shard_id), until):
        if int(record.sequence_number) >= end:
            return
        take(record)


def read_others(
    stream: Stream, seen: Mapping[str, str], first: Record, until: Deadline, take: Take
) -> None:
    """Hand over the records of all other shards: some were there before a split or a merge.

    Args and errors are as of `read_again`.
    """
    for listed in until.insist(stream.shards):
        if listed.shard_id != first.shard_id:
            for record in _from(stream, listed.shard_id, seen.get(listed.shard_id), until):
                take(record)


def _from(stream: Stream, shard: str, after: str | None, until: Deadline) -> Iterator[Record]:
    """The records of a shard after a sequence number, to the end that it has now."""
    position = None if after is None else Position(shard, after)
    iterator = until.insist(lambda: stream.iterator(shard, position, False))
    for _ in range(READS_MAX):
        if not until.left():
            raise UnavailableError("the time was up before the panes stream was read again")
        at = iterator
        fetched = until.insist(lambda: stream.read(shard, at))  # noqa: B023
        if fetched is None:
            raise UnavailableError(f"the iterator of shard {shard} has expired")
        yield from fetched.records
        if fetched.iterator is None or not (fetched.records or fetched.behind):
            return
        iterator = fetched.iterator
