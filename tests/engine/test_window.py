"""The window alone against the slow reading of its definition, whatever the order and the cuts."""

import bisect
import random

import numpy as np
import pytest

from streamgauge.engine import exact, sums, window
from streamgauge.engine.kernels import Samples
from streamgauge.engine.window import DUPLICATE, LATE, OVERFLOW, SAMPLE, STATISTICS, Window

SLOW = {
    "mean": lambda w: exact.mean(np.array(w)),
    "sum": lambda w: exact.total(np.array(w)),
    "stddev": lambda w: exact.deviation(np.array(w)),
    "min": min,
    "max": max,
    "count": lambda w: float(len(w)),
    "last": lambda w: w[-1],
}
VALUES = [
    lambda r: 58.54,
    lambda r: round(r.uniform(-50, 100), 1),
    lambda r: r.gauss(0, 1),
    lambda r: r.choice([0.0, 1e300, -1e300, 5e-324, 1.7e308, -1.7e308, 1e-5, 2.0**60, 1.5]),
    lambda r: float(r.randrange(3)),
]


def plain(rows, length, lateness, statistic, drop):
    """(verdict, value, samples, row of the earliest sample) of each (device, time, value)."""
    held, newest, out = {}, {}, []
    for number, (device, time, value) in enumerate(rows):
        mine = held.setdefault(device, [])
        top = newest.get(device, time)
        if time < top - length - lateness:
            out.append((LATE, 0, 0, 0))
            continue
        if drop and any(t == time and v == value for t, _, v in mine):
            out.append((DUPLICATE, 0, 0, 0))
            continue
        bisect.insort(mine, (time, number, value))
        inside = [s for s in mine if time - length <= s[0] <= time]
        result = SLOW[statistic]([v for _, _, v in inside])
        if abs(result) == float("inf"):
            mine.remove((time, number, value))
            out.append((OVERFLOW, 0, 0, 0))
            continue
        newest[device] = max(top, time)
        out.append((SAMPLE, result, len(inside), inside[0][1]))
        held[device] = [s for s in mine if s[0] >= newest[device] - length - lateness]
    return out


def stream(r, length, lateness):
    devices, rows = r.choice([1, 2, 5, 30]), r.choice([5, 50, 300])
    style, clock, out = r.randrange(7), {}, []
    for number in range(rows):
        device = r.randrange(devices)
        now = clock.get(device, 1000) + r.choice([0, 1, 1, 1, 2, r.randrange(30)])
        if r.random() < 0.01:
            now += r.randrange(2000)
        clock[device] = now
        back = r.randrange(length + lateness + 5) if r.random() < 0.3 else 0
        time = 2000 - number if style == 6 else max(0, now - back)
        out.append((device, time, VALUES[r.randrange(5) if style == 3 else style % 5](r) + 0.0))
    return out


def slide(r, rows, make):
    """The same verdicts from a Window, cut anywhere, now and then restored into a new one."""
    columns = Samples(
        np.array([row[0] for row in rows]),
        np.array([row[1] for row in rows]),
        np.array([row[2] for row in rows]),
        np.arange(len(rows)),
    )
    current, start, got = make(), 0, []
    while start < len(rows):
        end = start + r.choice([1, 2, 7, 50, 1000])
        slid = current.push(columns.take(slice(start, end)))
        got += zip(*(column.tolist() for column in slid), strict=True)
        start = end
        if r.random() < 0.1:
            every = np.arange(len(current.newest))
            restored = make()
            restored.restore(current.retained(every), every, current.newest)
            current = restored
    return got


def agree(seed, monkeypatch):
    r = random.Random(seed)
    length, lateness = r.choice([1, 10, 60, 1000]), r.choice([0, 0, 5, 100])
    statistic, drop = r.choice(STATISTICS), r.random() < 0.7
    monkeypatch.setattr(window, "PASS_ROWS_MIN", r.choice([4, 256]))
    monkeypatch.setattr(window, "PAIRS_PER_ROW_MAX", r.choice([1, 64]))
    monkeypatch.setattr(sums, "FLAT_SAMPLES_MAX", r.choice([3, 1 << 20]))
    monkeypatch.setattr(window, "ROWS_MAX", r.choice([7, 8192]))
    rows = stream(r, length, lateness)
    expected = plain(rows, length, lateness, statistic, drop)
    got = slide(r, rows, lambda: Window(length, lateness, statistic, drop))
    for number, (mine, right) in enumerate(zip(got, expected, strict=True)):
        same = mine == right if right[0] == SAMPLE else mine[0] == right[0]
        assert same, f"seed {seed} row {number} {rows[number]} {statistic}: {mine} not {right}"


@pytest.mark.parametrize(
    "block", [0, *(pytest.param(n, marks=pytest.mark.slow) for n in range(1, 8))]
)
def test_every_row_agrees_with_the_definition(block, monkeypatch):
    for seed in range(block * 40, block * 40 + 40):
        agree(seed, monkeypatch)


@pytest.mark.slow
def test_every_row_agrees_with_the_definition_on_many_seeds(monkeypatch):
    for seed in range(1000, 1600):
        agree(seed, monkeypatch)


def push(current, rows, first=0):
    device, time, value = (np.array(column) for column in zip(*rows, strict=True))
    serial = np.arange(first, first + len(rows))
    return current.push(Samples(device, time, value.astype(float), serial))


def test_both_ends_of_the_window_are_in_it():
    slid = push(Window(60_000, 0, "mean"), [(0, 0, 1.0), (0, 60_000, 3.0), (0, 120_001, 5.0)])
    assert slid.value.tolist() == [1.0, 2.0, 5.0]


def test_a_mean_of_equal_values_is_that_value():
    slid = push(Window(60_000, 0, "mean"), [(0, t, 58.54) for t in range(11)])
    assert set(slid.value.tolist()) == {58.54}


def test_one_device_with_huge_values_leaves_the_others_alone():
    alone = Window(1000, 0, "mean")
    beside = Window(1000, 0, "mean")
    rows = [(0, t, 20.0 + t / 7) for t in range(0, 3000, 100)]
    mixed = [(d, t, v if d == 0 else 1e300) for _, t, v in rows for d in (1, 0)]
    expected = push(alone, rows).value.tolist()
    assert push(beside, mixed).value[1::2].tolist() == expected


def test_a_reversed_burst_of_one_device_stays_within_bounds():
    rows = [(0, 100_000 - t, float(t % 17)) for t in range(3000)]
    slid = push(Window(60_000, 60_000, "sum"), rows)
    assert slid.verdict.tolist() == [SAMPLE] * 3000
    assert slid.samples.tolist() == [1] * 3000


def test_memory_follows_what_is_retained_and_not_what_has_passed():
    current = Window(60_000, 10_000, "mean")
    sizes = []
    for turn in range(20):
        times = range(turn * 100_000, (turn + 1) * 100_000, 1000)
        push(current, [(d, t, 1.0) for t in times for d in range(20)], turn * 10_000)
        sizes.append(current.rings.bytes)
    assert sizes[-1] == sizes[2]


def test_a_forgotten_device_finds_nothing():
    current = Window(60_000, 0, "count")
    push(current, [(0, 1000, 1.0), (1, 1000, 1.0)])
    current.forget(np.array([0]))
    assert push(current, [(0, 5, 1.0), (1, 2000, 1.0)], 2).value.tolist() == [1.0, 2.0]
