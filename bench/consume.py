"""What does one user record cost from GetRecords to alerts, transport included?

A stand-in for the endpoint of Kinesis writes answers made before (material/endpoint.py); it is a
process of its own, so that what is counted is the consumer: signing, HTTP, parsing, pipeline.
Streamgauge runs as it does on a live stream, its own parser in front of botocore's
(consumers/kinesis_answers.py), and a second time without that parser; beside them what one writes
by hand: boto3 and a loop (material/loops.py). `transport` is reading alone. `bytes` there has the
body of an answer and looks into it no further: the floor under every parser.

Records are plain, one user record each, or aggregated (kpl). Streamgauge's alerts are compared with
an exact computation for a part of the fleet, those of the loops with the same loop over payloads
that never left this process, and what is read with what was written. Prints one JSON object, tables
on stderr; exits with 1 if anything of that differs. `parser_pays` says where streamgauge's parser
took less CPU time than boto3's in every repeat.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import zip_longest
from pathlib import Path
from typing import Any, NamedTuple

import boto3
import botocore.session
from material import endpoint, exact, loops, telemetry, timing
from material.telemetry import Fleet, Rows

from streamgauge import Alert, Pipeline
from streamgauge.consumers import kinesis_answers
from streamgauge.consumers.kinesis_reader import RECORDS_MAX, KinesisReader
from streamgauge.engine.aws import Service
from streamgauge.engine.batch import Record
from streamgauge.engine.records import as_record
from streamgauge.rules import spec

OURS = "streamgauge"
PARSED = "streamgauge on boto3's parser"
BOTO3 = "boto3"
RAW_TIMES = "boto3, times as they are"  # as numbers: most of its parsing is dates
BYTES = "bytes"
LOOPS = {"naive": (BOTO3, "json"), "orjson, times as they are": (RAW_TIMES, "orjson")}
FORMS = {"kpl": telemetry.RECORDS_PER_PUSH, "plain": telemetry.PLAIN_PER_PUSH}  # in an answer
PLAIN_SHARE = 4  # a plain case has a quarter of the records
OPENER = {"kpl": "aws_kinesis_agg", "plain": "none"}

Answers = Iterator[Sequence[Any]]  # the records of one answer of GetRecords after the other


class Case(NamedTuple):
    """One stream, which has the name of its form: its rows, and in how many answers they come."""

    form: str
    rows: Rows
    answers: int


def only_here(url: str) -> None:
    """Let boto3's chain find this endpoint and credentials of nobody, whatever the shell had."""
    for name in list(os.environ):
        if name.startswith("AWS_") or name.lower() in ("http_proxy", "https_proxy", "all_proxy"):
            del os.environ[name]
    os.environ |= {
        "AWS_ENDPOINT_URL_KINESIS": url,
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    }


def reading(service: Service) -> Callable[[str], Answers]:
    """Streamgauge's way to read a stream."""

    def read(stream: str) -> Answers:
        reader = KinesisReader(service, stream)
        (shard,) = reader.shards()
        iterator: str | None = reader.iterator(shard.shard_id, None, True)
        while iterator is not None:
            fetched = reader.read(shard.shard_id, iterator)
            assert fetched is not None, "an iterator of the stand-in does not expire"
            yield fetched.records
            iterator = fetched.iterator

    return read


def asking(client: Any) -> Callable[[str], Answers]:
    """The way to read a stream that one writes by hand."""

    def read(stream: str) -> Answers:
        (shard,) = client.list_shards(StreamName=stream)["Shards"]
        answer = client.get_shard_iterator(
            StreamName=stream, ShardId=shard["ShardId"], ShardIteratorType="TRIM_HORIZON"
        )
        iterator = answer["ShardIterator"]
        while iterator is not None:
            answer = client.get_records(ShardIterator=iterator, Limit=RECORDS_MAX)
            yield answer["Records"]
            iterator = answer.get("NextShardIterator")

    return read


def only_bytes(client: Any, answers: Mapping[str, int]) -> Callable[[str], Answers]:
    """The answers of a stream without a look into them: nothing is left for boto3 to parse."""
    client.meta.events.register(kinesis_answers.EVENT, leave_empty)

    def read(stream: str) -> Answers:
        for number in range(answers[stream]):
            client.get_records(ShardIterator=endpoint.iterator(stream, number), Limit=RECORDS_MAX)
            yield ()

    return read


def leave_empty(response_dict: dict[str, Any], **_: Any) -> None:
    """Take the body of an answer away."""
    response_dict["body"] = b""


def detach(client: Any) -> None:
    """Take streamgauge's parser out of a client."""
    client.meta.events.unregister(kinesis_answers.EVENT, unique_id=kinesis_answers.HANDLER)


