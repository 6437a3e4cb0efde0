"""What rules put out, to other Kinesis streams, aggregated; the producers are handed in.

At least once, in the order of the shard for each partition key: a batch is acknowledged when the
stream has all of it. Where it is refused for now, the producer that has it goes on with it, and the
next `deliver` of the same rows waits for that instead of putting them again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from ..batch import Forwarded
from ..errors import UnavailableError

WAIT_SECONDS_MAX = 2.0  # for the stream, in one `deliver`
BATCHES_MAX = 10_000  # of shards that are on their way at once


class Producer(Protocol):
    """What this sink needs of a producer; that of producers/aggregator.py is one."""

    def put_many(
        self, keys: Sequence[str], datas: Sequence[bytes], *, callback: Callable[[Any], object]
    ) -> None:
        """Take records; `callback` is told each outcome, whose `placed` is None if handed back."""

    def flush(self, seconds_max: float) -> bool:
        """Send everything, at most for so long; whether it was."""
        ...

    def close(self, seconds_max: float) -> None:
        """Send everything, and hand back what could not be sent in time."""


class _Batch:
    """Rows on their way: how many have no outcome, and why one was handed back."""

    def __init__(self, rows: Sequence[Forwarded]) -> None:
        self.rows = rows
        self.open = len(rows)
        self.cause = ""

    def tell(self, outcome: Any) -> None:
        self.open -= 1
        if outcome.placed is None:
            last = outcome.attempts[-1] if outcome.attempts else None
            self.cause = f"{last.code}: {last.message}" if last else "not sent in time"


class ForwardSink:
    """A Sink of what rules forward, to the streams that they name."""

    def __init__(self, producer: Callable[[str], Producer]) -> None:
        """Take what makes the producer of a stream; it is called once for each, when needed."""
        self._make = producer
        self._producers: dict[str, Producer] = {}
        self._batches: dict[str, _Batch] = {}  # by the shard that their rows came from

    def deliver(self, rows: Sequence[Forwarded]) -> None:
        """Put the rows of one shard, and wait until the streams have all.

        Raises:
            UnavailableError: they have not yet; call again with the same rows.
            StreamgaugeError: a stream refuses for good; says which and why.
        """
        shard = rows[0].at.shard_id
        batch = self._batches.get(shard)
        streams = dict.fromkeys(row.stream for row in rows)
        if batch is None or batch.rows is not rows:
            assert len(self._batches) < BATCHES_MAX, "shards are delivered to and forgotten"
            self._batches.pop(shard, None)
            batch = _Batch(rows)
            for stream in streams:
                self._put(stream, [row for row in rows if row.stream == stream], batch)
            self._batches[shard] = batch
        for stream in streams:
            if batch.open:
                self._producer(stream).flush(WAIT_SECONDS_MAX)
        named = " and ".join(streams)
        if batch.open:
            left = f"{batch.open} of {len(rows)} records not accepted yet"
            raise UnavailableError(f"forward to {named}: {left}")
        del self._batches[shard]
        if batch.cause:  # all again: which were accepted does not matter, what is missing does
            raise UnavailableError(f"forward to {named}: {batch.cause}")

    def flush(self) -> None:
        """Do nothing: nothing is held back."""

    def close(self) -> None:
        """Close the producers; what is still on its way was never acknowledged."""
        for producer in self._producers.values():
            producer.close(0.0)

    def _put(self, stream: str, rows: Sequence[Forwarded], batch: _Batch) -> None:
        keys, datas = [row.partition_key for row in rows], [row.data for row in rows]
        self._producer(stream).put_many(keys, datas, callback=batch.tell)

    def _producer(self, stream: str) -> Producer:
        if stream not in self._producers:
            self._producers[stream] = self._make(stream)
        return self._producers[stream]
