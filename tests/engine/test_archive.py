"""The archive: what is read back is what was read, wherever the process dies on the way."""

import gzip
import itertools
import json
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import duckdb
import effort
import numpy as np
import pytest
from archives import (
    EIGHT,
    FORMS,
    SHARD,
    Clock,
    Crash,
    archive,
    bucket,
    crashing,
    expected,
    positions,
    push,
    read,
    record,
    rolled,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from memory_bucket import MemoryBucket

from streamgauge.engine.errors import InputError, StreamgaugeError, UnavailableError
from streamgauge.engine.folder import Folder
from streamgauge.engine.kpl import MAGIC, aggregate
from streamgauge.engine.records import Opened
from streamgauge.engine.sinks import archive_objects as objects
from streamgauge.engine.sinks.archive_read import pipelines, read_archive
from streamgauge.engine.sinks.archive_rows import opened_of, pack, rows_of, unpack


def same(one: Opened, other: Opened) -> None:
    for name in ("shard_id", "data", "keys", "hash_keys"):
        assert getattr(one.users, name) == getattr(other.users, name), name
    for name in ("sub", "arrival", "aggregated"):
        assert np.array_equal(getattr(one.users, name), getattr(other.users, name)), name
    every = range(len(one.users))
    assert [one.users.position(n) for n in every] == [other.users.position(n) for n in every]
    assert one.lost == other.lost


# Rows.

payloads = st.binary(max_size=20) | st.text(max_size=20).map(str.encode)
user = st.tuples(payloads, payloads, st.none() | st.integers(0, (1 << 128) - 1))
bodies = payloads | st.lists(user, min_size=1, max_size=3).map(aggregate) | payloads.map(
    lambda body: MAGIC + body
)  # fmt: skip


@given(st.lists(st.tuples(bodies, st.none() | st.integers(-5, 1 << 45)), max_size=5))
@settings(max_examples=effort.examples(200))
def test_rows_are_what_was_read(given: list[tuple[bytes, int | None]]) -> None:
    opened = read(*(record(n, data, at) for n, (data, at) in enumerate(given, 1)))
    rows = rows_of(opened)
    assert rows == sorted(rows, key=lambda row: row.order)
    assert all((row.data is None) != (row.data_base64 is None) for row in rows)
    back = list(opened_of(chain.from_iterable(unpack("x", pack(rows, 1)))))
    if rows:
        same(back[0], opened)
    else:
        assert back == []


def test_what_is_no_archive_is_named() -> None:
    with pytest.raises(InputError, match="x: not a whole gzip file"):
        list(unpack("x", b"no gzip"))
    with pytest.raises(InputError, match="x: not a whole gzip file"):
        list(unpack("x", pack(rows_of(push(1, 2)), 1)[:-4]))
    with pytest.raises(InputError, match="x:2: not a row of an archive"):
        lines = gzip.decompress(pack(rows_of(push(1, 2)), 1)).splitlines()
        list(unpack("x", gzip.compress(lines[0] + b"\n{}\n")))


def test_a_name_that_no_file_system_takes_is_refused() -> None:
    with pytest.raises(StreamgaugeError, match="at most 255 bytes"):
        objects.staged_name("p", objects.UNDATED, rows_of(read(record(10**128 + 1))))
        objects.made_name("p/x", (10**128, 0), (10**128, 1), "parquet")


# Staging and rolling.


@pytest.mark.parametrize("form", FORMS)
def test_what_is_staged_is_read_and_becomes_one_object(tmp_path: Path, form: str) -> None:
    at, clock = Folder(tmp_path), Clock()
    sink = archive(at, form).shard(SHARD, clock)
    for first in (1, 4, 7):
        sink.deliver([push(first, first + 2)])
        assert positions(at) == expected(1, first + 2)
    sink.roll()  # looks for what was left
    assert not sink.due() and sink.staged_bytes > 0
    clock.seconds = 60.0
    while sink.due():
        assert positions(at) == expected(1, 9)
        sink.roll()
    assert sink.empty and sink.staged_bytes == 0
    assert list(at.names("")) == [f"p/year=2023/month=11/day=15/hour=08/{SHARD}-1.0-9.0.{form}"]
    assert positions(at) == expected(1, 9)
    assert pipelines(at) == ["p"]


def test_an_object_is_closed_by_size_and_by_hour(tmp_path: Path) -> None:
    at, clock = Folder(tmp_path), Clock()
    sink = archive(at, max_bytes=1).shard(SHARD, clock)
    sink.deliver([push(3598, 3599), push(3600, 3601)])
    sink.deliver([push(3602, 3602)])
    while sink.due():
        sink.roll()
    names = list(at.names(""))
    assert [name.rpartition("day=15/")[2] for name in names] == [
        f"hour=08/{SHARD}-3598.0-3599.0.ndjson.gz",
        f"hour=09/{SHARD}-3600.0-3601.0.ndjson.gz",
        f"hour=09/{SHARD}-3602.0-3602.0.ndjson.gz",
    ]


def test_rows_of_two_hours_that_are_interleaved_come_back_in_order(tmp_path: Path) -> None:
    at = Folder(tmp_path)
    times = [EIGHT + 3_600_000, EIGHT, EIGHT + 3_600_000, EIGHT, None]
    sink = archive(at).shard(SHARD, Clock())
    sink.deliver([read(*(record(n, at=time) for n, time in enumerate(times, 1)))])
    assert positions(at) == expected(1, 5)
    rolled(sink)
    assert positions(at) == expected(1, 5) and len(list(at.names(""))) == 3


def test_what_was_rolled_is_not_rolled_again(tmp_path: Path) -> None:
    """After a restart pushes are cut otherwise: made objects never overlap, names say why."""
    at = Folder(tmp_path)
    sink = archive(at).shard(SHARD, Clock())
    sink.deliver([push(1, 10)])
    rolled(sink)
    again = archive(at).shard(SHARD, Clock())
    again.deliver([push(1, 5)])
    again.deliver([push(6, 15)])
    again.deliver([push(12, 20)])
    assert positions(at) == expected(1, 20)
    rolled(again)
    assert [name.partition(SHARD)[2] for name in at.names("p/")] == [
        "-1.0-10.0.ndjson.gz", "-11.0-20.0.ndjson.gz",
    ]  # fmt: skip
    assert positions(at) == expected(1, 20)


@pytest.mark.parametrize("form", FORMS)
def test_a_crash_at_any_moment_loses_nothing(form: str) -> None:
    for number in itertools.count(1):
        made = MemoryBucket()
        at = bucket(made)
        count = crashing(made, number)
        sink, told = archive(at, form, max_bytes=1).shard(SHARD, Clock()), 0
        died = False
        try:
            for last in (2, 5, 6):
                sink.deliver([push(told + 1, last)])
                told = last
                sink.roll(closing=True)
            rolled(sink)
        except Crash:
            died = True
        made.on_call = None
        assert positions(at)[:told] == expected(1, told)
        again = archive(at, form).shard(SHARD, Clock())
        again.deliver([push(max(1, told - 1), 9)])  # reads on from an older position
        rolled(again)
        assert positions(at) == expected(1, 9)
        ends = [one for one in objects.known(at.sizes("")) if not one.staged]
        assert len(ends) == len(list(at.names("")))
        assert all(
            a.last < b.first for a, b in itertools.pairwise(sorted(ends, key=lambda o: o.first))
        )
        if not died:
            assert count() < number
            return


def test_a_refusal_is_a_step_made_again() -> None:
    made = MemoryBucket()
    at = bucket(made)
    sink = archive(at, max_bytes=1).shard(SHARD, Clock())
    sink.deliver([push(1, 3)])
    refusals = 0
    for turn in range(100):
        if sink.empty:
            break
        made.throttle_next, made.lose_next = (turn + 1) % 3 == 1, turn % 3 == 1
        try:
            sink.roll(closing=True)
        except UnavailableError:
            refusals += 1
        made.throttle_next = made.lose_next = 0
    assert sink.empty and refusals >= 4
    assert positions(at) == expected(1, 3)


def test_another_owner_that_rolls_the_same_changes_no_answer() -> None:
    made = MemoryBucket()
    at = bucket(made)
    one, other = (archive(at).shard(SHARD, Clock()) for _ in range(2))
    one.deliver([push(1, 3)])
    other.deliver([push(1, 5)])
    for turn in range(100):
        for sink in (one, other):
            if not sink.empty:
                sink.roll(closing=True)
                assert positions(at) == expected(1, 5), turn
    assert not list(at.names("_staged/"))


def test_an_object_that_is_rolled_while_it_is_read_is_found() -> None:
    made = MemoryBucket()
    at = bucket(made)
    sink = archive(at).shard(SHARD, Clock())
    for first in (1, 4, 7):
        sink.deliver([push(first, first + 2)])
    reading = read_archive(at, "p")
    found = [next(reading)]
    rolled(sink)
    found += reading
    assert [number for users, _ in found for number in users.sequences] == list(
        map(str, range(1, 10))
    )


def test_an_object_has_all_rows_between_its_ends(tmp_path: Path) -> None:
    """So where another one lies in the midst of what is staged, two are made, around it."""
    at = Folder(tmp_path)
    archive(at).final().deliver([push(4, 6)])
    sink = archive(at).shard(SHARD, Clock())
    sink.deliver([push(1, 9)])
    rolled(sink)
    assert [name.partition(SHARD)[2] for name in at.names("p/")] == [
        "-1.0-3.0.ndjson.gz", "-4.0-6.0.ndjson.gz", "-7.0-9.0.ndjson.gz",
    ]  # fmt: skip
    assert positions(at) == expected(1, 9)


# Other programs.


@pytest.mark.parametrize("form", FORMS)
def test_duckdb_reads_it(tmp_path: Path, form: str) -> None:
    sink = archive(Folder(tmp_path), form).shard(SHARD, Clock())
    strange = [b"a\x00", b"", MAGIC + b"torn", '{"n": "ü\u2028"}'.encode(), b'{"n": 12}']
    packed = aggregate([(b"a", b'{"n": 8}', None), (b"b", b'{"n": 9}', 7)])
    records = [record(n, data, EIGHT + n) for n, data in enumerate([*strange, packed], 1)]
    sink.deliver([read(*records)])
    sink.deliver([push(3600, 3601)])
    rolled(sink)
    assert isinstance(sink.archive.place, Folder)
    where = f"{tmp_path}/p/**/*.{form}"
    reader = "read_parquet" if form == "parquet" else "read_json"
    table = f"{reader}('{where}', hive_partitioning=true)"
    rows = duckdb.sql(
        f"SELECT sequence_number, sub_sequence_number, data, data_base64, reason, day, hour"
        f" FROM {table} ORDER BY arrival_time, sub_sequence_number"
    ).fetchall()
    assert [row[:2] for row in rows] == [
        ("1", 0), ("2", 0), ("3", 0), ("4", 0), ("5", 0), ("6", 0), ("6", 1), ("3600", 0),
        ("3601", 0),
    ]  # fmt: skip
    assert rows[0][2:4] == (None, "YQA=") and rows[1][2:4] == ("", None)
    assert rows[2][4] == "bad_digest" and rows[3][2] == '{"n": "ü\u2028"}'
    assert {(int(row[5]), int(row[6])) for row in rows} == {(15, 8), (15, 9)}
    numbers = duckdb.sql(
        f"SELECT sum(CAST(json_extract(data, '$.n') AS INT)) FROM {table} WHERE data LIKE '%: 8%'"
    ).fetchall()
    assert numbers == [(8,)]


HOSTILE = (b"", b"{}", b"PAR1", b"PAR1" * 10, gzip.compress(b"{}"))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("data", HOSTILE)
def test_what_lies_there_and_is_no_object_is_named(tmp_path: Path, form: str, data: bytes) -> None:
    at = Folder(tmp_path)
    name = objects.made_name(objects.made_folder("p", objects.UNDATED, SHARD), (1, 0), (2, 0), form)  # type: ignore[arg-type]
    at.put(name, data, "")
    if form == "ndjson.gz" and data == b"":
        return
    with pytest.raises(InputError, match="1.0-2.0"):
        list(read_archive(at, "p"))


def test_other_objects_are_passed_over(tmp_path: Path) -> None:
    at = Folder(tmp_path)
    archive(at).shard(SHARD, Clock()).deliver([push(1, 2)])
    for name in ("README", "p/x.parquet", "p/year=1/x-1.0-1.0.parquet", "_staged/p/x"):
        at.put(name, b"", "")
    assert positions(at) == expected(1, 2)


def lines(data: bytes) -> Sequence[Any]:
    return [json.loads(line) for line in gzip.decompress(data).splitlines()]


def test_the_same_rows_are_the_same_bytes() -> None:
    rows = rows_of(push(1, 3))
    assert pack(rows, 1) == pack(rows, 1)
    assert list(lines(pack(rows, 1))[0]) == [
        "shard_id", "sequence_number", "sub_sequence_number", "aggregated", "arrival_time",
        "partition_key", "explicit_hash_key", "data", "data_base64", "partition_key_base64",
        "reason", "message",
    ]  # fmt: skip


def test_parquet_of_another_kind_is_named(tmp_path: Path) -> None:
    at = Folder(tmp_path)
    folder = objects.made_folder("p", objects.UNDATED, SHARD)
    name = objects.made_name(folder, (1, 0), (2, 0), "parquet")
    at.put(name, b"", "")
    duckdb.sql(f"COPY (SELECT 's' AS shard_id, 1 AS other) TO '{at.url(name)}' (FORMAT parquet)")
    with pytest.raises(InputError, match="not of an archive: it lacks aggregated, partition_key"):
        list(read_archive(at, "p"))
