"""The servers that tests are handed: each process of pytest starts its own, when first needed."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from servers import Ministack


@pytest.fixture(scope="session")
def ministack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ministack]:
    """A server that stands in for AWS; tests share it, each with names of its own in it."""
    with Ministack(tmp_path_factory.mktemp("ministack")) as server:
        yield server
