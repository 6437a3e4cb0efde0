"""Names that stay where they belong, and files that are whole or not there."""

import errno
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from streamgauge.engine import files
from streamgauge.engine.errors import UnavailableError

NAMES = st.text(st.characters(codec=None), max_size=400) | st.text("./\\%~+-aA\0", max_size=12)


@given(NAMES)
@example("..")
@example(".")
@example("")
@example("../../x")
@example("a/b")
@example("%2E")
@example("\ud800")
def test_a_name_is_one_file_name_in_its_directory(name: str) -> None:
    safe = files.segment(name)
    assert 1 <= len(os.fsencode(safe)) <= 255
    assert not safe.startswith(".")
    assert not {"/", "\\", "\0"} & set(safe)
    assert files.segment(name) == safe
    short = files.segment(name, 60)
    assert len(short) <= 60


@given(st.sets(NAMES, min_size=2, max_size=20))
@example({"", "%", "%25", ".", "%2E", "..", "%2E."})
@example({"a" * 500, "a" * 501, "a" * 499 + "b"})
def test_different_names_stay_different(names: set[str]) -> None:
    assert len({files.segment(name) for name in names}) == len(names)


def test_plain_names_stay_as_they_are() -> None:
    for name in ("thermostats", "shardId-000000000001", "a_b~c.d"):
        assert files.segment(name) == name


def test_a_file_is_created_once(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "c"
    assert files.create(path, b"first")
    assert not files.create(path, b"second")
    assert path.read_bytes() == b"first"
    files.replace(path, b"third")
    assert path.read_bytes() == b"third"
    assert os.listdir(path.parent) == ["c"]


@pytest.mark.parametrize("write", [files.create, files.replace])
@pytest.mark.parametrize("broken", ["fsync", "link", "replace"])
def test_a_failure_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write: Any, broken: str
) -> None:
    if (write, broken) in [(files.create, "replace"), (files.replace, "link")]:
        broken = "fsync"

    def refuse(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    (tmp_path / "d").mkdir()
    with monkeypatch.context() as patch, pytest.raises(UnavailableError, match="No space left"):
        patch.setattr(os, broken, refuse)
        with files.available(tmp_path):
            write(tmp_path / "d" / "x", b"data")
    assert os.listdir(tmp_path / "d") == []
    write(tmp_path / "d" / "x", b"data")


@pytest.mark.parametrize(
    ("write", "step"),
    [(files.create, "link"), (files.replace, "replace")],
    ids=["create", "replace"],
)
def test_data_are_synced_before_the_name_and_the_name_before_the_return(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write: Any, step: str
) -> None:
    done: list[str] = []
    sync, place = os.fsync, getattr(os, step)

    def synced(number: int) -> None:
        done.append("directory" if os.path.isdir(f"/proc/self/fd/{number}") else "data")
        sync(number)

    def placed(*paths: Any) -> None:
        done.append("name")
        place(*paths)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, step, placed)
    write(tmp_path / "new" / "x", b"data")
    assert done == ["directory", "data", "name", "directory"]


def test_leftovers_are_told_with_their_final_name(tmp_path: Path) -> None:
    for name in (".00000000000000000007.0123456789abcdef.tmp", "7", ".x.tmp", "a.tmp"):
        (tmp_path / name).write_bytes(b"")
    assert files.leftovers(tmp_path) == [
        (tmp_path / ".00000000000000000007.0123456789abcdef.tmp", "00000000000000000007")
    ]
