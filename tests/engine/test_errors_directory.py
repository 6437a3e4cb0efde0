"""The error stream in a directory: names, bytes, and reading each row once."""

import gzip
import itertools
import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamgauge.engine.batch import Position, Rejected
from streamgauge.engine.errors import InputError, UnavailableError
from streamgauge.engine.sinks.base import ndjson
from streamgauge.engine.sinks.errors_directory import ErrorDirectory, read_errors

NOON = 1_700_049_600_000  # ms: 2023-11-15T12:00:00Z
HOUR = 3_600_000  # ms


def rejected(
    number: int,
    *,
    sub: int = 0,
    shard: str = "s",
    arrival: int | None = NOON,
    rule: str | None = None,
    data: bytes = b"\xff{",
) -> Rejected:
    return Rejected(
        stage="decode",
        reason="bad_json",
        message="no JSON",
        rule=rule,
        at=Position(shard, str(number), sub),
        arrival_time=arrival,
        partition_key="k",
        data=data,
    )


def objects(path: Path) -> dict[str, bytes]:
    return {
        found.relative_to(path).as_posix(): found.read_bytes()
        for found in sorted(path.rglob("*"))
        if found.is_file()
    }


def test_names_by_arrival_hour_shard_and_positions(tmp_path: Path) -> None:
    rows = [
        rejected(3, sub=9),
        rejected(20, sub=1),
        rejected(100),
        rejected(7, shard="t/../u", arrival=NOON - 1),
        rejected(8, shard="t/../u", arrival=NOON - HOUR),
        rejected(9, arrival=None),
        rejected(10, arrival=0),
        rejected(11, arrival=253402300799999),
    ]
    ErrorDirectory(tmp_path, "../p").deliver(rows)
    assert list(objects(tmp_path)) == [
        "%2E.%2Fp/1970/01/01/00/s-10.0-10.0.ndjson.gz",
        "%2E.%2Fp/2023/11/15/11/t%2F..%2Fu-7.0-8.0.ndjson.gz",
        "%2E.%2Fp/2023/11/15/12/s-3.9-100.0.ndjson.gz",
        "%2E.%2Fp/9999/12/31/23/s-11.0-11.0.ndjson.gz",
        "%2E.%2Fp/undated/s-9.0-9.0.ndjson.gz",
    ]


def test_the_same_rows_give_the_same_names_and_bytes(tmp_path: Path) -> None:
    rows = [rejected(number, rule=rule) for number in range(1, 50) for rule in ("a", "b")]
    for location in ("one", "two", "two"):
        ErrorDirectory(tmp_path / location, "p").deliver(rows)
    assert objects(tmp_path / "one") == objects(tmp_path / "two")
    (data,) = objects(tmp_path / "one").values()
    assert data[4:8] == bytes(4), "no time stands in the header"
    assert [json.loads(line) for line in gzip.decompress(data).splitlines()] == [
        row.line() for row in rows
    ]


def test_rows_of_an_object_are_in_the_order_of_positions(tmp_path: Path) -> None:
    rows = [rejected(10, rule="b"), rejected(10, rule="a"), rejected(9, sub=10), rejected(9, sub=9)]
    ErrorDirectory(tmp_path, "p").deliver(rows)
    assert list(read_errors(tmp_path)) == [rows[3], rows[2], rows[0], rows[1]]


def test_a_name_too_long_has_a_hash_for_its_tail(tmp_path: Path) -> None:
    first, last = 10**128, 10**128 + 1
    sink = ErrorDirectory(tmp_path, "p" * 400)
    for shard in ("shardId-000000000000", "ü" * 200, "ü" * 200 + "2"):
        for _ in range(2):
            sink.deliver([rejected(first, shard=shard), rejected(last, shard=shard)])
    names = [path.name for path in tmp_path.rglob("*.ndjson.gz")]
    assert len(names) == 3
    assert all(len(os.fsencode(name)) <= 255 for name in names)
    assert len(list(read_errors(tmp_path))) == 6
    assert len(list(read_errors(tmp_path, "p" * 400))) == 6
    assert list(read_errors(tmp_path, "p")) == []


@given(cuts=st.lists(st.tuples(st.integers(0, 39), st.integers(1, 40)), max_size=6))
def test_after_restarts_each_row_is_read_once(
    tmp_path_factory: pytest.TempPathFactory, cuts: list[tuple[int, int]]
) -> None:
    """Positions come in order; a restart goes back and cuts them into other batches."""
    positions = [
        [
            rejected(number // 3, sub=number % 3, arrival=NOON + number // 3 * 600_000, rule=rule)
            for rule in ((None,) if number % 5 else ("a", "b"))
        ]
        for number in range(40)
    ]
    location = tmp_path_factory.mktemp("errors")
    sink = ErrorDirectory(location, "p")
    done = 0
    for back, size in [*cuts, (0, len(positions))]:
        start = max(0, done - back)
        sink.deliver(list(itertools.chain(*positions[start : start + size])))
        done = max(done, start + size)
    rows = list(itertools.chain(*positions))
    assert sorted(read_errors(location), key=rows.index) == rows


def test_pipelines_are_apart(tmp_path: Path) -> None:
    ErrorDirectory(tmp_path, "p").deliver([rejected(1)])
    ErrorDirectory(tmp_path, "q").deliver([rejected(1)])
    assert len(list(read_errors(tmp_path))) == 2
    assert list(read_errors(tmp_path, "q")) == [rejected(1)]
    assert list(read_errors(tmp_path / "absent")) == []


def test_bytes_stay_as_they_were(tmp_path: Path) -> None:
    rows = [rejected(n, data=data) for n, data in enumerate([b"", bytes(range(256)), b"\n" * 99])]
    ErrorDirectory(tmp_path, "p").deliver(rows)
    assert list(read_errors(tmp_path)) == rows


def test_what_is_no_error_object_is_named(tmp_path: Path) -> None:
    (tmp_path / ".s-1.0-1.0.ndjson.gz.0123456789abcdef.tmp").write_bytes(b"left by a crash")
    assert list(read_errors(tmp_path)) == []
    whole = gzip.compress(ndjson([rejected(1), rejected(2)]))
    for data, message in [
        (whole[:-9], "x.ndjson.gz:.*: not a whole gzip file"),
        (b"{}\n", "x.ndjson.gz:1: not a whole gzip file"),
        (
            gzip.compress(ndjson([rejected(1)]) + b"{}\n"),
            "x.ndjson.gz:2: not a rejected row: .*stage",
        ),
        (gzip.compress(b"oops\n"), "x.ndjson.gz:1: not a rejected row"),
    ]:
        (tmp_path / "x.ndjson.gz").write_bytes(data)
        with pytest.raises(InputError, match=message):
            list(read_errors(tmp_path))


def test_unknown_keys_are_passed_over(tmp_path: Path) -> None:
    line = json.dumps({**rejected(1).line(), "of a later release": [1]}).encode()
    (tmp_path / "x.ndjson.gz").write_bytes(gzip.compress(line))
    assert list(read_errors(tmp_path)) == [rejected(1)]


def test_a_file_in_the_way_is_named_and_waited_for(tmp_path: Path) -> None:
    sink = ErrorDirectory(tmp_path, "p")
    (tmp_path / "p").write_bytes(b"")
    with pytest.raises(UnavailableError, match="/p.*: (File exists|Not a directory)"):
        sink.deliver([rejected(1)])
    (tmp_path / "p").unlink()
    sink.deliver([rejected(1)])
    assert list(read_errors(tmp_path)) == [rejected(1)]
