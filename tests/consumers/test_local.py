"""The host on this machine: all shards, parents first, a stop, a restart, faults of the stream."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import drive
import memory_stream
import msgspec
import plain_kpl
import pytest
import torture
from memory_stream import Faults, MemoryStream
from moto import mock_aws
from plain_kpl import Kinesis

from streamgauge import Alert
from streamgauge.consumers.hosting import host, unsupported
from streamgauge.consumers.kinesis_reader import KinesisReader
from streamgauge.consumers.listing import LIST_SECONDS
from streamgauge.consumers.local import LocalConsumer
from streamgauge.consumers.metrics import Metrics
from streamgauge.consumers.reading import DRAIN_SECONDS_MAX
from streamgauge.consumers.shard import Host
from streamgauge.engine.aws import Service, make_client
from streamgauge.engine.counts import Counts
from streamgauge.engine.errors import FencedError, StreamgaugeError, UnavailableError
from streamgauge.engine.sinks.errors_directory import read_errors
from streamgauge.engine.sinks.local import MemorySink
from streamgauge.engine.stores.memory import MemoryStates
from streamgauge.engine.stores.thresholds import FileThresholds
from streamgauge.rules import spec as specs
from streamgauge.rules.edges import Edges
from streamgauge.rules.plan import Pipeline

TOML = (torture.HERE / "torture.toml").read_text()
TABLE = torture.HERE / "torture-thresholds.ndjson"


class Clock:
    """Time that only passes while somebody sleeps, and a little at each look."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.slept: list[float] = []

    def now(self) -> float:
        self.seconds += 1e-6
        return self.seconds

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.seconds += seconds


class Bench:
    """A host over memory, and what its consumers gave."""

    def __init__(self, stream: Any, save_seconds: float = 1000.0) -> None:
        self.clock, self.stream = Clock(), stream
        self.alerts, self.errors, self.states = MemorySink(), MemorySink(), MemoryStates()
        self.counts, self.log = Counts(), list[dict[str, Any]]()
        self.save_seconds = save_seconds

    def consumer(self, until_end: bool = True) -> LocalConsumer:
        spec, store = specs.parse(TOML), FileThresholds(TABLE)
        shared = Host(
            pipeline="torture", reader=self.stream,
            plan=lambda: Pipeline.plan(spec, store, one_shard=True),
            alerts=self.alerts, errors=self.errors, states=self.states,
            save_seconds=self.save_seconds,
            observe=lambda outcome: self.counts.add(outcome.counts),
            log=lambda event, **fields: self.log.append({"event": event, **fields}),
            metrics=Metrics(), now=self.clock.now, random=lambda: 1.0,
        )  # fmt: skip
        return LocalConsumer(self.stream, shared, until_end=until_end, sleep=self.clock.sleep)

    def events(self) -> list[str]:
        return [line["event"] for line in self.log]


def records() -> dict[str, list[Kinesis]]:
    return memory_stream.by_shard(plain_kpl.read(torture.HERE / "torture.ndjson"))


# The user records of the torture file, its repeats left out.
RECORDS = sum(len(plain_kpl.opened(given)) for of in records().values() for given in of)


def memory(**more: Any) -> MemoryStream:
    held = {name: list(map(memory_stream.record, of)) for name, of in records().items()}
    return MemoryStream(held, random=random.Random(5), **more)


def expected() -> list[dict[str, Any]]:
    """The oracle's alerts, a shard a memory."""
    oracles = (drive.oracle_of(TOML, torture.thresholds(), [of]) for of in records().values())
    return in_order([alert for oracle in oracles for alert in oracle.alerts])


def in_order(alerts: list[dict[str, Any]]) -> list[dict[str, Any]]:
    keys = ("rule", "device", "time", "state")
    return sorted(alerts, key=lambda alert: [alert[key] for key in keys])


