"""`run` on a stream: in this process, or with several that share its shards."""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING

from .listening import listening
from .running import Options, log, notes, report, say

if TYPE_CHECKING:
    from ..consumers.fanout import FanOut
    from ..consumers.local import LocalConsumer
    from ..consumers.totals import Totals
    from ..consumers.workers import Workers
    from ..rules.edges import Edges
    from .stop import Stop


def run(options: Options, stop: Stop) -> bool:
    """Run until told to stop, or to the end; whether nothing is left over.

    Raises:
        StreamgaugeError: nobody can go on; what was applied is delivered and saved before.
    """
    from ..engine.stores.thresholds import FileThresholds
    from ..rules.edges import Edges
    from ..rules.plan import Pipeline, compiled_rules
    from ..rules.plan_fan_out import FAN_OUT, plan_merger

    spec = options.spec
    edges = Edges(spec)
    store = None if options.thresholds is None else FileThresholds(options.thresholds)
    fan_out = spec.delivery.mode == FAN_OUT
    if fan_out:  # tells problems before any read
        plan_merger(spec, store, origin=options.origin)
        warnings = compiled_rules(spec, options.origin).warnings
    else:
        warnings = Pipeline.plan(spec, store, origin=options.origin).warnings
    for note in (*warnings, *notes(options, piped=False)):
        say(str(note))
    if fan_out:
        return _fan_out(options, stop, edges)
    if spec.delivery.workers > 1:
        return _several(options, stop, edges)
    return _one(options, stop, edges)


def _one(options: Options, stop: Stop, edges: Edges) -> bool:
    """Read every shard in this process."""
    from ..consumers.hosting import host
    from ..consumers.kinesis_reader import KinesisReader
    from ..consumers.listen import Questions
    from ..consumers.local import LocalConsumer
    from ..consumers.metrics import Metrics
    from ..consumers.totals import Totals
    from ..engine.counts import Counts
    from ..engine.sinks.local import FileSink
    from ..engine.stores.thresholds import FileThresholds

    spec = options.spec
    assert spec.source.stream is not None
    metrics, questions = Metrics(), Questions()
    totals = Totals(Counts(rule.name for rule in spec.rules))
    shared = host(
        spec,
        KinesisReader(edges.service("kinesis"), spec.source.stream),
        edges=edges,
        alerts=None if options.alerts is None else FileSink(options.alerts),
        thresholds=None if options.thresholds is None else FileThresholds(options.thresholds),
        observe=totals.add,
        log=log,
        metrics=metrics,
    )
    consumer: LocalConsumer
    consumer = LocalConsumer(
        shared.reader,  # type: ignore[arg-type]
        shared,
        until_end=options.until_end,
        tend=lambda: questions.answer(consumer.inspect),
    )
    started = time.monotonic()
    with listening(options.listen, lambda: [metrics.snapshot()], consumer.reading, questions):
        try:
            consumer.run(stop)
        finally:
            shared.alerts.close()
            good = _report(options, totals, consumer, time.monotonic() - started)
    return good


def _fan_out(options: Options, stop: Stop, edges: Edges) -> bool:
    """Read every shard in this process, and have the chunks reduced here or by others."""
    from functools import partial

    from ..consumers.fanout import FanOut
    from ..consumers.fanout_pool import Here, Processes
    from ..consumers.hosting import host
    from ..consumers.kinesis_reader import KinesisReader
    from ..consumers.listen import Questions
    from ..consumers.metrics import Metrics
    from ..consumers.totals import Totals
    from ..engine.counts import Counts
    from ..engine.sinks.local import FileSink
    from ..engine.stores.thresholds import FileThresholds
    from ..rules.plan_fan_out import plan_merger

    spec, questions, metrics = options.spec, Questions(), Metrics()
    assert spec.source.stream is not None
    totals = Totals(Counts(rule.name for rule in spec.rules))
    reader = KinesisReader(edges.service("kinesis"), spec.source.stream)
    shared = host(
        spec, reader, edges=edges,
        alerts=None if options.alerts is None else FileSink(options.alerts),
        observe=totals.add, log=log, metrics=metrics,
    )  # fmt: skip
    limits = edges.thresholds()
    if options.thresholds is not None:
        limits = FileThresholds(options.thresholds)
    workers = spec.delivery.workers
    pool = Here(spec, time.sleep) if workers == 1 else Processes(spec, workers, log)
    consumer: FanOut
    consumer = FanOut(
        reader, shared, partial(plan_merger, spec, limits), pool, until_end=options.until_end,
        tend=lambda: questions.answer(consumer.inspect),
    )  # fmt: skip
    started = time.monotonic()
    with listening(options.listen, lambda: [metrics.snapshot()], consumer, questions):
        try:
            consumer.run(stop)
        finally:
            shared.alerts.close()
            good = _report(options, totals, consumer, time.monotonic() - started)
    return good


def _several(options: Options, stop: Stop, edges: Edges) -> bool:
    """Read the shards in processes of their own."""
    from ..consumers.kinesis_reader import KinesisReader
    from ..consumers.listen import Questions
    from ..consumers.metrics import Metrics
    from ..consumers.worker import Setup
    from ..consumers.workers import Workers

    spec = options.spec
    assert spec.source.stream is not None
    questions = Questions()
    setup = Setup(spec, options.until_end, options.alerts, options.thresholds, log)
    consumer: Workers

    def tend() -> None:
        for question in questions.take():
            consumer.ask(question)

    consumer = Workers(
        KinesisReader(edges.service("kinesis"), spec.source.stream),
        setup,
        spec.delivery.workers,
        metrics=Metrics(),
        tend=tend,
        random=random.random,
    )
    started = time.monotonic()
    with listening(options.listen, lambda: consumer.snapshots, consumer, questions):
        try:
            consumer.run(stop)
        finally:
            good = _report(options, consumer.totals, consumer, time.monotonic() - started)
    return good


def _report(
    options: Options, totals: Totals, consumer: LocalConsumer | Workers | FanOut, seconds: float
) -> bool:
    left = []
    if consumer.unsaved:
        names = ", ".join(consumer.unsaved)
        left.append(f"not saved, to be read again by the next run: {names}")
    if consumer.unread and options.until_end:
        left.append(f"not read, their parents have not ended: {', '.join(consumer.unread)}")
    return report(totals, f"stream {options.spec.source.stream}", seconds, left)