def watch(client: Any, parsed: list[int]) -> None:
    """Note how many bytes of each answer are left for boto3 to parse."""
    client.meta.events.register_last(
        kinesis_answers.EVENT, lambda response_dict, **_: parsed.append(len(response_dict["body"]))
    )


class Readers:
    """Every way to read records, each with a client of its own.

    parsed: the bytes that boto3 was left to parse of each answer, for streamgauge's two ways.
    """

    def __init__(self) -> None:
        """Make the clients."""
        self.parsed: dict[str, list[int]] = {OURS: [], PARSED: []}
        services = {name: Service("kinesis") for name in self.parsed}
        services[PARSED].prepare(kinesis_answers.attach)  # as the reader does, once for a service
        services[PARSED].prepare(detach)
        for name, service in services.items():
            service.prepare(partial(watch, parsed=self.parsed[name]))
        session = botocore.session.get_session()
        session.get_component("response_parser_factory").set_parser_defaults(
            timestamp_parser=lambda value: value
        )
        raw_times = boto3.Session(botocore_session=session)
        self.ways = {name: reading(service) for name, service in services.items()} | {
            BOTO3: asking(boto3.client("kinesis")),
            RAW_TIMES: asking(raw_times.client("kinesis")),
        }


def to_alerts(answers: Answers) -> list[Alert]:
    """The alerts of a shard, pushed answer by answer as the host of a live stream does."""
    gauge, alerts = Pipeline.plan(spec.parse(telemetry.PIPELINE), one_shard=True), []
    for records in answers:
        alerts += gauge.push(records).alerts
    return alerts


def to_changes(loads: str, opener: str, answers: Answers) -> list[loops.Change]:
    """The changes of state that a loop finds."""
    loop, opened = loops.Loop(loops.LOADERS[loads]), loops.OPENERS[opener]
    for records in answers:
        loop.take(opened(records))
    return loop.changes


def to_nothing(answers: Answers) -> int:
    """Read all, keep nothing; gives how many Kinesis records there were."""
    return sum(map(len, answers))


def records_of(form: str, rows: Rows) -> list[dict[str, Any]]:
    """The Kinesis records of a stream."""
    return telemetry.aggregated(rows) if form == "kpl" else telemetry.plain(rows)