def published(rows: list[Any]) -> list[dict[str, Any]]:
    alerts = {row.id: msgspec.to_builtins(row) for row in rows if isinstance(row, Alert)}
    return in_order(drive.without_id(alerts.values()))


# Through boto3, against a service in this process.
@pytest.fixture
def client() -> Iterator[Any]:
    with mock_aws():
        made = make_client("kinesis")
        made.create_stream(StreamName="telemetry", ShardCount=2)
        yield made


def put(client: Any, given: list[Kinesis]) -> None:
    for record in given:
        half = "0" if record.shard == torture.SHARDS[0] else str(1 << 127)
        client.put_record(StreamName="telemetry", Data=record.data, PartitionKey=record.key,
                          ExplicitHashKey=half)  # fmt: skip


def as_put(given: dict[str, list[Kinesis]], client: Any) -> dict[str, list[Kinesis]]:
    """The stream as read back: the service gives numbers and arrival times of its own."""
    reader, found = KinesisReader(Service("kinesis", client), "telemetry"), {}
    for shard in given:
        fetched = reader.read(shard, reader.iterator(shard, None, True))
        assert fetched is not None
        found[shard] = [
            Kinesis(shard, r.sequence_number, r.data, r.partition_key, r.arrival)
            for r in fetched.records
        ]
    return found


def through_boto3(client: Any, folder: Path, sink: MemorySink, counts: Counts) -> LocalConsumer:
    toml = f'{TOML}[errors]\nlocation = "{folder}/errors"\n[state]\nlocation = "{folder}/state"\n'
    spec, clock = specs.parse(toml), Clock()
    reader = KinesisReader(Service("kinesis", client), "telemetry")
    shared = host(
        spec, reader, edges=Edges(spec), alerts=sink, thresholds=FileThresholds(TABLE),
        observe=lambda outcome: counts.add(outcome.counts), log=lambda event, **fields: None,
        metrics=Metrics(),
    )  # fmt: skip
    return LocalConsumer(reader, shared, until_end=True, sleep=clock.sleep)


def test_a_stream_is_read_delivered_and_gone_on_with(client: Any, tmp_path: Path) -> None:
    """Two runs over a growing stream give what the oracle says of the stream as read back."""
    given = {name: [r for r in of if r.data] for name, of in records().items()}
    sink, counts = MemorySink(), Counts()
    for part in (slice(None, 40), slice(40, None)):
        for of in given.values():
            put(client, of[part])
        consumer = through_boto3(client, tmp_path, sink, counts)
        consumer.run()
        assert consumer.unsaved == consumer.unread == []
    oracles = [
        drive.oracle_of(TOML, torture.thresholds(), [of]) for of in as_put(given, client).values()
    ]
    assert drive.exact(published(sink.rows)) == drive.exact(
        in_order([alert for oracle in oracles for alert in oracle.alerts])
    )
    assert len({row.id for row in sink.rows}) == len(sink.rows)
    for name in ("records", "evaluated", "filtered", "duplicates", "rejected"):
        assert getattr(counts, name) == sum(oracle.counts[name] for oracle in oracles)
    found = {(str(row.at), row.rule): row.data for row in read_errors(tmp_path / "errors")}
    assert found == {
        (row["position"], row["rule"]): row["user"].data
        for oracle in oracles
        for row in oracle.rejected
    }


