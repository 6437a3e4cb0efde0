"""What is known of a device now: the oracle's own memory, and nothing is changed by asking."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import drive
import generate
import plain_kpl
import pytest
import torture
from effort import examples
from generate import Case
from hypothesis import HealthCheck, given, settings
from plain_kpl import Kinesis, opened
from plain_oracle import Oracle, Track, statistic

from streamgauge import Pipeline, Record
from streamgauge.engine.errors import UnavailableError
from streamgauge.engine.limits import Entry
from streamgauge.rules import plan as planned
from streamgauge.rules import spec as specs

LIMIT = ("threshold", "threshold_version", "clear_margin", "stale")
TOML = """
[pipeline]
name = "p"
[record]
device = "device"
time = "ts"
[delivery]
allowed_lateness = "2s"
forget_after = "1m"
[thresholds]
refresh = "10s"
[[rules]]
name = "hot"
sql = "SELECT * FROM '#' WHERE value <> 13"
measure = "value"
window = "5s"
statistic = "STATISTIC"
threshold = 10.0
hold = "1s"
"""


def expected(oracle: Oracle, device: str) -> list[dict[str, Any]]:
    """What the oracle remembers of a device, in the words of `inspect`; every limit known."""
    rows = []
    for rule in oracle.rules:
        track = oracle.tracks.get((rule.name, device), Track())
        held = [] if track.newest is None else track.held
        window = [s for s in held if s.time >= (track.newest or 0) - rule.window]
        pending = "ok" if track.pending is None else "pending"
        since = track.changed if track.pending is None else track.pending
        if track.newest is None and since is None:
            continue
        seen = oracle.heard[device]
        limit: tuple[Any, ...] = (None, None, None)
        if track.newest is not None:
            decided = track.newest if seen is None else min(track.newest, seen)
            value, margin, version = oracle.limit(rule, device, decided)
            limit = (value, version, margin)
        rows.append(
            {
                "rule": rule.name,
                "device": device,
                "time": track.newest,
                "value": statistic(rule.statistic, window) if window else None,
                "samples": len(window),
                **dict(zip(LIMIT, (*limit, None if limit[0] is None else False), strict=True)),
                "state": "firing" if track.firing else pending,
                "since": since,
                "seen": seen,
            }
        )
    return rows


def check(
    load: Callable[[], Pipeline], oracle: Oracle, batches: list[list[Kinesis]], saves: list[str]
) -> None:
    """Ask one pipeline of every device after each batch and another of none; both go on alike."""
    asked, plain = load(), load()
    unread: set[str] = set()  # devices whose limits a fresh pipeline has not read yet
    for number, batch in enumerate(batches):
        records = [drive.record(one) for one in batch]
        answers = drive.Answer(), drive.Answer()
        drive.take(answers[0], asked.push(records))
        drive.take(answers[1], plain.push(records))
        assert json.dumps(vars(answers[0])) == json.dumps(vars(answers[1]))
        before = len(oracle.statistics)
        oracle.push(user for one in batch for user in opened(one))
        unread -= {row["device"] for row in oracle.statistics[before:]}
        for device in [*oracle.heard, "never heard of"]:
            rows, wanted = asked.inspect(device), expected(oracle, device)
            for row, want in zip(rows, wanted, strict=True):
                if device in unread and row["threshold"] is None:
                    want |= dict.fromkeys(LIMIT)
            assert drive.exact(rows) == drive.exact(wanted)
            assert json.loads(json.dumps(rows, allow_nan=False)) == rows
        assert asked.firing == {
            rule.name: sum(t.firing for (name, _), t in oracle.tracks.items() if name == rule.name)
            for rule in oracle.rules
        }
        saved = asked.save()
        assert saved == plain.save()
        if saves[number].endswith("kill"):
            asked, plain = load(), load()
            assert asked.restore([saved]) == plain.restore([saved]) == []
            unread = set(oracle.heard)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("inspect")


@settings(
    max_examples=examples(60),
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(case=generate.cases(size=40))
def test_it_is_what_the_oracle_remembers(folder: Path, case: Case) -> None:
    load = drive.loader(folder, case.toml, case.thresholds)
    saves = [*case.saves, *[""] * len(case.batches)]
    check(load, Oracle(case.toml, case.thresholds), case.batches, saves)


def test_the_torture_file(tmp_path: Path) -> None:
    toml = (torture.HERE / "torture.toml").read_text()
    told = plain_kpl.read(torture.HERE / "torture.ndjson")
    batches = [told[at : at + 40] for at in range(0, len(told), 40)]
    saves = ["kill" if number % 3 == 2 else "" for number in range(len(batches))]
    load = drive.loader(tmp_path, toml, torture.thresholds())
    check(load, Oracle(toml, torture.thresholds()), batches, saves)


class Table:
    """A table of limits that can be down."""

    def __init__(self, *entries: Entry) -> None:
        self.entries = entries
        self.down = False

    def read(self, keys: Any) -> Any:
        if self.down:
            raise UnavailableError("the table is down")
        return {key: self.entries for key in keys if self.entries}


def pipeline(
    statistic: str = "mean", store: Any = None, now: Callable[[], float] = float
) -> Pipeline:
    text = TOML.replace("STATISTIC", statistic)
    return planned.Pipeline.plan(specs.parse(text), store, now=now, one_shard=True)


def records(*rows: tuple[str, int, float], first: int = 1) -> list[Record]:
    """Records of (device, event time in ms, value), which arrive when they say."""
    return [
        Record("s", str(number), json.dumps(dict(device=d, ts=t, value=v)).encode(), "k", t)
        for number, (d, t, v) in enumerate(rows, first)
    ]


def test_a_sum_beyond_float64_is_no_value() -> None:
    """Each of the two had a window of its own that was not beyond it."""
    made = pipeline("sum")
    outcome = made.push(records(("a", 10_000, 1.7e308), ("a", 9_000, 1.7e308)))
    assert outcome.rejected == []
    (row,) = made.inspect("a")
    assert (row["value"], row["samples"]) == (None, 2)


def test_a_limit_is_told_as_of_the_sample() -> None:
    table = Table(Entry(5.0, 1.0, 1), Entry(7.0, 2.0, "2", 20_000))
    made = pipeline(store=table)
    made.push(records(("a", 10_000, 1), ("b", 20_000, 1)))
    told = [tuple(made.inspect(device)[0][key] for key in LIMIT) for device in "ab"]
    assert told == [(5.0, 1, 1.0, False), (7.0, "2", 2.0, False)]
    ahead = Record("s", "9", b'{"device":"c","ts":20005,"value":1}', "k", 19_999)
    made.push([ahead])
    assert made.inspect("c")[0]["threshold"] == 5.0  # its arrival decides


def test_limits_of_a_table_that_is_down_are_told_as_stale() -> None:
    clock = [0.0]
    table = Table(Entry(5.0))
    made = pipeline(store=table, now=lambda: clock[0])
    made.push(records(("a", 1_000, 1), ("b", 1_000, 1)))
    assert made.stale_devices == 0
    table.down, clock[0] = True, 11.0
    made.push(records(("a", 2_000, 1), first=3))
    assert [made.inspect(device)[0]["stale"] for device in "ab"] == [True, False]
    assert made.stale_devices == 1


def test_a_device_that_waits_for_its_limit_is_unknown() -> None:
    table = Table()
    table.down = True
    made = pipeline(store=table)
    with pytest.raises(UnavailableError):
        made.push(records(("a", 1_000, 1)))
    assert made.inspect("a") == []
    table.down = False
    made.push(records(("a", 1_000, 1)))
    assert made.inspect("a")[0]["samples"] == 1


def test_a_restored_device_is_known_before_its_limit_is() -> None:
    before = pipeline(store={("a", "hot"): 5.0})
    before.push(records(("a", 1_000, 11)))
    made = pipeline(store={("a", "hot"): 5.0})
    made.restore([before.save()])
    (row,) = made.inspect("a")
    assert [row[key] for key in LIMIT] == [None] * 4
    assert (row["value"], row["state"], row["since"]) == (11.0, "pending", 1_000)


def test_a_silent_device_is_told_until_its_memory_is_freed() -> None:
    made = pipeline()
    made.push(records(("a", 1_000, 1), ("hot", 1_000, 11), ("hot", 2_000, 11)))
    made.push(records(("b", 100_000, 1), first=4))
    assert made.inspect("a")[0]["time"] == 1_000
    made.push(records(("b", 300_000, 1), first=5))
    assert made.inspect("a") == []
    (kept,) = made.inspect("hot")  # what fires is kept until it is resolved
    assert (kept["time"], kept["value"], kept["samples"]) == (None, None, 0)
    assert (kept["state"], kept["since"], kept["threshold"]) == ("firing", 2_000, None)
    assert made.firing == {"hot": 1}


def test_a_device_that_was_filtered_only_has_no_row() -> None:
    made = pipeline()
    made.push(records(("a", 1_000, 13)))
    assert made.inspect("a") == []
