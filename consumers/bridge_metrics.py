"""What the bridge counts, for Prometheus: its table, and the values of a moment."""

from __future__ import annotations

from typing import NamedTuple

from .. import __version__
from ..producers.mqtt import Bridge
from ..producers.mqtt_link import Link
from ..producers.mqtt_quick import QuickLink
from ..producers.outcomes import Counters
from .metrics import Metric, Snapshot

REFUSED_SECONDS_MAX = 60.0  # without a connection, until that is no health


def _counter(name: str, unit: str, meaning: str, *labels: str) -> Metric:
    return Metric(name, "counter", labels, unit, meaning)


def _gauge(name: str, unit: str, meaning: str, *labels: str) -> Metric:
    return Metric(name, "gauge", labels, unit, meaning)


BRIDGE_METRICS = (
    _gauge("build_info", "1", "the label says which version runs", "version"),
    _gauge("bridge_connected", "0 or 1", "1 while there is a connection to the broker"),
    _counter("bridge_connections_total", "connections", "to the broker that were made"),
    _counter("bridge_disconnects_total", "times", "that there was none, by cause", "cause"),
    _counter("bridge_messages_total", "messages", "that came, repeated ones too"),
    _counter("bridge_message_bytes_total", "bytes", "of their payloads"),
    _counter("bridge_repeated_total", "messages", "that the broker says it has sent before"),
    _counter("bridge_recognised_total", "messages", "of these that were known, and not put again"),
    _gauge("bridge_in_flight_bytes", "bytes", "of messages of which not all is safe yet"),
    _counter("bridge_filtered_total", "messages", "that no route took"),
    _counter("bridge_rejected_total", "messages", "that went to the error stream"),
    _counter("bridge_acknowledged_total", "messages", "acknowledged to the broker"),
    _gauge("bridge_in_flight", "messages", "of which not all is safe yet"),
    _counter("bridge_records_total", "user records", "given to the producer"),
    _counter("producer_placed_total", "user records", "in the stream"),
    _counter("producer_retries_total", "entries", "of PutRecords that failed and went again"),
    _counter("producer_wrong_shard_total", "aggregates", "sent again for their shard"),
    _counter("producer_errors_total", "entries", "of PutRecords that failed, by code", "code"),
)


class Parts(NamedTuple):
    """What the values are read of."""

    bridge: Bridge
    link: Link | QuickLink
    counters: Counters


def snapshot(parts: Parts) -> Snapshot:
    """The values of this moment, by name and labels."""
    bridge, link, counters = parts
    counts, reconnects = bridge.counts, dict(link.tries.reconnects)
    single: dict[str, float] = {
        "bridge_connected": int(link.tries.connected),
        "bridge_connections_total": link.tries.connection,
        "bridge_messages_total": counts.received,
        "bridge_message_bytes_total": counts.bytes,
        "bridge_repeated_total": counts.repeated,
        "bridge_recognised_total": counts.recognised,
        "bridge_in_flight_bytes": bridge.in_flight.bytes,
        "bridge_filtered_total": counts.filtered,
        "bridge_rejected_total": counts.rejected,
        "bridge_acknowledged_total": counts.acknowledged,
        "bridge_in_flight": bridge.in_flight.open,
        "bridge_records_total": counts.records,
        "producer_placed_total": counters.user_records_placed,
        "producer_retries_total": counters.retries,
        "producer_wrong_shard_total": counters.wrong_shard,
    }
    return {
        "build_info": {(__version__,): 1},
        "bridge_disconnects_total": {(cause,): times for cause, times in reconnects.items()},
        "producer_errors_total": {(key,): value for key, value in dict(counters.errors).items()},
        **{name: {(): value} for name, value in single.items()},
    }