def test_an_endpoint_and_a_region_are_boto3_s_affair(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_KINESIS", "http://127.0.0.1:4567")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    meta = make_client("kinesis").meta
    assert (meta.endpoint_url, meta.region_name) == ("http://127.0.0.1:4567", "eu-west-1")


# Over a stream in memory.
def test_until_end_reads_every_shard_to_its_tip() -> None:
    bench = Bench(memory(limit=50))
    bench.consumer().run()
    assert drive.exact(published(bench.alerts.rows)) == drive.exact(expected())
    assert bench.counts.records == RECORDS
    assert bench.events().count("state_saved") == 2
    assert bench.clock.seconds < 60


def test_faults_of_the_stream_change_nothing() -> None:
    """Throttled, expired, empty and repeated reads (and lists) of all kinds."""
    faults = Faults(throttled=0.3, expired=0.1, empty=0.3, again=0.3)
    bench = Bench(memory(limit=50, faults=faults))
    bench.consumer().run()
    assert drive.exact(published(bench.alerts.rows)) == drive.exact(expected())
    assert bench.counts.records == RECORDS and bench.counts.repeated > 0
    assert "waiting" in bench.events()
    assert max(bench.clock.slept) <= 0.2


def test_it_sleeps_where_nothing_is_due_and_shares_its_time() -> None:
    bench = Bench(memory(limit=50))
    bench.consumer().run()
    first, second = torture.SHARDS
    assert bench.stream.reads[:4] == [first, second, first, second]
    assert len(bench.clock.slept) >= len(bench.stream.reads) / 2 - 2


def family() -> MemoryStream:
    """Two shards of which one is split; the children's records are those of the torture file."""
    parent, other = torture.SHARDS
    held = memory().records
    cut = len(held[parent]) // 2
    left, right = "shardId-000000000002", "shardId-000000000003"
    moved = [msgspec.structs.replace(record, shard_id=left) for record in held[parent][cut:]]
    return MemoryStream(
        {right: [], left: moved, parent: held[parent][:cut], other: held[other]},
        random=random.Random(5), limit=60, closed={parent},
        parents={left: (parent,), right: (parent, "shardId-000000000099")},
    )  # fmt: skip


def test_children_start_when_their_parent_is_read_to_its_end() -> None:
    """And with its windows: the alerts are those of a shard that was never split."""
    bench = Bench(family())
    consumer = bench.consumer()
    consumer.run()
    parent, other = torture.SHARDS
    reads = bench.stream.reads
    last = max(at for at, name in enumerate(reads) if name == parent)
    first = min(at for at, name in enumerate(reads) if name not in torture.SHARDS)
    assert last < first
    assert consumer.unread == []
    positions = ("first_position", "last_position")
    plain = [{k: v for k, v in a.items() if k not in positions} for a in expected()]
    found = published(bench.alerts.rows)
    assert [{k: v for k, v in a.items() if k not in positions} for a in found] == plain
    assert bench.log[-1]["event"] == "state_saved"
    assert consumer.shards[parent].finished and consumer.shards[parent].position is None


def test_children_start_after_a_restart_too() -> None:
    bench = Bench(family(), save_seconds=0.0)
    stops = iter([False] * 25 + [True] * 5)
    bench.consumer().run(lambda: next(stops))
    bench.consumer().run()
    assert len(published(bench.alerts.rows)) == len(expected())


def test_children_of_a_parent_that_never_ends_are_named() -> None:
    """Some stand-ins of the service never end a shard that was split."""
    stream = family()
    stream.closed.clear()
    consumer = Bench(stream).consumer()
    consumer.run()
    assert consumer.unread == ["shardId-000000000003", "shardId-000000000002"]


def test_new_shards_are_looked_for_now_and_then() -> None:
    bench = Bench(memory())
    late = dict(bench.stream.records)
    bench.stream.records = {}
    consumer = bench.consumer(until_end=False)

    def stopping() -> bool:
        if bench.clock.seconds > LIST_SECONDS / 2:
            bench.stream.records = late
        return bench.clock.seconds > LIST_SECONDS + 20

    consumer.run(stopping)
    assert bench.counts.records == RECORDS


def test_a_stop_delivers_and_saves_what_was_applied() -> None:
    bench = Bench(memory(limit=20))
    stops = iter([False] * 9 + [True] * 5)
    consumer = bench.consumer(until_end=False)
    consumer.run(lambda: next(stops))
    assert consumer.unsaved == []
    assert 0 < bench.counts.records < RECORDS
    before = bench.counts.records
    bench.consumer().run()
    assert bench.counts.records == RECORDS and before > 0
    assert drive.exact(published(bench.alerts.rows)) == drive.exact(expected())


def test_a_stop_while_a_sink_is_down_is_soon_through_and_loses_nothing() -> None:
    bench = Bench(memory())
    bench.alerts.fail_next = 10**6
    consumer = bench.consumer(until_end=False)
    consumer.run(lambda: bench.clock.seconds > 5)
    assert bench.clock.seconds < 5 + DRAIN_SECONDS_MAX + 1 < 15
    assert consumer.unsaved == list(torture.SHARDS)
    assert bench.states.generations("torture", torture.SHARDS[0]) == []
    bench.alerts.fail_next = 0
    bench.consumer().run()
    assert drive.exact(published(bench.alerts.rows)) == drive.exact(expected())


@pytest.mark.parametrize("error", [StreamgaugeError, UnavailableError, FencedError, OSError])
def test_an_error_of_one_shard_saves_the_others_before_it_leaves(error: type[Exception]) -> None:
    bench = Bench(memory())
    first, second = torture.SHARDS
    read = bench.stream.read

    def broken(shard: str, iterator: str) -> Any:
        if shard == second and bench.counts.records:
            raise error("gone") if error is not UnavailableError else error("down")
        return read(shard, iterator)

    bench.stream.read = broken
    with pytest.raises(error):
        bench.consumer(until_end=False).run(lambda: bench.clock.seconds > 2000)
    assert len(bench.states.generations("torture", first)) == 1


def test_a_second_interrupt_stops_at_once() -> None:
    bench = Bench(memory())

    def interrupted(*_: Any) -> Any:
        raise KeyboardInterrupt

    bench.alerts.deliver = interrupted
    with pytest.raises(KeyboardInterrupt):
        bench.consumer().run()
    assert bench.states.generations("torture", torture.SHARDS[0]) == []


def test_an_outage_of_the_list_has_a_limit() -> None:
    bench = Bench(memory(faults=Faults(throttled=1.0)))
    with pytest.raises(UnavailableError):
        bench.consumer().run()
    assert 900 <= bench.clock.seconds < 920


@pytest.mark.parametrize(
    ("table", "where"),
    [
        ('[archive]\nlocation = "archive/"\n[delivery]\nmode = "fan_out"', "archive"),
        ('[source]\nout_of_range = "reject"\nstream = "s"', "source.out_of_range"),
    ],
)
def test_what_it_cannot_do_yet_is_named(table: str, where: str) -> None:
    rule = {"name": "r", "sql": "SELECT * FROM '#'", "measure": "v", "threshold": 1.0}
    lines = "\n".join(f"{key} = {json.dumps(value)}" for key, value in rule.items())
    source = "" if "source" in where else '[source]\nstream = "s"\n'
    spec = specs.parse(f'[pipeline]\nname = "p"\n[[rules]]\n{lines}\n{source}{table}\n')
    (problem,) = unsupported(spec)
    assert problem.where == where


def test_a_device_is_not_unknown_before_all_states_are_loaded() -> None:
    bench = Bench(memory(limit=1000))
    consumer = bench.consumer()
    assert consumer.inspect("huge") is None  # no shard is known yet
    consumer._turn()
    assert len(consumer.shards) == 2 and consumer.inspect("huge") is None
    while not all(shard.loaded for shard in consumer.shards.values()):
        assert consumer.inspect("huge") is None
        consumer._turn()
    assert consumer.inspect("nobody") == []
    consumer.run()
    rows = consumer.inspect("huge")
    assert rows is not None and {row["device"] for row in rows} == {"huge"}


def test_a_shard_that_is_done_knows_nothing_any_more() -> None:
    bench = Bench(memory(closed=set(torture.SHARDS)))
    consumer = bench.consumer()
    consumer.run()
    assert consumer.inspect("huge") == []
