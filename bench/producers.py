"""What does it cost to put one user record into a stream, botocore included?

A stand-in for the endpoint of Kinesis takes PutRecords (material/endpoint.py); it is a process of
its own, so that what is counted is the producer: packing, signing, HTTP, reading the answer. Beside
streamgauge's producer (producers/aggregator.py) in its several ways stands what one writes by hand:
the aggregator of aws_kinesis_agg with boto3's put_records, and boto3 with a record an entry. With
`--aiokpl PYTHON`, an interpreter that has aiokpl, that one takes part, too.

First all put a small number of readings into streams that are kept: opened again, they must hold
each reading once, those of each device in order; of streamgauge also every aggregate in the range
of one shard. Prints one JSON object, tables on stderr; exits with 1 if a record is missing.
"""

from __future__ import annotations

import argparse
import base64
import json
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import boto3
from consume import only_here
from material import endpoint, telemetry, timing

from streamgauge import Record
from streamgauge.engine.aws import Service
from streamgauge.engine.kpl import MAGIC, deaggregate, hash_key
from streamgauge.producers import put_body
from streamgauge.producers.aggregator import AGGREGATE_BYTES_MAX, Producer

OURS = "streamgauge"
AIMS = {"aws_kinesis_agg": 10.0, "aiokpl": 5.0}  # times faster
AIM_PER_SECOND = 400_000
PUT_MANY = 1000  # readings of a call of put_many
KEPT_RECORDS = 5000
CALL_ENTRIES, CALL_BYTES = 500, 4 << 20  # of a call that is put together by hand

Readings = Sequence[tuple[str, bytes]]
Put = Callable[[str, Readings], None]


def ours(stream: str, readings: Readings, *, service: Service, many: bool = True) -> None:
    """Streamgauge's producer, many records a call or each by itself; not limited in its rate."""
    with Producer(stream, service, rate=None) as producer:
        if not many:
            for key, data in readings:
                producer.put(key, data)
            return
        for first in range(0, len(readings), PUT_MANY):
            keys, datas = zip(*readings[first : first + PUT_MANY], strict=True)
            producer.put_many(keys, datas)


def with_aws_kinesis_agg(stream: str, readings: Readings, *, client: Any) -> None:
    """The published aggregator at the KPL's size, its aggregates put by boto3."""
    from aws_kinesis_agg.aggregator import RecordAggregator

    entries: list[dict[str, Any]] = []

    def take(aggregate: Any) -> None:
        key, _, data = aggregate.get_contents()
        entries.append({"Data": data, "PartitionKey": key})
        if len(entries) * AGGREGATE_BYTES_MAX > CALL_BYTES:
            client.put_records(StreamName=stream, Records=entries)
            entries.clear()

    aggregator = RecordAggregator(AGGREGATE_BYTES_MAX)
    aggregator.on_record_complete(take, execute_on_new_thread=False)
    for key, data in readings:
        aggregator.add_user_record(key, data)
    if aggregator.get_num_user_records():
        take(aggregator.clear_and_get())
    if entries:
        client.put_records(StreamName=stream, Records=entries)


def with_boto3(stream: str, readings: Readings, *, client: Any) -> None:
    """A record an entry, as many as a call takes."""
    for first in range(0, len(readings), CALL_ENTRIES):
        entries = [
            {"Data": data, "PartitionKey": key}
            for key, data in readings[first : first + CALL_ENTRIES]
        ]
        client.put_records(StreamName=stream, Records=entries)


def detach(client: Any) -> None:
    """Take streamgauge's handlers out of a client: bodies are botocore's."""
    for event in (put_body.BEFORE_CALL, put_body.BEFORE_PARSE):
        client.meta.events.unregister(event, unique_id=put_body.HANDLER.format(event))


def contestants() -> dict[str, Put]:
    """Everybody who puts in this process, each with a client of its own."""
    services = [Service("kinesis") for _ in range(3)]
    services[2].prepare(put_body.attach)  # as the producer does, once for a service
    services[2].prepare(detach)
    return {
        OURS: partial(ours, service=services[0]),
        "streamgauge, record by record": partial(ours, service=services[1], many=False),
        "streamgauge on botocore's bodies": partial(ours, service=services[2]),
        "aws_kinesis_agg": partial(with_aws_kinesis_agg, client=boto3.client("kinesis")),
        "boto3": partial(with_boto3, client=boto3.client("kinesis")),
    }


def aiokpl(python: str, path: Path, url: str, stream: str) -> float | None:
    """The CPU seconds that aiokpl takes in a process of its own; None where that has failed."""
    script = Path(__file__).parent / "material" / "aiokpl_put.py"
    command = [python, script, path, url, stream]
    done = subprocess.run(command, capture_output=True, text=True)
    return None if done.returncode else float(done.stdout)


def readings_of(fleet: telemetry.Fleet, records: int) -> Readings:
    """Partition key and payload of each reading, in order."""
    rows = fleet.rows(0, records)
    keys = map(telemetry.name, rows.device.tolist())
    return list(zip(keys, telemetry.payloads(rows), strict=True))


