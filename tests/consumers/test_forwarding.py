"""What rules forward: which messages, which bytes, under which key; at least once, in order."""

from __future__ import annotations

import functools
import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import drive
import lambda_drive
import pytest
import torture
from effort import examples
from hypothesis import given, settings
from hypothesis import strategies as st
from memory_kinesis import Faults, MemoryKinesis
from memory_stream import MemoryStream
from moto import mock_aws
from plain_kpl import Kinesis

from streamgauge import Pipeline, Record
from streamgauge.cli.check import examined, summary
from streamgauge.consumers import hosting
from streamgauge.consumers.kinesis_reader import KinesisReader
from streamgauge.consumers.lambda_handler import Handler
from streamgauge.consumers.local import LocalConsumer
from streamgauge.consumers.metrics import Metrics
from streamgauge.consumers.shard import Host
from streamgauge.engine.aws import Service, make_client
from streamgauge.engine.batch import Forwarded, Position
from streamgauge.engine.errors import ConfigError, StreamgaugeError, UnavailableError
from streamgauge.engine.kpl import deaggregate
from streamgauge.engine.sinks.forward import ForwardSink
from streamgauge.engine.sinks.local import MemorySink
from streamgauge.engine.stores.memory import MemoryStates
from streamgauge.producers.aggregator import Producer
from streamgauge.rules import plan
from streamgauge.rules import spec as specs
from streamgauge.rules.edges import Edges

TOML = """
[pipeline]
name = "p"
[source]
stream = "telemetry"
[record]
device = "device"
time = "ts"
topic = "topic"
[[rules]]
name = "hot"
sql = "SELECT device, temperature AS t, topic(2) AS room FROM 'home/+' WHERE temperature > 20"
measure = "t"
threshold = 90
forward = "hot-readings"
"""
KEYED = TOML + 'forward_key = "${room}/${device}"\n'


def payload(device: str = "d", ts: int = 1000, temperature: Any = 30, **more: Any) -> bytes:
    message = {"device": device, "ts": ts, "temperature": temperature, "topic": "home/1", **more}
    return json.dumps(message).encode()


def pushed(toml: str, *payloads: bytes) -> Any:
    records = [Record("s", str(n + 1), data, f"key-{n}") for n, data in enumerate(payloads)]
    return plan.Pipeline.plan(specs.parse(toml)).push(records)


def rows_of(outcome: Any) -> list[tuple[str, str, Any]]:
    return [(one.stream, one.partition_key, json.loads(one.data)) for one in outcome.forwarded]


def test_a_record_with_an_empty_partition_key_is_rejected_and_stops_nobody():
    records = [Record("s", "1", payload(), ""), Record("s", "2", payload("e"), "key")]
    outcome = plan.Pipeline.plan(specs.parse(TOML)).push(records)
    assert [one.partition_key for one in outcome.forwarded] == ["key"]
    assert [(row.reason, str(row.at)) for row in outcome.rejected] == [("partition_key", "s:1:0")]


def test_what_select_puts_out_of_each_message_that_passes_goes_on():
    cold, late = payload(temperature=10), payload(ts=1)
    outcome = pushed(TOML, payload(ts=200_000), cold, late, payload(topic="away"), payload("e"))
    assert rows_of(outcome) == [
        ("hot-readings", "key-0", {"device": "d", "t": 30, "room": "1"}),
        ("hot-readings", "key-2", {"device": "d", "t": 30, "room": "1"}),  # too late for a window
        ("hot-readings", "key-4", {"device": "e", "t": 30, "room": "1"}),
    ]
    assert [str(one.at) for one in outcome.forwarded] == ["s:1:0", "s:3:0", "s:5:0"]
    assert [row.reason for row in outcome.rejected] == ["late"]


def test_numbers_keep_their_digits_and_star_alone_every_byte():
    star = TOML.replace("SELECT device, temperature AS t, topic(2) AS room", "SELECT *")
    star = star.replace('measure = "t"', 'measure = "temperature"')
    given = b'{"device": "d", "ts": 1, "topic": "home/1",  "temperature": 3.10e1}'
    assert [one.data for one in pushed(star, given).forwarded] == [given]
    assert pushed(TOML, given).forwarded[0].data == b'{"device":"d","t":3.10e1,"room":"1"}'


