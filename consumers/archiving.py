"""What a shard's loop does with its archive: stage, roll, and measure both."""

from __future__ import annotations

from collections.abc import Callable

from ..engine.records import Opened
from ..engine.sinks.archive import Archive
from .metrics import Metrics


class Archiving:
    """The archive of one shard; nothing is ever due where none is asked for."""

    def __init__(
        self, archive: Archive | None, shard_id: str, now: Callable[[], float], metrics: Metrics
    ) -> None:
        """Look nowhere yet."""
        self._sink = None if archive is None else archive.shard(shard_id, now)
        self._shard_id = shard_id
        self._metrics = metrics

    @property
    def rolled(self) -> bool:
        """Nothing is left staged."""
        return self._sink is None or self._sink.empty

    def stage(self, read: list[Opened]) -> None:
        """Make what was read safe; UnavailableError where it is not."""
        assert self._sink is not None
        before = self._sink.counts.records
        self._sink.deliver(read)
        added = self._sink.counts.records - before
        self._metrics.add("archive_records_total", added, shard=self._shard_id)
        self._measure()

    def due(self, closing: bool) -> bool:
        """Whether there is something to roll; `closing`: everything staged counts as old."""
        return self._sink is not None and self._sink.due(closing)

    def roll(self, closing: bool) -> None:
        """Do one step of that; UnavailableError where it is refused."""
        assert self._sink is not None
        counts = self._sink.counts
        objects, size = counts.objects, counts.bytes
        self._sink.roll(closing)
        if counts.objects > objects:
            self._metrics.add(
                "archive_objects_total", counts.objects - objects, shard=self._shard_id
            )
            self._metrics.add("archive_bytes_total", counts.bytes - size, shard=self._shard_id)
        self._measure()

    def _measure(self) -> None:
        assert self._sink is not None
        staged = self._sink.staged_bytes
        self._metrics.set("archive_staged_bytes", staged, shard=self._shard_id)
