"""`streamgauge bridge`: messages of an MQTT broker into a Kinesis stream."""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..engine.errors import ConfigError, Problem
from .running import log, say
from .stop import STOP_SECONDS_MAX, Overdue, stop_signals

if TYPE_CHECKING:
    from ..consumers.bridge_metrics import Parts
    from ..producers.mqtt_broker import Broker
    from ..producers.mqtt_link import Link
    from ..producers.mqtt_quick import QuickLink
    from ..rules.project import Route
    from ..rules.spec import MqttSpec, Spec

FOUND_PROBLEMS = 1
INTERRUPTED = 130
TELL_SECONDS = 5.0  # between two lines of what the stream refuses
FINISH_SECONDS = STOP_SECONDS_MAX - 2.0  # of a stop, for what is on its way


class Client(StrEnum):
    """Whose code talks to the broker."""

    PAHO = "paho"
    QUICK = "quick"


def command(
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE", exists=True, dir_okay=False, readable=True, help="The pipeline file."
        ),
    ],
    listen: Annotated[
        str | None,
        typer.Option(metavar="HOST:PORT", help="Serve /metrics and /healthz there."),
    ] = None,
    client: Annotated[
        Client,
        typer.Option(help="paho: paho-mqtt; quick: our own, for MQTT 5, at a fraction of the CPU."),
    ] = Client.PAHO,
) -> None:
    """Carry messages of an MQTT broker into the pipeline's Kinesis stream.

    Reads [mqtt] of the file: the broker, and routes of a topic filter, a SELECT and a partition
    key. A message is acknowledged to the broker once Kinesis has accepted what became of it, or the
    error stream has it with its topic and bytes; so nothing that was published with QoS 1 is lost
    by a crash here. The password comes from STREAMGAUGE_MQTT__PASSWORD only. Log lines are JSON on
    stderr, never a payload. Ctrl-C and SIGTERM put and acknowledge what was taken, within ten
    seconds, then end with status 130 and 0.

    Example: streamgauge bridge thermostats.toml --listen 127.0.0.1:9464
    """
    from ..rules.spec import load

    spec = load(file)
    mqtt, stream = needed(spec, str(file))
    routes = list(routes_of(spec, mqtt, str(file)))
    with stop_signals() as stop:
        try:
            good = _run(spec, broker_of(spec, mqtt), routes, stream, listen, client, stop)
        except Overdue:
            log("stopped_unfinished", cause="not through within the time that a stop may take")
            good = False
    if stop.signal == signal.SIGINT:
        raise typer.Exit(INTERRUPTED)
    raise typer.Exit(0 if good else FOUND_PROBLEMS)


def needed(spec: Spec, origin: str) -> tuple[MqttSpec, str]:
    """The table [mqtt] and the stream; ConfigError where one is missing."""
    problems = []
    if spec.mqtt is None:
        hint = "url and [[mqtt.routes]] with sql and partition_key"
        problems.append(Problem(f"{origin}: mqtt", "expected the table [mqtt], found none", hint))
    if spec.source.stream is None:
        text = "expected the name of a stream to put into, found none"
        problems.append(Problem(f"{origin}: source.stream", text))
    if problems:
        raise ConfigError(problems)
    assert spec.mqtt is not None and spec.source.stream is not None
    return spec.mqtt, spec.source.stream


def routes_of(spec: Spec, mqtt: MqttSpec, origin: str) -> Iterator[Route]:
    """The routes, compiled; ConfigError with every problem of all of them."""
    from ..rules.project import Route

    problems: list[Problem] = []
    for number, route in enumerate(mqtt.routes):
        try:
            yield Route(
                route.sql, route.partition_key, where=f"{origin}: mqtt.routes[{number}]",
                version=spec.sql.version, int_division=spec.sql.int_division,
                undefined_logic=spec.sql.undefined_logic,
            )  # fmt: skip
        except ConfigError as error:
            problems += error.problems
    if problems:
        raise ConfigError(problems)


def broker_of(spec: Spec, mqtt: MqttSpec) -> Broker:
    """How the broker is reached."""
    from ..producers.mqtt_broker import Broker

    return Broker(
        url=mqtt.url, client_id=mqtt.client_id or spec.pipeline.name, qos=mqtt.qos,
        share=mqtt.share, ca=mqtt.ca, cert=mqtt.cert, key=mqtt.key, username=mqtt.username,
        password=mqtt.password, max_in_flight=mqtt.max_in_flight,
    )  # fmt: skip


