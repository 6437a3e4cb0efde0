"""Servers that tests start as processes of their own, on loopback, and the word on missing ones."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent.parent
REQUIRED = "STREAMGAUGE_REQUIRE_SERVERS"  # "1": a server that is missing is a failure
HOW = {"ministack": "make servers"}  # what installs the command of a server
START_SECONDS_MAX = 60.0
LOOK_SECONDS = 0.02  # between two looks at whether a port is open yet


def need(command: str) -> str:
    """The path of a server's command: of `make servers`, else of the system.

    Where it is missing the test is skipped with a line that says how to get it; it fails where
    servers are required, as on CI.
    """
    found = shutil.which(command, path=ROOT / ".servers" / "bin") or shutil.which(command)
    if found is not None:
        return found
    line = f"no {command}: `{HOW[command]}` installs it, without root"
    if os.environ.get(REQUIRED) == "1":
        pytest.fail(line, pytrace=False)
    pytest.skip(line)


def free_port() -> int:
    """A port of loopback that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Ministack:
    """Kinesis, DynamoDB, SNS, SQS and S3 in one process, in memory; ended by `close`."""

    def __init__(self, folder: Path) -> None:
        """Start it, and return once it answers; what it says goes to a file in `folder`."""
        self._log = folder / "ministack.log"
        command = need("ministack")
        for _ in range(3):  # somebody else may take the port between the look and the start
            self.port = free_port()
            self._process = self._started(command, folder)
            if self._answers():
                return
            self.close()
        raise RuntimeError(f"ministack does not start: {self._log.read_text()[-2000:]}")

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def _started(self, command: str, folder: Path) -> subprocess.Popen[bytes]:
        settings = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "TMPDIR": str(folder),
            "GATEWAY_PORT": str(self.port),
            "BIND_HOST": "127.0.0.1",
            "LOG_LEVEL": "WARNING",
            "IOT_MTLS_ENABLED": "0",  # its port would be the same one for every server
            "MINISTACK_WORKER_THREADS": "4",
        }
        with self._log.open("ab") as log:
            return subprocess.Popen(
                [command], cwd=folder, env=settings, stdout=log, stderr=log,
                stdin=subprocess.DEVNULL,
            )  # fmt: skip

    def _answers(self) -> bool:
        """Wait until the port is open; False where the process ends before, or takes too long."""
        until, pause = time.monotonic() + START_SECONDS_MAX, threading.Event()
        while time.monotonic() < until and self._process.poll() is None:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
                return True
            except OSError:
                pause.wait(LOOK_SECONDS)
        return False

    def close(self) -> None:
        """End the process, and wait for that."""
        self._process.terminate()
        try:
            self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def __enter__(self) -> Ministack:
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()
