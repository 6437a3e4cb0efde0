"""What does one user record cost from raw bytes to alerts, and does it stay that way?

Cases: Kinesis records as GetRecords hands them over, aggregated (kpl) or one user record each
(plain), and an NDJSON file through the back-test host; a small fleet and a large one; a clean
stream and a disturbed one (five per cent of the rows out of order, one per cent twice). Beside
streamgauge run the loops that one writes by hand (material/loops.py), in turn. `growth` pushes a
stream ten times as long and gives the cost of each quarter. `memory` is all that is held after a
stream, for each sample that may still be needed.

Streamgauge's alerts are compared with an exact computation for a part of the fleet, those of the
loops with streamgauge's. Prints one JSON object, a table on stderr; exits with 1 if an answer of
streamgauge is wrong.
"""

from __future__ import annotations

import argparse
import gc
import tempfile
import tracemalloc
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

from material import exact, loops, telemetry, timing
from material.telemetry import RECORDS_PER_PUSH, Fleet, Rows

from streamgauge import Alert, Pipeline
from streamgauge.consumers import backtest
from streamgauge.consumers.inputs import Input
from streamgauge.engine import state
from streamgauge.rules import spec

OURS = "streamgauge"
FORMS = ("kpl", "plain", "ndjson")
STREAMS = ("clean", "disturbed")
PLAIN_SHARE = 4  # a plain case has a quarter of the records
READINGS_MIN = 10  # of each device, so that a large fleet's windows fill and empty
GROWTH = 10  # times the records of a case
GROWTH_PARTS = 4
GROWTH_ROWS = 50_000  # made and pushed at once
AIMS = {"naive": 6.0, "orjson on aws_kinesis_agg": 2.0}  # over aggregated records


class Case(NamedTuple):
    """One input, ready to be read by every engine."""

    form: str
    stream: str
    rows: Rows
    source: Any  # Kinesis records, or the path of a file


def pipeline() -> Pipeline:
    """A pipeline of the bench's rule, with empty windows."""
    return Pipeline.plan(spec.parse(telemetry.PIPELINE))


def push_all(records: list[dict[str, Any]], many: int = RECORDS_PER_PUSH) -> list[Alert]:
    """The alerts of Kinesis records, through the library face; `many` are pushed at once."""
    gauge, alerts = pipeline(), []
    for batch in telemetry.batches(records, many):
        alerts += gauge.push(batch).alerts
    return alerts


def back_test(path: str) -> list[Alert]:
    """The alerts of an NDJSON file, through the back-test host."""
    gauge, alerts, source = pipeline(), [], Input(path)
    for outcome in backtest.run(gauge, backtest.batches(source, "ndjson")):
        alerts += outcome.alerts
    source.close()
    return alerts


def loop_over_records(loads: str, opener: str, records: list[dict[str, Any]]) -> list[loops.Change]:
    """The changes of state that a loop finds in Kinesis records."""
    loop, opened = loops.Loop(loops.LOADERS[loads]), loops.OPENERS[opener]
    many = telemetry.PLAIN_PER_PUSH if opener == "none" else RECORDS_PER_PUSH
    for batch in telemetry.batches(records, many):
        loop.take(opened(batch))
    return loop.changes


def loop_over_lines(loads: str, path: str) -> list[loops.Change]:
    """The changes of state that a loop finds in an NDJSON file."""
    loop = loops.Loop(loops.LOADERS[loads])
    with open(path, "rb") as lines:
        loop.take(lines)
    return loop.changes


def engines_of(form: str) -> dict[str, Callable[[Any], list[Any]]]:
    """What reads a source of this form to the end, by name."""
    if form == "ndjson":
        return {
            OURS: back_test,
            "naive": lambda path: loop_over_lines("json", path),
            "orjson": lambda path: loop_over_lines("orjson", path),
        }
    if form == "plain":
        return {
            OURS: lambda given: push_all(given, telemetry.PLAIN_PER_PUSH),
            "naive": lambda given: loop_over_records("json", "none", given),
            "orjson": lambda given: loop_over_records("orjson", "none", given),
        }
    return {
        OURS: push_all,
        "naive": lambda given: loop_over_records("json", "aws_kinesis_agg", given),
        "orjson on aws_kinesis_agg": lambda given: loop_over_records(
            "orjson", "aws_kinesis_agg", given
        ),
        "orjson on streamgauge.kpl": lambda given: loop_over_records(
            "orjson", "streamgauge.kpl", given
        ),
    }


def cases_of(form: str, fleet: Fleet, count: int, folder: Path) -> list[Case]:
    """The clean and the disturbed stream of a fleet in one form."""
    made = []
    for stream in STREAMS:
        rows = fleet.rows(0, count, stream == "disturbed")
        source: Any = str(folder / f"{stream}.ndjson")
        if form != "ndjson":
            source = telemetry.aggregated(rows) if form == "kpl" else telemetry.plain(rows)
        else:
            Path(source).write_bytes(b"".join(line + b"\n" for line in telemetry.payloads(rows)))
        made.append(Case(form, stream, rows, source))
    return made


