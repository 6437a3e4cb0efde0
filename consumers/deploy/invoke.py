"""A packaged function, run once on this machine: its zip unpacked, nothing else on its path.

Where awslambdaric is installed, the runtime's own client runs the function, as in Lambda, against a
stand-in of the runtime API. Else a line of Python calls the handler.
"""

from __future__ import annotations

import json
import os
import queue
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

from ...engine.errors import StreamgaugeError
from .runtime_api import RuntimeApi

CLIENT = ("awslambdaric", "simplejson", "snapshot-restore-py")
HANDLER = "streamgauge.consumers.lambda_trial.handler"
SECONDS_MAX = 60
TURN_SECONDS = 0.2  # between two looks at whether the process is still there
_PATH = "import sys; sys.path[:0] = {paths!r}\n"
_CLIENT = _PATH + "from awslambdaric.__main__ import main; main(['', {handler!r}])"
_PLAIN = _PATH + (
    "import json; from streamgauge.consumers.lambda_trial import handler\n"
    "answer = handler(json.load(open('event.json')), None)\n"
    "json.dump(answer, open('answer.json', 'w'))"
)


class Invoked(NamedTuple):
    """What came of it. answer: as JSON. output: what the function wrote: log lines and alerts."""

    answer: Any
    output: str
    client: str | None  # the version of awslambdaric that ran it


def invoke(package: Path, event: Any, client: Sequence[str] | None = None) -> Invoked:
    """Run a package's handler on an event, with its edges replaced (lambda_trial.py).

    Args:
        package: a zip for this machine and Python. event: of a Kinesis mapping.
        client: folders in which awslambdaric is looked for; None: where this process has it.

    Raises:
        StreamgaugeError: the function failed; tells what it said.
    """
    with tempfile.TemporaryDirectory(prefix="streamgauge-") as scratch:
        folder = Path(scratch)
        unpacked = folder / "package"
        with zipfile.ZipFile(package) as archive:
            archive.extractall(unpacked)
        version = _copy_client(folder / "client", client)
        event_bytes = json.dumps(event).encode()
        (folder / "event.json").write_bytes(event_bytes)
        run = _by_client if version else _plainly
        with (folder / "output").open("wb+") as output:
            answer = run(folder, event_bytes, output)
            output.seek(0)
            return Invoked(answer, output.read().decode("utf-8", "replace"), version)


def _copy_client(folder: Path, path: Sequence[str] | None) -> str | None:
    """Put the runtime's client, and it alone, into a folder; its version, None where it is not."""
    where = list(sys.path if path is None else path)
    found = [next(iter(metadata.distributions(name=name, path=where)), None) for name in CLIENT]
    for distribution in found:
        if distribution is None:
            return None
        for name in distribution.files or ():
            if ".." not in name.parts and "__pycache__" not in name.parts:
                target = folder / name
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(str(distribution.locate_file(name)), target)
    return None if found[0] is None else str(found[0].version)


def _started(folder: Path, code: str, output: Any, **settings: str) -> subprocess.Popen[bytes]:
    """A process with the package on its path, the standard library, and nothing else."""
    environment = {
        "PATH": os.defpath,
        "LAMBDA_TASK_ROOT": str(folder / "package"),
        "STREAMGAUGE_TRIAL": str(folder),
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "1769",
        **settings,
    }
    return subprocess.Popen(
        [sys.executable, "-I", "-S", "-B", "-c", code],
        cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
    )  # fmt: skip


def _plainly(folder: Path, _: bytes, output: Any) -> Any:
    process = _started(folder, _PLAIN.format(paths=[str(folder / "package")]), output)
    with process:
        try:
            status = process.wait(SECONDS_MAX)
        except subprocess.TimeoutExpired:
            process.kill()
            raise _failed(folder, f"no answer within {SECONDS_MAX} s") from None
    if status:
        raise _failed(folder, f"exit status {status}")
    return json.loads((folder / "answer.json").read_bytes())


def _by_client(folder: Path, event: bytes, output: Any) -> Any:
    api = RuntimeApi(event, SECONDS_MAX)
    paths = [str(folder / "package"), str(folder / "client")]
    code = _CLIENT.format(paths=paths, handler=HANDLER)
    process = _started(folder, code, output, AWS_LAMBDA_RUNTIME_API=api.address, _HANDLER=HANDLER)
    try:
        answer = _awaited(folder, api, process)
    finally:
        process.kill()
        process.wait()
        api.close()
    if answer.failed:
        raise _failed(folder, answer.body.decode("utf-8", "replace"))
    return json.loads(answer.body)


def _awaited(folder: Path, api: RuntimeApi, process: subprocess.Popen[bytes]) -> Any:
    for _ in range(int(SECONDS_MAX / TURN_SECONDS)):
        ended = process.poll() is not None
        try:
            return api.answers.get(timeout=TURN_SECONDS)
        except queue.Empty:
            if ended:
                raise _failed(folder, f"exit status {process.returncode}") from None
    raise _failed(folder, f"no answer within {SECONDS_MAX} s")


def _failed(folder: Path, cause: str) -> StreamgaugeError:
    said = (folder / "output").read_bytes()[-2000:].decode("utf-8", "replace").strip()
    return StreamgaugeError(f"the function failed: {cause}" + (f"\n{said}" if said else ""))
