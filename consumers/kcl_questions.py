"""Questions about a device, from the worker under the KCL to the processes of its shards.

The daemon stands between them, and its protocol has no question. So each process of a shard listens
at a socket in the folder of the worker, which nobody else may enter. It answers between two
messages of the daemon, which come every half second with records or without.

    worker   "t-1"            one line of JSON: the device
    shard    [{...}, ...]     its rows; null where they cannot be told now
"""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from .listen import ANSWER_SECONDS_MAX, Questions, Rows

LINE_BYTES_MAX = 65_536  # of a question; a device's name is shorter
PENDING_MAX = 8  # questions at once of one worker
SUFFIX = ".questions"
DEVICE = msgspec.json.Decoder(str)


class Answers:
    """The side of a shard: takes questions in a thread, which this process answers when it may."""

    def __init__(self, folder: Path) -> None:
        """Listen in a folder.

        Raises:
            OSError: that cannot be; a path of more than some 100 bytes is one cause.
        """
        self._questions = Questions()
        self._server = socket.socket(socket.AF_UNIX)
        self._server.bind(str(folder / f"{os.getpid()}{SUFFIX}"))
        self._server.listen(PENDING_MAX)
        self._thread = threading.Thread(target=self._serve, name="questions", daemon=True)
        self._thread.start()

    def answer(self, know: Callable[[str], Rows | None]) -> None:
        """Answer all that wait."""
        self._questions.answer(know)

    def close(self) -> None:
        """Listen no more."""
        self._server.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._server.close()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._server.accept()
            except OSError:
                return  # closed
            with connection:
                try:
                    connection.settimeout(ANSWER_SECONDS_MAX)
                    with connection.makefile("rb") as told:
                        device = DEVICE.decode(told.readline(LINE_BYTES_MAX))
                    rows = self._questions.ask(device)
                    connection.sendall(json.dumps(rows).encode() + b"\n")
                except (OSError, msgspec.MsgspecError):
                    continue  # whoever asked has gone, or is no worker of ours


def ask(folder: Path, device: str, seconds_max: float = ANSWER_SECONDS_MAX * 1.5) -> Rows | None:
    """What the shards of a worker know of a device; None where one of them does not answer in time.

    What has ended without a word has left its socket, which is taken away.
    """
    until = time.monotonic() + seconds_max
    found: Rows = []
    for path in sorted(folder.glob(f"*{SUFFIX}")):
        rows = _ask_one(path, device, until)
        if rows is None:
            return None
        found += rows
    return found


def _ask_one(path: Path, device: str, until: float) -> Rows | None:
    with socket.socket(socket.AF_UNIX) as shard:
        shard.settimeout(max(until - time.monotonic(), 0.01))
        try:
            shard.connect(str(path))
        except (ConnectionRefusedError, FileNotFoundError):
            path.unlink(missing_ok=True)
            return []
        except OSError:
            return None
        try:
            shard.sendall(json.dumps(device).encode() + b"\n")
            with shard.makefile("rb") as told:
                rows: Rows | None = json.loads(told.readline() or b"null")
                return rows
        except (OSError, ValueError):
            return None
