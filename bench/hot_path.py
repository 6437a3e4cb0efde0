"""What does each stage of the engine cost for one user record?

The stages run one after the other over the same slices as in `Pipeline.push`, each under a timer of
its own, so that they find the caches as they do there: de-aggregation, decoding to columns, the
compiled filter and measure, the window, thresholds, alert states. `push` is `Pipeline.push` itself,
`rest` what it takes beyond the stages. Beside them run the stages of a loop written by hand
(material/loop_stages.py). `statistics` is the window stage alone, under each statistic.

Alerts and statistics are compared with an exact computation for a part of the fleet. Prints one
JSON object, a table on stderr; exits with 1 if an answer of streamgauge is wrong.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from material import exact, loop_stages, loops, telemetry, timing
from material.telemetry import Fleet, Rows
from material.timing import Clock

from streamgauge import Pipeline
from streamgauge.engine.alert import AlertStates
from streamgauge.engine.batch import SUB_BITS, Kind, Verdict
from streamgauge.engine.decode import Decoder, Schema
from streamgauge.engine.devices import Devices
from streamgauge.engine.kernels import Samples
from streamgauge.engine.kpl import deaggregate
from streamgauge.engine.records import slices
from streamgauge.engine.stores.thresholds import MappingThresholds
from streamgauge.engine.threshold import Thresholds
from streamgauge.engine.window import SAMPLE, STATISTICS, Window
from streamgauge.rules import spec
from streamgauge.rules.plan import compile_rules

OURS = "streamgauge"
STREAMS = ("clean", "disturbed")
STAGES = ("deaggregate", "decode", "filter", "window", "threshold", "alert")
TABLE = "threshold, of a table"  # in place of "threshold": beside the stages, not one of them
EXACT_ROWS_MAX = 3_000  # of each statistic


class Staged:
    """The stages of the bench's pipeline, in the order of `Pipeline.push`."""

    def __init__(self, fleet: Fleet) -> None:
        """Make every stage."""
        (compiled,) = compile_rules(spec.parse(telemetry.PIPELINE))
        self.filter, self.measure = compiled.filter, compiled.measure
        self.decoder = Decoder(Schema(("device",), "ts", "ms", fields=compiled.reads))
        self.devices = Devices()
        self.window = Window(telemetry.LENGTH, telemetry.LATENESS, "mean")
        self.states = AlertStates("above", telemetry.MIN_SAMPLES, 0)
        default = [(telemetry.RULE, telemetry.LIMIT, telemetry.MARGIN)]
        self.limits = Thresholds(None, default)
        names = map(telemetry.name, range(fleet.devices))
        table = {(device, telemetry.RULE): telemetry.LIMIT for device in names}
        self.table = Thresholds(MappingThresholds(table), default, math.inf)
        self.clock = Clock()
        self.records = self.rows = 0
        self.changes: list[exact.Change] = []
        self.samples: list[Samples] = []
        self.numbers: list[Any] = []  # of the samples' rows in the stream

    def push(self, records: Sequence[dict[str, Any]]) -> None:
        """Take some Kinesis records."""
        stage, devices = self.clock.stage, self.devices
        parts = slices(records)
        while True:
            with stage("deaggregate"):
                part = next(parts, None)
                if part is None:
                    return
                users, _ = deaggregate(part)
            with stage("decode"):
                batch, _ = self.decoder.decode(users, devices)
            with stage("filter"):
                column = self.measure(batch)
                passed = (self.filter(batch) == Verdict.PASS) & (column.kind == Kind.NUMBER)
                kept = np.flatnonzero(passed)
            source = batch.row[kept]
            serial = ((self.records + users.record[source]) << SUB_BITS) | users.sub[source]
            given = Samples(batch.device[kept], batch.time[kept], column.number[kept], serial)
            with stage("window"):
                slid = self.window.push(given)
            with stage("threshold"):
                self.limits.prepare(devices.names, given.device)
                limits = self.limits.limits(0, given.device, given.time)
            with stage(TABLE):
                self.table.prepare(devices.names, given.device)
                self.table.limits(0, given.device, given.time)
            new = np.flatnonzero(slid.verdict == SAMPLE)
            with stage("alert"):
                columns = (given.device, given.time, slid.value, slid.samples, *limits[:2])
                found = self.states.advance(*(column[new] for column in columns))
            for change in found:
                row = new[change.row]
                device, time = devices.names[given.device[row]], int(given.time[row])
                value = float(slid.value[row])
                self.changes.append(exact.Change(device, time, change.state, value))
            self.samples.append(given)
            self.numbers.append(self.rows + kept)
            self.records += len(part)
            self.rows += len(users)


