"""What the shards of one process share, made from a pipeline file; what is not supported yet."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator

from ..engine.batch import Alert
from ..engine.errors import Problem
from ..engine.limits import ThresholdStore
from ..engine.pipeline import Outcome
from ..engine.sinks.archive_objects import PARQUET
from ..engine.sinks.archive_parquet import installed
from ..engine.sinks.base import Sink
from ..rules.edges import Edges
from ..rules.plan import Pipeline
from ..rules.spec import Spec
from .forwarding import forward
from .metrics import Metrics
from .shard import Host, Log, Reader


def unsupported(spec: Spec) -> Iterator[Problem]:
    """What a pipeline file asks for and this host cannot do yet: it refuses rather than ignores."""
    if spec.source.out_of_range != "evaluate":
        yield Problem("source.out_of_range", 'only "evaluate" is supported here yet')
    if spec.archive is not None and spec.delivery.mode != "ordered":
        hint = 'mode = "ordered", or remove the table'
        yield Problem("archive", "an archive is not written in the fan_out mode yet", hint)
    if spec.archive is not None and spec.archive.format == PARQUET and not installed():
        hint = "pip install 'streamgauge[archive]', or \"ndjson.gz\""
        yield Problem("archive.format", "Parquet needs pyarrow, which is not installed", hint)


def host(
    spec: Spec,
    stream: Reader,
    *,
    edges: Edges,
    alerts: Sink[Alert] | None = None,
    thresholds: ThresholdStore | None = None,
    observe: Callable[[Outcome], None],
    log: Log,
    metrics: Metrics,
) -> Host:
    """What the shards of one process share, for a pipeline file that `unsupported` lets pass.

    Args:
        spec: the pipeline file.
        stream: how its shards are read.
        edges: the sinks and stores that the file names; two may be replaced:
        alerts: where alerts go. thresholds: the table of limits.
        observe, log, metrics: see Host.
    """
    limits = edges.thresholds() if thresholds is None else thresholds
    return Host(
        pipeline=spec.pipeline.name,
        plan=functools.partial(
            Pipeline.plan, spec, limits, one_shard=True, keep_read=spec.archive is not None
        ),
        reader=stream,
        alerts=edges.alerts() if alerts is None else alerts,
        errors=edges.errors(),
        states=edges.states(),
        save_seconds=spec.state.save_every / 1000,
        observe=observe,
        log=log,
        metrics=metrics,
        forward=forward(spec, edges),
        archive=edges.archive(),
    )
