"""The demo at work: a fleet sends, a consumer reads, alerts come out of the queue."""

from __future__ import annotations

import json
import math
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from ..consumers.hosting import host
from ..consumers.kinesis_reader import KinesisReader
from ..consumers.local import LocalConsumer
from ..consumers.metrics import Metrics
from ..engine.batch import Alert, Rejected
from ..engine.counts import Counts
from ..engine.limits import Entry
from ..engine.sinks.errors_s3 import read_error_bucket
from ..engine.stores.threshold_items import ThresholdItems
from ..producers.fleet import Fleet
from ..producers.truth import Rule, Truth
from ..rules.edges import Edges
from ..rules.spec import Spec
from .demo_cloud import STREAM, TABLE, Cloud
from .demo_ways import Open, Way, straight

SWITCH_SECONDS = 0.001  # between threads, so that the reading is not held up by the sending
BEHIND_TICKS_MAX = 4  # what the reading may be behind until the sending waits
WAIT_SECONDS = 0.005
SPEED = 30  # seconds of event time in one of the clock, at most
WAIT_SECONDS_MAX = 60.0  # after the last message, for what is missing
EMPTY_MAX = 2  # answers of the queue in a row that end the run
NOT_COMPARED = ("id", "first_position", "last_position", "stale", "reason")


@dataclass
class Progress:
    """How far the demo is, for the screen; written by its threads, one field by one of them."""

    seconds: int  # of event time, altogether
    tick: int = 0
    sent: int = 0
    done: bool = False  # everything was sent
    alerts: dict[str, Alert] = field(default_factory=dict)
    counts: Counts = field(default_factory=Counts)
    latencies: list[float] = field(default_factory=list)  # ms
    failed: Exception | None = None


