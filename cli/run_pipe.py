"""`run --input`: a pipeline on the lines of a pipe or a file, as they come."""

from __future__ import annotations

import select
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

from .listening import Piped, listening
from .running import Options, log, notes, report, say
from .stop import Stop

if TYPE_CHECKING:
    from ..consumers.inputs import Waiting

LOOK_SECONDS = 0.2  # while a pipe is silent: so often are questions answered


def run(options: Options, stop: Stop, path: str) -> bool:
    """Run until the input ends or a signal comes; whether everything read was delivered.

    Raises:
        StreamgaugeError: the input cannot be read, or a service was down for too long.
    """
    from ..consumers.inputs import Input
    from ..consumers.listen import Questions
    from ..consumers.metrics import Metrics
    from ..consumers.pipe import PipeConsumer, shard_of
    from ..consumers.totals import Totals
    from ..engine.counts import Counts
    from ..engine.sinks.base import Patience
    from ..engine.sinks.local import FileSink
    from ..engine.stores.thresholds import FileThresholds
    from ..rules.edges import Edges
    from ..rules.plan import Pipeline

    spec, metrics, questions = options.spec, Metrics(), Questions()
    edges = Edges(spec)
    store = edges.thresholds()
    if options.thresholds is not None:
        store = FileThresholds(options.thresholds)
    pipeline = Pipeline.plan(spec, store, origin=options.origin)
    for note in (*pipeline.warnings, *notes(options, piped=True)):
        say(str(note))
    sink = edges.alerts() if options.alerts is None else FileSink(options.alerts)
    totals = Totals(Counts(rule.name for rule in spec.rules))
    patience = Patience()

    def tend() -> None:
        questions.answer(pipeline.inspect)

    consumer = PipeConsumer(
        pipeline, sink, edges.errors(), shard=shard_of(time.time()), observe=totals.add, log=log,
        metrics=metrics, patience=patience, tend=tend,
    )  # fmt: skip
    source = Input(path, waiting(stop, lambda: source.fileno(), tend))
    started = time.monotonic()
    health = Piped(patience.counts)
    with (
        closing(source),
        listening(options.listen, lambda: [metrics.snapshot()], health, questions),
    ):
        try:
            consumer.run(source)
        except KeyboardInterrupt:
            if not stop():
                raise
        finally:
            sink.close()
            left = consumer.undelivered
            told = [f"read, but not delivered: {left} rows"] if left else []
            good = report(totals, source.name, time.monotonic() - started, told)
    return good


def waiting(stop: Stop, number: Callable[[], int | None], tend: Callable[[], object]) -> Waiting:
    """What an input does around each read: a signal ends it, and questions are answered."""

    @contextmanager
    def wait() -> Iterator[None]:
        descriptor = number()
        with stop.wait():
            while (
                descriptor is not None and not select.select([descriptor], [], [], LOOK_SECONDS)[0]
            ):
                tend()
            yield

    return wait
