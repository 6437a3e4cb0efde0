"""Recordings: payloads byte for byte, in order, and when each of them is due."""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamgauge.consumers import recording as recordings
from streamgauge.consumers.inputs import Input
from streamgauge.consumers.recording import Recording, Schedule, Where, scheduled
from streamgauge.engine.batch import NO_TIME
from streamgauge.engine.errors import InputError
from streamgauge.engine.kpl import aggregate
from streamgauge.producers.messages import Messages

T0 = 1_767_600_000_000


def read(path: Path, form: str, where: Where | None = None, topics: bool = True) -> Messages:
    """All of a recording."""
    found = Messages()
    with closing(Input(str(path))) as source:
        for block in Recording(source, form, where or Where(), topics):
            assert len(block.keys) == len(block.data) == len(block.times)
            found.extend(block)
    return found


def test_lines_keep_their_bytes_and_tell_the_rest(tmp_path: Path) -> None:
    lines = [
        b'{"device":"a","ts":5,"topic":"home/1/x"}',
        b'{ "device" : 7, "ts": 6.5 }',
        b"no JSON",
        b'{"device":null,"ts":true,"topic":3}',
        b"",
        b'{"device":"e","ts":12345678901234567890123,"topic":""}',
        b'{"device":"\\u0061","ts":1e999}',
        b'{"device":"a+b/c#","ts":"9"}',
        b'{"device":"z","ts":9,"big":1e999}',
    ]
    path = tmp_path / "r.ndjson.gz"
    path.write_bytes(gzip.compress(b"\n".join(lines)))
    found = read(path, "ndjson")
    assert found.data == lines
    assert found.keys == ["a", "7", "unknown", "unknown", "unknown", "e", "a", "a+b/c#", "z"]
    none = NO_TIME
    assert found.times == [5, 6, none, none, none, none, none, none, 9]
    assert found.topics == [
        "home/1/x", "replay/7", "replay/unknown", "replay/unknown", "replay/unknown", "replay/e",
        "replay/a", "replay/a_b_c_", "replay/z",
    ]  # fmt: skip
    assert read(path, "ndjson", topics=False).topics == []


def test_other_fields_and_units(tmp_path: Path) -> None:
    path = tmp_path / "r.ndjson"
    path.write_text(
        '{"m":{"at":"2026-01-05T08:00:00.5Z","of":"x"},"where":"p/q"}\n{"m":{"at":1}}\n'
    )
    where = Where("m.at", "iso8601", "m.of", "where")
    found = read(path, "ndjson", where)
    assert (found.keys, found.times) == (["x", "unknown"], [T0 + 500, NO_TIME])
    assert found.topics == ["p/q", "replay/unknown"]


def test_rows_of_a_csv_file(tmp_path: Path) -> None:
    path = tmp_path / "r.csv"
    path.write_bytes(b"device,ts,v\na,1,2.50\nb,2\nc,3,x\n")
    found = read(path, "csv")
    assert found.data == [
        b'{"device":"a","ts":1,"v":2.50}', b"b,2", b'{"device":"c","ts":3,"v":"x"}',
    ]  # fmt: skip
    assert (found.keys, found.times) == (["a", "unknown", "c"], [1, NO_TIME, 3])


def kinesis_line(shard: int, number: int, data: bytes, at: float | None = None) -> bytes:
    line: dict[str, Any] = {
        "ShardId": f"shardId-{shard:012}", "SequenceNumber": str(number),
        "PartitionKey": f"p{shard}", "Data": base64.b64encode(data).decode(),
    }  # fmt: skip
    if at is not None:
        line["ApproximateArrivalTimestamp"] = at
    return json.dumps(line).encode()


def test_user_records_of_kinesis_records(tmp_path: Path) -> None:
    bad = bytearray(aggregate([("k1", b"lost", None)]))
    bad[-1] ^= 1
    lines = [
        kinesis_line(0, 1, aggregate([("k1", b'{"device":"d1"}', None), ("k2", b"2", 77)]), 5.25),
        kinesis_line(1, 1, b"alone", 6.0),
        kinesis_line(0, 2, bytes(bad), 7.0),
        kinesis_line(0, 3, b"after"),
    ]
    path = tmp_path / "r.ndjson"
    path.write_bytes(b"\n".join(lines) + b"\n")
    with closing(Input(str(path))) as source:
        recording = Recording(source, "kinesis", Where(), topics=False)
        found = Messages()
        blocks = list(recording)
        for block in blocks:
            found.extend(block)
    assert found.data == [b'{"device":"d1"}', b"2", b"alone", bytes(bad), b"after"]
    assert found.keys == ["k1", "k2", "p1", "p0", "p0"]
    assert found.times == [5250, 5250, 6000, 7000, NO_TIME]
    assert recording.unopened == 1
    assert blocks[0].hash_keys == [None, 77] and blocks[1].hash_keys == []
    named = read(path, "kinesis", Where(key="device"))
    assert named.keys == ["d1", "unknown", "unknown", "p0", "unknown"] and named.hash_keys == []
    assert named.topics[0] == "replay/d1"


