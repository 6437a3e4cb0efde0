"""How much a shard is given a second: no more than it takes, so that it need not refuse."""

from __future__ import annotations

RECORDS_PER_SECOND = 1000  # what a shard takes, of Kinesis records
BYTES_PER_SECOND = 1 << 20
RATE = 1.5  # times that, as the KPL has it: others may write little, and bursts be taken


class Rate:
    """Two token buckets of one shard, of records and bytes, each a second deep.

    What is larger than a bucket goes when it is full, and the bucket owes the rest: so nothing
    waits for ever, and the rate holds over time.
    """

    def __init__(self, share: float, now: float) -> None:
        """Start full; `share` is of what a shard takes."""
        self._most = share * RECORDS_PER_SECOND, share * BYTES_PER_SECOND
        self._left = list(self._most)
        self._at = now

    def ready_at(self, now: float) -> float:
        """When something may go: `now` or later."""
        self._fill(now)
        waits = (-left / most for left, most in zip(self._left, self._most, strict=True))
        return now + max(0.0, *waits)

    def take(self, size: int) -> bool:
        """Count a Kinesis record of this size; whether another may follow at once."""
        self._left[0] -= 1
        self._left[1] -= size
        return min(self._left) > 0

    def _fill(self, now: float) -> None:
        passed = max(0.0, now - self._at)
        self._at = max(now, self._at)
        for place, most in enumerate(self._most):
            self._left[place] = min(most, self._left[place] + passed * most)
