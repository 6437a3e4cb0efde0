"""The whole pipeline gives the plain oracle's answer, to the bit, on streams made to break it.

Every comparison is of all statistics, alerts with positions, rejected records with their bytes,
and counts; see drive.py. Where a stream is drawn, so are its packing, batches, saves and kills.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import drive
import generate
import pytest
from effort import examples
from generate import LAST_TIME, START, STATISTICS, Case, Plan, rule_text
from hypothesis import given, settings
from plain_kpl import Kinesis

Reading = tuple[Any, int, Any]
TOP = 1.7976931348623157e308


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("case")


@settings(max_examples=examples(100))
@given(case=generate.cases())
def test_generated_stream(folder: Path, case: Case) -> None:
    drive.check_case(folder, case)


@pytest.mark.slow
@settings(max_examples=examples(700))
@given(case=generate.cases(size=150))
def test_generated_stream_at_length(folder: Path, case: Case) -> None:
    drive.check_case(folder, case)


def every_statistic(window: int, threshold: float = 58.54, min_samples: int = 2) -> tuple[str, ...]:
    """One rule for each statistic, half of them firing below."""
    return tuple(
        rule_text(
            2 * number, window, name, ("above", "below")[number % 2], threshold, 0.5, min_samples,
            (0, window // 3)[number % 2], "", "#",
        )
        for number, name in enumerate(STATISTICS)
    )  # fmt: skip


def plan(window: int, lateness: int, **more: Any) -> Plan:
    rules = every_statistic(window)
    return Plan(scale=1000, windows=(window,), lateness=lateness, rules=rules, **more)


LONG = [
    (1, 1, 1000, plan(60_000, 10_000)),
    (2, 3, 1000, plan(10_000, 0)),
    (3, 40, 2000, plan(60_000, 60_000, arrivals=True, skew=300_000, forget_more=1000)),
    (4, 40, 1500, plan(7000, 3000, keep=True)),
    (5, 7, 1000, plan(1, 1, arrivals=True, skew=1000)),
    (6, 2, 1000, plan(300_000, 1000, arrivals=True, skew=0)),
]


@pytest.mark.parametrize(
    ("seed", "devices", "count", "plan"),
    [pytest.param(*case, marks=[pytest.mark.slow] * (case[0] != 3)) for case in LONG],
)
def test_long_stream(folder: Path, seed: int, devices: int, count: int, plan: Plan) -> None:
    drive.check_case(
        folder, generate.seeded(seed, devices, count, plan, shards=2 if devices < 8 else 1)
    )


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(100, 110))
def test_long_stream_of_any_seed(folder: Path, seed: int) -> None:
    _, devices, count, plan = LONG[seed % len(LONG)]
    drive.check_case(folder, generate.seeded(seed, devices, 2 * count, plan, odd=seed % 7 / 10))


@pytest.mark.slow
def test_ten_thousand_devices(folder: Path) -> None:
    rules = every_statistic(10_000)[:1] + every_statistic(3000)[5:6]
    many = Plan(scale=1000, windows=(10_000,), lateness=2000, rules=rules)
    case = generate.seeded(7, 10_000, 16_000, many, odd=0.05)
    answer = drive.check_case(folder, case)
    assert len({row["device"] for row in answer.statistics}) > 9800


def reversed_bursts() -> Iterator[Reading]:
    for burst in range(5):
        for step in range(20, -1, -1):
            yield "a", burst * 1700 + step * 90, step / 10
            yield "b", burst * 1700 + (20 - step) * 90, 58.54


def one_time() -> Iterator[Reading]:
    """All rows at one time; the same values again are duplicates."""
    for number in range(150):
        yield "abc"[number % 3], 0, (number * 7 % 50) / 8


def gaps() -> Iterator[Reading]:
    """Steps of a window, of window and lateness, and one more than each."""
    at = 0
    for number in range(90):
        yield "a", at, 50 + number % 17
        at += (1000, 1001, 1500, 1501, 999, 0, 500, 501, 100_000)[number % 9]


def huge_and_one() -> Iterator[Reading]:
    for number in range(120):
        yield "a", number * 100, "1e300" if number % 2 else "1"
        yield "b", number * 100, 58.54
        yield "c", number * 100, ("1e300", "-1e300", "1")[number % 3]


def all_limbs() -> Iterator[Reading]:
    """Values from the least to the greatest power of two: no sum of few limbs holds them."""
    rng = random.Random(3)
    for number in range(200):
        value = rng.choice([-1, 1]) * rng.random() * 2.0 ** rng.randrange(-1070, 1020)
        yield "ab"[number % 2], number * 37, repr(value)


def edges_of_limbs() -> Iterator[Reading]:
    """Powers of two, just below and just above, in windows together with small ones."""
    rng = random.Random(4)
    for number in range(300):
        edge = 2.0 ** rng.choice([-62, -42, -31, -21, -20, -10, -9, -8, 20, 31, 41, 42, 43, 52, 53])
        value = rng.choice([-1, 1]) * edge * rng.choice([1, 1 - 2**-53, 1 + 2**-52, 3])
        yield "a", number * 50, repr(value)
        yield "b", number * 50, repr(value if number % 40 == 0 else rng.randrange(999) / 10)


def cancelling() -> Iterator[Reading]:
    """Every second sum is zero, or what was too small to be seen beside the great ones."""
    for number in range(120):
        value = (0.1, 1e300, 3e-320, 7e15, 123.456)[number // 2 % 5]
        yield "a", number * 10, repr(-value if number % 2 else value)
        yield "a", number * 10 + 1, "5e-324" if number % 3 else "0.1"


def far_ahead() -> Iterator[Reading]:
    """The newest time jumps a day ahead; what was said before is late, peers are not."""
    for number in range(40):
        yield "a", number * 50, 60 + number
        yield "b", number * 50, 60 + number
    yield "a", 86_400_000, 1
    for number in range(40):
        yield "a", number * 50 + 2000, 60
        yield "b", number * 50 + 2000, 60
        yield "a", 86_400_000 - number * 40, 61


def ring_growth() -> Iterator[Reading]:
    """Far more samples than any window had before, then none, then a few; neighbours stay small."""
    for number in range(20):
        yield number % 5, number * 200, number
    for number in range(300):
        yield "a", 4000 + number, number % 101 / 8
    for number in range(40):
        yield number % 5, 9000 + number * 300, number
        yield "a", 9000 + number * 300, number


def shuffled() -> Iterator[Reading]:
    """Strongly out of order; some beyond lateness, some twice."""
    rng = random.Random(8)
    for number in range(400):
        yield "abc"[number % 3], number * 20 - rng.randrange(1700), rng.randrange(400, 800) / 10


def roundings() -> Iterator[Reading]:
    """Means half way between two float64: the even one holds; and means that underflow."""
    one, least = 1 + 2**-52, 5e-324
    pairs = [(1.0, one), (one, 1 + 2**-51), (-1.0, -one), (least, 0), (least, 3 * least)]
    pairs += [(-least, 0), (-least, -least), (2.0**53, 2.0**53 + 2), (1e300, one), (0.1, 0.2)]
    for number, pair in enumerate(pairs):
        for value in pair:
            yield "a", number * 10_000, repr(value)
        yield "a", number * 10_000 + 1, repr(pair[0])


def overflows() -> Iterator[Reading]:
    """Sums just below, at and above the greatest float64; what is rejected leaves no trace."""
    half = 2.0**969
    told = [TOP, half, half, -half, 2.0**970, -TOP, TOP, TOP, -TOP, -TOP, -TOP, 1.0, 1e292]
    for number, value in enumerate(told * 3):
        yield "a", number * 300, repr(value)
        yield "b", number * 300, repr(-value)
        yield "c", number // 2 * 300, repr(TOP / (2 + number))


def ends_of_time() -> Iterator[Reading]:
    for at in (
        -START,
        1 - START,
        500 - START,
        0,
        1000,
        LAST_TIME - START,
        LAST_TIME - START - 1500,
    ):
        yield "a", at, 60
        yield "b", -at, 61


def deviations() -> Iterator[Reading]:
    """Spreads much smaller than the values, and those whose root is a whole number."""
    rng = random.Random(6)
    for number in range(150):
        yield "a", number * 60, repr(1e15 + rng.randrange(8) / 8)
        yield "b", number * 60, repr(rng.choice([3.0, -3.0, 1e-200, 1.0]))
        yield "c", number * 60, "58.54"


each_row, whole = (pytest.param(batch, marks=pytest.mark.slow) for batch in (1, 5000))
SCRIPTS = [
    reversed_bursts, one_time, gaps, huge_and_one, all_limbs, edges_of_limbs, cancelling, far_ahead,
    ring_growth, shuffled, roundings, overflows, ends_of_time, deviations,
]  # fmt: skip
QUICK = (reversed_bursts, one_time, gaps, huge_and_one, overflows, ends_of_time, deviations)


@pytest.mark.parametrize("batch", [each_row, 11, whole])
@pytest.mark.parametrize(
    "script",
    [pytest.param(s, marks=[pytest.mark.slow] * (s not in QUICK)) for s in SCRIPTS],
    ids=[script.__name__ for script in SCRIPTS],
)
def test_scripted_stream(folder: Path, script: Any, batch: int) -> None:
    drive.check_case(folder, generate.scripted(script(), batch, plan(1000, 500).toml()))


@pytest.mark.parametrize(
    ("window", "lateness"),
    [(1, 1), (1000, 0), *(pytest.param(n, 0, marks=pytest.mark.slow) for n in (1, 20_000))],
)
@pytest.mark.parametrize(
    "script",
    [shuffled, gaps, *(pytest.param(s, marks=pytest.mark.slow) for s in (one_time, cancelling))],
)
def test_other_windows(folder: Path, script: Any, window: int, lateness: int) -> None:
    drive.check_case(folder, generate.scripted(script(), 33, plan(window, lateness).toml()))


def test_kept_duplicates(folder: Path) -> None:
    """With `keep` a repeat counts like any other sample, however it was cut."""
    toml = plan(1000, 500, keep=True).toml()
    for batch in (3, 1000):
        answer = drive.check_case(folder, generate.scripted(one_time(), batch, toml))
        assert answer.counts["duplicates"] == 0


def arrived(told: list[tuple[str, int, int, float]]) -> list[Kinesis]:
    """Records of (device, arrival, event time, value), both times in ms after the start."""
    return [
        Kinesis(
            "s",
            str(number + 1),
            f'{{"device":"{device}","ts":{START + at},"value":{value}}}'.encode(),
            arrival=START + arrival,
        )
        for number, (device, arrival, at, value) in enumerate(told)
    ]


@pytest.mark.parametrize("state", ["full+kill", "delta+kill"])
def test_device_freed_between_two_state_objects(folder: Path, state: str) -> None:
    """Firing in the first object, resolved and forgotten before the second: it fires again."""
    rule = rule_text(0, 1000, "last", "above", 90.0, 0.0, 1, 0, "", "#")
    declared = Plan(scale=1000, windows=(1000,), lateness=0, rules=(rule,), skew=60_000)
    told = [("a", 0, 95), ("a", 500, 80), ("b", 20_000, 50), ("c", 40_000, 50), ("a", 41_000, 95)]
    records = arrived([(device, at, at, value) for device, at, value in told])
    cuts = [records[:1], records[1:4], records[4:]]
    case = Case(declared.toml(), [], cuts, ["full", state, ""])
    states = [alert["state"] for alert in drive.check_case(folder, case).alerts]
    assert states == ["firing", "resolved", "firing"]


@pytest.mark.parametrize("batch", [1, 2, 100])
def test_silence_counts_from_the_last_record(folder: Path, batch: int) -> None:
    """Also where that one arrived before the one before it; other devices' arrivals are theirs."""
    declared = plan(1000, 0, skew=60_000, forget_more=4000)
    forget = declared.forget_after
    told = [("a", 3000, 0, 60), ("a", 1000, 100, 61), ("b", 4000, 0, 60), ("b", 3999, 0, 61)]
    told += [("c", 5000, 0, 60), ("a", 1001 + forget, 50, 62), ("b", 3999 + forget, 50, 62)]
    told += [("b", 1000, 60, 63), ("c", 5001 + forget, 50, 61), ("b", 1001 + forget, 70, 64)]
    records = arrived(told)
    cuts = [records[at : at + batch] for at in range(0, len(records), batch)]
    drive.check_case(folder, Case(declared.toml(), [], cuts, ["delta+kill"] * len(cuts)))


def test_constant_on_its_threshold(folder: Path) -> None:
    """Eleven times 58.54: a rounded sum divided by 11 is 58.53999999999999, and would fire."""
    rule = rule_text(0, 60_000, "mean", "below", 58.54, 0.0, 1, 0, "", "#")
    toml = Plan(scale=1000, windows=(60_000,), lateness=0, rules=(rule,)).toml()
    readings = [("a", number * 1000, "58.54") for number in range(200)]
    answer = drive.check_case(folder, generate.scripted(readings, 9, toml))
    assert {row["value"] for row in answer.statistics} == {58.54}
    assert answer.alerts == []