def by_stages(fleet: Fleet, given: list[dict[str, Any]]) -> Staged:
    """One pass of streamgauge's stages."""
    stages = Staged(fleet)
    for batch in telemetry.batches(given, telemetry.RECORDS_PER_PUSH):
        stages.push(batch)
    return stages


def by_rows(loads: loops.Loads, opener: str, given: list[dict[str, Any]]) -> Clock:
    """One pass of a loop's stages."""
    clock, opened = Clock(), loops.OPENERS[opener]
    windows, states = loop_stages.Windows("mean"), loop_stages.States()
    for batch in telemetry.batches(given, telemetry.RECORDS_PER_PUSH):
        with clock.stage("deaggregate"):
            payloads = list(opened(batch))
        with clock.stage("decode"):
            read = loop_stages.decoded(payloads, loads)
        with clock.stage("filter"):
            read = loop_stages.filtered(read)
        with clock.stage("window"):
            seen = windows.take(read)
        with clock.stage("alert"):
            states.take(seen)
    return clock


def push_all(given: list[dict[str, Any]]) -> None:
    """One pass through the library face."""
    gauge = Pipeline.plan(spec.parse(telemetry.PIPELINE))
    for batch in telemetry.batches(given, telemetry.RECORDS_PER_PUSH):
        gauge.push(batch)


def measure_stages(
    fleet: Fleet, stream: str, count: int, repeat: int
) -> tuple[dict[str, Any], Staged, Rows]:
    """Every stage on one stream, in turn with the loops' stages and with `push`."""
    made = fleet.rows(0, count, stream == "disturbed")
    given = telemetry.aggregated(made)
    engines: dict[str, Callable[[], Any]] = {
        OURS: lambda: by_stages(fleet, given),
        "naive": lambda: by_rows(loops.LOADERS["json"], "aws_kinesis_agg", given),
        "orjson on aws_kinesis_agg": lambda: by_rows(
            loops.LOADERS["orjson"], "aws_kinesis_agg", given
        ),
        "orjson on streamgauge.kpl": lambda: by_rows(
            loops.LOADERS["orjson"], "streamgauge.kpl", given
        ),
        "push": lambda: push_all(given),
    }
    taken: dict[str, dict[str, list[float]]] = {name: {} for name in engines}
    scale = 1e9 / len(made.time)
    for _ in range(repeat):
        for name, run in engines.items():
            seconds, answer = timing.cpu_seconds(run)
            if name == OURS:
                stages = answer
            parts = {"push": seconds}
            if name != "push":
                clock = answer.clock if name == OURS else answer
                parts = dict(clock.seconds)
                parts["stages"] = sum(clock.seconds[stage] for stage in STAGES)
            for stage, value in parts.items():
                taken[name].setdefault(stage, []).append(value * scale)
    ours = taken[OURS] | taken.pop("push")
    ours["rest"] = [a - b for a, b in zip(ours["push"], ours["stages"], strict=True)]
    taken[OURS] = ours
    report = {
        "stream": stream,
        "records": len(made.time),
        "ns_per_record": {
            name: {stage: timing.spread(values) for stage, values in parts.items()}
            for name, parts in taken.items()
        },
        "times_faster_than": {
            name: {
                stage: timing.ratios(values, ours[stage])
                for stage, values in parts.items()
                if stage in ours
            }
            for name, parts in taken.items()
            if name != OURS
        },
    }
    return report, stages, made


