"""`streamgauge run` as a process of its own, watched by its log lines."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

EVENT_SECONDS_MAX = 60.0  # a busy machine is slow; never a reason to fail before that
STOP_SECONDS_MAX = 10.0  # promised: from SIGTERM to the end


class Run:
    """One life of the command. events: the log lines told so far; talk is kept in `text`."""

    def __init__(self, folder: Path, url: str, *arguments: str) -> None:
        """Start it on `p.toml` of a folder, with all of AWS behind one endpoint."""
        self.events: list[dict[str, Any]] = []
        self.text = ""
        self._told = threading.Condition()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "streamgauge", "run", "p.toml", *arguments], cwd=folder,
            env=os.environ | {"AWS_ENDPOINT_URL": url}, text=True, stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        )  # fmt: skip
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stderr is not None
        for line in self._process.stderr:
            with self._told:
                if line.startswith("{"):
                    self.events.append(json.loads(line))
                else:
                    self.text += line
                self._told.notify_all()

    def wait_for(self, told: Callable[[list[dict[str, Any]]], object]) -> None:
        """Wait until the log lines so far fulfil a condition."""
        with self._told:
            good = self._told.wait_for(lambda: told(self.events), EVENT_SECONDS_MAX)
        assert good, f"not told in time; {self}"

    def count(self, event: str) -> int:
        return sum(line["event"] == event for line in self.events)

    def send(self, number: int) -> None:
        self._process.send_signal(number)

    def kill(self) -> None:
        """End it as a crash does."""
        self.send(signal.SIGKILL)
        assert self.ended() == -signal.SIGKILL

    def stop(self) -> int:
        """SIGTERM; the exit status, which must come in the time that is promised."""
        self.send(signal.SIGTERM)
        return self.ended(STOP_SECONDS_MAX)

    def ended(self, seconds: float = EVENT_SECONDS_MAX) -> int:
        """Wait for the end; the exit status."""
        status = self._process.wait(seconds)
        self._reader.join()
        return status

    def __str__(self) -> str:
        lines = [json.dumps(event) for event in self.events[-20:]]
        return "\n".join([f"status {self._process.poll()}", *lines, self.text[-2000:]])

    def __enter__(self) -> Run:
        return self

    def __exit__(self, *_: Any) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self.ended()
        assert self._process.stderr is not None
        self._process.stderr.close()
