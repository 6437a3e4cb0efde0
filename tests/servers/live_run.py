"""`streamgauge run` as a process of its own, watched by its log lines."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import plain_kpl
import torture
from fault_proxy import ALWAYS, Proxy, Rule, few
from live_cloud import Cloud, Judged, judged
from servers import die_with_us

EVENT_SECONDS_MAX = 60.0  # a busy machine is slow; never a reason to fail before that
TOML = (torture.HERE / "torture.toml").read_text()
PLACES = """
[thresholds]
table = "limits"
[alerts]
sns_topic = "arn:aws:sns:us-east-1:000000000000:alerts"
[errors]
location = "s3://bucket/errors/"
[state]
location = "s3://bucket/state/"
"""
STOP_SECONDS_MAX = 10.0  # promised: from SIGTERM to the end


class Run:
    """One life of the command. events: the log lines told so far; talk is kept in `text`."""

    command = "run"

    def __init__(self, folder: Path, url: str, *arguments: str, **settings: str) -> None:
        """Start it on `p.toml` of a folder, with all of AWS behind one endpoint.

        `settings` are variables of its environment beside or instead of ours; empty: taken out.
        """
        environment = os.environ | {"AWS_ENDPOINT_URL": url} | settings
        self.events: list[dict[str, Any]] = []
        self.text = ""
        self._told = threading.Condition()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "streamgauge", self.command, "p.toml", *arguments], cwd=folder,
            env={k: v for k, v in environment.items() if v}, text=True, stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, preexec_fn=die_with_us,
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

    def wait_for(
        self, told: Callable[[list[dict[str, Any]]], object], seconds: float = EVENT_SECONDS_MAX
    ) -> None:
        """Wait until the log lines so far fulfil a condition."""
        with self._told:
            good = self._told.wait_for(lambda: told(self.events), seconds)
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


class Scene:
    """The torture stream, or another, in a cloud of its own, and a folder to run the command in.

    events: the log lines of the life that `finish` saw to its end.
    """

    def __init__(self, cloud: Cloud, folder: Path, port: int) -> None:
        """Stand before the server on this port; nothing is put yet."""
        self.cloud, self.folder, self.port = cloud, folder, port
        self.toml = TOML
        self.limits: list[dict[str, Any]] = []
        self.events: list[dict[str, Any]] = []
        self.given = plain_kpl.read(torture.HERE / "torture.ndjson")

    def write(self, **settings: str) -> None:
        """Write the pipeline file, with `save_every` and `refresh` as asked for."""
        text = self.cloud.pipeline_file(self.toml, **settings)
        (self.folder / "p.toml").write_text(text)

    def limit(self, items: Sequence[dict[str, Any]]) -> None:
        """Put limits into the table, which hold from the start."""
        self.limits += items
        self.cloud.limit(items)

    def fill(self) -> None:
        """Put the torture file into the stream, and its limits into the table."""
        self.limit(torture.thresholds())
        self.cloud.put(self.given)

    def proxy(self, *rules: Rule, records_max: int = 50) -> Proxy:
        """A proxy that also cuts the stream into small reads."""
        return Proxy(self.port, [*rules, Rule("GetRecords", few(records_max), ALWAYS)])

    def run(self, proxy: Proxy, *arguments: str, **settings: str) -> Run:
        return Run(self.folder, proxy.url, *arguments, **settings)

    def finish(self, *rules: Rule) -> Proxy:
        """One life that must come to the end of the stream; the proxy, for what it saw."""
        with self.proxy(*rules) as proxy, self.run(proxy, "--until-end") as run:
            assert run.ended() == 0, run
            self.events = run.events
            assert proxy.spent(), [rule for rule in proxy.rules if not rule.met]
        return proxy

    def judged(self, row: str) -> Judged:
        """What came out, found right, and said in one line (pytest -rP shows it)."""
        found = judged(self.cloud, self.toml, self.limits)
        assert found.alerts and (found.reasons or self.given == [])
        print(
            f"{row}: survived, records accepted {found.records}, lost 0, alerts missing 0,"
            f" spurious 0, raw duplicates {found.repeats}"
        )
        return found
