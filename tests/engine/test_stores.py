"""One suite over every store of state objects: one owner wins, nothing is half there."""

import errno
import os
import resource
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from moto import mock_aws

from streamgauge.engine.aws import Service, make_client
from streamgauge.engine.errors import FencedError, StateError, UnavailableError
from streamgauge.engine.state import StateStore
from streamgauge.engine.stores.directory import DirectoryStates
from streamgauge.engine.stores.memory import MemoryStates
from streamgauge.engine.stores.s3 import BucketStates

STATE_STORES: dict[str, Callable[[Path], StateStore]] = {
    "memory": lambda path: MemoryStates(),
    "directory": lambda path: DirectoryStates(path / "state"),
    "directory, as text": lambda path: DirectoryStates(str(path)),
    "bucket": lambda path: BucketStates("s3://states/some/prefix/", Service("s3")),
    "bucket, whole": lambda path: BucketStates("s3://states", Service("s3")),
}


@pytest.fixture(params=STATE_STORES.values(), ids=list(STATE_STORES))
def states(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[StateStore]:
    if "bucket" not in request.node.callspec.id:
        yield request.param(tmp_path)
        return
    with mock_aws():
        make_client("s3").create_bucket(Bucket="states")
        yield request.param(tmp_path)


def test_that_there_is_one_is_seen_without_a_list(states: StateStore) -> None:
    assert not states.exists("p", "s", 3)
    states.create("p", "s", 3, b"x")
    assert states.exists("p", "s", 3) and not states.exists("p", "s", 4)


def test_objects_come_back_as_given(states: StateStore) -> None:
    assert states.generations("p", "s") == []
    for generation, data in [(0, b""), (1, bytes(range(256))), (10**20 - 1, b"last")]:
        states.create("p", "s", generation, data)
        assert states.read("p", "s", generation) == data
    assert states.generations("p", "s") == [0, 1, 10**20 - 1]


def test_generations_are_sorted_as_numbers(states: StateStore) -> None:
    for generation in (9, 10, 99, 100, 101):
        states.create("p", "s", generation, b"x")
    assert states.generations("p", "s") == [9, 10, 99, 100, 101]


def test_who_finds_the_number_taken_is_fenced(states: StateStore) -> None:
    states.create("p", "s", 7, b"winner")
    with pytest.raises(FencedError, match=r"0*7\b.*p/s|p/s/0*7\b"):
        states.create("p", "s", 7, b"winner")
    assert states.read("p", "s", 7) == b"winner"
    states.create("p", "s", 8, b"next")


def test_a_number_that_has_been_passed_is_taken_too(states: StateStore) -> None:
    for generation in range(5):
        states.create("p", "s", generation, b"x")
    states.prune("p", "s", 4)
    with pytest.raises(FencedError, match="4 "):
        states.create("p", "s", 2, b"late owner")
    assert states.generations("p", "s") == [4]


def test_shards_and_pipelines_are_apart(states: StateStore) -> None:
    names = ["s", "S-1", "a/b", "..", ".", "", "a%2Fb", "ü", "x" * 300, "x" * 301, "\0"]
    for number, name in enumerate(names):
        states.create(name, "s", number, name.encode() + b"1")
        states.create("p", name, number, name.encode() + b"2")
    for number, name in enumerate(names):
        assert states.read(name, "s", number) == name.encode() + b"1"
        assert states.generations("p", name) == [number]


def test_what_is_not_there_cannot_be_read(states: StateStore) -> None:
    with pytest.raises(StateError, match="no state object"):
        states.read("p", "s", 3)
    states.create("p", "s", 3, b"x")
    states.delete("p", "s", 3)
    states.delete("p", "s", 3)
    states.delete("other", "s", 3)
    with pytest.raises(StateError):
        states.read("p", "s", 3)


def test_prune_keeps_what_it_is_told_and_always_the_newest(states: StateStore) -> None:
    states.prune("p", "s", 5)
    for generation in range(6):
        states.create("p", "s", generation, b"x")
    states.prune("p", "s", 3)
    states.prune("p", "s", 3)
    states.prune("p", "s", 0)
    assert states.generations("p", "s") == [3, 4, 5]
    states.prune("p", "s", 100)
    assert states.generations("p", "s") == [5]


def test_of_many_owners_one_wins(states: StateStore) -> None:
    won: list[int] = []
    lost: list[int] = []
    start = threading.Barrier(8)

    def own(number: int) -> None:
        start.wait()
        try:
            states.create("p", "s", 1, b"%d" % number)
            won.append(number)
        except FencedError:
            lost.append(number)

    owners = [threading.Thread(target=own, args=(number,)) for number in range(8)]
    for owner in owners:
        owner.start()
    for owner in owners:
        owner.join()
    assert (len(won), len(lost)) == (1, 7)
    assert states.read("p", "s", 1) == b"%d" % won[0]


def test_memory_refuses_when_told() -> None:
    states = MemoryStates()
    states.fail_next = 2
    for _ in range(2):
        with pytest.raises(UnavailableError):
            states.create("p", "s", 1, b"x")
    assert states.generations("p", "s") == []
    states.lose_next = 1
    with pytest.raises(UnavailableError):
        states.create("p", "s", 1, b"x")
    with pytest.raises(FencedError):
        states.create("p", "s", 1, b"x")
    assert states.read("p", "s", 1) == b"x"


def test_directory_layout(tmp_path: Path) -> None:
    states = DirectoryStates(tmp_path / "state")
    states.create("thermo/stats", "shardId-000000000001", 42, b"x")
    states.create("..", "..", 1, b"x")
    found = sorted(p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*") if p.is_file())
    assert found == [
        "state/%2E./%2E./00000000000000000001",
        "state/thermo%2Fstats/shardId-000000000001/00000000000000000042",
    ]


def test_directory_passes_over_what_is_not_its_own_and_cleans_up(tmp_path: Path) -> None:
    states = DirectoryStates(tmp_path)
    states.create("p", "s", 5, b"x")
    shard = tmp_path / "p" / "s"
    own = [f".{g:020}.0123456789abcdef.tmp" for g in (4, 5, 6, 7)]
    foreign = ["notes.txt", "7", "0000000000000000000x", ".hidden", ".x.0123456789abcdef.tmp"]
    for name in own + foreign:
        (shard / name).write_bytes(b"left by a crash")
    assert states.generations("p", "s") == [5]
    states.create("p", "s", 6, b"y")
    assert {p.name for p in shard.iterdir()} == {f"{5:020}", f"{6:020}", own[3], *foreign}


def test_directory_fences_an_owner_that_was_stopped_before_its_link(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow, quick = DirectoryStates(tmp_path), DirectoryStates(tmp_path)
    quick.create("p", "s", 1, b"x")
    link = os.link

    def stopped(*paths: Any) -> None:
        monkeypatch.setattr(os, "link", link)
        for generation in (2, 3, 4):
            quick.create("p", "s", generation, b"quick")
        quick.prune("p", "s", 4)
        Path(paths[0]).write_bytes(b"slow")  # its temporary file was cleaned up, or not
        link(*paths)

    monkeypatch.setattr(os, "link", stopped)
    with pytest.raises(FencedError, match=": 4 of this shard exists"):
        slow.create("p", "s", 2, b"slow")
    assert quick.read("p", "s", quick.generations("p", "s")[-1]) == b"quick"
    quick.prune("p", "s", 4)
    assert quick.generations("p", "s") == [4]


@contextmanager
def full_disk(size: int) -> Iterator[None]:
    """No file can grow beyond `size` bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_directory_waits_for_a_full_disk(tmp_path: Path) -> None:
    states = DirectoryStates(tmp_path)
    states.create("p", "s", 1, b"x")
    with full_disk(1000), pytest.raises(UnavailableError, match="p/s/.*: File too large") as found:
        states.create("p", "s", 2, bytes(100_000))
    assert isinstance(found.value.__cause__, OSError)
    assert states.generations("p", "s") == [1]
    assert len(list((tmp_path / "p" / "s").iterdir())) == 1
    states.create("p", "s", 2, bytes(100_000))


def test_directory_names_the_path_that_is_refused(tmp_path: Path) -> None:
    (tmp_path / "p").write_bytes(b"a file where a directory should be")
    states = DirectoryStates(tmp_path)
    refused: list[Callable[[], object]] = [
        lambda: states.create("p", "s", 1, b"x"),
        lambda: states.read("p", "s", 1),
        lambda: states.generations("p", "s"),
        lambda: states.delete("p", "s", 1),
        lambda: states.prune("p", "s", 1),
    ]
    for call in refused:
        with pytest.raises(UnavailableError, match=r"/p\b.*: Not a directory"):
            call()


def test_directory_names_the_path_that_may_not_be_linked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(temporary: Path, path: Path) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted", str(path))

    states = DirectoryStates(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(os, "link", refuse)
        with pytest.raises(UnavailableError, match=r"/p/s/0{19}1: Operation not permitted"):
            states.create("p", "s", 1, b"x")
    assert states.generations("p", "s") == []
    states.create("p", "s", 1, b"x")
