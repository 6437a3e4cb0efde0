"""The host for a pipe: user records as lines of an input, taken as they come.

For what other programs print (`mosquitto_sub ... | streamgauge run FILE --input -`). The answers
are those of a back-test of the same lines. A pipe cannot be read again: windows start empty with
each run and no state is kept, and what was read and could not be delivered before the end is told.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import TypeVar

from ..engine.batch import Alert, Rejected
from ..engine.errors import UnavailableError
from ..engine.pipeline import Outcome, Pipeline
from ..engine.sinks.base import Patience, Sink
from .backtest import batches
from .inputs import Input
from .metrics import Metrics
from .shard import Log

Result = TypeVar("Result")


def shard_of(started: float) -> str:
    """The shard id of one run, so that its positions and objects are no other run's.

    Args:
        started: seconds since 1970, when the run began.
    """
    stamp = datetime.fromtimestamp(started, UTC)
    return f"pipe-{stamp:%Y%m%dT%H%M%S}.{stamp.microsecond:06}Z"


class PipeConsumer:
    """Pushes the lines of an input, in batches of what is there, and delivers what comes of them.

    undelivered: rows that were read and whose sink had not acknowledged them when it ended.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        alerts: Sink[Alert],
        errors: Sink[Rejected],
        *,
        shard: str,
        observe: Callable[[Outcome], None],
        log: Log,
        metrics: Metrics,
        patience: Patience,
        tend: Callable[[], object] = lambda: None,
    ) -> None:
        """Take what it drives.

        Args:
            pipeline: an empty one. alerts, errors: sinks.
            shard: the shard id of the lines, see shard_of.
            observe: is told each outcome. log: log(event, **fields).
            metrics: counted into. patience: with which refused calls are made again.
            tend: called between two batches, to answer questions.
        """
        self.undelivered = 0
        self._pipeline = pipeline
        self._alerts, self._errors = alerts, errors
        self._shard = shard
        self._observe = observe
        self._log = log
        self._metrics = metrics
        self._patience = patience
        self._tend = tend

    def run(self, source: Input) -> None:
        """Read to the end; what was taken is worked through before more is asked for.

        Raises:
            UnavailableError: a sink or the table of limits was down for longer than the patience.
            KeyboardInterrupt: as the input's `waiting` raises it, when nothing is half done.
        """
        self._log("pipe_started", shard=self._shard, input=source.name)
        for batch in batches(source, "ndjson", self._shard):
            outcome = self._insist("apply", lambda batch=batch: self._pipeline.push(batch))  # type: ignore[misc]
            self._deliver(outcome)
            self._observe(outcome)
            self._metrics.observe(self._shard, outcome)
            self._tend()

    def _deliver(self, outcome: Outcome) -> None:
        self.undelivered = len(outcome.alerts) + len(outcome.rejected)
        if outcome.alerts:
            self._insist("deliver", lambda: self._alerts.deliver(outcome.alerts))
            self.undelivered -= len(outcome.alerts)
        if outcome.rejected:
            self._insist("deliver", lambda: self._errors.deliver(outcome.rejected))
            self.undelivered -= len(outcome.rejected)

    def _insist(self, step: str, call: Callable[[], Result]) -> Result:
        def told() -> Result:
            try:
                return call()
            except UnavailableError as error:
                self._log("waiting", shard=self._shard, step=step, cause=str(error))
                raise

        return self._patience.insist(told)
