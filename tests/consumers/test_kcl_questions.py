"""`/state` under the KCL: the worker asks the processes of its shards, each in its own time."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from kcl_drive import EMPTY, LOST, Script, batch, host, initialize
from lambda_drive import Memories, in_shards, packed

from streamgauge.consumers.kcl_questions import SUFFIX, Answers, ask
from streamgauge.consumers.listen import Rows

((SHARD, RECORDS), *_) = in_shards(packed(1)).items()


@contextmanager
def answering(answers: Answers, know: Callable[[str], Rows | None]) -> Iterator[None]:
    """The loop of a shard, which turns all the time."""
    over = threading.Event()

    def turn() -> None:
        while not over.wait(0.001):
            answers.answer(know)

    thread = threading.Thread(target=turn)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        answers.close()


def test_what_a_shard_knows_is_told(tmp_path: Path) -> None:
    asked: list[str] = []

    def know(device: str) -> Rows:
        asked.append(device)
        return [{"shard": "s", "device": device}]

    device = 'ger\u00e4t "1"\n\U0001f680'
    with answering(Answers(tmp_path), know):
        assert ask(tmp_path, device) == [{"shard": "s", "device": device}]
    assert asked == [device]


def test_a_shard_that_ended_without_a_word_holds_nothing_up(tmp_path: Path) -> None:
    """A process that was killed leaves its socket."""
    code = "import socket, sys; s = socket.socket(socket.AF_UNIX); s.bind(sys.argv[1])"
    left = tmp_path / f"1{SUFFIX}"
    subprocess.run([sys.executable, "-c", code, left], check=True, stdin=subprocess.DEVNULL)
    assert left.exists()
    with answering(Answers(tmp_path), lambda device: [{"shard": "s"}]):
        assert ask(tmp_path, "d") == [{"shard": "s"}]
    assert not left.exists()


@pytest.mark.parametrize("loading", [True, False], ids=["loads", "does not turn"])
def test_of_a_shard_that_cannot_tell_nothing_is_made_up(tmp_path: Path, loading: bool) -> None:
    answers = Answers(tmp_path)
    if loading:
        with answering(answers, lambda device: None):
            assert ask(tmp_path, "d") is None
    else:
        with closing(answers):
            assert ask(tmp_path, "d", seconds_max=0.01) is None


@pytest.mark.parametrize("said", [b"", b"no JSON\n", b"[" * 60_000 + b"\n"])
def test_who_asks_nonsense_does_not_end_it(tmp_path: Path, said: bytes) -> None:
    with answering(Answers(tmp_path), lambda device: []):
        (path,) = tmp_path.iterdir()
        with socket.socket(socket.AF_UNIX) as other:
            other.connect(str(path))
            other.sendall(said)
            other.shutdown(socket.SHUT_WR)
            assert other.recv(1) == b""
        assert ask(tmp_path, "d") == []


def test_the_processor_knows_its_devices_until_the_lease_is_lost() -> None:
    memories = Memories()
    knows: list[Any] = []
    made = Script().say(host(memories), initialize(SHARD), batch(RECORDS), EMPTY,
                        report=lambda: knows.append(None))  # fmt: skip
    rows = made.inspect("quiet")
    assert rows and {row["shard"] for row in rows} == {SHARD} and knows
    assert made.inspect("nobody") == []
    lost = Script().say(host(memories), initialize(SHARD), LOST)
    assert lost.inspect("quiet") == []
