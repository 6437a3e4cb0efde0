"""The services that a simulated pipeline meets, and what one process of it makes of them.

Everything between the shard's loop and a client of boto3's is the real thing.
"""

from __future__ import annotations

import base64
import gzip
import json
import random as random_module
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

from memory_bucket import MemoryBucket
from memory_reading import NAME, MemoryKinesis
from memory_service import MemoryService, Odds
from memory_stream import MemoryStream
from memory_table import MemoryTable
from memory_topic import TOPIC, MemoryTopic

from streamgauge.consumers.kinesis_reader import KinesisReader
from streamgauge.consumers.shard import Reader
from streamgauge.engine.aws import Service
from streamgauge.engine.limits import Entry
from streamgauge.engine.sinks.errors_s3 import ErrorBucket
from streamgauge.engine.sinks.sns import SnsAlerts
from streamgauge.engine.stores.dynamodb import TableThresholds
from streamgauge.engine.stores.s3 import BucketStates
from streamgauge.engine.stores.threshold_items import ThresholdItems

ERRORS, STATES = "errors", "states"  # two buckets, which fail apart
CALM = Odds(throttled=0.02, failed=0.01, down=0.02, lost=0.03)
WILD = Odds(throttled=0.1, failed=0.05, down=0.05, lost=0.15)

ErrorKey = tuple[str, str | None]  # position and rule of a rejected record


class Process(NamedTuple):
    """What one process makes of the services: each has clients and a memory of its own."""

    reader: Reader
    alerts: SnsAlerts
    errors: ErrorBucket
    states: BucketStates
    thresholds: TableThresholds


class Cloud:
    """A stream, a topic, a table, a bucket of errors and one of state objects."""

    def __init__(
        self,
        stream: MemoryStream,
        pipeline: str,
        *,
        fifo: bool,
        now: Callable[[], float],
        spend: Callable[[float], object],
        random: random_module.Random,
    ) -> None:
        how: dict[str, Any] = {"now": now, "spend": spend, "random": random}
        self.pipeline = pipeline
        self.random = random
        self.spend = spend
        self.kinesis = MemoryKinesis(stream, **how)
        self.topic = MemoryTopic(TOPIC + ".fifo" * fifo, **how)
        self.errors = MemoryBucket(ERRORS, **how)
        self.states = MemoryBucket(STATES, **how)
        self.table = MemoryTable(**how)
        self.services: tuple[MemoryService, ...] = (
            self.kinesis, self.topic, self.errors, self.states, self.table,
        )  # fmt: skip
        self._accepted: set[str] = set()  # ids, of the first entries that the topic accepted
        self._seen: dict[str, dict[str, Any]] = {}  # alerts, of the first messages
        self._entries = self._messages = self._puts = 0  # how many were looked at
        self._held: dict[ErrorKey, bytes] = {}

    def process(self) -> Process:
        """What a process begins with."""
        return Process(
            KinesisReader(Service("kinesis", make=self.kinesis.client), NAME),
            SnsAlerts(self.topic.arn, Service("sns", make=self.topic.client)),
            ErrorBucket(f"s3://{ERRORS}/e", self.pipeline, Service("s3", make=self.errors.client)),
            BucketStates(f"s3://{STATES}/", Service("s3", make=self.states.client)),
            TableThresholds(
                self.table.name,
                Service("dynamodb", make=self.table.client),
                sleep=self.spend,
                random=self.random.random,
            ),
        )

    def limits(self) -> ThresholdItems:
        """The table of limits, for those who change it."""
        return ThresholdItems(self.table.name, Service("dynamodb", make=self.table.client))

    def load(self, items: Iterable[Mapping[str, Any]]) -> None:
        """Put limits into the table, those of one device and rule in their order."""
        limits: dict[tuple[str, str], list[Entry]] = {}
        for item in items:
            names = ("value", "clear_margin", "version", "effective_from")
            entry = Entry(**{name: item[name] for name in names if name in item})
            limits.setdefault((str(item["device"]), item["rule"]), []).append(entry)
        for (device, rule), entries in limits.items():
            self.limits().restore(device, rule, entries)

    def heal(self) -> None:
        """End all faults."""
        self.kinesis.stream.heal()
        for service in self.services:
            service.heal()

    def hurt(self) -> None:
        """Draw what fails from now on: mostly little, now and then much."""
        for service in self.services:
            service.odds = self.random.choice([CALM] * 12 + [WILD, replace(WILD, down=0.5)])
            service.silent = self.random.random() < 0.5
            if self.random.random() < 0.03:
                service.expire()
            if self.random.random() < 0.3:
                service.renew()
        self.topic.refused = self.random.choice([0.0, 0.1, 0.5])
        self.table.unprocessed = self.random.choice([0.0, 0.2])
        for bucket in (self.errors, self.states):
            bucket.contested, bucket.cut, bucket.kept = 0.05, 0.05, 0.1
            bucket.page_keys = self.random.choice([1, 2, 1000])

    def told(self) -> tuple[set[str], Mapping[ErrorKey, bytes]]:
        """The ids that the topic has accepted, and the rejected records that were ever written."""
        for entry in self.topic.accepted[self._entries :]:
            self._accepted.add(json.loads(entry["Message"])["id"])
        for _, data in self.errors.puts[self._puts :]:
            self._held.update(rejected(data))
        self._entries, self._puts = len(self.topic.accepted), len(self.errors.puts)
        return self._accepted, self._held

    def rejected(self) -> dict[ErrorKey, bytes]:
        """The rejected records that are in the error stream now."""
        found: dict[ErrorKey, bytes] = {}
        for data in self.errors.objects.values():
            for key, payload in rejected(data).items():
                assert found.setdefault(key, payload) == payload, f"{key} has two payloads"
        return found

    def alerts(self) -> dict[str, dict[str, Any]]:
        """The alerts of the topic as a subscriber sees them who knows an id once."""
        for message in self.topic.messages[self._messages :]:
            alert = fresh(json.loads(message.text))
            assert self._seen.setdefault(alert["id"], alert) == alert, "one id, two alerts"
        self._messages = len(self.topic.messages)
        return self._seen

    @property
    def repeated(self) -> int:
        """Messages that a subscriber gets more than once."""
        return len(self.topic.messages) - len(self.alerts())


def rejected(data: bytes) -> dict[ErrorKey, bytes]:
    """The rows of one object of the error stream, read without the engine."""
    rows = map(json.loads, gzip.decompress(data).splitlines())
    return {(row["position"], row["rule"]): base64.b64decode(row["data"]) for row in rows}


def fresh(alert: dict[str, Any]) -> dict[str, Any]:
    """An alert but for what depends on when it was made, and not on the stream.

    The mark that its limit was an old one is decided by the table's outages; and the rule's own
    limit has no version before the first change of a device writes it down as version 0.
    """
    told = {key: value for key, value in alert.items() if key != "stale"}
    return told | {"threshold_version": told["threshold_version"] or None}