def measure(cases: list[Case], fleet: Fleet, repeat: int) -> tuple[list[dict[str, Any]], bool]:
    """Time every engine on every case, all in turn, and compare what they answer."""
    engines = engines_of(cases[0].form)
    taken: dict[str, timing.Taken] = {c.stream: {name: [] for name in engines} for c in cases}
    answers: dict[str, dict[str, list[Any]]] = {case.stream: {} for case in cases}
    for _ in range(repeat):
        for case in cases:
            for name, take in engines.items():
                seconds, answer = timing.cpu_seconds(lambda take=take, case=case: take(case.source))
                taken[case.stream][name].append(seconds * 1e9 / len(case.rows.time))
                answers[case.stream][name] = answer
    reports, agree = [], True
    for case in cases:
        ours = taken[case.stream][OURS]
        sample, wrong = checked(case.rows, fleet, answers[case.stream][OURS])
        agree &= not wrong
        report = {
            "input": case.form,
            "devices": fleet.devices,
            "interval_ms": fleet.interval,
            "stream": case.stream,
            "records": len(case.rows.time),
            **compared(answers[case.stream], len(case.rows.time)),
            "exact": {"devices": sample, "alerts_differing": wrong},
            "ns_per_record": {n: timing.spread(v) for n, v in taken[case.stream].items()},
            "times_faster_than": {
                name: timing.ratios(values, ours)
                for name, values in taken[case.stream].items()
                if name != OURS
            },
        }
        if case.stream == "disturbed":
            report["speed_of_clean"] = timing.ratios(taken["clean"][OURS], ours)
        reports.append(report)
    return reports, agree


def compared(answers: dict[str, list[Any]], records: int) -> dict[str, Any]:
    """How many alerts there are, and how many of each loop's are missing or spurious."""
    ours = {(alert.device, alert.time, alert.state) for alert in answers[OURS]}
    return {
        "alerts": len(ours),
        "alerts_share": round(len(ours) / records, 5),
        "alerts_differing": {
            name: len(ours ^ set(changes)) for name, changes in answers.items() if name != OURS
        },
    }


def checked(rows: Rows, fleet: Fleet, alerts: Iterable[Alert]) -> tuple[int, int]:
    """For how many devices the answer was computed anew, and how many alerts differ from it."""
    devices = exact.sample_of(rows, fleet.devices)
    names = set(map(telemetry.name, devices))
    ours = {exact.Change(a.device, a.time, a.state, a.value) for a in alerts if a.device in names}
    return len(devices), len(ours ^ exact.changes_of(rows, devices))


def grow(fleet: Fleet, stream: str, records: int, repeat: int) -> dict[str, Any]:
    """The cost of a record in each part of a long stream; its rows are made as it goes."""
    part = records // GROWTH_PARTS
    taken: list[list[float]] = [[] for _ in range(GROWTH_PARTS)]
    for _ in range(repeat):
        gauge = pipeline()
        for number in range(GROWTH_PARTS):
            seconds, pushed = 0.0, 0
            for first in range(number * part, (number + 1) * part, GROWTH_ROWS):
                count = min(GROWTH_ROWS, (number + 1) * part - first)
                rows = fleet.rows(first, count, stream == "disturbed")
                # A disturbed block has more rows than numbers; twice leaves room between blocks.
                given = telemetry.aggregated(rows, 2 * first)

                def push(given: list[dict[str, Any]] = given, gauge: Pipeline = gauge) -> None:
                    for batch in telemetry.batches(given, RECORDS_PER_PUSH):
                        gauge.push(batch)

                seconds += timing.cpu_seconds(push)[0]
                pushed += len(rows.time)
            taken[number].append(seconds * 1e9 / pushed)
    return {
        "devices": fleet.devices,
        "stream": stream,
        "records": records,
        "ns_per_record_of_each_part": [timing.spread(values) for values in taken],
        "last_to_first": timing.ratios(taken[-1], taken[0]),
    }


