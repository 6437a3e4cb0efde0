"""An MQTT broker on 127.0.0.1 for as long as a command runs: mosquitto, else amqtt.

It is a process of its own, ended by its process id. A user's own broker is never touched: the port
is a free one, and everything it writes lies in the folder that it is given.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ..engine.errors import StreamgaugeError

HOST = "127.0.0.1"
START_SECONDS_MAX = 20.0
END_SECONDS_MAX = 5.0
LOOK_SECONDS = 0.05
SYSTEM_FOLDERS = ("/usr/sbin", "/usr/local/sbin", "/opt/homebrew/sbin")  # often not on the PATH
MISSING = (
    "no MQTT broker here: install mosquitto (Debian and Ubuntu: apt-get install mosquitto; macOS:"
    " brew install mosquitto), or: pip install 'streamgauge[demo]'"
)


@dataclass(frozen=True)
class LocalBroker:
    """A broker that runs. version: of MQTT, 5 or 4 (which is 3.1.1)."""

    name: str
    port: int
    version: int
    pid: int

    @property
    def url(self) -> str:
        """Its address."""
        return f"mqtt://{HOST}:{self.port}"


@contextmanager
def local_broker(folder: Path, kind: str | None = None) -> Iterator[LocalBroker]:
    """Run a broker while this lasts.

    Args:
        folder: where it may write. kind: mosquitto or amqtt; None: the first that is there.

    Raises:
        StreamgaugeError: there is none, or it does not start; says why.
    """
    mosquitto = None if kind == "amqtt" else find_mosquitto()
    port = _free_port()
    if mosquitto is not None:
        command, name, version = _mosquitto(mosquitto, folder, port), "mosquitto", 5
    elif kind != "mosquitto" and importlib.util.find_spec("amqtt") is not None:
        command, name, version = _amqtt(folder, port), "amqtt", 4
    else:
        raise StreamgaugeError(MISSING)
    said = folder / "broker.log"
    with said.open("wb") as log:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )  # a session of its own: Ctrl-C is the command's to hear, not the broker's
    try:
        _await(process, port, name, said)
        yield LocalBroker(name, port, version, process.pid)
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(END_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def find_mosquitto() -> str | None:
    """The program, on the PATH or where systems put it."""
    path = os.pathsep.join((os.environ.get("PATH", ""), *SYSTEM_FOLDERS))
    return shutil.which("mosquitto", path=path)


def _mosquitto(program: str, folder: Path, port: int) -> list[str]:
    lines = [
        f"listener {port} {HOST}",
        "allow_anonymous true",
        "persistence false",
        "max_inflight_messages 0",  # as many as the client takes
        "max_queued_messages 0",  # none is dropped
        "set_tcp_nodelay true",
    ]
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        lines.append("user root")  # it would become another user, who cannot read the folder
    (folder / "mosquitto.conf").write_text("\n".join(lines) + "\n")
    return [program, "-c", str(folder / "mosquitto.conf")]


def _amqtt(folder: Path, port: int) -> list[str]:
    text = (
        f"listeners:\n  default:\n    type: tcp\n    bind: {HOST}:{port}\n"
        "plugins:\n  amqtt.plugins.authentication.AnonymousAuthPlugin:\n"
        "    allow_anonymous: true\n"
    )
    (folder / "amqtt.yaml").write_text(text)
    program = "from amqtt.scripts.broker_script import main; main()"
    return [sys.executable, "-c", program, "-c", str(folder / "amqtt.yaml")]


def _await(process: subprocess.Popen[bytes], port: int, name: str, said: Path) -> None:
    """Return once it listens."""
    until = time.monotonic() + START_SECONDS_MAX
    while process.poll() is None and time.monotonic() < until:
        try:
            socket.create_connection((HOST, port), timeout=1.0).close()
            return
        except OSError:
            time.sleep(LOOK_SECONDS)
    last = said.read_text(errors="replace").strip().splitlines()[-3:]
    raise StreamgaugeError(f"{name} does not start: {' / '.join(last) or 'it says nothing'}")


def _free_port() -> int:
    with socket.socket() as found:
        found.bind((HOST, 0))
        port: int = found.getsockname()[1]
        return port
