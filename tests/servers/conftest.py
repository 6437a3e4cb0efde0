"""The servers that tests are handed: each process of pytest starts its own, when first needed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from live_cloud import Cloud
from live_run import PLACES, TOML, Scene
from servers import Ministack, missing

from streamgauge.consumers.deploy.package import HERE, Built, build
from streamgauge.engine.errors import StreamgaugeError


@pytest.fixture(scope="session")
def ministack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ministack]:
    """A server that stands in for AWS; tests share it, each with names of its own in it."""
    with Ministack(tmp_path_factory.mktemp("ministack")) as server:
        yield server


@pytest.fixture(scope="session")
def package(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """A Lambda package for this machine, of a file that names everything."""
    folder = tmp_path_factory.mktemp("package")
    (folder / "p.toml").write_text(TOML + PLACES)
    try:
        return build(folder / "p.toml", folder / "p.zip", HERE)
    except StreamgaugeError as error:
        if "pip cannot bring" not in str(error):
            raise
        missing("package index")


@pytest.fixture
def scene(ministack: Ministack, tmp_path: Path) -> Iterator[Scene]:
    """The torture stream and its limits, in a cloud of its own; a state object after each batch."""
    with Cloud(ministack.url) as cloud:
        made = Scene(cloud, tmp_path, ministack.port)
        made.write()
        made.fill()
        yield made
