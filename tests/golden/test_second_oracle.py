"""Real telemetry against a second oracle, where both lie beside the checkout.

They are not part of the project (the data have another licence), so a clone elsewhere skips this;
the project's own oracle (plain_oracle.py) covers the same ground on generated data.
"""

from __future__ import annotations

import gzip
import json
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

BESIDE = Path(__file__).resolve().parents[2].parent / "shared"
ORACLE = BESIDE / "tools" / "oracle.py"
PUMP = BESIDE / "data" / "pump-testbed.ndjson.gz"

pytestmark = pytest.mark.skipif(
    not (ORACLE.exists() and PUMP.exists()),
    reason="needs tools/oracle.py and data/pump-testbed.ndjson.gz in a folder beside the checkout",
)

TOML = """
[pipeline]
name = "second"
[record]
device = "device"
time = "ts"
[[rules]]
name = "overheating"
sql = "SELECT * FROM '#' {where}"
measure = "{measure}"
window = "{window}ms"
statistic = "{statistic}"
fire_when = "{fire_when}"
threshold = {threshold}
clear_margin = {margin}
min_samples = {samples}
hold = "{hold}ms"
[delivery]
allowed_lateness = "{lateness}ms"
duplicates = "{duplicates}"
"""


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def compare(folder: Path, source: Path, **settings: Any) -> dict[str, Any]:
    """Run both; assert that statistics agree to the bit, alerts and counts; give the counts."""
    low, high = settings.get("between", (None, None))
    measure = settings["measure"]
    where = f"WHERE {measure} > {low} AND {measure} < {high}" if low is not None else ""
    pipeline = folder / "pipeline.toml"
    pipeline.write_text(TOML.format(where=where, **settings))
    mine, theirs = folder / "mine", folder / "theirs"
    command = ["backtest", str(pipeline), "--input", str(source), "--json"]
    command += ["--statistics", f"{mine}.statistics", "--alerts", f"{mine}.alerts"]
    shown = subprocess.run(
        [sys.executable, "-m", "streamgauge", *command], capture_output=True, text=True, check=True
    )
    options = {
        "--input": source,
        "--measure": measure,
        "--window": settings["window"],
        "--lateness": settings["lateness"],
        "--statistic": settings["statistic"],
        "--fire-when": settings["fire_when"],
        "--threshold": settings["threshold"],
        "--clear-margin": settings["margin"],
        "--min-samples": settings["samples"],
        "--hold": settings["hold"],
        "--statistics": f"{theirs}.statistics",
        "--alerts": f"{theirs}.alerts",
    }
    flags = [f"{name}={value}" for name, value in options.items()]
    if low is not None:
        flags += [f"--above={low}", f"--below={high}"]
    if settings["duplicates"] == "keep":
        flags.append("--keep-duplicates")
    told = subprocess.run(
        [sys.executable, str(ORACLE), *flags], capture_output=True, text=True, check=True
    )
    ours = lines(Path(f"{mine}.statistics"))
    assert ours == lines(Path(f"{theirs}.statistics"))
    assert in_order(ours_of(mine)) == in_order(lines(Path(f"{theirs}.alerts")))
    counts: dict[str, Any] = json.loads(shown.stdout)
    expected = json.loads(told.stdout)
    assert {key: counts[key] for key in expected} == expected
    return counts


def ours_of(stem: Path) -> list[dict[str, Any]]:
    keys = ("rule", "device", "state", "time", "value", "samples", "threshold")
    keys += ("window_start", "window_end")
    return [{key: alert[key] for key in keys} for alert in lines(Path(f"{stem}.alerts"))]


def in_order(alerts: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(alerts, key=lambda a: (a["rule"], a["device"], a["time"], a["state"]))


DEFAULTS = {
    "window": 60_000,
    "lateness": 10_000,
    "statistic": "mean",
    "fire_when": "above",
    "threshold": 90.0,
    "margin": 2.0,
    "samples": 5,
    "hold": 0,
    "duplicates": "drop",
}


@pytest.mark.slow
def test_the_flow_of_a_pump_rig_gives_its_17_alerts(tmp_path: Path) -> None:
    settings = DEFAULTS | {"measure": "flow", "fire_when": "below", "threshold": 31, "margin": 5}
    counts = compare(tmp_path, PUMP, **settings)
    assert counts["alerts"] == 17 and counts["samples"] == 22_472


@pytest.mark.slow
@pytest.mark.parametrize("statistic", ["max", "sum", "stddev"])
def test_other_statistics_of_another_measure(tmp_path: Path, statistic: str) -> None:
    limit = {"count": 50.0, "sum": 700.0, "stddev": 1.0}.get(statistic, 25.0)
    settings = DEFAULTS | {"measure": "thermocouple", "statistic": statistic, "threshold": limit}
    compare(tmp_path, PUMP, **settings | {"margin": 0.1, "hold": 5000, "between": (20.0, 30.0)})


def generated(seed: int) -> bytes:
    """Lines of a few devices: disordered, repeated, late, tied, odd numbers, broken payloads."""
    rng = random.Random(seed)
    clock, out = 1_700_000_000_000, []
    for _ in range(3000):
        clock += rng.choice([0, 1, 500, 1000, 1000, 1000, 3000])
        time = clock - (rng.randrange(90_000) if rng.random() < 0.1 else 0)
        value: Any = rng.choice([58.54, round(rng.uniform(50, 130), 1), rng.gauss(90, 5)])
        if rng.random() < 0.02:
            value = rng.choice([1e300, 5e-324, -0.0, 2**53 + 1, "91", "x", None, True, [1]])
        device: Any = rng.choice(["a", "b", "c", 7, "7", ""] if rng.random() < 0.1 else ["a", "b"])
        row = json.dumps({"device": device, "ts": time, "v": value}).encode()
        if rng.random() < 0.01:
            row = rng.choice([row[:-1], b"", b"[1]", b"\xff", row.replace(b"ts", b"t")])
        out += [row] * (2 if rng.random() < 0.02 else 1)
    return b"\n".join(out) + b"\n"


@pytest.mark.parametrize(
    "seed", [0, *(pytest.param(n, marks=pytest.mark.slow) for n in range(1, 6))]
)
def test_generated_streams(tmp_path: Path, seed: int) -> None:
    source = tmp_path / "readings.ndjson.gz"
    source.write_bytes(gzip.compress(generated(seed)))
    settings = DEFAULTS | {"measure": "v", "duplicates": ("drop", "keep")[seed % 2]}
    statistic = ("mean", "stddev", "sum", "max", "mean", "last")[seed]
    compare(tmp_path, source, **settings | {"statistic": statistic, "hold": 2000 * (seed % 3)})
