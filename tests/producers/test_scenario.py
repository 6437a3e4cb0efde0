"""The scenario: its example says all of it, and nothing impossible passes."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import msgspec
import pytest

from streamgauge.producers.fleet import Fleet
from streamgauge.producers.scenario import (
    MEANINGS,
    Delayed,
    Drift,
    Faults,
    Lasting,
    Limits,
    Scenario,
    Sometimes,
    disorder,
    example,
)

FLEET = Path(__file__).parents[2] / "docs/fleet.md"


def test_the_example_is_the_default_with_every_key() -> None:
    tree = tomllib.loads(example())
    assert msgspec.convert(tree, Scenario) == Scenario()
    assert keys(tree) == keys(msgspec.to_builtins(Scenario()))


def keys(tree: dict[str, Any]) -> dict[str, Any]:
    """The keys of a tree alone."""
    return {k: keys(value) if isinstance(value, dict) else None for k, value in tree.items()}


def test_every_key_of_the_example_is_explained() -> None:
    for line in example().splitlines():
        assert not line or line.startswith("[rule]") or line == "[limits]" or "# " in line, line
    assert set(MEANINGS) == set(Faults.__struct_fields__)


def test_the_document_shows_the_example() -> None:
    assert f"```toml\n{example()}```" in FLEET.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("scenario", "path"),
    [
        (Scenario(faults=Faults(drift=Drift(0.1, (0.5, 0.2)))), "faults.drift.begins"),
        (Scenario(faults=Faults(churn=Lasting(0.1, (0.1, 0.2), (0.9, 0.1)))), "faults.churn.lasts"),
        (Scenario(faults=Faults(late=Delayed(0.1, (9, 3)))), "faults.late.seconds"),
        (Scenario(faults=Faults(bad_payload=Sometimes(0.6), elsewhere=Sometimes(0.5))), "faults"),
        (Scenario(limits=Limits(lowest=2.0, highest=1.0)), "limits.lowest"),
    ],
)  # fmt: skip
def test_what_does_not_agree_is_named(scenario: Scenario, path: str) -> None:
    assert [where for where, _ in disorder(scenario)] == [path]


def test_the_usual_scenario_agrees() -> None:
    assert disorder(Scenario()) == []


@pytest.mark.parametrize("seconds", [1, 2, 7])
@pytest.mark.parametrize("devices", [1, 2])
def test_the_smallest_fleets_run(devices: int, seconds: int) -> None:
    everything = {
        name: msgspec.structs.replace(getattr(Faults(), name), share=0.16)
        for name in Faults.__struct_fields__
    }
    for seed in range(20):
        scenario = Scenario(devices, seconds, seed, 0, (1, 3), faults=Faults(**everything))
        assert disorder(scenario) == []
        times = [time for tick in Fleet.of(scenario) for time in tick.times]
        assert all(time >= 0 for time in times)


def test_limits_are_spread_as_asked() -> None:
    limits = Limits(share=0.5, lowest=-3.0, highest=1.0, clear_margin=0.5, changed=0.5, change=-2.0)
    fleet = Fleet.of(Scenario(devices=1000, limits=limits, start=5_000, seconds=100))
    lines = fleet.thresholds()
    first = [line for line in lines if line["version"] == 1]
    second = {line["device"]: line for line in lines if line["version"] == 2}
    assert 400 < len(first) < 600 and 0.4 < len(second) / len(first) < 0.6
    assert {line["value"] for line in first} == {27.0 + half / 2 for half in range(9)}
    for line in first:
        changed = second.get(line["device"])
        if changed is not None:
            assert changed["value"] == line["value"] - 2.0
            assert changed["effective_from"] == 5_000 + 50_000
    assert all(line["clear_margin"] == 0.5 for line in lines)
