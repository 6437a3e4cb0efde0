"""A Kinesis that splits and merges shards as AWS does: kinesis-local, which runs in Node.

A closed shard is read to its end, and its last answer names its children; of the servers at hand no
other does that. It is slow: some hundred records a second.
"""

from __future__ import annotations

import os
import socket
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

import boto3
from live_cloud import ENTRIES_MAX, Cloud, cut
from plain_kpl import Kinesis
from servers import (
    LOOK_SECONDS,
    SERVERS_HOME,
    START_SECONDS_MAX,
    die_with_us,
    free_port,
    missing,
    need,
)

SHARDS_AT_FIRST = 2
MIDDLE = 1 << 126  # of the range of the first shard
LISTED = {"Delay": 1, "MaxAttempts": 30}


class KinesisLocal:
    """The server, in memory, on loopback; ended by `with`."""

    def __init__(self, folder: Path) -> None:
        """Start it, and return once it answers; what it says goes to a file in `folder`."""
        home = SERVERS_HOME / "node_modules/kinesis-local"
        node = need("node")
        if not home.exists():
            missing("kinesis-local")
        self.port = free_port()
        settings = {
            "PATH": os.environ["PATH"],
            "KINESIS_MOCK_PLAIN_PORT": str(self.port),
            "KINESIS_MOCK_TLS_PORT": str(free_port()),
            "KINESIS_MOCK_CERT_PATH": str(home / "server.json"),
            "LOG_LEVEL": "ERROR",
            **{f"{what}_DURATION": "50ms"
               for what in ("CREATE_STREAM", "SPLIT_SHARD", "MERGE_SHARDS")},
        }  # fmt: skip
        with (folder / "kinesis-local.log").open("ab") as log:
            self._process = subprocess.Popen(
                [node, str(home / "main.js")], cwd=folder, env=settings, stdout=log, stderr=log,
                stdin=subprocess.DEVNULL, preexec_fn=die_with_us,
            )  # fmt: skip
        until, pause = time.monotonic() + START_SECONDS_MAX, threading.Event()
        while not self._open():
            assert self._process.poll() is None and time.monotonic() < until, folder
            pause.wait(LOOK_SECONDS)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def _open(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
        except OSError:
            return False
        return True

    def __enter__(self) -> KinesisLocal:
        return self

    def __exit__(self, *_: Any) -> None:
        self._process.kill()
        self._process.wait()


class ReshardedCloud(Cloud):
    """A cloud whose stream is on such a server, and can be resharded; the rest is elsewhere.

    Each record goes where its partition key has it go, so a device is in one shard at a time.
    """

    def __init__(self, url: str, kinesis: str) -> None:
        """Make everything; `kinesis` is the endpoint of the stream alone."""
        self._kinesis_url = kinesis
        super().__init__(url)
        self._settle()

    def _open(self, url: str | None) -> None:
        super()._open(url)
        self.kinesis.close()
        self.kinesis = boto3.client("kinesis", endpoint_url=self._kinesis_url)

    def _settle(self) -> None:
        waiter = self.kinesis.get_waiter("stream_exists")
        waiter.wait(StreamName=self.name, WaiterConfig=LISTED)

    def put(self, records: Any) -> None:
        for some in cut(records, ENTRIES_MAX):
            answer = self.kinesis.put_records(
                StreamName=self.name,
                Records=[{"Data": one.data, "PartitionKey": one.key} for one in some],
            )
            assert answer["FailedRecordCount"] == 0

    def split(self, shard: str) -> None:
        self.kinesis.split_shard(
            StreamName=self.name, ShardToSplit=shard, NewStartingHashKey=str(MIDDLE)
        )
        self._settle()

    def merge(self, shard: str, neighbour: str) -> None:
        self.kinesis.merge_shards(
            StreamName=self.name, ShardToMerge=shard, AdjacentShardToMerge=neighbour
        )
        self._settle()

    def shards(self) -> list[str]:
        """All, closed ones too; parents come first."""
        answer = self.kinesis.list_shards(StreamName=self.name)
        return sorted(shard["ShardId"] for shard in answer["Shards"])

    def records(self) -> dict[str, list[Kinesis]]:
        return {shard: list(self._of_shard(shard)) for shard in self.shards()}

    def memories(self) -> list[list[Kinesis]]:
        """All in one: what a device leaves behind in a shard is known in its children."""
        return [[one for of in self.records().values() for one in of]]