def measure_statistic(
    statistic: str, samples: list[Samples], repeat: int
) -> tuple[dict[str, Any], dict[int, float]]:
    """The window stage under one statistic, beside a loop's; and the value of each sample."""
    plain = [
        list(zip(map(telemetry.name, some.device.tolist()), some.time.tolist(),
                 some.value.tolist(), strict=True))
        for some in samples
    ]  # fmt: skip

    def slide() -> list[Any]:
        window = Window(telemetry.LENGTH, telemetry.LATENESS, statistic)
        return [window.push(some) for some in samples]

    def loop() -> None:
        windows = loop_stages.Windows(statistic)
        for some in plain:
            windows.take(some)

    taken: timing.Taken = {OURS: [], "loop": []}
    scale = 1e9 / max(1, sum(map(len, plain)))
    for _ in range(repeat):
        seconds, slid = timing.cpu_seconds(slide)
        taken[OURS].append(seconds * scale)
        taken["loop"].append(timing.cpu_seconds(loop)[0] * scale)
    report = {
        "ns_per_sample": {name: timing.spread(values) for name, values in taken.items()},
        "times_faster_than_loop": timing.ratios(taken["loop"], taken[OURS]),
    }
    return report, slid


def differing(
    statistic: str, stages: Staged, slid: list[Any], made: Rows, devices: Sequence[int]
) -> int:
    """How many samples of these devices have another value than the exact one, or are missing."""
    truth = exact.values_of(made, devices, statistic)
    ours = {}
    for numbers, part in zip(stages.numbers, slid, strict=True):
        new = np.flatnonzero(part.verdict == SAMPLE)
        ours.update(zip(numbers[new].tolist(), part.value[new].tolist(), strict=True))
    mine = set(np.flatnonzero(np.isin(made.device, devices)).tolist())
    found = {row: value for row, value in ours.items() if row in mine}
    return len(found.items() ^ truth.items())


def tell(streams: list[dict[str, Any]]) -> None:
    """Print the tables for people."""
    for part in streams:
        figures = part["ns_per_record"]
        table: list[list[Any]] = [["stage", *figures]]
        for stage in (*STAGES, TABLE, "stages", "rest", "push"):
            cells = [figures[name].get(stage, {}).get("median", "") for name in figures]
            table.append([stage, *cells])
        timing.table(f"ns per user record, {part['stream']} stream", table)
        table = [["window", OURS, "loop", "exact"]]
        for statistic, report in part["statistics"].items():
            medians = [figure["median"] for figure in report["ns_per_sample"].values()]
            table.append([statistic, *medians, "differs" if report["differing"] else "agrees"])
        timing.table(f"ns per sample of the window stage, {part['stream']} stream", table)


def arguments() -> argparse.Namespace:
    """The command line, with what --quick stands for filled in."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--quick", action="store_true", help="a small input, two repeats")
    parser.add_argument("--records", type=int, help="user records of a stream (400000)")
    parser.add_argument("--devices", type=int, help="size of the fleet (1000)")
    parser.add_argument("--repeat", type=int, help="how often each pass runs (3)")
    parser.add_argument("--seed", type=int, default=1, help="of the telemetry (1)")
    given = parser.parse_args()
    given.records = given.records or (40_000 if given.quick else 400_000)
    given.devices = given.devices or (200 if given.quick else 1_000)
    given.repeat = given.repeat or (2 if given.quick else 3)
    return given


def main() -> None:
    """Run all and print."""
    given = arguments()
    fleet = telemetry.fleet_of(given.seed, given.devices)
    streams, agree = [], True
    for stream in STREAMS:
        report, stages, made = measure_stages(fleet, stream, given.records, given.repeat)
        devices = exact.sample_of(made, fleet.devices)
        names = set(map(telemetry.name, devices))
        ours = {change for change in stages.changes if change.device in names}
        wrong = len(ours ^ exact.changes_of(made, devices))
        report["exact"] = {"devices": len(devices), "alerts": len(ours), "alerts_differing": wrong}
        agree &= not wrong
        report["statistics"] = {}
        few = exact.sample_of(made, fleet.devices, EXACT_ROWS_MAX)
        for statistic in STATISTICS:
            figures, slid = measure_statistic(statistic, stages.samples, given.repeat)
            figures["differing"] = differing(statistic, stages, slid, made, few)
            agree &= not figures["differing"]
            report["statistics"][statistic] = figures
        streams.append(report)
    tell(streams)
    report = timing.header(
        "hot_path",
        "what does each stage of the engine cost for one user record?",
        seed=given.seed,
        repeat=given.repeat,
        devices=fleet.devices,
        interval_ms=fleet.interval,
        streams=streams,
    )
    timing.finish(report, agree)


if __name__ == "__main__":
    main()
