"""What `streamgauge doctor` finds on this machine: packages, settings, directories.

Nothing of streamgauge that needs another package is imported here, for such a package may be what
is broken. Packages are imported in a process of their own: a bad one can end it, and one changes
sys.path.
"""

from __future__ import annotations

import json
import os
import platform
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

OK, MISSING, OLD, BROKEN, REFUSED, UNKNOWN = (
    "ok", "missing", "old", "broken", "refused", "unknown",
)  # fmt: skip
PYTHON_MIN = (3, 11)
IMPORT_SECONDS_MAX = 60.0
COMMAND = "the command and the library"
FEATURES = {  # by extra of the distribution; those of developers are left out
    "demo": "streamgauge demo",
    "mqtt": "streamgauge bridge",
    "archive": "[archive] in Parquet",
    "interop": "streamgauge decode --compare aws-kinesis-agg",
    "kcl": "streamgauge kcl",
}
MODULES = {
    "amazon-kclpy": "amazon_kclpy",
    "google-re2": "re2",
    "protobuf": "google.protobuf",
    "aws-kinesis-agg": "aws_kinesis_agg",
}
CHILD = """
import importlib, json, sys
told = {}
for name in sys.argv[1:]:
    try:
        importlib.import_module(name)
    except BaseException as error:
        told[name] = f"{type(error).__name__}: {error}"
print(json.dumps(told))
"""
REQUIREMENT = re.compile(
    r"(?P<name>[\w.-]+)\s*(?:>=\s*(?P<least>[\d.]+))?[^;]*(?:;.*extra == ['\"](?P<extra>\w+)['\"])?"
)


@dataclass(frozen=True)
class Check:
    """One thing that was looked at.

    feature: what is not there without it. status: OK or what is wrong. found, wanted: as text, for
    people. needed: nothing runs without it, or not what was asked about. mend: a command line, or
    words, empty where there is none.
    """

    name: str
    feature: str
    status: str
    found: str = ""
    wanted: str = ""
    needed: bool = True
    mend: str = ""

    @property
    def fails(self) -> bool:
        """Whether something that is needed is known not to be right."""
        return self.needed and self.status not in (OK, UNKNOWN)

    def line(self) -> dict[str, Any]:
        """The check as JSON has it."""
        return asdict(self)


def locations(spec: Any) -> list[tuple[str, str]]:
    """The directories and S3 prefixes that a pipeline file names, by their tables."""
    tables = {"errors": spec.errors, "state": spec.state, "archive": spec.archive}
    return [(name, table.location) for name, table in tables.items() if table is not None]


def machine() -> Iterator[Check]:
    """Python and what the distribution says that it needs."""
    version = platform.python_version()
    least = ".".join(map(str, PYTHON_MIN))
    status = OK if sys.version_info >= PYTHON_MIN else OLD
    found = f"{version} on {platform.system()} {platform.machine()}, {sys.executable}"
    yield Check("Python", COMMAND, status, found, f"{least} or later", mend="" if status == OK else
                f"install Python {least} or later, and streamgauge with it")  # fmt: skip
    try:
        distribution = metadata.distribution("streamgauge")
    except metadata.PackageNotFoundError:
        yield Check(
            "streamgauge", COMMAND, UNKNOWN, "runs, but is not installed as a package",
            mend=f"{pip()} install --editable {shlex.quote(str(Path(__file__).parent.parent))}",
        )  # fmt: skip
        return
    home = Path(__file__).parent.parent
    yield Check("streamgauge", COMMAND, OK, f"{distribution.version} in {home}")
    yield from packages(distribution.requires or [])


def packages(requirements: list[str]) -> Iterator[Check]:
    """Each required package, and those of the features, by the distribution's own list."""
    wanted: dict[str, tuple[str, str | None]] = {}  # name: least version, extra
    for text in requirements:
        found = REQUIREMENT.match(text)
        assert found is not None, text
        name, extra = found["name"].lower(), found["extra"]
        if extra is None or (extra in FEATURES and name not in wanted):
            wanted[name] = found["least"] or "", extra
    errors = import_errors([module(name) for name in wanted])
    for name, (least, extra) in wanted.items():
        feature = COMMAND if extra is None else FEATURES[extra]
        requirement = f"{name}>={least}" if least else name
        install = f"{pip()} install --upgrade {shlex.quote(requirement)}"
        error = errors.get(module(name))
        try:
            version = metadata.version(name)
        except metadata.PackageNotFoundError:
            status, told = MISSING, "not installed"
        else:
            status, told = OK, version
            if numbers(version) < numbers(least):
                status = OLD
            elif error is not None:
                status, told = BROKEN, f"{version} cannot be imported: {error}"
                install += " --force-reinstall"
        asked = f"{least} or later" if least else ""
        mend = "" if status == OK else install
        yield Check(name, feature, status, told, asked, extra is None, mend)


