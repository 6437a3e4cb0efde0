"""The limit of each row against the obvious reading of an item's entries."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
import pytest
from effort import examples
from hypothesis import given, settings
from hypothesis import strategies as st

from streamgauge.engine import threshold
from streamgauge.engine.batch import Ints
from streamgauge.engine.errors import ConfigError, UnavailableError
from streamgauge.engine.limits import Entry
from streamgauge.engine.threshold import Limits, Thresholds

Key = tuple[str, str]
RULES = [("hot", 90.0, 2.0), ("cold", 5.0, 0.5)]
NAMES = [f"d{n}" for n in range(6)]


class Table:
    """A store that counts what it is asked and can be down."""

    def __init__(self, items: dict[Key, list[Entry]] | None = None) -> None:
        self.items = items or {}
        self.down = False
        self.calls: list[list[Key]] = []
        self.answers_left = math.inf

    def read(self, keys: Sequence[Key]) -> Mapping[Key, Sequence[Entry]]:
        self.calls.append(list(keys))
        if self.down or self.answers_left <= 0:
            raise UnavailableError("table: throttled")
        self.answers_left -= 1
        return {key: list(self.items[key]) for key in keys if key in self.items}


class Clock:
    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


def ints(*values: int) -> Ints:
    return np.array(values, np.int64)


def plain(limits: Limits) -> list[tuple[float, float, int | str | None, bool]]:
    columns = (limits.value, limits.margin, limits.version, limits.stale)
    return list(zip(*(column.tolist() for column in columns), strict=True))


def in_force(
    entries: Sequence[Entry] | None, time: int, rule: tuple[str, float, float]
) -> tuple[float, float, int | str | None]:
    """The greatest start at or before `time`, else the oldest; the later one of equal starts."""
    if not entries:
        return rule[1], rule[2], None
    starts = [-math.inf if e.effective_from is None else e.effective_from for e in entries]
    begun = [start for start in starts if start <= time]
    wanted = max(begun) if begun else min(starts)
    entry = [e for e, start in zip(entries, starts, strict=True) if start == wanted][-1]
    margin = rule[2] if entry.clear_margin is None else entry.clear_margin
    return entry.value, margin, entry.version


TIMES = st.integers(0, 40)
ENTRIES = st.builds(
    Entry,
    value=st.floats(-100, 100),
    clear_margin=st.none() | st.floats(0, 10),
    version=st.none() | st.integers(0, 400) | st.text(max_size=3),
    effective_from=st.none() | st.integers(1, 40),
)
ITEMS = st.dictionaries(
    st.tuples(st.sampled_from(NAMES), st.sampled_from(["hot", "cold", "other"])),
    st.lists(ENTRIES, min_size=1, max_size=5),
)
BATCHES = st.lists(st.tuples(st.integers(0, 5), TIMES), max_size=20)


@given(st.lists(st.tuples(ITEMS, st.floats(0, 12), st.booleans(), BATCHES), max_size=6), st.data())
def test_limits_are_those_of_the_items_last_read(
    rounds: list[tuple[dict[Key, list[Entry]], float, bool, list[tuple[int, int]]]],
    data: st.DataObject,
) -> None:
    """A model: per device the items as last read and when; everything else is recomputed."""
    table, clock = Table(), Clock()
    limits = Thresholds(table, RULES, refresh_seconds=10.0, now=clock)
    known: dict[int, tuple[float, dict[str, list[Entry] | None]]] = {}
    for items, passed, down, rows in rounds:
        table.items, table.down = items, down
        clock.seconds += passed
        devices = ints(*(device for device, _ in rows))
        times = ints(*(time for _, time in rows))
        before = len(table.calls)
        try:
            limits.prepare(NAMES, devices)
        except UnavailableError:
            assert down and not set(devices.tolist()) <= set(known)
            continue
        asked = {key for call in table.calls[before:] for key in call}
        for device in set(devices.tolist()):
            name = NAMES[device]
            due = device not in known or known[device][0] + 10.0 <= clock.seconds
            if due and not down and (name, "hot") in asked:
                found = {rule: items.get((name, rule)) for rule in ("hot", "cold")}
                known[device] = (clock.seconds, found)
            assert due or (name, "hot") not in asked
        for index, rule in enumerate(RULES):
            expected = [
                (
                    *in_force(known[device][1][rule[0]], time, rule),
                    known[device][0] + 10.0 <= clock.seconds,
                )
                for device, time in rows
            ]
            assert plain(limits.limits(index, devices, times)) == expected
        if data.draw(st.booleans()):
            gone = data.draw(st.integers(0, 5))
            limits.forget(ints(gone))
            known.pop(gone, None)


@given(st.lists(ENTRIES, min_size=1, max_size=20), st.lists(TIMES, min_size=1, max_size=60))
@settings(max_examples=examples(300))
def test_the_cut_into_batches_changes_nothing(entries: list[Entry], times: list[int]) -> None:
    table = Table({("d0", "hot"): entries})
    whole = Thresholds(table, RULES)
    whole.prepare(NAMES, ints(0))
    at_once = plain(whole.limits(0, np.zeros(len(times), np.int64), ints(*times)))
    single = Thresholds(table, RULES)
    single.prepare(NAMES, ints(0))
    one_by_one = [plain(single.limits(0, ints(0), ints(time)))[0] for time in times]
    assert at_once == one_by_one == [(*in_force(entries, t, RULES[0]), False) for t in times]


def test_history_without_order_and_beyond_sixteen_entries() -> None:
    entries = [Entry(float(n), version=n, effective_from=10 * n) for n in range(1, 41)]
    entries.reverse()
    table = Table({("d0", "hot"): entries})
    limits = Thresholds(table, RULES)
    limits.prepare(NAMES, ints(0))
    times = ints(0, 9, 10, 19, 20, 399, 400, 10**12, 5)
    versions = limits.limits(0, np.zeros(9, np.int64), times).version.tolist()
    assert versions == [1, 1, 1, 1, 2, 39, 40, 40, 1]


def test_without_a_store_every_row_has_the_rules_own_limit() -> None:
    limits = Thresholds(None, RULES)
    limits.prepare(NAMES, ints(0, 3))
    assert plain(limits.limits(1, ints(0, 3), ints(1, 2))) == [(5.0, 0.5, None, False)] * 2


def test_versions_are_kept_as_given() -> None:
    items = {
        ("d0", "hot"): [Entry(1.0, version="winter-7")],
        ("d1", "hot"): [Entry(2.0, version=10**30)],
        ("d2", "hot"): [Entry(3.0)],
    }
    limits = Thresholds(Table(items), RULES)
    limits.prepare(NAMES, ints(0, 1, 2))
    found = limits.limits(0, ints(2, 1, 0, 1), ints(0, 0, 0, 0)).version.tolist()
    assert found == [None, 10**30, "winter-7", 10**30]


def test_no_item_is_read_once_too() -> None:
    table, clock = Table(), Clock()
    limits = Thresholds(table, RULES, now=clock)
    for _ in range(5):
        limits.prepare(NAMES, ints(0, 1, 0, 1))
        clock.seconds += 1.0
    assert table.calls == [[("d0", "hot"), ("d0", "cold"), ("d1", "hot"), ("d1", "cold")]]


def test_reads_are_batched_and_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threshold, "READ_KEYS_MAX", 4)
    table = Table()
    limits = Thresholds(table, RULES)
    limits.prepare(NAMES, ints(5, 0, 1, 2, 3, 5, 0))
    assert [len(call) for call in table.calls] == [4, 4, 2]
    assert len({key for call in table.calls for key in call}) == 10


def test_refresh_asks_only_for_devices_that_come_and_are_due() -> None:
    table, clock = Table(), Clock()
    limits = Thresholds(table, RULES[:1], refresh_seconds=10.0, now=clock)
    limits.prepare(NAMES, ints(0, 1, 2))
    clock.seconds += 5.0
    limits.prepare(NAMES, ints(3))
    clock.seconds += 5.0
    limits.prepare(NAMES, ints(0, 2, 3))
    assert table.calls[2:] == [[("d0", "hot"), ("d2", "hot")]]


def test_a_change_is_seen_after_the_refresh_and_rows_keep_their_own_time() -> None:
    table, clock = Table({("d0", "hot"): [Entry(70.0, version=1)]}), Clock()
    limits = Thresholds(table, RULES, refresh_seconds=10.0, now=clock)
    limits.prepare(NAMES, ints(0))
    table.items["d0", "hot"] = [
        Entry(75.0, version=2, effective_from=500),
        Entry(70.0, version=1),
    ]
    times = ints(499, 500, 499, 501)
    limits.prepare(NAMES, ints(0))
    assert limits.limits(0, ints(0, 0, 0, 0), times).version.tolist() == [1, 1, 1, 1]
    clock.seconds += 10.0
    limits.prepare(NAMES, ints(0))
    assert limits.limits(0, ints(0, 0, 0, 0), times).version.tolist() == [1, 2, 1, 2]
    del table.items["d0", "hot"]
    clock.seconds += 10.0
    limits.prepare(NAMES, ints(0))
    assert plain(limits.limits(0, ints(0), ints(499))) == [(90.0, 2.0, None, False)]


def test_while_the_store_is_down_the_last_limits_stay_in_force_as_stale() -> None:
    table, clock = Table({("d0", "hot"): [Entry(70.0, version=1)]}), Clock()
    limits = Thresholds(table, RULES, refresh_seconds=10.0, now=clock)
    limits.prepare(NAMES, ints(0, 1))
    table.down = True
    clock.seconds += 9.0
    limits.prepare(NAMES, ints(0, 1))
    assert plain(limits.limits(0, ints(0), ints(0))) == [(70.0, 2.0, 1, False)]
    assert len(table.calls) == 1
    clock.seconds += 1.0
    limits.prepare(NAMES, ints(0))
    limits.prepare(NAMES, ints(1))  # several batches may be prepared before any is looked up
    assert plain(limits.limits(0, ints(0), ints(0))) == [(70.0, 2.0, 1, True)]
    assert plain(limits.limits(0, ints(1), ints(0))) == [(90.0, 2.0, None, True)]
    assert limits.stale_devices == 2
    assert limits.cause == "table: throttled"
    assert len(table.calls) == 2, "a store that is down is not asked again at once"
    table.down = False
    clock.seconds += 10.0
    limits.prepare(NAMES, ints(0, 1))
    assert not limits.limits(0, ints(0, 1), ints(0, 0)).stale.any()
    assert (limits.stale_devices, limits.cause) == (0, "")


def test_a_limit_never_read_makes_the_batch_wait() -> None:
    table = Table()
    table.down = True
    limits = Thresholds(table, RULES)
    with pytest.raises(UnavailableError, match="limits of 3 devices .*table: throttled"):
        limits.prepare(NAMES, ints(0, 1, 2, 1))
    table.down = False
    limits.prepare(NAMES, ints(0, 1, 2, 1))
    assert len(limits.limits(0, ints(0, 1, 2, 1), ints(0, 0, 0, 0)).value) == 4


def test_what_could_be_read_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threshold, "READ_KEYS_MAX", 2)
    table = Table()
    table.answers_left = 2
    limits = Thresholds(table, RULES)
    with pytest.raises(UnavailableError, match="limits of 4 devices"):
        limits.prepare(NAMES, ints(*range(6)))
    table.answers_left = math.inf
    table.calls.clear()
    limits.prepare(NAMES, ints(*range(6)))
    assert [call[0][0] for call in table.calls] == ["d2", "d3", "d4", "d5"]


def test_a_new_device_is_asked_for_in_the_pause_after_a_failure_too() -> None:
    table, clock = Table(), Clock()
    limits = Thresholds(table, RULES, refresh_seconds=10.0, now=clock)
    limits.prepare(NAMES, ints(0))
    clock.seconds += 10.0
    table.down = True
    limits.prepare(NAMES, ints(0))
    with pytest.raises(UnavailableError, match="limits of 1 devices"):
        limits.prepare(NAMES, ints(0, 1))
    table.down = False
    limits.prepare(NAMES, ints(0, 1))
    assert limits.stale_devices == 0


def test_a_clock_that_goes_back_does_not_stop_the_refresh() -> None:
    table, clock = Table(), Clock()
    limits = Thresholds(table, RULES, refresh_seconds=10.0, now=clock)
    limits.prepare(NAMES, ints(0))
    clock.seconds -= 3600.0
    limits.prepare(NAMES, ints(0))
    limits.prepare(NAMES, ints(0))
    assert len(table.calls) == 2


def test_an_infinite_refresh_reads_once() -> None:
    table, clock = Table(), Clock()
    limits = Thresholds(table, RULES, refresh_seconds=math.inf, now=clock)
    for _ in range(3):
        limits.prepare(NAMES, ints(0))
        clock.seconds += 1e9
    assert len(table.calls) == 1
    assert not limits.limits(0, ints(0), ints(0)).stale.any()


def test_a_number_handed_out_again_has_the_limit_of_its_new_device() -> None:
    entries = [Entry(1.0, effective_from=10), Entry(2.0, effective_from=20)]
    table = Table({("d0", "hot"): entries, ("new", "cold"): [Entry(3.0)]})
    limits = Thresholds(table, RULES)
    names = ["d0"]
    limits.prepare(names, ints(0))
    assert limits.limits(0, ints(0, 0), ints(15, 25)).value.tolist() == [1.0, 2.0]
    limits.forget(ints(0, 700))
    names[0] = "new"
    limits.prepare(names, ints(0))
    assert limits.limits(0, ints(0, 0), ints(15, 25)).value.tolist() == [90.0, 90.0]
    assert limits.limits(1, ints(0), ints(15)).value.tolist() == [3.0]


def test_columns_grow_with_the_devices() -> None:
    names = [f"x{n}" for n in range(5000)]
    items = {(name, "hot"): [Entry(float(n))] for n, name in enumerate(names)}
    limits = Thresholds(Table(items), RULES)
    for count in (1, 70, 5000):
        devices = np.arange(count)
        limits.prepare(names[:count], devices)
        found = limits.limits(0, devices, devices).value
        assert np.array_equal(found, devices.astype(np.float64))


def test_an_empty_batch_asks_nothing() -> None:
    table = Table()
    limits = Thresholds(table, RULES)
    limits.prepare([], ints())
    assert table.calls == []
    assert len(limits.limits(0, ints(), ints()).value) == 0


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (Entry(math.nan), "value: expected a finite number, found nan"),
        (Entry(10**400), "value: expected a finite number"),
        (Entry("90"), "value: expected a finite number, found '90'"),  # type: ignore[arg-type]
        (Entry(True), "value: expected a finite number, found True"),
        (Entry(1.0, clear_margin=-1.0), "clear_margin: expected a number at or above 0"),
        (Entry(1.0, clear_margin=math.inf), "clear_margin: expected a finite number"),
        (Entry(1.0, version=1.5), "version: expected an integer or a string"),  # type: ignore[arg-type]
        (Entry(1.0, effective_from=10**15), "effective_from: expected an integer, ms"),
        (Entry(1.0, effective_from=-1), "effective_from: expected an integer, ms"),
        (Entry(1.0, effective_from=1.5), "effective_from: expected an integer"),  # type: ignore[arg-type]
    ],
)
def test_a_bad_item_is_an_error_that_names_device_and_rule(entry: Entry, message: str) -> None:
    items = {("d1", "cold"): [Entry(1.0), entry], ("d0", "hot"): [Entry(2.0)]}
    limits = Thresholds(Table(items), RULES)
    with pytest.raises(ConfigError, match=message) as caught:
        limits.prepare(NAMES, ints(0, 1))
    assert [p.where for p in caught.value.problems] == ["threshold of device 'd1', rule 'cold'"]
    with pytest.raises(ConfigError):
        limits.prepare(NAMES, ints(1))