def link_of(client: Client) -> type[Link] | type[QuickLink]:
    """The class of the connection; it is imported only where it is used."""
    if client == Client.QUICK:
        from ..producers.mqtt_quick import QuickLink

        return QuickLink
    from ..producers.mqtt_link import Link

    return Link


def _run(
    spec: Spec, broker: Broker, routes: list[Route], stream: str, listen: str | None,
    client: Client, stop: object,
) -> bool:  # fmt: skip
    """Run until told to stop; whether everything taken has its outcome.

    Raises:
        StreamgaugeError: the broker refuses us, or the stream does, for good.
    """
    from ..consumers.bridge_metrics import Parts
    from ..producers.aggregator import Producer
    from ..producers.mqtt import Bridge, run, shard_of
    from ..rules.edges import Edges

    assert callable(stop)
    edges = Edges(spec)
    producer = Producer(stream, edges.service("kinesis"), live_seconds_max=math.inf)
    errors = edges.errors()
    bridge = Bridge(
        routes, producer, errors, max_in_flight=broker.max_in_flight,
        shard=shard_of(broker.client_id, time.time()), log=log,
    )  # fmt: skip
    link = link_of(client)(
        broker, [route.filter for route in routes], bridge.take, begin=bridge.begin,
        full=lambda: bridge.full, log=log,
    )  # fmt: skip
    pulse = Pulse(Parts(bridge, link, producer.counters))
    say(f"bridge: {broker.url} to stream {stream}, as {broker.client_id}")
    with _listening(listen, pulse), closing(link):
        try:
            run(bridge, link, lambda: pulse.beat(stop()))
        finally:
            good = bridge.finish(link, FINISH_SECONDS)
    errors.close()
    counts = bridge.counts
    say(
        f"{counts.received:,} messages: {producer.counters.user_records_placed:,} records put,"
        f" {counts.filtered:,} taken"
        f" by no route, {counts.rejected:,} rejected, {counts.recognised:,} known again;"
        f" {counts.acknowledged:,} acknowledged"
    )
    if not good:
        codes = ", ".join(producer.counters.errors) or "none"
        say(f"{bridge.left:,} messages had no outcome and no acknowledgement: the broker has them")
        say(f"errors of the stream: {codes}")
    return good


@dataclass
class Pulse:
    """When the loop last turned, and since when there is no connection: what health is told by."""

    parts: Parts
    turned: float = 0.0
    cut_since: float | None = None
    refused: int = 0  # entries that the stream had not taken, as told last
    told: float = 0.0

    def beat(self, stop: bool) -> bool:
        """Note a turn of the loop, and tell what the stream refuses; gives `stop` back."""
        self.turned = time.monotonic()
        errors = self.parts.counters.errors
        if errors.total() > self.refused and self.turned - self.told >= TELL_SECONDS:
            self.refused, self.told = errors.total(), self.turned
            log("waiting", step="put", refused=dict(errors))
        if self.parts.link.tries.connected:
            self.cut_since = None
        elif self.cut_since is None:
            self.cut_since = self.turned
        return stop

    @property
    def reasons(self) -> list[str]:
        """Why there is no progress; empty where there is."""
        from ..consumers.bridge_metrics import REFUSED_SECONDS_MAX
        from ..consumers.listen import LOOP_SECONDS_MAX

        now, found = time.monotonic(), []
        if now - self.turned > LOOP_SECONDS_MAX:
            found.append(f"the loop has not turned for {now - self.turned:.0f} s")
        if self.cut_since is not None and now - self.cut_since > REFUSED_SECONDS_MAX:
            found.append(f"no connection to the broker for {now - self.cut_since:.0f} s")
        if self.parts.bridge.refused:
            found.append(f"the error stream is refused: {self.parts.bridge.refused}")
        return found


@contextmanager
def _listening(address: str | None, pulse: Pulse) -> Iterator[None]:
    """Serve metrics and health while the context is open."""
    if address is None:
        yield
        return
    from ..consumers.bridge_metrics import BRIDGE_METRICS, snapshot
    from ..consumers.listen import Health, Listener
    from ..consumers.metrics import exposition

    listener = Listener(
        address,
        metrics=lambda: exposition(snapshot(pulse.parts), BRIDGE_METRICS),
        health=lambda: Health(not pulse.reasons, pulse.reasons),
        state=lambda device: [],
    )
    with closing(listener):
        log("listening", host=listener.host, port=listener.port)
        yield
