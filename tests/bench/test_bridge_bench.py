"""The bench of the bridge: what it reports, and that it fails where a message is missing."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from servers import need

BENCH = Path(__file__).parents[2] / "bench"
TINY = ("--rate", "500", "--seconds", "1", "--devices", "20")
START = f"import sys; sys.path.insert(0, {str(BENCH)!r}); import bridge\n"
LOSES = "bridge.TOML = bridge.TOML.replace('temperature > -40', 'n != 7')"
TURNS = "whole = bridge.entries\nbridge.entries = lambda path: reversed(list(whole(path)))"

pytestmark = pytest.mark.slow


def run(broken: str = "", *more: str) -> tuple[int, dict[str, Any]]:
    need("mosquitto")
    code = START + broken + "\nbridge.main()"
    command = [sys.executable, "-c", code, *TINY, *more]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


def test_nothing_is_lost_and_every_part_has_its_figure() -> None:
    code, report = run("", "--bridges", "2")
    assert (code, report["answers_agree"]) == (0, True)
    carried = report["carried_by"]
    assert set(carried) == {"streamgauge, quick", "streamgauge, paho", "paho and put_records"}
    for name, one in carried.items():
        assert (one["messages"], one["lost"]) == (500, 0)
        assert len(one["us_per_message"]["bridge"]) == (2 if name.startswith("stream") else 1)
        ms = one["ms_to_accepted"]
        assert 0 < ms["p50"] <= ms["p99"] <= ms["max"]
    assert report["aims_reached"]["lost"] is True


@pytest.mark.parametrize("broken", [LOSES, TURNS], ids=["a message lost", "order lost"])
def test_what_is_wrong_is_told(broken: str) -> None:
    code, report = run(broken)
    assert (code, report["answers_agree"]) == (1, False)
