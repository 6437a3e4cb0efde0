"""The zip of a Lambda function: this package, an explicit list of others, and a pipeline file.

The list is shorter than what `pip install streamgauge` brings: no typer and rich, which only the
command line needs, and no boto3, which the runtime has. Their versions are those installed here, so
what was tested is what is deployed. A zip is the same, byte for byte, each time it is made of the
same versions by the same Python: names are sorted, and times and modes are fixed.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import zipfile
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

from ...engine import files
from ...engine.errors import StreamgaugeError

REQUIREMENTS = ("numpy", "msgspec", "protobuf", "google-re2", "tzdata")
PARTS = ("engine", "rules", "producers", "consumers")  # of this package; a function has no command
PIPELINE = "pipeline.toml"
ENTRY = "streamgauge.consumers.lambda_handler.handler"
HANDLERS = {  # of the fan-out mode, by what the template calls the functions
    role: f"streamgauge.consumers.lambda_{role.lower()}.handler"
    for role in ("Dispatcher", "Worker", "Merger")
}
MACHINES = {"x86_64": "x86_64", "aarch64": "arm64"}  # as wheels call them, and as Lambda does
GLIBC_OLDEST, GLIBC_NEWEST = 17, 34  # minor versions of manylinux tags; Amazon Linux 2023 has 2.34
STRIPPED_FOLDERS = {"tests", "__pycache__", "bin", "include", "f2py", "deploy"}
STRIPPED_SUFFIXES = (".pyi", ".pyc", ".a", ".h", ".pxd", ".pyx", ".c", ".cpp")
KEPT_OF_METADATA = ("METADATA", "licenses", "LICENSE")
EPOCH = (1980, 1, 1, 0, 0, 0)  # the first time that a zip can name
ZIPPED_BYTES_MAX = 50 << 20  # of an upload; a larger zip has to go through a bucket
UNZIPPED_BYTES_MAX = 250 << 20
PIP_SECONDS_MAX = 600
IMPORTS = 3  # that are timed; the middle one is told
_TIMED = (
    "import sys, time; sys.path.insert(0, sys.argv[1]); start = time.perf_counter();"
    "import streamgauge.consumers.lambda_handler; print(time.perf_counter() - start)"
)


class Target(NamedTuple):
    """What a package is made for. machine: a key of MACHINES; None: this very machine."""

    python: str
    machine: str | None

    @property
    def interpreter(self) -> str | None:
        """A Python of this version on this machine, where there is one."""
        if self.python == HERE.python:
            return sys.executable
        found = shutil.which(f"python{self.python}")
        if found is None or subprocess.run([found, "-c", ""], capture_output=True).returncode:
            return None  # what a version switcher puts on the path need not start
        return found

    @property
    def runs_here(self) -> bool:
        """Whether its binaries are for this machine."""
        here = sys.platform == "linux" and platform.machine() == self.machine
        return self.machine is None or (here and "musl" not in sysconfig.get_platform())


HERE = Target("{}.{}".format(*sys.version_info), None)


class Built(NamedTuple):
    """A package that was made. import_seconds: None where it cannot run on this machine."""

    path: Path
    zipped_bytes: int
    unzipped_bytes: int
    files: int
    compiled: bool
    import_seconds: float | None


def build(pipeline: Path, output: Path, target: Target) -> Built:
    """Make the package of a pipeline file; nothing of an unfinished one is left.

    Raises:
        StreamgaugeError: pip cannot bring what is needed; tells what it said. Or the package is
            larger than Lambda takes.
    """
    with tempfile.TemporaryDirectory(prefix="streamgauge-") as scratch:
        root = Path(scratch, "package")
        _install(root, target)
        _strip(root)
        _own(root / "streamgauge")
        shutil.copyfile(pipeline, root / PIPELINE)
        compiled = _compile(root, target)
        members = list(_members(root))
        size = sum(path.stat().st_size for path in members)
        if size > UNZIPPED_BYTES_MAX:
            raise StreamgaugeError(f"the package has {size:,} bytes; Lambda takes 262,144,000")
        seconds = _import_seconds(root, target)
        packed = Path(scratch, "package.zip")
        _zip(packed, root, members)
        files.replace(output, packed.read_bytes())
    return Built(output, output.stat().st_size, size, len(members), compiled, seconds)


def _install(root: Path, target: Target) -> None:
    """Have pip put the list into a folder, as wheels for the target."""
    wanted = [f"{name}=={metadata.version(name)}" for name in REQUIREMENTS]
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-compile"]
    command += ["--disable-pip-version-check", "--only-binary=:all:", "--target", str(root)]
    command += ["--implementation", "cp", "--python-version", target.python]
    if target.machine is not None:
        for minor in range(GLIBC_OLDEST, GLIBC_NEWEST + 1):
            command += ["--platform", f"manylinux_2_{minor}_{target.machine}"]
        command += ["--platform", f"manylinux2014_{target.machine}"]
    done = subprocess.run(
        [*command, *wanted], capture_output=True, text=True, timeout=PIP_SECONDS_MAX, check=False
    )
    if done.returncode:
        told = " ".join(done.stderr.split()[-60:])
        made_for = f"Python {target.python}, {target.machine or 'this machine'}"
        raise StreamgaugeError(f"pip cannot bring {', '.join(wanted)} for {made_for}: {told}")


def _strip(root: Path) -> None:
    """Remove what no function needs: tests, type stubs, headers, scripts, pip's notes."""
    for path in sorted(root.rglob("*"), reverse=True):
        if path.is_dir():
            if path.name in STRIPPED_FOLDERS:
                shutil.rmtree(path)
        elif path.suffix in STRIPPED_SUFFIXES or _noted_by_pip(path.relative_to(root)):
            path.unlink()


