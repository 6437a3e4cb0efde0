"""`streamgauge kcl` with the real MultiLangDaemon while the stream is split and merged."""

from __future__ import annotations

import itertools
from pathlib import Path

import plain_kpl
import pytest
import torture
from kcl_run import Worker
from kinesis_local import KinesisLocal, ReshardedCloud
from live_run import Scene
from servers import Ministack, need, need_jars

pytestmark = pytest.mark.slow


def test_a_shard_is_split_and_its_children_merged(ministack: Ministack, tmp_path: Path) -> None:
    """K6, K7: amid windows, with records of the parents still unread; each end is noted."""
    need("java")
    need_jars("kcl")
    given = plain_kpl.repacked(torture.users(), itertools.repeat(1))
    third = len(given) // 3
    with (
        KinesisLocal(tmp_path) as kinesis,
        ReshardedCloud(ministack.url, kinesis.url) as cloud,
    ):
        scene = Scene(cloud, tmp_path, ministack.port)
        scene.toml = scene.toml.replace('name = "torture"', f'name = "{cloud.name}-p"')
        scene.write()
        scene.limit(torture.thresholds())
        first, _ = cloud.shards()
        cloud.put(given[:third])
        with Worker(tmp_path, ministack.url, AWS_ENDPOINT_URL_KINESIS=kinesis.url) as worker:
            worker.wait_for_saves(cloud)
            cloud.put(given[third : third + third // 2])
            cloud.split(first)
            children = cloud.shards()[2:]
            cloud.put(given[third + third // 2 : 2 * third])
            worker.wait_for_saves(cloud)
            cloud.merge(*children)
            (merged,) = cloud.shards()[4:]
            cloud.put(given[2 * third :])
            worker.wait_for_saves(cloud)
            assert all(cloud.records()[shard] for shard in (first, *children, merged))
            finished = [e["shard"] for e in worker.events if e["event"] == "shard_finished"]
            assert sorted(finished) == sorted([first, *children]), worker
            assert worker.stop() == 0, worker
        scene.judged("K6, K7 under the KCL: a shard split, its children merged")