def kept(folder: Path, stream: str) -> Iterator[tuple[list[tuple[str, bytes]], set[int]]]:
    """The user records of each Kinesis record of a stream, and the shards that they belong to."""
    with open(folder / f"{stream}.ndjson", encoding="utf-8") as file:
        for line in file:
            entry = json.loads(line)
            record = Record("s", "1", base64.b64decode(entry["Data"]), entry["PartitionKey"])
            users, rejected = deaggregate([record])
            assert not rejected, rejected
            shards = {hash_key(key) * endpoint.PUT_SHARDS >> 128 for key in users.keys}
            whole = record.data.startswith(MAGIC)
            yield (
                [(key.decode(), data) for key, data in zip(users.keys, users.data, strict=True)],
                shards if whole else set(),
            )


def wrong(folder: Path, stream: str, readings: Readings) -> dict[str, int]:
    """How many devices lack readings or have them out of order; aggregates that span shards."""
    found: dict[str, list[bytes]] = {}
    spanning = 0
    for users, shards in kept(folder, stream):
        spanning += len(shards) > 1
        for key, data in users:
            found.setdefault(key, []).append(data)
    found.pop("warm", None)
    wanted: dict[str, list[bytes]] = {}
    for key, data in readings:
        wanted.setdefault(key, []).append(data)
    devices = sum(found.get(key) != of for key, of in wanted.items()) + len(
        set(found) - set(wanted)
    )
    return {"devices_differing": devices, "aggregates_spanning_shards": spanning}


def arguments() -> argparse.Namespace:
    """The command line, with what --quick stands for filled in."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--quick", action="store_true", help="a small input, two repeats")
    parser.add_argument("--records", type=int, help="readings (200000)")
    parser.add_argument("--devices", type=int, help="size of the fleet (10000)")
    parser.add_argument("--repeat", type=int, help="how often each is measured (5)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--aiokpl", metavar="PYTHON", help="an interpreter that has aiokpl")
    given = parser.parse_args()
    given.records = given.records or (20_000 if given.quick else 200_000)
    given.devices = given.devices or (1_000 if given.quick else 10_000)
    given.repeat = given.repeat or (2 if given.quick else 5)
    return given


def tell(report: dict[str, Any]) -> None:
    """Print the table for people."""
    rows: list[list[Any]] = [["put", "ns/record", "times", "records/s"]]
    for name, figure in report["ns_per_record"].items():
        times = report["times_faster_than"].get(name, {}).get("median", "")
        rows.append([name, figure["median"], times, f"{1e9 / figure['median']:,.0f}"])
    timing.table(f"{report['records']} readings: how many times faster streamgauge is", rows)


def measured(given: argparse.Namespace, folder: Path, url: str) -> tuple[dict[str, Any], bool]:
    """Check all of them, then time them in turn."""
    fleet = telemetry.fleet_of(given.seed, given.devices)
    readings = readings_of(fleet, given.records)
    few, path = readings[:KEPT_RECORDS], folder / "readings"
    engines = contestants()
    checked = {}
    for number, (name, put) in enumerate(engines.items()):
        put(f"kept{number}", few)
        checked[name] = wrong(folder, f"kept{number}", few)
    cpu: timing.Taken = {name: [] for name in engines}
    if given.aiokpl:  # a hundred times slower: it is given the few
        path.write_text("".join(json.dumps([key, data.decode()]) + "\n" for key, data in few))
        if aiokpl(given.aiokpl, path, url, "kept-aiokpl") is not None:
            checked["aiokpl"] = wrong(folder, "kept-aiokpl", few)
            cpu["aiokpl"] = []
    for _ in range(given.repeat):
        for name, put in engines.items():
            busy, _ = timing.cpu_seconds(partial(put, "put", readings))
            cpu[name].append(busy * 1e9 / given.records)
        if "aiokpl" in cpu:
            taken = aiokpl(given.aiokpl, path, url, "put")
            cpu["aiokpl"].append(float("nan") if taken is None else taken * 1e9 / len(few))
    times = {name: timing.ratios(values, cpu[OURS]) for name, values in cpu.items() if name != OURS}
    per_second = 1e9 / timing.spread(cpu[OURS])["median"]
    report = {
        "records": given.records,
        "devices": given.devices,
        "bytes_per_record": round(sum(len(data) for _, data in readings) / given.records, 1),
        "shards": endpoint.PUT_SHARDS,
        "checked": checked,
        "ns_per_record": {name: timing.spread(values) for name, values in cpu.items()},
        "times_faster_than": times,
        "records_per_second": round(per_second),
        "aims_reached": {
            **{name: times[name]["median"] >= aim for name, aim in AIMS.items() if name in times},
            "records_per_second": per_second >= AIM_PER_SECOND,
        },
    }
    mine = [found for name, found in checked.items() if name.startswith(OURS)]
    right = not any(any(found.values()) for found in mine)
    return report, right and not any(found["devices_differing"] for found in checked.values())


def main() -> None:
    """Run all and print."""
    given = arguments()
    with tempfile.TemporaryDirectory() as folder:
        with endpoint.running(Path(folder), telemetry.SHARD) as url:
            only_here(url)
            report, agree = measured(given, Path(folder), url)
    tell(report)
    head = timing.header(
        "producers",
        "what does it cost to put one user record into a stream, botocore included?",
        seed=given.seed,
        repeat=given.repeat,
    )
    timing.finish({**head, **report}, agree)


if __name__ == "__main__":
    main()
