"""What a live test has in the cloud, whichever one: stream, table, topic with queue, and bucket.

The cloud is ministack, a process behind AWS_ENDPOINT_URL, or moto in this process. Everything is
made, filled and read here with plain boto3, none of it by the code under test but for the items of
the table. `judged` holds what came out against the plain oracle, run over the stream as it is read
back, shard by shard.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import uuid
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from typing import Any

import boto3
import drive
import msgspec
import torture
from botocore.config import Config
from plain_kpl import Kinesis
from plain_oracle import Oracle

from streamgauge.engine.aws import Service
from streamgauge.engine.limits import Entry
from streamgauge.engine.stores.threshold_items import ThresholdItems

SHARDS = torture.SHARDS
ENTRIES_MAX = 500  # of one PutRecords
EMPTY_MAX = 3  # answers of the queue in a row with no message, until it counts as empty
PLACE = ("shard_id", "sequence_number", "sub_sequence_number")  # of a rejected row
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Cloud:
    """One test's own stream, table, topic, queue and bucket, under names nobody else has.

    received: every message of the queue so far, repeats too, in the order they were taken.
    """

    def __init__(self, url: str | None = None, fifo: bool = False) -> None:
        """Make everything, at an endpoint or (None) wherever boto3 goes by itself."""
        self._open(url)
        self._make(fifo)

    def _open(self, url: str | None) -> None:
        """Clients, and a name of one's own."""
        config = Config(retries={"total_max_attempts": 1}, max_pool_connections=2)
        self.kinesis, self.dynamodb, self.sns, self.sqs, self.s3 = (
            boto3.client(name, endpoint_url=url, config=config)
            for name in ("kinesis", "dynamodb", "sns", "sqs", "s3")
        )
        self.name = f"t-{uuid.uuid4().hex[:12]}"
        self.received: list[dict[str, Any]] = []

    def _make(self, fifo: bool) -> None:
        self.kinesis.create_stream(StreamName=self.name, ShardCount=len(SHARDS))
        self.dynamodb.create_table(
            TableName=self.name,
            BillingMode="PAY_PER_REQUEST",
            KeySchema=[{"AttributeName": "device", "KeyType": "HASH"},
                       {"AttributeName": "rule", "KeyType": "RANGE"}],
            AttributeDefinitions=[{"AttributeName": name, "AttributeType": "S"}
                                  for name in ("device", "rule")],
        )  # fmt: skip
        self.s3.create_bucket(Bucket=self.name)
        self._make_topic(fifo)

    def _make_topic(self, fifo: bool) -> None:
        name, more = self.name, {}
        if fifo:
            name, more = f"{name}.fifo", {"Attributes": {"FifoTopic": "true"}}
        self.subscribe(self.sns.create_topic(Name=name, **more)["TopicArn"], fifo)

    def subscribe(self, topic: str, fifo: bool = False) -> None:
        """Have a queue receive what is published to a topic."""
        self.topic, name, more = topic, self.name, {}
        if fifo:
            name = f"{name}.fifo"
            more = {"Attributes": {"FifoQueue": "true"}}
        self.queue = self.sqs.create_queue(QueueName=name, **more)["QueueUrl"]
        asked = self.sqs.get_queue_attributes(QueueUrl=self.queue, AttributeNames=["QueueArn"])
        self.sns.subscribe(
            TopicArn=self.topic,
            Protocol="sqs",
            Endpoint=asked["Attributes"]["QueueArn"],
            Attributes={"RawMessageDelivery": "true"},
        )

    def __enter__(self) -> Cloud:
        return self

    def __exit__(self, *_: Any) -> None:
        for client in (self.kinesis, self.dynamodb, self.sns, self.sqs, self.s3):
            client.close()

    def pipeline_file(self, toml: str, save_every: str = "1ms", refresh: str = "10s") -> str:
        """A pipeline file with this cloud's names at its edges."""
        return toml.replace('stream = "telemetry"', f'stream = "{self.name}"') + (
            f'\n[thresholds]\ntable = "{self.name}"\nrefresh = "{refresh}"\n'
            f'[alerts]\nsns_topic = "{self.topic}"\n'
            f'[errors]\nlocation = "s3://{self.name}/errors/"\n'
            f'[state]\nlocation = "s3://{self.name}/state/"\nsave_every = "{save_every}"\n'
        )

    def limit(self, items: Iterable[dict[str, Any]]) -> None:
        """Put limits into the table: lines of a file of limits, of one (device, rule) several."""
        entries: dict[tuple[str, str], list[Entry]] = {}
        for item in items:
            entry = msgspec.convert(item, Entry)
            entries.setdefault((item["device"], item["rule"]), []).append(entry)
        table = ThresholdItems(self.name, Service("dynamodb", self.dynamodb), updated_by="test")
        for (device, rule), of in entries.items():
            table.restore(device, rule, of)

    def put(self, records: Iterable[Kinesis]) -> None:
        """Put records, each into the shard it names; their numbers and arrivals are not kept."""
        for some in cut(records, ENTRIES_MAX):
            answer = self.kinesis.put_records(
                StreamName=self.name,
                Records=[
                    {
                        "Data": one.data,
                        "PartitionKey": one.key,
                        "ExplicitHashKey": str(SHARDS.index(one.shard) << 127),
                    }
                    for one in some
                ],
            )
            assert answer["FailedRecordCount"] == 0

    def records(self) -> dict[str, list[Kinesis]]:
        """The stream read back: the records of each shard in the order of their positions."""
        return {shard: list(self._of_shard(shard)) for shard in SHARDS}

    def memories(self) -> list[list[Kinesis]]:
        """The records of each memory in the order in which it meets them: here that of a shard."""
        return list(self.records().values())

    def _of_shard(self, shard: str) -> Iterator[Kinesis]:
        where = {"StreamName": self.name, "ShardId": shard, "ShardIteratorType": "TRIM_HORIZON"}
        iterator = self.kinesis.get_shard_iterator(**where)["ShardIterator"]
        while True:
            answer = self.kinesis.get_records(ShardIterator=iterator)
            for row in answer["Records"]:
                stamp = row["ApproximateArrivalTimestamp"] - EPOCH
                arrival = round(Fraction(stamp // timedelta(microseconds=1), 1000))
                key = row["PartitionKey"]
                yield Kinesis(shard, row["SequenceNumber"], row["Data"], key, arrival)
            if not answer["Records"] and not answer["MillisBehindLatest"]:
                return
            iterator = answer.get("NextShardIterator")
            if iterator is None:
                return

    def receive(self) -> list[dict[str, Any]]:
        """Take what the queue holds; give every message so far."""
        empty = 0
        while empty < EMPTY_MAX:
            asked = {"QueueUrl": self.queue, "MaxNumberOfMessages": 10}
            messages = self.sqs.receive_message(**asked).get("Messages", [])
            empty = 0 if messages else empty + 1
            for message in messages:
                self.received.append(json.loads(message["Body"]))
                receipt = message["ReceiptHandle"]
                self.sqs.delete_message(QueueUrl=self.queue, ReceiptHandle=receipt)
        return self.received

    def keys(self, prefix: str) -> list[str]:
        """The keys of the bucket below a prefix."""
        pages = self.s3.get_paginator("list_objects_v2").paginate(Bucket=self.name, Prefix=prefix)
        return [row["Key"] for page in pages for row in page.get("Contents", [])]

    def rejected(self) -> list[dict[str, Any]]:
        """The rows of all objects of the error stream, repeats too."""
        rows = []
        for key in self.keys("errors/"):
            data = self.s3.get_object(Bucket=self.name, Key=key)["Body"].read()
            rows += [json.loads(line) for line in gzip.decompress(data).splitlines()]
        return rows


def cut(records: Iterable[Kinesis], size: int) -> Iterator[list[Kinesis]]:
    """The same records, at most so many at a time."""
    held = list(records)
    for start in range(0, len(held), size):
        yield held[start : start + size]


@dataclass(frozen=True)
class Judged:
    """What came out, found right. alerts: each id once. repeats: messages with an id seen before.

    reasons: how many rejected rows there are of each reason.
    """

    alerts: list[dict[str, Any]]
    repeats: int
    reasons: Counter[str]
    records: int

    def count(self, state: str) -> int:
        return sum(alert["state"] == state for alert in self.alerts)


def judged(cloud: Cloud, toml: str, limits: Sequence[dict[str, Any]]) -> Judged:
    """Assert that nothing is lost, missing or spurious; what there was, for more to be said of it.

    Of alerts everything is compared but `stale`; where the whole stream went through one memory a
    shard, positions are the oracle's, too.
    """
    oracles = [drive.oracle_of(toml, limits, [of]) for of in cloud.memories()]
    wanted = [alert for oracle in oracles for alert in oracle.alerts]
    messages = cloud.receive()
    unique = {message["id"]: message for message in messages}
    changed = [m for m in messages if unstale(m) != unstale(unique[m["id"]])]
    assert changed == [], f"came again with the same id and other content: {changed[0]}"
    same(
        "alerts",
        drive.exact(map(unstale, unique.values())),
        drive.exact({**alert, "id": id_of(alert)} for alert in wanted),
    )
    return Judged(
        alerts=list(unique.values()),
        repeats=len(messages) - len(unique),
        reasons=_rejected(cloud, oracles),
        records=sum(oracle.counts["records"] for oracle in oracles),
    )


def _rejected(cloud: Cloud, oracles: Iterable[Oracle]) -> Counter[str]:
    """Hold the error stream against the oracles: every byte, each (position, rule) once."""
    wanted = {(row["position"], row["rule"]): row for oracle in oracles for row in oracle.rejected}
    rows: dict[tuple[str, str | None], dict[str, Any]] = {}
    for row in cloud.rejected():
        key = ":".join(str(row[name]) for name in PLACE), row["rule"]
        assert rows.setdefault(key, row) == row, f"two rows of {key} differ"
    same(
        "rejected rows",
        [[*key, base64.b64decode(row["data"]).hex(), row["arrival_time"]]
         for key, row in rows.items()],
        [[*key, row["user"].data.hex(), row["user"].arrival] for key, row in wanted.items()],
    )  # fmt: skip
    wrong = {key: row["reason"] for key, row in rows.items()
             if row["reason"] not in wanted[key]["faults"]}  # fmt: skip
    assert wrong == {}, f"reasons that do not hold: {wrong}"
    return Counter(row["reason"] for row in rows.values())


def same(what: str, found: Iterable[Any], wanted: Iterable[Any]) -> None:
    """Assert that both hold the same rows, in any order; of what differs some are shown."""
    have, want = (Counter(json.dumps(row, sort_keys=True) for row in rows)
                  for rows in (found, wanted))  # fmt: skip
    missing, spurious = list((want - have).elements()), list((have - want).elements())
    assert not missing and not spurious, (
        f"{what}: {len(missing)} missing, {len(spurious)} spurious;"
        f" missing {missing[:2]}, spurious {spurious[:2]}"
    )


def unstale(alert: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in alert.items() if key != "stale"}


def id_of(alert: dict[str, Any]) -> str:
    """The id of a change, by its definition: 32 hexadecimal digits of a SHA-256."""
    parts = [alert[name] for name in drive.CHANGE]
    text = json.dumps(parts, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:32]
