"""A worker of the fan-out mode in Lambda: a chunk to partial panes, and nothing remembered.

    chunk -> reduce -> rejected and forwarded records are safe -> parts are in the panes stream

Set the handler to `streamgauge.consumers.lambda_worker.handler`; the dispatcher invokes it. A chunk
that comes again, to whomever, gives the same parts and the same objects of the error stream.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..engine import pane_parts
from ..engine.panes import Partial
from ..producers.kinesis import KinesisWriter
from ..rules.edges import Edges
from ..rules.plan_fan_out import plan_reducer
from ..rules.spec import Spec, load
from . import lambda_metrics
from .forwarding import forward
from .lambda_sandbox import Clock, Deadline, check_fan_out, pipeline_file
from .lambda_sandbox import log as log_line
from .pane_wire import Chunk, Part, chunk_of, put_all, put_for


class Worker:
    """Reduces chunks for one pipeline file."""

    def __init__(
        self,
        spec: Spec,
        edges: Edges | None = None,
        *,
        writer: KinesisWriter | None = None,
        clock: Clock | None = None,
        log: Callable[..., None] = log_line,
    ) -> None:
        """Compile the rules; ConfigError where the file asks for what this host cannot do."""
        panes = check_fan_out(spec)
        self._name = spec.pipeline.name
        self._reducer = plan_reducer(spec)
        edges = Edges(spec) if edges is None else edges
        self._errors, self._forward = edges.errors(), forward(spec, edges)
        self._writer = writer or KinesisWriter(edges.service("kinesis"), panes)
        self._clock = clock or Clock()
        self._log = log

    def __call__(self, event: Any, context: Any) -> dict[str, Any]:
        """Reduce a chunk; the answer tells how many parts each merger has, and the counts.

        Raises:
            InputError: the event is no chunk of this pipeline.
            UnavailableError: a sink or the panes stream did not take everything in time.
        """
        until = self._clock.until(context)
        chunk = chunk_of(event, self._name)
        partial = self._reducer.reduce(chunk.records, chunk.shard_time)
        self._deliver(partial, until)
        made = pane_parts.cut(partial, self._reducer.rules, chunk.mergers)
        parts = [
            Part(self._name, chunk.mergers, merger, chunk.shard, chunk.number, of.digest, number,
                 len(of.contents), content)
            for merger, of in enumerate(made)
            for number, content in enumerate(of.contents)
        ]  # fmt: skip
        put_all(self._writer, [put_for(part) for part in parts], until.insist)
        counts = lambda_metrics.counted(partial.counts)
        self._tell(chunk, len(parts), counts, getattr(context, "aws_request_id", None))
        return {"parts": [[len(of.contents), of.digest] for of in made], "counts": counts}

    def _deliver(self, partial: Partial, until: Deadline) -> None:
        if partial.forwarded:
            assert self._forward is not None, "a rule forwards, so there is a sink"
            sink = self._forward
            until.insist(lambda: sink.deliver(partial.forwarded))
        if partial.rejected:
            until.insist(lambda: self._errors.deliver(partial.rejected))

    def _tell(
        self, chunk: Chunk, parts: int, counts: dict[str, float], request: str | None
    ) -> None:
        self._log(
            "chunk_reduced", pipeline=self._name, role="worker", request=request,
            shard=chunk.shard, chunk=chunk.number, parts=parts, records=counts["records"],
        )  # fmt: skip


_worker: Worker | None = None


def handler(event: Any, context: Any) -> dict[str, Any]:
    """The entry of the Lambda runtime; the pipeline file is read at the first event."""
    global _worker
    if _worker is None:
        _worker = Worker(load(pipeline_file()))
    return _worker(event, context)
