"""`--listen`: what is served while a pipeline runs."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any, Protocol

from .running import log

if TYPE_CHECKING:
    from ..consumers.backoff import Refusal
    from ..consumers.listen import Health
    from ..engine.sinks.base import RetryCounts


class Asked(Protocol):
    """What questions about devices are put to: consumers.listen.Questions, or the KCL's worker."""

    def ask(self, device: str) -> list[dict[str, Any]] | None:
        """What is known of a device, one row a shard and rule; None: it cannot be told now."""
        ...


class Consumer(Protocol):
    """What the health of a run is told by."""

    @property
    def refused(self) -> dict[str, Refusal]:
        """Shards whose step was refused at the last try."""
        ...


class Piped:
    """The same for a pipe, which is one shard, and whose calls are made by a Patience."""

    def __init__(self, counts: RetryCounts) -> None:
        """Take what its calls go through."""
        self._counts = counts
        self._since: float | None = None

    @property
    def refused(self) -> dict[str, Refusal]:
        """The pipe, while a call of it is refused."""
        from ..consumers.backoff import Refusal

        if not self._counts.failing:
            self._since = None
            return {}
        if self._since is None:
            self._since = time.monotonic()
        return {"pipe": Refusal("deliver", self._since, self._counts.cause)}


@contextmanager
def listening(
    address: str | None,
    snapshots: Callable[[], list[Any]],
    consumer: Consumer,
    questions: Asked,
) -> Iterator[None]:
    """Serve metrics, health and the state of devices while the context is open.

    Args:
        address: HOST:PORT; None: nothing is served.
        snapshots: of the metrics of all processes.
        consumer: tells what is refused. questions: where questions about devices are put.

    Raises:
        StreamgaugeError: the address cannot be listened at.
    """
    if address is None:
        yield
        return
    from ..consumers.listen import Listener, health
    from ..consumers.metrics import exposition, last_turn, merged

    def healthy() -> Health:
        turned = last_turn(merged(snapshots()))
        return health(turned, time.time(), consumer.refused, time.monotonic())

    listener = Listener(
        address,
        metrics=lambda: exposition(merged(snapshots())),
        health=healthy,
        state=questions.ask,
    )
    with closing(listener):
        log("listening", host=listener.host, port=listener.port)
        yield
