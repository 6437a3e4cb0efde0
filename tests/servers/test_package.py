"""The Lambda package: built as users build it, and run with nothing else on its path."""

from __future__ import annotations

import io
import subprocess
import sys
import time
import zipfile
from pathlib import Path
from typing import Any

import pytest
import servers
from live_run import PLACES, TOML

from streamgauge.consumers.deploy import invoke as invoking
from streamgauge.consumers.deploy import sample_event
from streamgauge.consumers.deploy.package import (
    HERE,
    REQUIREMENTS,
    UNZIPPED_BYTES_MAX,
    Built,
    Target,
    build,
)
from streamgauge.engine.errors import StreamgaugeError
from streamgauge.rules import spec as specs

UNZIPPED_AIM = 65_000_000  # bytes
pytestmark = pytest.mark.slow


def test_its_size(package: Built) -> None:
    with zipfile.ZipFile(package.path) as archive:
        infos = archive.infolist()
    assert sum(info.file_size for info in infos) == package.unzipped_bytes < UNZIPPED_AIM
    assert package.path.stat().st_size == package.zipped_bytes
    assert package.files == len(infos) and UNZIPPED_AIM < UNZIPPED_BYTES_MAX
    assert package.import_seconds is not None
    print(f"{package.unzipped_bytes / 1e6:.1f} MB, cold import {package.import_seconds:.2f} s")


def test_it_holds_the_list_and_nothing_else(package: Built) -> None:
    with zipfile.ZipFile(package.path) as archive:
        names = archive.namelist()
        assert archive.read("pipeline.toml").decode() == TOML + PLACES
    tops = {name.partition("/")[0] for name in names}
    folders = {name for name in tops if not name.endswith((".dist-info", ".libs"))}
    listed = "google msgspec numpy pipeline.toml re2 streamgauge tzdata"
    assert folders == set(listed.split())
    parts = {name.split("/")[1] for name in names if name.startswith("streamgauge/")}
    assert {"engine", "rules", "consumers", "__init__.py"} <= parts
    assert parts.isdisjoint({"cli", "tests", "bench", "__main__.py"})
    assert [name for name in names if "/tests/" in name or name.endswith((".pyi", ".c"))] == []
    licensed = {name.partition("-")[0] for name in tops if name.endswith(".dist-info")}
    assert licensed == {name.replace("-", "_") for name in REQUIREMENTS}


def test_the_same_bytes_twice(package: Built, tmp_path: Path) -> None:
    (tmp_path / "p.toml").write_text(TOML + PLACES)
    again = build(tmp_path / "p.toml", tmp_path / "p.zip", HERE)
    assert again.path.read_bytes() == package.path.read_bytes()


def test_for_another_machine_nothing_is_run(package: Built, tmp_path: Path) -> None:
    (tmp_path / "p.toml").write_text(TOML + PLACES)
    built = build(tmp_path / "p.toml", tmp_path / "p.zip", Target("3.12", "aarch64"))
    with zipfile.ZipFile(built.path) as archive:
        libraries = [name for name in archive.namelist() if name.endswith(".so")]
    assert any("cpython-312-aarch64" in name for name in libraries)
    assert not any("x86_64" in name for name in libraries)
    assert built.import_seconds is None and built.unzipped_bytes < UNZIPPED_AIM


def test_what_pip_cannot_bring_is_told(tmp_path: Path) -> None:
    (tmp_path / "p.toml").write_text(TOML + PLACES)
    with pytest.raises(StreamgaugeError, match=r"pip cannot bring numpy==.* Python 3\.1,"):
        build(tmp_path / "p.toml", tmp_path / "p.zip", Target("3.1", "x86_64"))
    assert [path.name for path in tmp_path.iterdir()] == ["p.toml"]


@pytest.mark.parametrize("aggregated", [False, True], ids=["plain", "aggregated"])
@pytest.mark.parametrize("by_client", [False, True], ids=["by a call", "by awslambdaric"])
def test_the_packaged_function_answers(package: Built, by_client: bool, aggregated: bool) -> None:
    client = servers.need_client() if by_client else []
    spec = specs.parse(TOML + PLACES)
    given = sample_event.event(spec, 25, aggregated, time.time_ns() // 1_000_000)
    assert len(given["Records"]) == (3 if aggregated else 25)
    done = invoking.invoke(package.path, given, client)
    assert done.answer == {"batchItemFailures": []}
    assert (done.client is not None) is by_client
    assert '"state":"firing"' in done.output and '"event": "invoked"' in done.output
    assert '"records": 25, "evaluated": 25' in done.output


def test_what_fails_under_the_client_is_told(package: Built) -> None:
    nothing: Any = {"Records": "none"}
    with pytest.raises(StreamgaugeError, match="Records of a Kinesis event source mapping"):
        invoking.invoke(package.path, nothing, servers.need_client())


def test_it_needs_nothing_but_the_standard_library(package: Built, tmp_path: Path) -> None:
    """Also what is imported late: regular expressions of rules, and protobuf for aggregates."""
    with zipfile.ZipFile(io.BytesIO(package.path.read_bytes())) as archive:
        archive.extractall(tmp_path)
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "import re2, google.protobuf.message, streamgauge.consumers.lambda_trial\n"
        "from streamgauge.engine.kpl import aggregate; aggregate([('k', b'd', None)])\n"
        "assert {'boto3', 'typer', 'rich'}.isdisjoint(sys.modules)\n"
    )
    command = [sys.executable, "-I", "-S", "-c", code, str(tmp_path)]
    subprocess.run(command, check=True)
