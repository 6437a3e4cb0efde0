"""`streamgauge kcl` as a process of its own, watched by its log lines."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import live_run
from live_cloud import Cloud
from servers import need_jars

JSON = "-Daws.cborEnabled=false"  # arrival times in ministack's CBOR are not those of the stream
START_SECONDS_MAX = 120.0  # a worker that is alone has its first records after half of that


class Worker(live_run.Run):
    """One life of a worker."""

    command = "kcl"

    def __init__(self, folder: Path, url: str, *arguments: str, **settings: str) -> None:
        """Start it, with the jars of `make servers`."""
        jars = need_jars("kcl").removesuffix("/*")
        settings = {"JAVA_TOOL_OPTIONS": JSON} | settings
        super().__init__(folder, url, "--jars", jars, *arguments, **settings)

    def wait_for(
        self,
        told: Callable[[list[dict[str, Any]]], object],
        seconds: float = START_SECONDS_MAX,
    ) -> None:
        super().wait_for(told, seconds)

    def wait_for_saves(self, cloud: Cloud) -> None:
        """Wait until the last record of each shard is saved."""
        last = {f"{shard}:{of[-1].sequence}" for shard, of in cloud.records().items() if of}
        self.wait_for(lambda events: last <= saved(events))

    def daemon(self) -> int:
        """The process id of the newest daemon."""
        pids = [event["pid"] for event in self.events if event["event"] == "daemon_started"]
        return int(pids[-1])


def saved(events: list[dict[str, Any]]) -> set[str]:
    """shard:sequence of every state object that was written."""
    return {
        str(event["position"]).rpartition(":")[0]
        for event in events
        if event["event"] == "state_saved"
    }


def children(pid: int) -> list[int]:
    """The processes that a process, or a thread of it, has started (Linux)."""
    found = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        found += [int(one) for one in (task / "children").read_text().split()]
    return found
