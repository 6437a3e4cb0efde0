"""The sink of what rules forward, with the producers that it needs."""

from __future__ import annotations

from ..engine.batch import Forwarded
from ..engine.sinks.base import Sink
from ..engine.sinks.forward import ForwardSink
from ..rules.edges import Edges
from ..rules.spec import Spec

LIVE_SECONDS_MAX = 60.0  # of a record in a producer: its shard still has it, and puts it again


def forward(spec: Spec, edges: Edges) -> Sink[Forwarded] | None:
    """Where what rules put out goes; None where no rule forwards. No client is made yet."""
    if all(rule.forward is None for rule in spec.rules):
        return None
    from ..producers.aggregator import Producer

    service = edges.service("kinesis")
    return ForwardSink(lambda stream: Producer(stream, service, live_seconds_max=LIVE_SECONDS_MAX))