def _noted_by_pip(name: Path) -> bool:
    """Whether a file is of a distribution's metadata, and neither it nor its licence."""
    return name.parts[0].endswith(".dist-info") and name.parts[1] not in KEPT_OF_METADATA


def _own(root: Path) -> None:
    """Copy the modules of this package, but for the command line and what deploys."""
    source = Path(__file__).parents[2]
    modules = (path for part in PARTS for path in (source / part).rglob("*.py"))
    for path in [source / "__init__.py", *modules]:
        name = path.relative_to(source)
        if STRIPPED_FOLDERS.isdisjoint(name.parts):
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, root / name)


def _compile(root: Path, target: Target) -> bool:
    """Compile all modules, where a Python of the target's version is here; tells whether.

    A function's folder cannot be written to: without this each cold start compiles everything. The
    compiled form is taken without a look at the source, whose time is fixed.
    """
    interpreter = target.interpreter
    if interpreter is None:
        return False
    options = ["--invalidation-mode", "unchecked-hash", "-q", "-s", str(root), "-p", ""]
    done = subprocess.run(
        [interpreter, "-I", "-m", "compileall", *options, str(root)],
        env={**os.environ, "PYTHONHASHSEED": "0"}, capture_output=True, check=False,
    )  # fmt: skip
    if done.returncode:
        raise StreamgaugeError(f"compileall: {(done.stdout + done.stderr)[-500:]!r}")
    return True


def _import_seconds(root: Path, target: Target) -> float | None:
    """How long a new process takes to import the handler, with nothing else on its path."""
    interpreter = target.interpreter
    if interpreter is None or not target.runs_here:
        return None
    command = [interpreter, "-I", "-S", "-B", "-c", _TIMED, str(root)]
    times = []
    for _ in range(IMPORTS):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise StreamgaugeError(f"the package cannot be imported: {done.stderr[-1000:]}")
        times.append(float(done.stdout))
    return sorted(times)[len(times) // 2]


def _members(root: Path) -> Iterator[Path]:
    """All files, in the order of their names."""
    named = {path.relative_to(root).as_posix(): path for path in root.rglob("*") if path.is_file()}
    return (named[name] for name in sorted(named))


def _zip(output: Path, root: Path, members: list[Path]) -> None:
    with zipfile.ZipFile(output, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for path in members:
            info = zipfile.ZipInfo(path.relative_to(root).as_posix(), EPOCH)
            info.create_system = 3  # Unix, whose modes follow: readable by all, and no more
            info.external_attr = (0o100755 if ".so" in path.suffixes else 0o100644) << 16
            info.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(info, path.read_bytes(), compresslevel=9)
