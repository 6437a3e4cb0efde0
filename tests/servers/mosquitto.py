"""The broker mosquitto as a process of a test: plain or TLS, restarted, killed."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

import trustme
from servers import LOOK_SECONDS, START_SECONDS_MAX, free_port, need

USER, PASSWORD = "bridge", "a password with = and blanks"


class Mosquitto:
    """Listens on a port of loopback, which stays the same through restarts.

    tls: asks for certificates of `ca` on both sides, and for the password.
    """

    def __init__(self, folder: Path, tls: bool = False) -> None:
        self.folder, self.tls = folder, tls
        self.port = free_port()
        (folder / "data").mkdir()
        lines = [
            f"listener {self.port} 127.0.0.1",
            "user root",  # it would become another user, who cannot write here
            "persistence true",
            f"persistence_location {folder / 'data'}/",
            "autosave_interval 1",
            "autosave_on_changes true",  # after each change: what it has acknowledged is saved
            "max_inflight_messages 0",
            "max_queued_messages 0",
            "set_tcp_nodelay true",
        ]
        if tls:
            self._certify()
            passwords = folder / "passwords"
            subprocess.run(
                [need("mosquitto_passwd"), "-b", "-c", passwords, USER, PASSWORD], check=True,
                capture_output=True,
            )  # fmt: skip
            lines += [
                f"cafile {folder / 'ca.pem'}", f"certfile {folder / 'server.pem'}",
                f"keyfile {folder / 'server.key'}", "require_certificate true",
                f"password_file {passwords}", "allow_anonymous false",
            ]  # fmt: skip
        else:
            lines.append("allow_anonymous true")
        (folder / "mosquitto.conf").write_text("\n".join(lines) + "\n")
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    @property
    def url(self) -> str:
        return f"{'mqtts' if self.tls else 'mqtt'}://127.0.0.1:{self.port}"

    def _certify(self) -> None:
        authority = trustme.CA()
        authority.cert_pem.write_to_path(self.folder / "ca.pem")
        for name, identity in (("server", "127.0.0.1"), ("client", "bridge@streamgauge.test")):
            made = authority.issue_cert(identity, common_name=name)
            made.private_key_pem.write_to_path(self.folder / f"{name}.key")
            made.private_key_and_cert_chain_pem.write_to_path(self.folder / f"{name}.pem")

    def start(self) -> None:
        with (self.folder / "mosquitto.log").open("ab") as log:
            self._process = subprocess.Popen(
                [need("mosquitto"), "-c", self.folder / "mosquitto.conf"],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, env={"PATH": os.environ["PATH"]},
            )  # fmt: skip
        until, pause = time.monotonic() + START_SECONDS_MAX, threading.Event()
        while time.monotonic() < until and self._process.poll() is None:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
                return
            except OSError:
                pause.wait(LOOK_SECONDS)
        raise RuntimeError((self.folder / "mosquitto.log").read_text()[-2000:])

    def end(self, number: int = signal.SIGTERM) -> None:
        assert self._process is not None
        self._process.send_signal(number)
        self._process.wait()

    def __enter__(self) -> Mosquitto:
        return self

    def __exit__(self, *_: Any) -> None:
        if self._process is not None and self._process.poll() is None:
            self.end(signal.SIGKILL)
