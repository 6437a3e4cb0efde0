"""Changes of items: what holds before and after, who wins a race, and how much history is kept."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import boto3
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from memory_table import MemoryTable
from moto import mock_aws

from streamgauge.engine.aws import RefusedError, Service
from streamgauge.engine.errors import ConfigError, UnavailableError
from streamgauge.engine.limits import Entry
from streamgauge.engine.stores.dynamodb import TableThresholds
from streamgauge.engine.stores.threshold_attributes import attributes_of, entries_of, storable
from streamgauge.engine.stores.threshold_items import (
    HISTORY_MAX,
    RACES_MAX,
    Change,
    ThresholdItems,
    in_force,
)
from streamgauge.engine.stores.thresholds import MappingThresholds
from streamgauge.engine.threshold import Thresholds

OWN = Entry(90.0, 2.0, 0, None)  # the rule's own limit, as an item's first entry
KEY = {"device": {"S": "d"}, "rule": {"S": "r"}}


@pytest.fixture(params=["memory", "moto"])
def service(request: pytest.FixtureRequest) -> Iterator[Service]:
    """Both tables: what holds over one holds over the other."""
    if request.param == "memory":
        yield Service("dynamodb", MemoryTable("t").client())
        return
    with mock_aws():
        client = boto3.client("dynamodb")
        keys = ("device", "HASH"), ("rule", "RANGE")
        client.create_table(
            TableName="t",
            BillingMode="PAY_PER_REQUEST",
            AttributeDefinitions=[{"AttributeName": n, "AttributeType": "S"} for n, _ in keys],
            KeySchema=[{"AttributeName": name, "KeyType": kind} for name, kind in keys],
        )
        yield Service("dynamodb", client)


class Bench:
    """Items over a table in memory."""

    def __init__(self) -> None:
        self.table = MemoryTable("t", random=random.Random(1))
        self.items = ThresholdItems("t", Service("dynamodb", make=self.table.client))

    def set(self, value: float, start: int | None, margin: float | None = None) -> Change:
        return self.items.set("d", "r", Entry(value, margin, None, start), OWN)

    @property
    def entries(self) -> list[Entry]:
        return self.items.entries(self.items.get("d", "r"))

    @property
    def operations(self) -> list[str]:
        return [operation for operation, _ in self.table.calls]


def test_the_first_change_writes_down_what_held_before(service: Service) -> None:
    items = ThresholdItems("t", service)
    first = items.set("d", "r", Entry(75.0, None, None, 100), OWN)
    assert first == Change([OWN, Entry(75.0, None, 1, 100)], True)
    second = items.set("d", "r", Entry(70.0, 1.5, None, 200), OWN)
    expected = [OWN, Entry(75.0, None, 1, 100), Entry(70.0, 1.5, 2, 200)]
    assert second == Change(expected, True)
    assert items.entries(items.get("d", "r")) == expected
    assert TableThresholds("t", service).read([("d", "r")]) == {("d", "r"): expected}


def test_a_change_that_changes_nothing_writes_nothing(service: Service) -> None:
    items = ThresholdItems("t", service)
    items.set("d", "r", Entry(75.0, None, None, 100), OWN)
    before = items.get("d", "r")
    for start in (100, 101, 10**12):
        again = items.set("d", "r", Entry(75.0, None, None, start), OWN)
        assert (again.written, again.entries[-1]) == (False, Entry(75.0, None, 1, 100))
    assert items.set("d", "r", Entry(90.0, 2.0, None, 50), OWN).written is False
    assert items.get("d", "r") == before
    assert items.set("d", "r", Entry(75.0, 0.0, None, 101), OWN).written is True


def test_of_two_for_one_time_the_later_holds(service: Service) -> None:
    items = ThresholdItems("t", service)
    for value in (75.0, 70.0, 75.0):
        assert items.set("d", "r", Entry(value, None, None, 100), OWN).written
    entries = items.entries(items.get("d", "r"))
    assert [entry.version for entry in entries] == [0, 1, 2, 3]
    assert entries[in_force(entries, 100)] == Entry(75.0, None, 3, 100)
    assert limit(entries, 100) == (75.0, 3)


def test_always_takes_the_place_of_all_entries(service: Service) -> None:
    items = ThresholdItems("t", service)
    for number in range(3):
        items.set("d", "r", Entry(number, None, None, 100 + number), OWN)
    always = Change([Entry(5.0, 1.0, 4, None)], True)
    assert items.set("d", "r", Entry(5.0, 1.0), OWN) == always
    assert items.set("d", "r", Entry(5.0, 1.0), OWN) == always._replace(written=False)
    item = items.get("d", "r")
    assert item is not None and "history" not in item and "effective_from" not in item
    assert items.set("e", "r", Entry(5.0), OWN).entries == [Entry(5.0, None, 1, None)]


def test_the_newest_sixteen_are_kept(service: Service) -> None:
    items = ThresholdItems("t", service)
    for number in range(1, 21):
        items.set("d", "r", Entry(number, None, None, 100 * number), OWN)
    entries = items.entries(items.get("d", "r"))
    assert [entry.version for entry in entries] == list(range(20 - HISTORY_MAX, 21))
    # What is newest is told by the start: one that was planned long ago is not dropped for it.
    items.set("d", "r", Entry(99.0, None, None, 10**9), OWN)
    for number in range(21, 41):
        items.set("d", "r", Entry(number, None, None, 100 * number), OWN)
    entries = items.entries(items.get("d", "r"))
    assert len(entries) == HISTORY_MAX + 1
    assert limit(entries, 10**9) == (99.0, 21)
    # An entry that is older than all that are kept is written all the same, and holds.
    items.set("d", "r", Entry(1.0, None, None, 1), OWN)
    entries = items.entries(items.get("d", "r"))
    assert len(entries) == HISTORY_MAX + 1
    assert limit(entries, 1) == (1.0, 42)


def test_attributes_of_others_stay(service: Service) -> None:
    service.call(
        "update_item", "t", TableName="t", Key=KEY,
        UpdateExpression="SET #site = :site, #value = :value",
        ConditionExpression="attribute_not_exists(#value)",
        ExpressionAttributeNames={"#site": "site", "#value": "value"},
        ExpressionAttributeValues={":site": {"S": "north"}, ":value": {"N": "80.0"}},
    )  # fmt: skip
    items = ThresholdItems("t", service, updated_by="anna")
    assert items.set("d", "r", Entry(75.0, None, None, 100), OWN).entries == [
        Entry(80.0), Entry(75.0, None, 1, 100)
    ]  # fmt: skip
    item = items.get("d", "r")
    assert item is not None
    assert (item["site"], item["updated_by"]) == ({"S": "north"}, {"S": "anna"})


def test_a_restored_item_holds_just_what_was_given(service: Service) -> None:
    items = ThresholdItems("t", service)
    items.set("d", "r", Entry(75.0, 3.0, None, 100), OWN)
    given = [Entry(1.0, None, "a"), Entry(0.1, 2.5, 7, 5), Entry(0.1, None, None, 5)]
    assert items.restore("d", "r", given) == Change(given, True)
    assert items.restore("d", "r", given) == Change(given, False)
    assert items.entries(items.get("d", "r")) == given
    assert items.set("d", "r", Entry(2.0, None, None, 9), OWN).entries[-1].version == 8
    assert items.restore("d", "r", [Entry(3.0)]).written
    assert items.get("d", "r") == {**KEY, "value": {"N": "3"}}


def race(bench: Bench, other: Callable[[], object], times: int = 1) -> None:
    """Let somebody else write between our read and our write, `times` times in a row."""

    def write() -> None:
        other()
        if times > 1:
            race(bench, other, times - 1)

    bench.table.before_write = write


def test_of_two_writers_neither_undoes_the_other() -> None:
    bench = Bench()
    other = ThresholdItems("t", Service("dynamodb", make=bench.table.client))
    for number, start in ((1, 100), (2, 200)):  # the first one makes the item
        theirs = Entry(number, None, None, start)
        race(bench, lambda theirs=theirs: other.set("d", "r", theirs, OWN))  # type: ignore[misc]
        assert bench.set(number + 0.5, start + 50).written
    assert bench.entries == [
        OWN, Entry(1.0, None, 1, 100), Entry(1.5, None, 2, 150), Entry(2.0, None, 3, 200),
        Entry(2.5, None, 4, 250),
    ]  # fmt: skip


@pytest.mark.parametrize(
    "change",
    [
        {"value": {"N": "81"}}, {"clear_margin": {"N": "1"}}, {"version": {"N": "9"}},
        {"effective_from": {"N": "7"}}, {"history": {"L": [{"M": {"value": {"N": "3"}}}]}},
        {"updated_by": {"S": "by hand"}},
    ],
)  # fmt: skip
def test_whatever_another_writer_changes_is_seen(change: dict[str, Any]) -> None:
    bench = Bench()
    bench.table.put("d", "r", value=80)
    item: Any = {**KEY, "value": {"N": "80"}, **change}
    race(bench, lambda: bench.table.write(item))
    assert bench.set(70.0, 100).entries[:-1] == entries_of(item, "t")
    assert bench.operations == ["GetItem", "UpdateItem"] * 2


def test_an_item_that_was_removed_meanwhile_is_made_anew() -> None:
    bench = Bench()
    bench.table.put("d", "r", value=80)
    race(bench, lambda: bench.table._versions.clear())
    assert bench.set(70.0, 100).entries == [OWN, Entry(70.0, None, 1, 100)]


def test_a_race_that_is_lost_again_and_again_is_put_off() -> None:
    bench = Bench()
    values = iter(range(100))
    race(bench, lambda: bench.table.put("d", "r", value=next(values)), RACES_MAX - 1)
    assert bench.set(70.0, 100).written
    race(bench, lambda: bench.table.put("d", "r", value=next(values)), RACES_MAX)
    with pytest.raises(UnavailableError, match="device 'd', rule 'r': others changed the item 10"):
        bench.set(71.0, 200)
    assert bench.entries == [Entry(2.0 * RACES_MAX - 2)]


def test_a_write_whose_answer_was_lost_is_not_done_twice() -> None:
    bench = Bench()
    bench.table.lose_next = 1
    with pytest.raises(UnavailableError):
        bench.set(70.0, 100)
    assert bench.set(70.0, 120).written is False
    assert bench.entries == [OWN, Entry(70.0, None, 1, 100)]


def test_an_item_that_is_no_limit_is_replaced_but_not_added_to() -> None:
    bench = Bench()
    bench.table.put("d", "r", value="90")
    with pytest.raises(ConfigError, match="value: expected a number, found the text '90'"):
        bench.set(70.0, 100)
    assert bench.set(70.0, None).entries == [Entry(70.0, None, 1)]
    bench.table.put("d", "r", value="90")
    assert bench.items.restore("d", "r", [OWN]).written
    assert bench.entries == [OWN]


def test_what_was_read_a_moment_ago_is_not_read_again() -> None:
    bench = Bench()
    seen = bench.items.read([("d", "r"), ("e", "r")])
    assert seen == {}
    bench.items.set("d", "r", Entry(1.0, None, None, 5), OWN, seen.get(("d", "r")))
    assert bench.operations == ["BatchGetItem", "UpdateItem"]
    late = bench.items.set("d", "r", Entry(2.0, None, None, 6), OWN, None)  # no more as it was seen
    assert [entry.version for entry in late.entries] == [0, 1, 2]


def test_reads_see_the_last_write() -> None:
    bench = Bench()
    bench.table.lag_seconds = 100.0
    bench.set(1.0, 5)
    assert bench.items.get("d", "r") is not None
    assert list(bench.items.read([("d", "r")])) == [("d", "r")]


def test_a_dry_run_says_the_same_and_writes_nothing() -> None:
    bench = Bench()
    dry = ThresholdItems("t", Service("dynamodb", make=bench.table.client), dry_run=True)
    entry = Entry(1.0, None, None, 5)
    assert dry.set("d", "r", entry, OWN) == Change([OWN, Entry(1.0, None, 1, 5)], True)
    assert dry.restore("d", "r", [OWN]).written
    assert bench.entries == []
    bench.set(1.0, 5)
    assert dry.set("d", "r", entry, OWN).written is False


def test_all_items_come_page_by_page(service: Service) -> None:
    items = ThresholdItems("t", service)
    for device in "abc":
        for rule in "xy":
            items.set(device, rule, Entry(1.0, None, None, 5), OWN)
    names = [(i["device"]["S"], i["rule"]["S"]) for page in items.pages() for i in page]
    assert sorted(names) == [(device, rule) for device in "abc" for rule in "xy"]
    of_one = [i["rule"]["S"] for page in items.pages("b") for i in page]
    assert sorted(of_one) == ["x", "y"]
    assert [item for page in items.pages("nobody") for item in page] == []


def test_a_page_that_was_refused_is_asked_for_again() -> None:
    bench = Bench()
    for number in range(7):
        bench.table.put(f"d{number}", "r", value=number)
    bench.table.page_items, refusals = 3, []

    def insist(call: Callable[[], Any]) -> Any:
        try:
            return call()
        except UnavailableError as error:
            refusals.append(error)
            return call()

    found = []
    for page in bench.items.pages(insist=insist):
        found += [item["device"]["S"] for item in page]
        bench.table.throttle_next = 1
    assert found == [f"d{number}" for number in range(7)]
    assert len(refusals) == 2


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (Entry(1e126), "value: expected 0 or a number that DynamoDB holds, from 1e-130 to 9.9e"),
        (Entry(-1e-131), "value: expected 0 or a number that DynamoDB holds"),
        (Entry(1.0, 1e200), "clear_margin: expected 0 or a number that DynamoDB holds"),
        (Entry(float("inf")), "value: expected a finite number"),
        (Entry(1.0, None, 10**38), "version: expected at most 38 digits"),
        (Entry(1.0, None, "é" * 513), "version: expected at most 1024 bytes"),
        (Entry(1.0, None, "\ud800"), "version: expected at most 1024 bytes of text"),
        (Entry(1.0, -1.0), "clear_margin: expected a number at or above 0"),
    ],
)
def test_what_no_item_can_hold_is_refused(entry: Entry, message: str) -> None:
    bench = Bench()
    for call in (
        lambda: bench.items.set("d", "r", entry),
        lambda: bench.items.restore("d", "r", [entry]),
    ):
        with pytest.raises(ValueError, match="^" + message):
            call()
    assert bench.table.calls == []


def test_another_refusal_is_not_taken_for_a_lost_race() -> None:
    items = ThresholdItems("other", Service("dynamodb", make=MemoryTable("t").client))
    with pytest.raises(RefusedError, match="aws dynamodb create-table --table-name other "):
        items.set("d", "r", Entry(1.0, None, None, 5), OWN)


# What holds when.
ENTRIES = st.builds(
    Entry,
    value=st.floats(-1e9, 1e9).filter(lambda value: value == 0 or abs(value) > 1e-9),
    clear_margin=st.none() | st.sampled_from([0.0, 0.1, 2.5]),
    version=st.none() | st.integers(-5, 5) | st.text(max_size=3),
    effective_from=st.none() | st.integers(1, 40),
)


def limit(entries: Sequence[Entry], time: int) -> tuple[float, Any]:
    """The limit at one time, by the engine."""
    return limits(entries, [time])[0]


def limits(entries: Sequence[Entry], times: Sequence[int]) -> list[tuple[float, Any]]:
    """The limit and its version at each time, by the engine."""
    thresholds = Thresholds(MappingThresholds({("d", "r"): list(entries)}), [("r", 90.0, 2.0)])
    devices = np.zeros(len(times), np.int64)
    thresholds.prepare(["d"], devices)
    found = thresholds.limits(0, devices, np.array(times, np.int64))
    return list(zip(found.value.tolist(), found.version.tolist(), strict=True))


@given(st.lists(ENTRIES, min_size=1, max_size=HISTORY_MAX + 1))
def test_entries_of_an_item_are_those_that_were_put_there(entries: list[Entry]) -> None:
    wanted = [storable(entry) for entry in entries]
    assert entries_of({**KEY, **attributes_of(wanted)}, "t") == wanted


@given(st.lists(ENTRIES, min_size=1, max_size=17), st.integers(0, 41))
def test_what_is_in_force_is_what_the_engine_takes(entries: list[Entry], time: int) -> None:
    found = entries[in_force(entries, time)]
    assert (found.value, found.version) == limit(entries, time)


CHANGES = st.tuples(st.sampled_from([1.0, 2.0, 3.0]), st.integers(1, 40))


@given(st.lists(CHANGES, max_size=HISTORY_MAX))
def test_a_change_holds_from_its_start_and_nothing_before_it_moves(
    changes: list[tuple[float, int]],
) -> None:
    bench = Bench()
    held = {time: 90.0 for time in range(42)}
    starts: set[int] = set()
    for value, start in changes:
        change = bench.set(value, start)
        end = min((other for other in starts if other > start), default=42)
        assert change.written == (held[start] != value)
        if change.written:
            starts.add(start)
            held.update(dict.fromkeys(range(start, end), value))
        assert [of for of, _ in limits(change.entries, range(42))] == list(held.values())
    versions = [entry.version for entry in bench.entries]
    assert versions == list(range(len(versions)))
