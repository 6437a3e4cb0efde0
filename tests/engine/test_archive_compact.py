"""Small objects of an archive merged: run twice, killed at any point, read in between."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
from archives import (
    EIGHT,
    FORMS,
    Clock,
    Crash,
    archive,
    bucket,
    crashing,
    expected,
    positions,
    push,
)
from memory_bucket import MemoryBucket

from streamgauge.engine.folder import Folder, Place
from streamgauge.engine.sinks import archive_compact
from streamgauge.engine.sinks import archive_objects as objects
from streamgauge.engine.sinks.archive_compact import Merge, closed
from streamgauge.engine.sinks.archive_read import read_archive
from streamgauge.engine.sinks.base import Patience
from streamgauge.engine.sinks.patient import PatientPlace

HOUR = 3_600_000


def filled(at: Place, form: Any) -> None:
    """Nine objects of one record each in one hour, and one in the next."""
    sink = archive(at, form).final()
    for number in range(3591, 3601):
        sink.deliver([push(number, number)])


def compacted(at: Place, max_bytes: int = 1 << 20, form: Any = None) -> list[Merge]:
    held = [one for one in objects.known(list(at.sizes(""))) if not one.staged]
    return list(archive_compact.compact(at, held, form, max_bytes))


@pytest.mark.parametrize("form", FORMS)
def test_neighbours_become_one_object_and_a_second_run_does_nothing(
    tmp_path: Path, form: str
) -> None:
    at = Folder(tmp_path)
    filled(at, form)
    (merge,) = compacted(at)
    assert (merge.hour, merge.before, merge.after) == ("2023-11-15T08", 9, 1)
    assert positions(at) == expected(3591, 3600)
    names = list(at.names(""))
    assert [name.rpartition("/")[2].partition("-")[0] for name in names] == ["shardId"] * 2
    assert compacted(at) == [] and list(at.names("")) == names


def test_an_object_is_no_larger_than_asked(tmp_path: Path) -> None:
    at = Folder(tmp_path)
    filled(at, "ndjson.gz")
    size = sum(size for _, size in itertools.islice(at.sizes(""), 3))
    (merge,) = compacted(at, size)
    assert (merge.before, merge.after) == (9, 3)
    assert positions(at) == expected(3591, 3600)


def test_objects_that_overlap_are_merged_and_what_lies_within_goes(tmp_path: Path) -> None:
    at = Folder(tmp_path)
    sink = archive(at).final()
    for first, last in ((1, 5), (2, 3), (4, 9), (9, 9), (20, 21)):
        sink.deliver([push(first, last)])
    (merge,) = compacted(at, 1)
    assert (merge.before, merge.after) == (5, 2)
    assert [name.partition("00000-")[2] for name in at.names("")] == [
        "1.0-9.0.ndjson.gz", "20.0-21.0.ndjson.gz",
    ]  # fmt: skip
    assert positions(at) == [*expected(1, 9), *expected(20, 21)]


@pytest.mark.parametrize("form", FORMS)
def test_killed_in_any_moment_of_its_calls_it_is_right_in_between_and_after(form: str) -> None:
    for number in itertools.count(1):
        made = MemoryBucket()
        at = bucket(made)
        filled(at, form)
        crashing(made, number)
        died = False
        try:
            compacted(at, 500)
        except Crash:
            died = True
        made.on_call = None
        assert positions(at) == expected(3591, 3600)
        compacted(at, 500)
        assert positions(at) == expected(3591, 3600)
        ends = sorted((one.first, one.last) for one in objects.known(at.sizes("")))
        assert all(a[1] < b[0] for a, b in itertools.pairwise(ends))
        if not died:
            return


def test_a_reader_that_began_before_reads_each_position_once() -> None:
    at = bucket(MemoryBucket())
    filled(at, "ndjson.gz")
    reading = read_archive(at, "p")
    found = [next(reading)]
    compacted(at)
    found += reading
    assert [s for users, _ in found for s in users.sequences] == [
        str(number) for number in range(3591, 3601)
    ]


def test_an_hour_is_closed_when_it_is_over_for_an_hour() -> None:
    assert not closed("2023-11-15T08", EIGHT + 2 * HOUR - 1)
    assert closed("2023-11-15T08", EIGHT + 2 * HOUR)
    assert not closed(objects.UNDATED, EIGHT)


def test_a_consumer_that_rolls_meanwhile_and_a_merge_do_not_meet() -> None:
    """What is rolled after a merge does not repeat what is merged, for names say what is there."""
    at = bucket(MemoryBucket())
    filled(at, "ndjson.gz")
    sink = archive(at).shard("shardId-000000000000", Clock())
    sink.deliver([push(3595, 3599)])
    compacted(at)
    while not sink.empty:
        sink.roll(closing=True)
    assert positions(at) == expected(3591, 3600)
    assert len(list(at.names(""))) == 2


def test_refused_calls_are_made_again_by_who_has_nothing_else_to_do() -> None:
    made = MemoryBucket()
    patience = Patience(sleep=lambda _: None)
    at = PatientPlace(bucket(made), patience)
    filled(bucket(made), "ndjson.gz")
    refuse = itertools.count()

    def meet(operation: str, done: bool) -> None:
        made.throttle_next = int(next(refuse) % 3 == 0)

    made.on_call = meet
    (merge,) = compacted(at)
    made.on_call, made.throttle_next = None, 0
    assert merge.after == 1 and patience.counts.retries > 5
    assert positions(bucket(made)) == expected(3591, 3600)