def module(name: str) -> str:
    """What is imported of a package."""
    return MODULES.get(name, name.replace("-", "_"))


def pip() -> str:
    """The command line of the pip that installs for this Python."""
    return f"{shlex.quote(sys.executable)} -m pip"


def numbers(version: str) -> tuple[int, ...]:
    """A version up to where it is no longer numbers: `2.1.0rc1` is 2.1.0."""
    return tuple(int(part) for part in re.findall(r"\d+", re.match(r"[\d.]*", version)[0]))  # type: ignore[index]


def import_errors(modules: list[str]) -> dict[str, str]:
    """What went wrong when each module was imported, in one process for all, else one for each."""
    told = _imported(modules)
    if told is not None:
        return told
    errors: dict[str, str] = {}
    for name in modules:
        alone = _imported([name])
        errors |= {name: "its import ended the process"} if alone is None else alone
    return errors


def _imported(modules: list[str]) -> dict[str, str] | None:
    """The errors of these imports; None where the process did not get to its end."""
    command = [sys.executable, "-W", "ignore", "-P", "-c", CHILD, *modules]
    try:
        done = subprocess.run(command, capture_output=True, timeout=IMPORT_SECONDS_MAX, text=True)
        told: dict[str, str] = json.loads(done.stdout.splitlines()[-1])
    except (subprocess.TimeoutExpired, ValueError, IndexError):
        return None
    return told


def settings(environment: Mapping[str, str] = os.environ) -> Iterator[Check]:
    """Region, credentials and endpoints, as boto3's chain finds them; nobody is asked for any."""
    from boto3.session import Session
    from botocore.exceptions import BotoCoreError

    feature = "every AWS service"
    try:
        session = Session()
    except BotoCoreError as error:  # a profile that is not there, a file that cannot be read
        mend = "mend the AWS configuration, or AWS_PROFILE"
        yield Check("AWS configuration", feature, BROKEN, str(error), mend=mend)
        return
    region = session.region_name or environment.get("AWS_REGION")
    yield Check(
        "region", feature, OK if region else MISSING, region or "none is set",
        mend="" if region else "export AWS_REGION=eu-west-1, or another",
    )  # fmt: skip
    yield _credentials(session, environment, feature)
    for name in sorted(environment):
        if name.startswith("AWS_ENDPOINT_URL"):
            yield Check(name, feature, OK, environment[name])


def _credentials(session: Any, environment: Mapping[str, str], feature: str) -> Check:
    """Where credentials come from, never what they are."""
    remote = [name for name in environment if name.startswith("AWS_CONTAINER_CREDENTIALS")]
    if remote and "AWS_ACCESS_KEY_ID" not in environment:
        return Check("credentials", feature, OK, "those of the container, by " + remote[0])
    before = environment.get("AWS_EC2_METADATA_DISABLED")
    os.environ["AWS_EC2_METADATA_DISABLED"] = "true"  # a machine's own are asked for by --aws
    try:
        found = session.get_credentials()
    except Exception as error:  # such as of a program that gives credentials
        return Check("credentials", feature, BROKEN, str(error), mend="mend the AWS configuration")
    finally:
        if before is None:
            del os.environ["AWS_EC2_METADATA_DISABLED"]
        else:
            os.environ["AWS_EC2_METADATA_DISABLED"] = before
    if found is not None:
        return Check("credentials", feature, OK, f"by {found.method}")
    return Check(
        "credentials", feature, UNKNOWN, "none in the environment or in files; on a machine of AWS"
        " it has its own, which --aws asks for", mend="aws configure",
    )  # fmt: skip


def directory(name: str, location: str, feature: str) -> Check:
    """Whether a directory can be written, or made."""
    path = Path(location)
    there = next(parent for parent in (path, *path.absolute().parents) if parent.exists())
    if not there.is_dir():
        told, mend = f"{there} is no directory", f"name another in {name}"
    elif not os.access(there, os.W_OK | os.X_OK):
        told, mend = f"{there} cannot be written", f"chmod u+wx {shlex.quote(str(there))}"
    else:
        told = location if path.exists() else f"{location} will be made"
        return Check(name, feature, OK, told)
    return Check(name, feature, BROKEN, told, "a directory that can be written", mend=mend)
