"""`streamgauge kcl` with the real MultiLangDaemon, which is to open no aggregate: bad ones too."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import plain_kpl
import pytest
import torture
from kcl_run import Worker, children
from live_cloud import Cloud
from live_run import Scene
from servers import Ministack, need, need_jars

pytestmark = pytest.mark.slow


@pytest.fixture
def scene(ministack: Ministack, tmp_path: Path) -> Iterator[Scene]:
    """The first half of the torture stream as it was packed, damaged aggregates and all."""
    need("java")
    need_jars("kcl")
    with Cloud(ministack.url) as cloud:
        made = Scene(cloud, tmp_path, ministack.port)
        made.toml = made.toml.replace('name = "torture"', f'name = "{cloud.name}-p"')
        made.write()
        made.limit(torture.thresholds())
        made.cloud.put(made.given[: len(made.given) // 2])
        yield made


def test_no_user_record_of_an_aggregate_is_lost(scene: Scene, ministack: Ministack) -> None:
    """D10, D11, D13: aggregates with a wrong digest, a body that does not parse and a key index
    out of range, and good ones whose user records lie in the ranges of several shards; between two
    halves the child is killed, so the second begins at a checkpoint behind an aggregate."""
    with Worker(scene.folder, ministack.url) as worker:
        worker.wait_for_saves(scene.cloud)
        os.kill(children(worker.daemon())[0], signal.SIGKILL)
        scene.cloud.put(scene.given[len(scene.given) // 2 :])
        worker.wait_for_saves(scene.cloud)
        assert worker.count("daemon_died") == 1
        assert worker.stop() == 0, worker
    opened = [user for of in scene.cloud.records().values() for one in of
              for user in plain_kpl.opened(one)]  # fmt: skip
    assert any(user.sub for user in opened) and {user.fault for user in opened} > {None}
    found = scene.judged("D10, D11, D13, K1 under the KCL: aggregates, good and bad")
    print(dict(found.reasons))
