"""Who reduces chunks: the same panes wherever that is, also where a process dies over it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from drawn_panes import PLAIN, TOML, reading

from streamgauge import Record
from streamgauge.consumers import fanout_pool, fanout_source
from streamgauge.consumers.fanout_pool import Chunk, Done, Here, Pool, Processes
from streamgauge.engine.errors import StreamgaugeError
from streamgauge.rules import spec as specs

SPEC = specs.parse(TOML.format(**PLAIN))


def chunk(number: int) -> Chunk:
    data, at = reading("d", number, 30.0, number)
    return Chunk("s", number, 1, [Record("s", str(number + 1), data, "k", at)], 0, None)


@pytest.fixture
def processes() -> Iterator[Processes]:
    events: list[str] = []
    pool = Processes(SPEC, 2, lambda event, **_: events.append(event))
    pool.events = events  # type: ignore[attr-defined]
    yield pool
    pool.close()


def gathered(pool: Pool, count: int) -> list[Done]:
    found: list[Done] = []
    for _ in range(600):
        found += pool.take(0.1)
        if len(found) >= count:
            return found
    raise AssertionError(f"{len(found)} of {count}")


@pytest.mark.slow
def test_processes_reduce_as_this_one_does_and_one_that_dies_is_replaced(
    processes: Processes,
) -> None:
    given, here = [chunk(n) for n in range(4)], Here(SPEC, lambda _: None)
    for one in given[:2]:
        assert processes.has_room
        processes.give(one)
    assert not processes.has_room
    processes._workers[0].process.kill()
    found = {done.number: done for done in gathered(processes, 2)}
    for one in given[2:]:
        processes.give(one)
    found |= {done.number: done for done in gathered(processes, 2)}
    assert sorted(found) == [0, 1, 2, 3] and processes.events == ["worker_died"]  # type: ignore[attr-defined]
    for one in given:
        here.give(one)
        (done,) = here.take(0.0)
        ours, theirs = done.partial.panes[0], found[one.number].partial.panes[0]
        assert [list(column) for column in ours[:-1]] == [list(column) for column in theirs[:-1]]


@pytest.mark.slow
def test_large_chunks_and_large_answers_do_not_wait_for_each_other(processes: Processes) -> None:
    """Both are more than a pipe holds."""
    rows = [reading(f"device-{n:06}", n / 1000, 30.0, n / 1000) for n in range(20_000)]
    records = [Record("s", str(n + 1), data, "k", at) for n, (data, at) in enumerate(rows)]
    chunks = [Chunk("s", n, 1, records, 0, None) for n in range(6)]
    found: list[Done] = []
    for _ in range(3000):
        while chunks and processes.has_room:
            processes.give(chunks.pop())
        found += processes.take(0.1)
        if len(found) == 6:
            break
    assert sorted(done.number for done in found) == list(range(6))
    assert all(len(done.partial.names) == 20_000 for done in found)


@pytest.mark.slow
def test_processes_that_all_die_end_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fanout_pool, "DEATHS_MAX", 1)
    pool = Processes(SPEC, 1, lambda event, **_: None)
    try:
        with pytest.raises(StreamgaugeError, match="workers died"):
            for _ in range(100):
                pool._workers[0].process.kill()
                pool.take(0.2)
    finally:
        pool.close()


def test_records_are_cut_by_bytes_and_taken_once() -> None:
    records = [Record("s", str(n), b"x" * (1 << 18), "k", None) for n in range(1, 10)]
    assert [len(some) for some in fanout_source.chunks(records)] == [4, 4, 1]
    assert fanout_source.chunks([]) == []
    large = [Record("s", "1", b"x" * (1 << 21), "k", None), *records[1:2]]
    assert [len(some) for some in fanout_source.chunks(large)] == [1, 1]
