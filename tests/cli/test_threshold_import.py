"""The loop of an import: what it reads and writes, and what faults, races and a stop do to it."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
from memory_table import MemoryTable

from streamgauge.cli.threshold_import import INTERRUPTED, Importer, bring
from streamgauge.cli.threshold_lines import Given
from streamgauge.cli.threshold_table import Opened
from streamgauge.engine.aws import Service
from streamgauge.engine.errors import ConfigError, UnavailableError
from streamgauge.engine.limits import Entry
from streamgauge.engine.sinks.base import Patience
from streamgauge.engine.stores.threshold_items import ThresholdItems
from streamgauge.rules import spec as specs

SPEC = specs.parse("""
[pipeline]
name = "p"
[[rules]]
name = "hot"
sql = "SELECT * FROM '#'"
measure = "t"
threshold = 90.0
clear_margin = 2.0
[thresholds]
table = "thresholds"
""")
OWN = Entry(90.0, 2.0, 0, None)


class Bench:
    """An import into a table in memory, by a clock that pauses move."""

    def __init__(self, dry_run: bool = False) -> None:
        self.clock = 1000.0
        self.table = MemoryTable(now=self.now, random=random.Random(1))
        service = Service("dynamodb", make=self.table.client)
        self.items = ThresholdItems("thresholds", service, dry_run=dry_run)
        self.patience = Patience(
            seconds_max=60.0, now=self.now, sleep=self.sleep, random=lambda: 1.0
        )
        self.importer = Importer(self.items, SPEC.rules, self.start, self.patience)

    def now(self) -> float:
        return self.clock

    def sleep(self, seconds: float) -> None:
        self.clock += seconds

    def start(self) -> int:
        return round(self.clock * 1000) + 20_000

    def run(self, given: list[Given], asked: Callable[[], bool] = lambda: False) -> tuple[int, int]:
        """How many were written, and how many were as they should be."""
        self.importer.run(given, asked, lambda done: None)
        return self.importer.tally.written, self.importer.tally.unchanged

    def entries(self, device: str) -> list[Entry]:
        return self.items.entries(self.items.get(device, "hot"))

    def operations(self) -> dict[str, int]:
        names = [name for name, _ in self.table.calls]
        return {name: names.count(name) for name in dict.fromkeys(names)}


def limits(count: int, value: float = 75.0) -> list[Given]:
    return [Given(f"d{number}", "hot", [Entry(value)]) for number in range(count)]


def test_items_are_read_a_hundred_at_a_time_and_written_only_where_they_change() -> None:
    bench = Bench()
    assert bench.run(limits(250)) == (250, 0)
    assert bench.operations() == {"BatchGetItem": 3, "UpdateItem": 250}
    bench.table.calls.clear()
    bench.clock += 3600
    again = limits(250)
    again[200] = Given("d200", "hot", [Entry(70.0)])
    assert bench.run(again) == (1, 249)
    assert bench.operations() == {"BatchGetItem": 3, "UpdateItem": 1}
    assert bench.entries("d200") == [
        OWN, Entry(75.0, None, 1, 1_020_000), Entry(70.0, None, 2, 4_620_000)
    ]  # fmt: skip


def test_a_limit_is_in_force_two_refreshes_after_it_is_written_not_after_the_import_began() -> None:
    bench = Bench()

    def asked() -> bool:
        bench.clock += 30  # a slow table
        return False

    bench.run(limits(3), asked)
    starts = [bench.entries(f"d{number}")[-1].effective_from for number in range(3)]
    assert starts == [1_050_000, 1_080_000, 1_110_000]
    bench = Bench()
    bench.table.before_write = lambda: setattr(bench.table, "down_until", 1030.0)
    bench.run(limits(2))
    assert bench.entries("d1")[-1].effective_from >= 1_050_000  # type: ignore[operator]


@pytest.mark.parametrize("fault", ["throttle_next", "unprocessed", "down_until", "lose_next"])
def test_a_fault_that_ends_is_waited_for(fault: str) -> None:
    bench = Bench()
    value = {"throttle_next": 8, "unprocessed": 0.4, "down_until": 1045.0, "lose_next": 3}[fault]
    setattr(bench.table, fault, value)
    written, unchanged = bench.run(limits(150))
    assert written + unchanged == 150
    assert unchanged == (3 if fault == "lose_next" else 0)  # written, and the answer was lost
    assert all(len(bench.entries(f"d{number}")) == 2 for number in range(150))


def test_an_outage_has_a_limit_and_the_same_import_goes_on() -> None:
    bench = Bench()
    bench.table.answers_left = 1 + 5
    with pytest.raises(UnavailableError):
        bench.run(limits(9))
    assert (bench.importer.tally.done, bench.importer.tally.total) == (5, 9)
    assert 1060 <= bench.clock < 1070
    bench.table.answers_left = float("inf")
    assert bench.run(limits(9)) == (4, 5)


def test_a_stop_comes_between_two_items() -> None:
    bench = Bench()
    assert bench.run(limits(150), lambda: bench.importer.tally.done == 120) == (120, 0)
    assert len(bench.table.items()) == 120
    assert bench.run(limits(150)) == (30, 120)


def test_a_lost_race_is_run_again() -> None:
    bench = Bench()
    bench.table.before_write = lambda: bench.table.put("d0", "hot", value=80, version=4)
    assert bench.run(limits(2)) == (2, 0)
    assert bench.entries("d0") == [Entry(80.0, None, 4), Entry(75.0, None, 5, 1_020_000)]


def test_an_export_takes_the_place_of_what_is_there() -> None:
    bench = Bench()
    bench.table.put("d0", "hot", value="no limit")
    entries = [Entry(1.0, 0.5, "a"), Entry(2.0, None, None, 5)]
    given = [Given("d0", "hot", entries, exact=True)]
    assert bench.run(given) == (1, 0)
    assert bench.entries("d0") == entries
    assert bench.run(given) == (0, 1)


def test_an_item_that_is_no_limit_does_not_hold_up_the_others() -> None:
    bench = Bench()
    bench.table.put("d1", "hot", value="75")
    assert bench.run(limits(3)) == (2, 0)
    tally = bench.importer.tally
    assert (tally.wrong, tally.done, len(tally.problems)) == (1, 3, 1)


def brought(bench: Bench, *arguments: Any) -> int:
    return bring(Opened(SPEC, bench.items, bench.patience), *arguments)


def test_how_far_it_got_is_said_in_each_case(capsys: pytest.CaptureFixture[str]) -> None:
    bench = Bench()
    assert brought(bench, limits(2), lambda: False, False) == 0
    assert capsys.readouterr() == ("", "2 of 2 limits: 2 written, 0 as they were\n")
    stops = iter([False, True])
    assert brought(bench, limits(1234), lambda: next(stops), False) == INTERRUPTED
    assert capsys.readouterr().err == (
        "1 of 1,234 limits: 0 written, 1 as they were\n"
        "interrupted: the same import goes on from there\n"
    )
    bench.table.throttle_next = 10**6
    with pytest.raises(UnavailableError):
        brought(bench, limits(1), lambda: False, False)
    assert capsys.readouterr().err == "0 of 1 limit: 0 written, 0 as they were\n"
    bench.table.throttle_next = 0
    bench.table.put("d1", "hot", value="75")
    with pytest.raises(ConfigError, match="device 'd1', rule 'hot'"):
        brought(bench, limits(3), lambda: False, False)
    assert capsys.readouterr().err == (
        "3 of 3 limits: 1 written, 1 as they were, 1 left alone: what is there is no limit\n"
    )


def test_ctrl_c_ends_a_pause(capsys: pytest.CaptureFixture[str]) -> None:
    bench = Bench()
    bench.table.answers_left = 3

    def sleep(seconds: float) -> None:
        raise KeyboardInterrupt

    bench.patience = Patience(sleep=sleep)
    assert brought(bench, limits(5), lambda: False, False) == INTERRUPTED
    assert capsys.readouterr().err.startswith("2 of 5 limits: 2 written, 0 as they were\ninterrup")


def test_a_dry_run_reads_and_does_not_write(capsys: pytest.CaptureFixture[str]) -> None:
    bench = Bench(dry_run=True)
    bench.table.put("d0", "hot", value=75, version=1)
    assert brought(bench, limits(3), lambda: False, True) == 0
    assert capsys.readouterr().err == "3 of 3 limits: 2 would be written, 1 as they were\n"
    assert bench.operations() == {"BatchGetItem": 1}