def test_a_key_that_a_message_does_not_give_rejects_it_for_this_rule_alone():
    other = KEYED.replace('name = "hot"', 'name = "other"').split("[[rules]]")[1]
    other = other.replace('forward = "hot-readings"\nforward_key = "${room}/${device}"\n', "")
    outcome = pushed(f"{KEYED}[[rules]]{other}", payload(room="r"), payload(ts=2000))
    assert rows_of(outcome)[0][:2] == ("hot-readings", "r/d")
    (row,) = outcome.rejected
    assert (row.stage, row.reason, row.rule) == ("forward", "partition_key", "hot")
    assert "hot-readings" in row.message and row.data == payload(ts=2000)
    rules = outcome.counts.rules
    assert (rules["hot"].rejected, rules["hot"].samples, rules["other"].samples) == (1, 1, 2)
    assert (outcome.counts.evaluated, outcome.counts.rejected) == (1, 1)


def test_an_output_that_no_stream_takes_is_rejected_with_the_original_bytes():
    doubled = TOML.replace("SELECT device,", "SELECT device, text, text AS again,")
    large = payload(text="x" * 600_000)
    outcome = pushed(doubled, large, payload(ts=2000))
    (row,) = outcome.rejected
    assert (row.stage, row.reason, row.data) == ("forward", "record", large)
    assert "expected at most 1048576" in row.message
    assert len(outcome.forwarded) == 1


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (('forward = "hot-readings"', 'forward = "telemetry"'), "come again for ever"),
        (
            ('forward = "hot-readings"',
             'forward = "arn:aws:kinesis:us-east-1:123456789012:stream/telemetry"'),
            "come again for ever",
        ),
        (('forward = "hot-readings"', 'forward_key = "x"'), "nothing is forwarded"),
        (('forward = "hot-readings"', 'forward = "a b"'), "rules.hot.forward"),
        (('forward = "hot-readings"', 'forward = "f"\nforward_key = "${}"'), "forward_key"),
        (('forward = "hot-readings"', 'forward = "f"\nforward_key = "${a b}"'), "forward_key"),
    ],
)  # fmt: skip
def test_what_cannot_be_meant_is_refused_by_name(
    tmp_path: Path, change: tuple[str, str], told: str
) -> None:
    path = tmp_path / "p.toml"
    path.write_text(TOML.replace(*change))
    with pytest.raises(ConfigError, match=told):
        Pipeline.load(path)
    problems = [str(problem) for problem in examined(path)[2]]
    assert any(told in problem for problem in problems), problems


def test_check_says_where_the_output_goes(tmp_path: Path) -> None:
    path = tmp_path / "p.toml"
    for text, key in ((TOML, "the key it has"), (KEYED, "the key ${room}/${device}")):
        path.write_text(text)
        spec, rules, problems = examined(path)
        assert spec is not None and not problems
        lines = list(summary(path, spec, rules))
        assert any(f"to hot-readings, under {key}" in line for line in lines), lines


def test_a_variable_sends_it_elsewhere() -> None:
    spec = specs.parse(TOML, environ={"STREAMGAUGE_RULES__HOT__FORWARD": "elsewhere"})
    assert spec.rules[0].forward == "elsewhere"


