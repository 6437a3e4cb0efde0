"""The scenario file: what it leaves out, and every mistake with its place and the nearest key."""

from __future__ import annotations

from pathlib import Path

import pytest

from streamgauge.cli.scenario_file import load, with_values
from streamgauge.engine.errors import ConfigError
from streamgauge.producers.scenario import Drift, Faults, Scenario, example


def test_what_is_left_out_has_its_own_default(tmp_path: Path) -> None:
    path = tmp_path / "s.toml"
    path.write_text("devices = 7\n[faults.drift]\ndegrees = 9\n[rule]\nthreshold = 35\n")
    found = load(path)
    usual = Scenario()
    assert (found.devices, found.seconds, found.rule.threshold) == (7, usual.seconds, 35.0)
    drift = Faults().drift
    assert found.faults.drift == Drift(drift.share, drift.begins, drift.lasts, 9.0)
    assert found.faults.stuck_relay == usual.faults.stuck_relay


def test_the_example_is_a_scenario_file(tmp_path: Path) -> None:
    path = tmp_path / "s.toml"
    path.write_text(example())
    assert load(path) == Scenario()


@pytest.mark.parametrize(
    ("text", "where", "what"),
    [
        ("device = 3", "device", 'unknown key (did you mean "devices"?)'.split(" (")[0]),
        ("[faults.stuck_rely]\nshare = 0.1", "faults.stuck_rely", 'did you mean "stuck_relay"?'),
        ("[faults.drift]\ndegree = 1", "faults.drift.degree", 'did you mean "degrees"?'),
        ("[limits]\nzzzzzz = 1", "limits.zzzzzz", "valid keys: share, lowest"),
        ('devices = "many"', "devices", 'found the text "many"'),
        ("devices = 0", "devices", "expected `int` >= 1"),
        ("devices = 1.5", "devices", "expected `int`"),
        ("periods = []", "periods", "length >= 1"),
        ("periods = [1, 0]", "periods", ">= 1"),
        ("[faults.churn]\nshare = 1.5", "faults.churn.share", "<= 1"),
        ("[faults.churn]\nbegins = [0.1]", "faults.churn.begins", "length 2"),
        ("[faults.churn]\nlasts = [0.5, 0.1]", "faults.churn.lasts", "expected from .. to"),
        ("faults = 3", "faults", "expected a table, found the integer 3"),
        ("[rule]\nname = ''", "rule.name", "length >= 1"),
    ],
)
def test_a_mistake_is_named_with_its_place(
    text: str, where: str, what: str, tmp_path: Path
) -> None:
    path = tmp_path / "s.toml"
    path.write_text(text)
    with pytest.raises(ConfigError) as raised:
        load(path)
    (problem,) = raised.value.problems
    assert problem.where == f"{path}: {where}"
    assert what in str(problem)


def test_all_mistakes_are_told_at_once(tmp_path: Path) -> None:
    path = tmp_path / "s.toml"
    path.write_text("devices = -1\nsecond = 3\n[faults.drift]\nshare = 2\n")
    with pytest.raises(ConfigError) as raised:
        load(path)
    assert len(raised.value.problems) == 3


@pytest.mark.parametrize("text", [b"devices = ", b"\xff"])
def test_what_is_no_toml_is_told_by_its_line(text: bytes, tmp_path: Path) -> None:
    path = tmp_path / "s.toml"
    path.write_bytes(text)
    with pytest.raises(ConfigError, match="not (TOML|UTF-8)"):
        load(path)


def test_options_take_the_place_of_keys() -> None:
    assert with_values(Scenario(), devices=3, seed=None) == Scenario(devices=3)
    with pytest.raises(ConfigError, match="seconds: error: expected `int` >= 1"):
        with_values(Scenario(), seconds=0)