def test_what_is_no_recording_is_told(tmp_path: Path) -> None:
    path = tmp_path / "r.ndjson"
    path.write_bytes(b"{}\n")
    with pytest.raises(InputError, match="line 1: no Kinesis record"):
        read(path, "kinesis")


def due(times: list[int], speed: float = 1.0, pause_max: float = 1e9) -> list[float]:
    return Schedule(speed, pause_max).due(times, [])


def test_the_pace_is_that_of_the_times() -> None:
    times = [T0, T0 + 1000, T0 + 1000, T0 + 500, T0 + 4000, NO_TIME, T0 + 4500]
    assert due(times) == [0.0, 1.0, 1.0, 1.0, 4.0, 4.0, 4.5]
    assert due(times, speed=10) == pytest.approx([0.0, 0.1, 0.1, 0.1, 0.4, 0.4, 0.45])
    assert due([NO_TIME, NO_TIME]) == [0.0, 0.0]


def test_sparse_readings_keep_their_hours() -> None:
    hours = [T0 + 3_600_000 * n for n in range(300)]
    assert due(hours, speed=3600) == pytest.approx([float(n) for n in range(300)])


def test_one_clock_that_is_wrong_stops_nobody() -> None:
    """One device of ten is a day ahead, another one lives in 1970, one brings old data."""
    times = []
    for second in range(300):
        now = T0 + 1000 * second
        times += [now] * 4 + [now + 86_400_000] + [now] * 3 + [1000 * second, now - 7_200_000]
    schedule = Schedule(1.0, 1e9)
    found = schedule.due(times, [])
    assert found == sorted(found)
    assert max(abs(found[row] - row // 10) for row in range(len(found))) < 1e-6
    assert schedule.astray == 299 + 1 and schedule.cut == 0


def test_a_night_in_which_all_were_silent_is_waited_for() -> None:
    times = [T0 + 1000 * n for n in range(200)]
    times += [T0 + 36_000_000 + 1000 * n for n in range(200)]
    found = due(times, speed=100)
    assert found[199] == pytest.approx(1.99) and found[200] == pytest.approx(360.0)
    schedule = Schedule(100.0, pause_max=5.0)
    cut = schedule.due(times, [])
    assert cut[200] - cut[199] == pytest.approx(5.0) and schedule.cut == 1
    assert cut[399] - cut[200] == pytest.approx(1.99)  # and goes on at the same pace


def test_a_clock_that_is_wrong_at_the_beginning_costs_one_pause() -> None:
    schedule = Schedule(1.0, 60.0)
    found = schedule.due([5_000, *(T0 + 1000 * n for n in range(100))], [])
    assert found == pytest.approx([0.0, *(60.0 + n for n in range(100))]) and schedule.cut == 1


@given(
    st.lists(st.integers(0, 500_000), max_size=300).map(sorted),
    st.lists(st.integers(1, 120), min_size=1, max_size=6),
    st.sets(st.integers(0, 299), max_size=20),
)
def test_blocks_make_no_difference(times: list[int], sizes: list[int], astray: set[int]) -> None:
    times = [time + 86_400_000 * (row in astray) for row, time in enumerate(times)]
    whole = due(times)

    def blocks() -> Iterator[Messages]:
        first, number = 0, 0
        while first < len(times):
            size = sizes[number % len(sizes)]
            part = times[first : first + size]
            yield Messages(["k"] * len(part), [b""] * len(part), [], part)
            first, number = first + size, number + 1

    found = list(scheduled(blocks(), Schedule(1.0, 1e9)))
    assert [at for _, dues in found for at in dues] == whole
    assert [time for block, _ in found for time in block.times] == times
    assert recordings.FOLLOWERS == 100
