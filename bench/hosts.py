"""How many user records a second does a host carry: in order, and in the fan-out mode?

A stand-in for the endpoint of Kinesis writes answers made before (material/endpoint.py), of one
shard, as fast as they are asked for. The local host reads it in order, the fan-out host with one
process and with several that reduce chunks, and with several of which one takes ten times as long
for each chunk. State, alerts and errors stay in memory. What is told is wall time, as several
processes are at work, and the CPU time of all of them.

Every form of the fan-out host must give the same alerts, to the bit; a bench in which one differs
exits with 1. Prints one JSON object, a table on stderr.
"""

from __future__ import annotations

import argparse
import os
import resource
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from consume import only_here
from material import endpoint, telemetry, timing

from streamgauge import Alert, Record
from streamgauge.consumers import fanout, shard
from streamgauge.consumers.fanout import FanOut
from streamgauge.consumers.fanout_pool import Chunk, Done, Here, Pool, Processes
from streamgauge.consumers.kinesis_reader import KinesisReader
from streamgauge.consumers.local import LocalConsumer
from streamgauge.consumers.metrics import Metrics
from streamgauge.consumers.shard import Host
from streamgauge.engine.aws import Service
from streamgauge.engine.sinks.local import MemorySink
from streamgauge.engine.stores.memory import MemoryStates
from streamgauge.rules.plan import Pipeline
from streamgauge.rules.plan_fan_out import plan_merger
from streamgauge.rules.spec import Spec, parse

ORDERED, AIM = "ordered", 1.6  # times as fast on two cores
SLOWED = 10.0
SAVE_SECONDS = 30.0


class OneSlow:
    """A Pool whose first process seems to take ten times as long: its answers are held back."""

    def __init__(self, pool: Processes) -> None:
        """Take the pool."""
        self._pool = pool
        self._slow = pool._workers[0]
        self._held: list[tuple[float, Done]] = []
        self._given: dict[int, float] = {}

    @property
    def has_room(self) -> bool:
        """Whether the pool has, or the slow one is not asked for more."""
        return self._pool.has_room

    def give(self, chunk: Chunk) -> None:
        """Hand it on; what the slow one gets is noted."""
        self._pool.give(chunk)
        if self._slow.chunk is chunk:
            self._given[chunk.number] = time.monotonic()

    def take(self, seconds: float) -> list[Done]:
        """What is there, of the slow one when its time has come."""
        now, found = time.monotonic(), list[Done]()
        for done in self._pool.take(min(seconds, 0.01)):
            began = self._given.pop(done.number, None)
            if began is None:
                found.append(done)
            else:
                self._held.append((began + SLOWED * (now - began), done))
        found += [done for at, done in self._held if at <= now]
        self._held = [(at, done) for at, done in self._held if at > now]
        return found

    def close(self) -> None:
        """End the processes."""
        self._pool.close()


def host_of(spec: Spec, reader: KinesisReader, alerts: MemorySink) -> Host:
    """A host in memory over a reader."""
    return Host(
        pipeline=spec.pipeline.name, reader=reader, plan=partial(Pipeline.plan, spec),
        alerts=alerts, errors=MemorySink(), states=MemoryStates(), save_seconds=SAVE_SECONDS,
        observe=lambda outcome: None, log=lambda event, **fields: None, metrics=Metrics(),
    )  # fmt: skip


def ordered(spec: Spec, stream: str) -> tuple[Callable[[], object], list[Any]]:
    """The local host, ready to run, and where its alerts will be."""
    alerts, reader = MemorySink(), KinesisReader(Service("kinesis"), stream)
    return LocalConsumer(reader, host_of(spec, reader, alerts), until_end=True).run, alerts.rows


def fanned(
    make: Callable[[Spec], Pool], spec: Spec, stream: str
) -> tuple[Callable[[], object], list[Any]]:
    """The fan-out host over a pool whose processes have started."""
    alerts, reader = MemorySink(), KinesisReader(Service("kinesis"), stream)
    host, pool = host_of(spec, reader, alerts), make(spec)
    warm(pool)
    consumer = FanOut(reader, host, partial(plan_merger, spec), pool, until_end=True)
    return consumer.run, alerts.rows


def warm(pool: Pool) -> None:
    """Return once everybody in a pool has reduced something."""
    given = 0
    while pool.has_room:
        pool.give(Chunk("warm", -1 - given, 0, [Record("warm", "1", b"{}")], 0, None))
        given += 1
    while given:
        given -= len(pool.take(0.1))


