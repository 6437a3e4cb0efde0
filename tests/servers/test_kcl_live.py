"""`streamgauge kcl` with the real MultiLangDaemon: killed, handed over, doubled, frozen.

A worker alone reads its first record after half a minute, so each test lives through several faults
with the fewest starts.
"""

from __future__ import annotations

import os
import queue
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torture
from kcl_run import Worker, children, plain, saved
from live_cloud import Cloud
from live_run import Scene
from servers import Ministack, need, need_jars

pytestmark = pytest.mark.slow


@pytest.fixture
def scene(ministack: Ministack, tmp_path: Path) -> Iterator[Scene]:
    """Half of the torture stream in a cloud of its own; the pipeline has a name of its own."""
    need("java")
    need_jars("kcl")
    with Cloud(ministack.url) as cloud:
        made = Scene(cloud, tmp_path, ministack.port)
        made.toml = made.toml.replace('name = "torture"', f'name = "{cloud.name}-p"')
        made.write()
        made.given = plain()
        made.limit(torture.thresholds())
        made.cloud.put(made.given[: len(made.given) // 2])
        yield made


def leases(scene: Scene) -> dict[str, dict[str, Any]]:
    """The rows of the KCL's table, by shard."""
    items = scene.cloud.dynamodb.scan(TableName=f"{scene.cloud.name}-p")["Items"]
    return {item["leaseKey"]["S"]: item for item in items if "checkpoint" in item}


def test_killed_child_killed_daemon_and_an_orderly_end(scene: Scene, ministack: Ministack) -> None:
    """K1, L6: a child, then the daemon are killed, with records still to come; then SIGTERM."""
    half, quarter = len(scene.given) // 2, len(scene.given) // 4
    with Worker(scene.folder, ministack.url) as worker:
        worker.wait_for_saves(scene.cloud)
        os.kill(children(worker.daemon())[0], signal.SIGKILL)
        scene.cloud.put(scene.given[half : half + quarter])
        worker.wait_for_saves(scene.cloud)
        assert worker.count("daemon_died") == 1
        os.kill(worker.daemon(), signal.SIGKILL)
        killed = time.monotonic()
        scene.cloud.put(scene.given[half + quarter :])
        worker.wait_for_saves(scene.cloud)
        print(
            f"from SIGKILL of the daemon to all read and saved: {time.monotonic() - killed:.1f} s"
        )
        stopped = time.monotonic()
        assert worker.stop() == 0, worker
        print(f"from SIGTERM to the end: {time.monotonic() - stopped:.1f} s")
    rows = leases(scene)
    for shard, of in scene.cloud.records().items():
        assert rows[shard]["checkpoint"]["S"] == of[-1].sequence
    scene.judged("K1, L6 under the KCL: child killed, daemon killed, stopped")


def test_leases_move_to_a_second_worker(scene: Scene, ministack: Ministack) -> None:
    """K3: of two workers the one that has a shard is stopped while it reads; the other goes on."""
    half = len(scene.given) // 2
    with (
        Worker(scene.folder, ministack.url) as one,
        Worker(scene.folder, ministack.url) as other,
    ):
        first, second = first_to_save(one, other)
        scene.cloud.put(scene.given[half:])
        assert first.stop() == 0, first
        second.wait_for(lambda events: last_saves(scene) <= saved(first.events + second.events))
        assert second.count("shard_started") > 0
        assert second.stop() == 0, second
    scene.judged("K3 under the KCL: leases move to a second worker")


def first_to_save(*workers: Worker) -> Sequence[Worker]:
    """The same workers, one that has a shard first."""
    found: queue.Queue[int] = queue.Queue()

    def look(number: int) -> None:
        try:
            workers[number].wait_for(lambda events: not found.empty() or saved(events))
        finally:
            found.put(number)

    for number in range(len(workers)):
        threading.Thread(target=look, args=(number,), daemon=True).start()
    first = found.get()
    assert workers[first].count("state_saved"), workers[first]
    return [workers[first], *workers[:first], *workers[first + 1 :]]


def last_saves(scene: Scene) -> set[str]:
    """The last record of each shard, as a state object names it."""
    return {f"{shard}:{of[-1].sequence}" for shard, of in scene.cloud.records().items() if of}