def remember(fleet: Fleet) -> dict[str, Any]:
    """All memory held after a stream of twice the time that samples are retained."""
    keep = telemetry.LENGTH + telemetry.LATENESS
    rows = fleet.rows(0, fleet.devices * (2 * keep // fleet.interval))
    given = telemetry.aggregated(rows)
    gauge, held = None, {}
    for name in (OURS, "naive"):
        gc.collect()
        tracemalloc.start()
        if name == OURS:
            gauge = pipeline()
            for batch in telemetry.batches(given, RECORDS_PER_PUSH):
                gauge.push(batch)
        else:
            loop = loops.Loop(loops.LOADERS["json"])
            loop.take(telemetry.payloads(rows))
            loop.changes.clear()
        gc.collect()
        held[name], peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        if name == OURS:
            highest = peak
    assert gauge is not None
    _, body = state.decode(gauge.save())
    retained = len(body["rules"][telemetry.RULE]["samples"]["time"])
    return {
        "devices": fleet.devices,
        "retained_samples": retained,
        "held_bytes": held[OURS],
        "peak_bytes": highest,
        "bytes_per_retained_sample": {
            name: round(size / retained, 1) for name, size in held.items()
        },
    }


def aims_of(cases: list[dict[str, Any]], growth: list[dict[str, Any]]) -> dict[str, bool]:
    """Whether the medians reach what the project aims at, in every case."""
    reached = {
        f"{times:g}x {name}": all(
            case["times_faster_than"][name]["median"] >= times
            for case in cases
            if case["input"] == "kpl"
        )
        for name, times in AIMS.items()
    }
    disturbed = [case["speed_of_clean"]["median"] for case in cases if "speed_of_clean" in case]
    reached["disturbed at least half as fast"] = all(speed >= 0.5 for speed in disturbed)
    reached["flat"] = all(part["last_to_first"]["median"] <= 1.1 for part in growth)
    return reached


def tell(cases: list[dict[str, Any]], growth: list[dict[str, Any]], memory: list[Any]) -> None:
    """Print the tables for people."""
    loop_names = ("naive", "orjson", "orjson on aws_kinesis_agg", "orjson on streamgauge.kpl")
    rows: list[list[Any]] = [["case", "ns/record", *loop_names, "alerts", "exact"]]
    for case in cases:
        faster = case["times_faster_than"]
        medians = [f"{faster[n]['median']:.1f}x" if n in faster else "" for n in loop_names]
        label = f"{case['input']}, {case['devices']} devices, {case['stream']}"
        wrong = case["exact"]["alerts_differing"]
        ours = case["ns_per_record"][OURS]["median"]
        rows.append([label, ours, *medians, case["alerts"], "differs" if wrong else "agrees"])
    timing.table("from bytes to alerts: streamgauge, and how many times faster it is", rows)
    timing.table(
        "ns/record in each part of a long stream",
        [["stream", *(f"part {n + 1}" for n in range(GROWTH_PARTS))]]
        + [
            [f"{g['records']} records, {g['stream']}"]
            + [part["median"] for part in g["ns_per_record_of_each_part"]]
            for g in growth
        ],
    )
    timing.table(
        "bytes held for each retained sample",
        [["fleet", "streamgauge", "naive"]]
        + [[f"{m['devices']} devices", *m["bytes_per_retained_sample"].values()] for m in memory],
    )


def arguments() -> argparse.Namespace:
    """The command line, with what --quick stands for filled in."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--quick", action="store_true", help="small inputs, two repeats")
    parser.add_argument("--records", type=int, help="user records of a case (400000)")
    parser.add_argument("--devices", type=int, help="one fleet of this size (1000 and 100000)")
    parser.add_argument("--repeat", type=int, help="how often each case runs (3)")
    parser.add_argument("--seed", type=int, default=1, help="of the telemetry (1)")
    given = parser.parse_args()
    given.records = given.records or (40_000 if given.quick else 400_000)
    given.repeat = given.repeat or (2 if given.quick else 3)
    usual = [200, 2_000] if given.quick else [1_000, 100_000]
    given.devices = [given.devices] if given.devices else usual
    return given


def main() -> None:
    """Run all and print."""
    given = arguments()
    fleets = [telemetry.fleet_of(given.seed, devices) for devices in given.devices]
    cases: list[dict[str, Any]] = []
    agree = True
    with tempfile.TemporaryDirectory() as folder:
        for form in FORMS:
            for fleet in fleets if form != "plain" else fleets[:1]:
                count = max(given.records, READINGS_MIN * fleet.devices)
                if form == "plain":
                    count //= PLAIN_SHARE
                inputs = cases_of(form, fleet, count, Path(folder))
                reports, right = measure(inputs, fleet, given.repeat)
                cases += reports
                agree &= right
    growth = [grow(fleets[0], stream, GROWTH * given.records, given.repeat) for stream in STREAMS]
    memory = [remember(fleet) for fleet in fleets]
    tell(cases, growth, memory)
    report = timing.header(
        "pipeline",
        "what does one user record cost from raw bytes to alerts, and does it stay that way?",
        seed=given.seed,
        repeat=given.repeat,
        cases=cases,
        growth=growth,
        memory=memory,
        aims_reached=aims_of(cases, growth),
    )
    timing.finish(report, agree)


if __name__ == "__main__":
    main()
