"""Servers that tests start as processes of their own, on loopback, and the word on missing ones."""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any, NoReturn

import pytest

ROOT = Path(__file__).parent.parent.parent
SERVERS_HOME = ROOT / ".servers"
REQUIRED = "STREAMGAUGE_REQUIRE_SERVERS"  # "1": a server that is missing is a failure
SERVERS = "`make servers` installs it, without root"
JDK = "a Java development kit has it, as `apt-get install default-jdk-headless` brings"
HOW = {  # what brings a command, or a folder of jars in .servers
    "ministack": SERVERS,
    "cfn-lint": SERVERS,
    "checkov": SERVERS,
    "awslambdaric": SERVERS,
    "package index": "a package is built of what pip downloads",
    "java": JDK,
    "javac": JDK,
    "mosquitto": "`apt-get install mosquitto` brings it, as root",
    "kcl": SERVERS,
    "node": "`apt-get install nodejs npm` brings it, as root",
    "kinesis-local": "`make servers` brings it where npm is (`apt-get install npm`)",
    "kpl": "`make servers` brings it where Maven is (`apt-get install maven`)",
}
START_SECONDS_MAX = 60.0
PR_SET_PDEATHSIG = 1  # of linux/prctl.h
LOOK_SECONDS = 0.02  # between two looks at whether a port is open yet


def need(command: str) -> str:
    """The path of a server's command: of `make servers`, else of the system.

    Where it is missing the test is skipped with a line that says how to get it; it fails where
    servers are required, as on CI.
    """
    found = shutil.which(command, path=SERVERS_HOME / "bin") or shutil.which(command)
    return found or shutil.which(command, path="/usr/sbin") or missing(command)


def need_jars(name: str) -> str:
    """The class path of the KCL or the KPL; as `need`."""
    folders = {
        "kcl": "lib/python*/site-packages/amazon_kclpy/jars",  # amazon-kclpy brings them
        "kpl": "kpl",
    }
    for folder in SERVERS_HOME.glob(folders[name]):
        return f"{folder}/*"
    return missing(name)


def need_client() -> list[str]:
    """Where the client of the Lambda runtime is installed; as `need`."""
    found = list(SERVERS_HOME.glob("lib/python*/site-packages/awslambdaric"))
    return [str(path.parent) for path in found] or missing("awslambdaric")


def missing(name: str) -> NoReturn:
    """Skip the test, or have it fail where servers are required."""
    line = f"no {name}: {HOW[name]}"
    if os.environ.get(REQUIRED) == "1":
        pytest.fail(line, pytrace=False)
    pytest.skip(line)


def die_with_us() -> None:
    """Have Linux end the process that calls this when its parent dies, however that comes about."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def free_port() -> int:
    """A port of loopback that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Ministack:
    """Kinesis, DynamoDB, SNS, SQS, S3 and STS in one process, in memory; ended by `close`."""

    def __init__(self, folder: Path, tls: bool = False) -> None:
        """Start it, and return once it answers; what it says goes to a file in `folder`."""
        self._tls = tls
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
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self.port}"

    def _started(self, command: str, folder: Path) -> subprocess.Popen[bytes]:
        settings = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "TMPDIR": str(folder),
            "GATEWAY_PORT": str(self.port),
            "BIND_HOST": "127.0.0.1",
            "LOG_LEVEL": "WARNING",
            "USE_SSL": str(int(self._tls)),  # with a certificate of its own making
            "IOT_MTLS_ENABLED": "0",  # its port would be the same one for every server
            "MINISTACK_WORKER_THREADS": "4",
        }
        with self._log.open("ab") as log:
            return subprocess.Popen(
                [command], cwd=folder, env=settings, stdout=log, stderr=log,
                stdin=subprocess.DEVNULL, preexec_fn=die_with_us,
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
