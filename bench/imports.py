"""How long a user waits for an import, and for the command to answer.

Each case runs in fresh interpreters, in turn with the others, so that a busy minute meets all of
them; the figures are medians, less what the bare interpreter takes. `ratio` compares with a
baseline of the same run: an import of numpy for what needs numpy, of boto3 for what must not.
Prints one JSON object.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import subprocess
import sys
import time

import streamgauge

COMMAND = "import sys; from streamgauge.__main__ import main; sys.argv[1:] = [{!r}]; main()"
CASES = {
    "interpreter": "pass",
    "numpy": "import numpy",
    "boto3": "import boto3",
    "package": "import streamgauge",
    "engine": "import streamgauge.engine.pipeline",
    "library": "from streamgauge import Pipeline",
    "command --help": COMMAND.format("--help"),
    "command --version": COMMAND.format("--version"),
}
BASELINES = {
    "package": "numpy",
    "engine": "numpy",
    "library": "numpy",
    "command --help": "boto3",
    "command --version": "boto3",
}
COMMAND_SECONDS_MAX = 0.3  # `--help` and `--version`, the interpreter's own start included


def seconds(code: str) -> float:
    """The wall time of a fresh interpreter that runs the code."""
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def measure(rounds: int) -> dict[str, float]:
    """The median wall time of each case, in seconds, interpreter start included."""
    for code in CASES.values():
        seconds(code)  # fills the caches: byte code and disk
    taken: dict[str, list[float]] = {case: [] for case in CASES}
    for _ in range(rounds):
        for case, code in CASES.items():
            taken[case].append(seconds(code))
    return {case: statistics.median(values) for case, values in taken.items()}


def report(rounds: int) -> dict[str, object]:
    """All that is printed, from one run of every case."""
    median = measure(rounds)
    net = {case: max(median[case] - median["interpreter"], 1e-4) for case in CASES}
    return {
        "bench": "imports",
        "version": streamgauge.__version__,
        "python": platform.python_version(),
        "rounds": rounds,
        "interpreter_ms": round(median["interpreter"] * 1000, 1),
        "import_ms": {c: round(net[c] * 1000, 1) for c in CASES if c != "interpreter"},
        "ratio": {
            f"{case} / {baseline}": round(net[case] / net[baseline], 2)
            for case, baseline in BASELINES.items()
        },
        "command_within_aim": all(
            median[case] < COMMAND_SECONDS_MAX for case in CASES if case.startswith("command")
        ),
    }


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="3 rounds in place of 15")
    print(json.dumps(report(3 if parser.parse_args().quick else 15), indent=2))


if __name__ == "__main__":
    main()
