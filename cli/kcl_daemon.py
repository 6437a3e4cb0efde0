"""The MultiLangDaemon as a process: started, watched, started again, ended."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from ..engine.errors import StreamgaugeError
from .running import log
from .stop import STOP_SECONDS_MAX

if TYPE_CHECKING:
    from ..consumers.backoff import Refusal
    from ..consumers.metrics import Snapshot
    from .stop import Stop

MAIN = "software.amazon.kinesis.multilang.MultiLangDaemon"
DEATHS_MAX = 10  # of the daemon, in a row of which each follows the last within
DEATHS_APART_SECONDS = 300.0
PAUSE_SECONDS_FIRST = 0.5  # before it is started again; doubles with each death in a row, up to
PAUSE_SECONDS_MAX = 15.0
GRACE_SECONDS = STOP_SECONDS_MAX - 1.0  # from the wish to stop until the daemon is killed
LOOK_SECONDS = 0.1
REPORT_LATE_SECONDS = 30.0
PROGRESS_SECONDS = 10.0
LINE_CHARACTERS_MAX = 4000  # of a line of the daemon's own
PR_SET_PDEATHSIG = 1  # of linux/prctl.h


def arguments(jars: Path, home: Path) -> list[str]:
    """What Java is to run: the daemon, with its files in a folder; classes there come first."""
    return [
        "-Dfile.encoding=UTF-8", "-cp", f"{home / 'classes'}{os.pathsep}{jars}/*", MAIN,
        "--properties-file", str(home / "app.properties"),
        "--log-configuration", str(home / "logback.xml"),
    ]  # fmt: skip


def worker_id() -> str:
    """An id that no other process has or had: it names this one, on this machine, in this boot.

    It is the same for each daemon that this process starts, one after the other. The KCL then finds
    its own leases and its own lock of the leader, which no living process has: the last daemon's
    end was waited for.
    """
    boot = _read("/proc/sys/kernel/random/boot_id") or "boot"
    started = _read("/proc/self/stat").rpartition(")")[2].split()[19:20] or [str(time.time_ns())]
    return f"{socket.gethostname()}-{boot[:8]}-{os.getpid()}-{started[0]}"


def _read(path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return ""


class Daemon:
    """One worker: a daemon, and another one after it has died.

    What waits is told by the metrics, not by its health.
    """

    def __init__(
        self,
        command: list[str],
        environment: Mapping[str, str],
        *,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        """Start nothing yet."""
        from ..consumers.metrics import Metrics

        self._command = command
        self._environment = dict(environment)
        self._now = now
        self._metrics = Metrics()
        self._lock = threading.Lock()
        self._living: dict[int, Snapshot] = {}
        self._past: list[Snapshot] = []
        self._died: list[float] = []
        self._progress = (now(), 0.0)

    @property
    def refused(self) -> dict[str, Refusal]:
        """Shards whose step was refused at the last try, as health is told."""
        return {}

    @property
    def snapshots(self) -> list[Snapshot]:
        """The metrics of this process and of those of the shards; any thread may ask."""
        with self._lock:
            return [self._metrics.snapshot(), *self._past, *self._living.values()]

    def run(self, stop: Stop) -> bool:
        """Have a daemon run until told to stop; whether all was handed over in time.

        Raises:
            StreamgaugeError: it died DEATHS_MAX times, one soon after the other.
        """
        while not stop():
            process = self._started()
            status = self._watched(process, stop)
            if stop():
                return status == 0
            self._note_death(status)
            pause = min(PAUSE_SECONDS_FIRST * 2 ** (len(self._died) - 1), PAUSE_SECONDS_MAX)
            log("daemon_died", exit_status=status, seconds=pause)
            until = self._now() + pause
            while not stop() and self._now() < until:
                time.sleep(LOOK_SECONDS)
        return True

    def _started(self) -> subprocess.Popen[str]:
        """Start a daemon in a session of its own, so that Ctrl-C does not reach its children."""
        process = subprocess.Popen(
            self._command, env=self._environment, stdin=subprocess.DEVNULL, text=True,
            encoding="utf-8", errors="replace", stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            start_new_session=True, preexec_fn=_die_with_us(os.getpid()),
        )  # fmt: skip
        log("daemon_started", pid=process.pid)
        return process

    def _watched(self, process: subprocess.Popen[str], stop: Stop) -> int | None:
        """Wait for its end, having it end where told to stop; its status, None if killed."""
        assert process.stdout is not None
        reader = threading.Thread(target=self._read, args=(process.stdout,), daemon=True)
        reader.start()
        try:
            while process.poll() is None and not stop():
                self._turn()
            if process.poll() is None:
                process.terminate()
                process.wait(GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            log("daemon_killed", cause=f"not through within {GRACE_SECONDS:g} s")
            return None
        finally:
            _end_session(process)
            reader.join(1.0)
            with self._lock:
                from ..consumers.metrics import counters

                self._past = [*self._past, *map(counters, self._living.values())]
                self._living = {}
        return 0 if stop() else process.returncode

    def _turn(self) -> None:
        self._metrics.set("last_turn_timestamp_seconds", time.time())
        time.sleep(LOOK_SECONDS)
        at, before = self._progress
        if self._now() - at < PROGRESS_SECONDS:
            return
        from ..consumers.metrics import merged

        found = merged(self.snapshots)
        records = sum(found["shard_records_total"].values())
        self._progress = (self._now(), records)
        if records != before:
            lags = {key[0]: value for key, value in found["shard_lag_seconds"].items()}
            log("progress", records=int(records), lag_seconds=lags)

    def _read(self, lines: IO[str]) -> None:
        """Pass on what the daemon and its children tell."""
        for line in lines:
            self._take(line.rstrip("\n"))
        lines.close()

    def _take(self, line: str) -> None:
        """The daemon's own lines have a level and a logger; others are copied from its children."""
        level, *rest = line.split("\t", 2)
        if len(rest) < 2:
            self._tell(line)
        elif level in ("WARN", "ERROR"):
            log("daemon", level=level, logger=rest[0], text=rest[1].strip()[:LINE_CHARACTERS_MAX])

    def _tell(self, line: str) -> None:
        """A line of a child: its metrics, a line of its log, or what somebody printed."""
        from ..consumers.kcl_log import REPORT, unlisted

        try:
            told: Any = json.loads(line)
            event = told["event"]
            if event == REPORT:
                with self._lock:
                    self._living[told["pid"]] = unlisted(told)
                return
        except (ValueError, KeyError, TypeError):
            log("printed", text=line[:LINE_CHARACTERS_MAX])
            return
        sys.stderr.write(line + "\n")
        sys.stderr.flush()

    def _note_death(self, status: int | None) -> None:
        self._metrics.add("worker_deaths_total")
        now = self._now()
        if self._died and now - self._died[-1] > DEATHS_APART_SECONDS:
            self._died.clear()
        self._died.append(now)
        if len(self._died) > DEATHS_MAX:
            raise StreamgaugeError(
                f"the daemon died {DEATHS_MAX} times, one soon after the other (status {status})"
            )


def _end_session(process: subprocess.Popen[str]) -> None:
    """Kill the daemon and what is left of its children: nobody hears them any more."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    process.wait()


def _die_with_us(parent: int) -> Callable[[], None] | None:
    """Has Linux kill the process that calls it when this one dies, however that comes about."""
    if sys.platform != "linux":
        return None
    library = ctypes.CDLL(None)

    def ask() -> None:
        library.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # died meanwhile
            os._exit(1)

    return ask