class Clock:
    """Seconds that pass by sleeping."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def now(self) -> float:
        self.seconds += 1e-4
        return self.seconds

    def sleep(self, seconds: float) -> None:
        self.seconds += seconds


def sink_over(kinesis: MemoryKinesis, clock: Clock, **more: Any) -> ForwardSink:
    service = Service("kinesis", kinesis)
    make = functools.partial(
        Producer, service=service, now=clock.now, sleep=clock.sleep,
        random=random.Random(1).random, **more,
    )  # fmt: skip
    return ForwardSink(make)


def batch(*numbers: int, shard: str = "s") -> list[Forwarded]:
    return [
        Forwarded("hot", "s", Position(shard, str(n)), f"k{n % 7}", b"%s %d" % (shard.encode(), n))
        for n in numbers
    ]


def delivered(sink: ForwardSink, rows: list[Forwarded]) -> int:
    """Deliver as a host does; how often that was refused."""
    for refused in range(1000):
        try:
            sink.deliver(rows)
        except UnavailableError:
            continue
        return refused
    raise AssertionError("never accepted")


def test_an_acknowledged_batch_lies_in_the_stream_aggregated() -> None:
    kinesis = MemoryKinesis(2)
    sink = sink_over(kinesis, Clock())
    assert delivered(sink, batch(*range(100))) == 0
    users = [user for one in kinesis.committed for user in one.users]
    assert sorted(data for _, data, _ in users) == sorted(row.data for row in batch(*range(100)))
    assert len(kinesis.committed) == 2 and all(one.aggregated for one in kinesis.committed)


def test_a_stream_that_takes_nothing_holds_the_batch_and_no_row_is_put_twice() -> None:
    kinesis = MemoryKinesis(1, faults=Faults(throttled=1.0))
    clock = Clock()
    sink, rows = sink_over(kinesis, clock), batch(*range(50))
    for _ in range(5):
        with pytest.raises(UnavailableError, match="forward to s: 50 of 50 records not accepted"):
            sink.deliver(rows)
    kinesis.faults.throttled = 0.0
    delivered(sink, rows)
    assert sum(len(one.users) for one in kinesis.committed) == 50


def test_what_a_producer_hands_back_is_put_again() -> None:
    kinesis = MemoryKinesis(1, faults=Faults(throttled=1.0))
    sink = sink_over(kinesis, Clock(), live_seconds_max=3.0)
    rows = batch(*range(5))
    causes = []
    for _ in range(4):
        with pytest.raises(UnavailableError) as error:
            sink.deliver(rows)
        causes.append(str(error.value))
    assert any("ProvisionedThroughputExceededException" in cause for cause in causes)
    kinesis.faults.throttled = 0.0
    delivered(sink, rows)
    assert {data for one in kinesis.committed for _, data, _ in one.users} == {
        row.data for row in rows
    }


def test_a_stream_that_is_not_there_stops_with_its_name() -> None:
    class Absent(MemoryKinesis):
        def list_shards(self, NextToken: str | None = None, **request: Any) -> Any:
            self._raise("ResourceNotFoundException", 400)

        put_records = list_shards  # type: ignore[assignment]

    with pytest.raises(StreamgaugeError, match="s") as error:
        sink_over(Absent(1), Clock()).deliver(batch(1))
    assert not isinstance(error.value, UnavailableError)


FAULTS = st.builds(
    Faults,
    refused=st.sampled_from([0.0, 0.3]),
    throttled=st.sampled_from([0.0, 0.3]),
    reset=st.sampled_from([0.0, 0.2]),
    lost=st.sampled_from([0.0, 0.2]),
    split=st.sampled_from([0.0, 0.02]),
)


@settings(max_examples=examples(60))
@given(FAULTS, st.integers(0, 10**6), st.lists(st.integers(0, 40), min_size=1, max_size=6))
def test_whatever_fails_nothing_acknowledged_is_missing_and_keys_keep_their_order(
    faults: Faults, seed: int, sizes: list[int]
) -> None:
    kinesis = MemoryKinesis(2, seed, faults)
    sink = sink_over(kinesis, Clock())
    number, expected = 0, dict[str, list[bytes]]()
    for turn, size in enumerate(sizes):
        rows = batch(*range(number, number + size + 1), shard=f"shard-{turn % 2}")
        number += size + 1
        delivered(sink, rows)
        for row in rows:
            expected.setdefault(row.partition_key, []).append(row.data)
    found: dict[str, list[bytes]] = {}
    for one in kinesis.committed:
        for key, data, _ in one.users:
            found.setdefault(key, []).append(data)
    for key, datas in expected.items():
        assert list(dict.fromkeys(found[key])) == datas  # repeats are allowed, other orders not


class Crash(Exception):
    """The process ends here."""


def test_a_host_that_dies_between_any_two_steps_forwards_everything() -> None:
    """The sink is in the order of all others: the state object waits for it."""
    toml, records = torture_forwarding()
    whole = plan.Pipeline.plan(specs.parse(toml), one_shard=True)
    expected = {one.data for one in whole.push([drive.record(one) for one in records]).forwarded}
    assert len(expected) > 20
    seen = MemorySink()
    states, ended = MemoryStates(), False
    for crash_after in range(1, 200):
        left = iter(range(crash_after))
        try:
            host_over(toml, records, seen, states, functools.partial(crash, left)).run()
        except Crash:
            continue
        ended = True
        break
    assert ended
    assert {one.data for one in seen.rows} == expected  # type: ignore[union-attr]


def crash(left: Iterator[int]) -> None:
    """Die once there are no steps left."""
    if next(left, None) is None:
        raise Crash


def torture_forwarding() -> tuple[str, list[Kinesis]]:
    """The torture pipeline with a rule that forwards, and the records of one shard."""
    toml = (torture.HERE / "torture.toml").read_text()
    first = toml.index("[[rules]]") + len("[[rules]]")
    toml = f'{toml[:first]}\nforward = "other"{toml[first:]}'
    records = torture.laid_out()
    return toml, [one for one in records if one.shard == records[0].shard]


@pytest.mark.parametrize("host", ["local", "lambda"])
def test_both_hosts_put_it_into_the_other_stream(tmp_path: Path, host: str) -> None:
    """With boto3 and moto, from the pipeline file alone."""
    toml = TOML + f'[state]\nlocation = "{tmp_path}/s"\n[errors]\nlocation = "{tmp_path}/e"\n'
    with mock_aws():
        client = make_client("kinesis")
        for name in ("telemetry", "hot-readings"):
            client.create_stream(StreamName=name, ShardCount=1)
        for n in range(30):
            client.put_record(
                StreamName="telemetry", PartitionKey=f"k{n % 3}", Data=payload(ts=n, temperature=n)
            )
        edges = Edges(spec := specs.parse(toml))
        reader = KinesisReader(edges.service("kinesis"), "telemetry")
        if host == "local":
            quiet: dict[str, Any] = {"observe": lambda _: None, "log": lambda event, **_: None}
            shared = hosting.host(spec, reader, edges=edges, metrics=Metrics(), **quiet)
            LocalConsumer(reader, shared, until_end=True, sleep=lambda _: None).run()
        else:
            start = reader.iterator(shard := reader.shards()[0].shard_id, None, True)
            fetched = reader.read(shard, start)
            assert fetched is not None
            given = [
                Kinesis(shard, one.sequence_number, one.data, one.partition_key, one.arrival)
                for one in fetched.records
            ]
            quiet = {"log": lambda event, **_: None, "stream": lambda arn: reader}
            handler = Handler(spec, edges, **quiet)
            assert handler(lambda_drive.event(given), None) == {"batchItemFailures": []}
        other = KinesisReader(Service("kinesis"), "hot-readings")
        shard = other.shards()[0].shard_id
        found = other.read(shard, other.iterator(shard, None, True))
    assert found is not None
    users, lost = deaggregate(found.records)
    assert not lost and users.aggregated.all()
    rows = [json.loads(data) for data in users.data]
    assert [row["t"] for row in rows] == list(range(21, 30))
    assert [key.decode() for key in users.keys] == [f"k{n % 3}" for n in range(21, 30)]


def host_over(
    toml: str,
    records: list[Kinesis],
    sink: MemorySink,
    states: MemoryStates,
    step: Callable[..., None],
) -> LocalConsumer:
    stream = MemoryStream({records[0].shard: [drive.record(one) for one in records]}, limit=7)
    clock = Clock()

    class Failing:
        """The sink, which takes rows and then may die."""

        def deliver(self, rows: Any) -> None:
            sink.deliver(rows)
            step()

        def flush(self) -> None:
            step()

        def close(self) -> None:
            pass

    spec = specs.parse(toml)
    host = Host(
        pipeline="torture", reader=stream, plan=lambda: plan.Pipeline.plan(spec, one_shard=True),
        alerts=MemorySink(), errors=MemorySink(), states=states, save_seconds=0.5,
        observe=lambda outcome: None, log=lambda event, **fields: None, metrics=Metrics(),
        forward=Failing(), now=clock.now, random=lambda: 1.0,
    )  # fmt: skip
    return LocalConsumer(stream, host, until_end=True, sleep=clock.sleep)