def processes(count: int, spec: Spec) -> Processes:
    """So many processes."""
    return Processes(spec, count, lambda event, **fields: None)


def contestants(
    workers: int,
) -> dict[str, Callable[[Spec, str], tuple[Callable[[], object], list[Any]]]]:
    """All of them by name; the ordered one reads the file in its own mode."""
    return {
        ORDERED: ordered,
        "fan_out, this process": partial(fanned, lambda spec: Here(spec, time.sleep)),
        f"fan_out, {workers} processes": partial(fanned, partial(processes, workers)),
        f"fan_out, {workers} processes, one of them 10 times slower": partial(
            fanned, lambda spec: OneSlow(processes(workers, spec))
        ),
    }


def cpu_seconds() -> float:
    """The CPU time of this process and of its children that have ended."""
    usages = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def told(alerts: list[Alert]) -> list[Any]:
    """Alerts as two runs can be compared."""
    return sorted((a.id, a.time, a.device, a.state, a.value, a.samples) for a in alerts)


def measured(given: argparse.Namespace, stream: str) -> tuple[dict[str, Any], bool]:
    """Run all in turn; figures, and whether all forms of fan-out agree."""
    in_order = parse(telemetry.PIPELINE)
    out = parse(telemetry.PIPELINE + 'mode = "fan_out"')
    engines = contestants(given.workers)
    wall: timing.Taken = {name: [] for name in engines}
    busy: timing.Taken = {name: [] for name in engines}
    answers: dict[str, list[Any]] = {}
    for _ in range(given.repeat):
        for name, run in engines.items():
            work, alerts = run(in_order if name == ORDERED else out, stream)
            cpu, start = cpu_seconds(), time.perf_counter()
            work()
            wall[name].append((time.perf_counter() - start) / given.records * 1e6)
            busy[name].append((cpu_seconds() - cpu) / given.records * 1e6)
            answers[name] = told(alerts)
    fans = [answers[name] for name in engines if name != ORDERED]
    times = {name: timing.ratios(wall[ORDERED], of) for name, of in wall.items() if name != ORDERED}
    return {
        "wall_us_per_record": {name: timing.spread(of, 3) for name, of in wall.items()},
        "cpu_us_per_record": {name: timing.spread(of, 3) for name, of in busy.items()},
        "times_as_fast_as_ordered": times,
        "alerts": {name: len(of) for name, of in answers.items()},
        "aims_reached": {
            "fan_out": times[f"fan_out, {given.workers} processes"]["median"] >= AIM
        },
    }, all(fan == fans[0] and fan for fan in fans)  # fmt: skip


def arguments() -> argparse.Namespace:
    """The command line, with what --quick stands for filled in."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--quick", action="store_true", help="a small input, one repeat")
    parser.add_argument("--records", type=int, help="user records (1,000,000)")
    parser.add_argument("--devices", type=int, default=1000, help="size of the fleet (1000)")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 2, help="processes")
    parser.add_argument("--repeat", type=int, help="how often each is measured (3)")
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    given.records = given.records or (100_000 if given.quick else 1_000_000)
    given.repeat = given.repeat or (1 if given.quick else 3)
    return given


def main() -> None:
    """Run all and print."""
    given = arguments()
    for module in (shard, fanout):
        module.READ_SECONDS_MIN = 0.0  # a real shard is asked five times a second
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rows = telemetry.fleet_of(given.seed, given.devices).rows(0, given.records)
        endpoint.write(folder, "s", telemetry.aggregated(rows), telemetry.RECORDS_PER_PUSH)
        with endpoint.running(folder, telemetry.SHARD) as url:
            only_here(url)
            report, agree = measured(given, "s")
    table: list[list[Any]] = [["host", "us wall", "us CPU", "times as fast"]]
    for host, figure in report["wall_us_per_record"].items():
        times = report["times_as_fast_as_ordered"].get(host, {}).get("median", "")
        table.append([host, figure["median"], report["cpu_us_per_record"][host]["median"], times])
    timing.table(f"{given.records} user records of one shard, aggregated", table)
    head = timing.header(
        "hosts", "how many user records a second does a host carry?",
        seed=given.seed, repeat=given.repeat, records=given.records, devices=given.devices,
    )  # fmt: skip
    timing.finish({**head, **report}, agree)


if __name__ == "__main__":
    main()