class Demo:
    """One run over a cloud; `run` returns when everything was sent, read and received."""

    def __init__(
        self,
        cloud: Cloud,
        spec: Spec,
        fleet: Fleet,
        folder: Path,
        stop: Callable[[], bool],
        way: Open = straight,
    ) -> None:
        """Put the fleet's limits into the table; send nothing yet. `way`: into the stream."""
        self.progress = Progress(fleet.seconds)
        self._cloud, self._spec, self._fleet, self._folder = cloud, spec, fleet, folder
        self._stop, self._open = stop, way
        self._edges = Edges(spec, cloud.services)
        self.limits = fleet.thresholds()
        self.truth = Truth(_rule(spec), self.limits)
        self._put_at: dict[tuple[str, int], float] = {}
        self._sent: list[tuple[bytes, int]] = []  # payload and wall clock, in the order sent
        self._deadline = 0.0
        self._way: Way | None = None
        self._log: Callable[..., None] = lambda event, **fields: None
        self._read = threading.Event()

    def run(self, tend: Callable[[], object]) -> None:
        """Send, read and receive; `tend` is called between two steps of the reading."""
        self._store_limits()
        interval = sys.getswitchinterval()
        sys.setswitchinterval(SWITCH_SECONDS)
        try:
            self._work(tend)
        finally:
            sys.setswitchinterval(interval)
        for data, arrival in self._sent:
            self.truth.take(data, arrival)

    def _work(self, tend: Callable[[], object]) -> None:
        threads = [
            threading.Thread(target=self._guarded, args=(work,), daemon=True)
            for work in (self._feed, self._receive)
        ]
        with open(self._folder / "log.ndjson", "w", encoding="utf-8") as lines:

            def log(event: str, **fields: object) -> None:
                print(json.dumps({"event": event, **fields}), file=lines)

            self._log = log
            reader = KinesisReader(self._edges.service("kinesis"), STREAM)
            shared = host(
                self._spec, reader, edges=self._edges, log=log, metrics=Metrics(),
                observe=lambda outcome: self.progress.counts.add(outcome.counts),
            )  # fmt: skip
            consumer = LocalConsumer(reader, shared, tend=tend)
            for thread in threads:
                thread.start()
            try:
                consumer.run(self._over)
            finally:
                self._read.set()
                for thread in threads:
                    thread.join()
        if self.progress.failed is not None:
            raise self.progress.failed

    def errors(self) -> dict[str, Rejected]:
        """The error stream, each position once."""
        location, name = self._spec.errors.location, self._spec.pipeline.name
        rows = read_error_bucket(location, name, service=self._edges.service("s3"))
        return {str(row.at): row for row in rows}

    def _store_limits(self) -> None:
        items = ThresholdItems(TABLE, self._cloud.services["dynamodb"], updated_by="demo")
        entries: dict[tuple[str, str], list[Entry]] = {}
        for line in self.limits:
            entry = msgspec.convert(line, Entry)
            entries.setdefault((line["device"], line["rule"]), []).append(entry)
        for (device, rule), of in entries.items():
            items.restore(device, rule, of)

    def _over(self) -> bool:
        """Whether everything sent was read, or nothing more comes."""
        progress = self.progress
        if self._stop() or progress.failed is not None:
            return True
        if not progress.done:
            return False
        late = time.monotonic() > self._deadline
        return late or self._arrived() >= progress.sent

    def _guarded(self, work: Callable[[], None]) -> None:
        try:
            work()
        except Exception as error:  # told by the main thread
            self.progress.failed = error

    def _feed(self) -> None:
        with self._open(self._edges, self._log) as way:
            self._way = way
            self._send(way)
        self._deadline = time.monotonic() + WAIT_SECONDS_MAX
        self.progress.done = True

    def _send(self, way: Way) -> None:
        """Send the fleet's messages at SPEED, or as fast as they are read."""
        started, progress = time.monotonic(), self.progress
        for number, tick in enumerate(self._fleet, 1):
            now = time.time()
            for message in tick:
                self._sent.append((message.data, int(now * 1000)))
                self._put_at.setdefault((message.device, message.time), now)
            way.send(tick)
            progress.tick, progress.sent = number, progress.sent + len(tick)
            while not self._stop() and self._behind() > BEHIND_TICKS_MAX * len(tick):
                time.sleep(WAIT_SECONDS)
            if self._stop() or self.progress.failed is not None:
                break
            ahead = started + number / SPEED - time.monotonic()
            if ahead > 0:
                time.sleep(ahead)

    @property
    def rejected(self) -> int:
        """Messages rejected, on the way or by the consumer."""
        return self.progress.counts.rejected + (0 if self._way is None else self._way.rejected)

    def _arrived(self) -> int:
        """Messages of which it is known what became of them."""
        return self.progress.counts.records - self.progress.counts.rejected + self.rejected

    def _behind(self) -> int:
        """Messages sent that are not read yet; none where the reading has ended."""
        return 0 if self._read.is_set() else self.progress.sent - self._arrived()

    def _receive(self) -> None:
        """Take alerts from the queue until the reading has ended and the queue is empty."""
        empty = 0
        while empty < EMPTY_MAX:
            ended = self._read.is_set()
            alerts = self._cloud.receive()
            now = time.time()
            for alert in alerts:
                if alert.id not in self.progress.alerts:
                    self.progress.alerts[alert.id] = alert
                    put_at = self._put_at.get((alert.device, alert.time), now)
                    self.progress.latencies.append((now - put_at) * 1000)
            empty = empty + 1 if ended and not alerts else 0
            if not alerts and not ended:
                self._read.wait(0.05)


def _rule(spec: Spec) -> Rule:
    """What the truth is to judge by, of the pipeline file's one rule."""
    rule = spec.rules[0]
    return Rule(
        pipeline=spec.pipeline.name,
        name=rule.name,
        threshold=rule.threshold,
        clear_margin=rule.clear_margin,
        min_samples=rule.min_samples,
        severity=rule.severity,
        window=rule.window,
        lateness=spec.delivery.allowed_lateness,
        skew=spec.delivery.max_clock_skew,
        hold=rule.hold,
    )


def compared(row: dict[str, Any]) -> tuple[tuple[str, Any], ...]:
    """An alert by all that makes two alert files the same."""
    return tuple(sorted((k, v) for k, v in row.items() if k not in NOT_COMPARED))


def percentile(values: list[float], share: float) -> float:
    """The value below which a share of all lie; 0 where there are none."""
    if not values:
        return 0.0
    return sorted(values)[min(len(values) - 1, math.ceil(share * len(values)) - 1)]
