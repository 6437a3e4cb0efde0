"""The torture file gives the oracle's answer, however it is cut, packed, saved and restored."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import drive
import plain_kpl
import pytest
import torture
from plain_kpl import Kinesis
from plain_oracle import Oracle

TOML = (torture.HERE / "torture.toml").read_text()
SIZES = (
    pytest.param(1, marks=pytest.mark.slow),
    7,
    pytest.param(100, marks=pytest.mark.slow),
    10_000,
)


def as_told() -> list[Kinesis]:
    return plain_kpl.read(torture.HERE / "torture.ndjson")


def plain() -> list[Kinesis]:
    return plain_kpl.repacked(torture.users(), itertools.repeat(1))


def aggregated() -> list[Kinesis]:
    return plain_kpl.repacked(torture.users(), itertools.repeat(1000))


def mixed() -> list[Kinesis]:
    rng = random.Random(11)
    return plain_kpl.repacked(torture.users(), iter(lambda: rng.choice([1, 2, 9]), None))


PACKINGS = [as_told, plain, aggregated, mixed]
SOME = [as_told, aggregated, *(pytest.param(p, marks=pytest.mark.slow) for p in (plain, mixed))]


@pytest.fixture(scope="module", params=SOME, ids=["as_told", "aggregated", "plain", "mixed"])
def records(request: pytest.FixtureRequest) -> list[Kinesis]:
    made: list[Kinesis] = request.param()
    return made


@pytest.fixture(scope="module")
def oracle(records: list[Kinesis]) -> Oracle:
    return drive.oracle_of(TOML, torture.thresholds(), [records])


@pytest.fixture
def load(tmp_path: Path) -> Callable[[], Any]:
    return drive.loader(tmp_path, TOML, torture.thresholds())


def batches(records: list[Kinesis], size: int) -> list[list[Kinesis]]:
    return [records[at : at + size] for at in range(0, len(records), size)]


@pytest.mark.parametrize("size", SIZES)
def test_every_batch_size(
    size: int, records: list[Kinesis], oracle: Oracle, load: Callable[[], Any]
) -> None:
    drive.compare(drive.run(load, batches(records, size)), oracle)


@pytest.mark.parametrize("save", ["full+kill", "delta+kill"])
@pytest.mark.parametrize("size", [*(pytest.param(n, marks=pytest.mark.slow) for n in (1, 7)), 100])
def test_killed_after_every_batch(size: int, save: str, load: Callable[[], Any]) -> None:
    cut = batches(as_told(), size)
    oracle = drive.oracle_of(TOML, torture.thresholds(), cut)
    drive.compare(drive.run(load, cut, [save] * len(cut)), oracle)


def test_many_deltas_then_a_kill(
    records: list[Kinesis], oracle: Oracle, load: Callable[[], Any]
) -> None:
    cut = batches(records, 5)
    kinds = itertools.cycle(["delta"] * 6 + ["", "delta+kill", "full", "delta", "", "delta+kill"])
    drive.compare(drive.run(load, cut, list(itertools.islice(kinds, len(cut)))), oracle)


def test_each_batch_handed_over_again(
    records: list[Kinesis], oracle: Oracle, load: Callable[[], Any]
) -> None:
    """A repeat changes nothing but the count of repeats."""
    cut = batches(records, 13)
    twice = [batch for one in cut for batch in (one, one)]
    answer = drive.run(load, twice, ["", "delta+kill"] * len(cut))
    repeats = drive.oracle_of(TOML, torture.thresholds(), twice).counts["repeated"]
    assert answer.counts["repeated"] == repeats
    answer.counts["repeated"] = oracle.counts["repeated"]
    drive.compare(answer, oracle)


def test_a_batch_lost_with_the_process_is_read_again(
    records: list[Kinesis], oracle: Oracle, load: Callable[[], Any]
) -> None:
    """Killed after the push and before the state object: the same batch gives the same again."""
    pipeline, answer = load(), drive.Answer()
    objects = [pipeline.save(full=True)]
    for batch in batches(records, 29):
        first, second = drive.Answer(), drive.Answer()
        drive.take(first, pipeline.push(list(map(drive.record, batch))))
        pipeline = load()
        pipeline.restore(objects)
        outcome = pipeline.push(list(map(drive.record, batch)))
        drive.take(second, outcome)
        drive.take(answer, outcome)
        objects.append(pipeline.save(full=False))
        assert first == second
    drive.compare(answer, oracle)


def test_records_as_get_records_gives_them(
    records: list[Kinesis], oracle: Oracle, load: Callable[[], Any]
) -> None:
    answer = drive.Answer()
    rows = [
        {
            "ShardId": record.shard,
            "SequenceNumber": record.sequence,
            "Data": record.data,
            "PartitionKey": record.key,
            "ApproximateArrivalTimestamp": record.arrival / 1000,
        }
        for record in records
        if record.arrival is not None
    ]
    drive.take(answer, load().push(rows))
    drive.compare(answer, oracle)


def test_packing_changes_positions_only() -> None:
    """The oracle itself: alerts but for positions, statistics and verdicts are the same."""
    told, *others = (drive.oracle_of(TOML, torture.thresholds(), [make()]) for make in PACKINGS)
    for other in others:
        assert other.statistics == told.statistics
        assert without_positions(other.alerts) == without_positions(told.alerts)
        assert [(row["rule"], row["faults"]) for row in other.rejected] == [
            (row["rule"], row["faults"]) for row in told.rejected
        ]
        assert other.totals() | {"repeated": 0} == told.totals() | {"repeated": 0}


def without_positions(alerts: list[dict[str, Any]]) -> list[dict[str, Any]]:
    positions = ("first_position", "last_position")
    return [{key: row[key] for key in row if key not in positions} for row in alerts]


def test_ids_are_of_the_change_alone(tmp_path: Path) -> None:
    """However the stream is cut and packed, each change has one id and no two share it."""
    load = drive.loader(tmp_path, TOML, torture.thresholds())
    seen: dict[str, tuple[Any, ...]] = {}
    for make in PACKINGS:
        for alert in drive.run(load, [make()]).alerts:
            change = tuple(alert[name] for name in drive.CHANGE)
            assert seen.setdefault(alert["id"], change) == change
    assert len(set(seen.values())) == len(seen)