def cases_of(fleet: Fleet, records: int, folder: Path) -> list[Case]:
    """The stream of a fleet in each form, written where the endpoint finds it."""
    made = []
    for form, many in FORMS.items():
        rows = fleet.rows(0, records if form == "kpl" else records // PLAIN_SHARE)
        made.append(Case(form, rows, endpoint.write(folder, form, records_of(form, rows), many)))
    return made


def misread(case: Case, readers: Readers) -> dict[str, int]:
    """How many records each way to read gives otherwise than they were written.

    Streamgauge's two ways must also be what they are called, or every answer counts as misread.
    """
    written = list(map(as_record, records_of(case.form, case.rows)))
    wrong = {}
    for name, read in readers.ways.items():
        found = [
            given if isinstance(given, Record) else as_record({**given, "ShardId": telemetry.SHARD})
            for records in read(case.form)
            for given in records
        ]
        pairs = zip_longest(found, written)
        wrong[name] = sum(one != other for one, other in pairs)
    wrong[OURS] += sum(map(bool, readers.parsed[OURS]))
    wrong[PARSED] += readers.parsed[PARSED].count(0)
    return wrong


def wrong_alerts(case: Case, fleet: Fleet, given: Mapping[str, list[Any]]) -> dict[str, Any]:
    """How many alerts of each engine are not those that it must come to."""
    devices = exact.sample_of(case.rows, fleet.devices)
    names = set(map(telemetry.name, devices))
    truth = exact.changes_of(case.rows, devices)
    payloads = telemetry.payloads(case.rows)
    wrong = {}
    for name in (OURS, PARSED):
        found = [exact.Change(a.device, a.time, a.state, a.value) for a in given[name]]
        wrong[name] = len({change for change in found if change.device in names} ^ truth)
    wrong[PARSED] += given[PARSED] != given[OURS]
    for name, (_, loads) in LOOPS.items():
        loop = loops.Loop(loops.LOADERS[loads])
        loop.take(payloads)
        wrong[name] = len(set(given[name]) ^ set(loop.changes))
    return {"devices": len(devices), "alerts_differing": wrong}


def measure(
    case: Case, fleet: Fleet, readers: Readers, only: Callable[[str], Answers], repeat: int
) -> tuple[dict[str, Any], bool]:
    """Time all on one stream, in turn, and compare what they read and answer."""
    records, ways = len(case.rows.time), readers.ways
    differing = misread(case, readers)  # and every connection is there, every module loaded
    engines: dict[str, Callable[[], Any]] = {
        name: partial(lambda read: to_alerts(read(case.form)), ways[name])
        for name in (OURS, PARSED)
    }
    for name, (way, loads) in LOOPS.items():
        engines[name] = partial(
            lambda read, loads: to_changes(loads, OPENER[case.form], read(case.form)),
            ways[way],
            loads,
        )
    cpu, wall, given = in_turn(engines, repeat, records)
    transports = {
        name: partial(lambda read: to_nothing(read(case.form)), read)
        for name, read in {**ways, BYTES: only}.items()
    }
    alone, _, _ = in_turn(transports, repeat, records)
    answers = wrong_alerts(case, fleet, given)
    ours = {(alert.device, alert.time, alert.state) for alert in given[OURS]}
    report = {
        "input": case.form,
        "devices": fleet.devices,
        "records": records,
        "answers": case.answers,
        "alerts": len(ours),
        "alerts_differing": {name: len(ours ^ set(given[name])) for name in LOOPS},
        "checked": answers,
        "records_differing": differing,
        **compared(cpu),
        "records_per_second": {
            name: timing.spread([1e9 / value for value in values], 0)
            for name, values in wall.items()
        },
        "transport": compared(alone),
        "parser_pays": {
            "to alerts": min(timing.ratios(cpu[PARSED], cpu[OURS]).values()) > 1,
            "transport": min(timing.ratios(alone[PARSED], alone[OURS]).values()) > 1,
        },
    }
    return report, not any((*differing.values(), *answers["alerts_differing"].values()))


def in_turn(
    engines: Mapping[str, Callable[[], Any]], repeat: int, records: int
) -> tuple[timing.Taken, timing.Taken, dict[str, Any]]:
    """CPU and wall ns a user record of every engine, and what each of them gave at last."""
    cpu: timing.Taken = {name: [] for name in engines}
    wall: timing.Taken = {name: [] for name in engines}
    given = {}
    for _ in range(repeat):
        for name, run in engines.items():
            busy, passed, given[name] = timing.seconds(run)
            cpu[name].append(busy * 1e9 / records)
            wall[name].append(passed * 1e9 / records)
    return cpu, wall, given


def compared(cpu: timing.Taken) -> dict[str, Any]:
    """The figures of what ran in turn, and how many times faster than each streamgauge is."""
    return {
        "ns_per_record": {name: timing.spread(values) for name, values in cpu.items()},
        "times_faster_than": {
            name: timing.ratios(values, cpu[OURS]) for name, values in cpu.items() if name != OURS
        },
    }


def tell(cases: list[dict[str, Any]]) -> None:
    """Print the tables for people."""
    for case in cases:
        title = f"{case['input']}, {case['devices']} devices"
        rows: list[list[Any]] = [["GetRecords to alerts", "ns/record", "times", "records/s"]]
        for name, figure in case["ns_per_record"].items():
            times = case["times_faster_than"].get(name, {}).get("median", "")
            wall = f"{case['records_per_second'][name]['median']:,.0f}"
            rows.append([name, figure["median"], times, wall])
        timing.table(f"{title}: how many times faster streamgauge is, and records a second", rows)
        rows = [["GetRecords alone", "ns/record", "times"]]
        for name, figure in case["transport"]["ns_per_record"].items():
            times = case["transport"]["times_faster_than"].get(name, {}).get("median", "")
            rows.append([name, figure["median"], times])
        timing.table(f"{title}: transport", rows)


def arguments() -> argparse.Namespace:
    """The command line, with what --quick stands for filled in."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--quick", action="store_true", help="a small input, two repeats")
    parser.add_argument("--records", type=int, help="user records, a quarter if plain (400000)")
    parser.add_argument("--devices", type=int, help="size of the fleet (1000)")
    parser.add_argument("--repeat", type=int, help="how often each pass runs (5)")
    parser.add_argument("--seed", type=int, default=1, help="of the telemetry (1)")
    given = parser.parse_args()
    given.records = given.records or (40_000 if given.quick else 400_000)
    given.devices = given.devices or (200 if given.quick else 1_000)
    given.repeat = given.repeat or (2 if given.quick else 5)
    return given


def main() -> None:
    """Run all and print."""
    given = arguments()
    fleet = telemetry.fleet_of(given.seed, given.devices)
    reports, agree = [], True
    with tempfile.TemporaryDirectory() as folder:
        cases = cases_of(fleet, given.records, Path(folder))
        with endpoint.running(Path(folder), telemetry.SHARD) as url:
            only_here(url)
            readers = Readers()
            answers = {case.form: case.answers for case in cases}
            only = only_bytes(boto3.client("kinesis"), answers)
            for case in cases:
                report, right = measure(case, fleet, readers, only, given.repeat)
                reports.append(report)
                agree &= right
    tell(reports)
    report = timing.header(
        "consume",
        "what does one user record cost from GetRecords to alerts, transport included?",
        seed=given.seed,
        repeat=given.repeat,
        cases=reports,
    )
    timing.finish(report, agree)


if __name__ == "__main__":
    main()
