"""What `streamgauge kcl` says is missing, before anything is started."""

from __future__ import annotations

from pathlib import Path

import pytest

from streamgauge.cli import kcl_needs
from streamgauge.engine.errors import ConfigError, StreamgaugeError
from streamgauge.rules import spec as specs

RULE = '[[rules]]\nname = "r"\nsql = "SELECT * FROM \'#\'"\nmeasure = "t"\nthreshold = 1.0\n'
RECORD = '[record]\ndevice = "d"\n'


def test_every_problem_of_the_file_is_told_at_once() -> None:
    toml = '[pipeline]\nname = "x"\n[thresholds]\ntable = "x"\n' + RECORD + RULE
    with pytest.raises(ConfigError) as raised:
        kcl_needs.examine(specs.parse(toml), "p.toml")
    told = [one.where.removeprefix("p.toml: ") for one in raised.value.problems]
    assert told == ["source.stream", "alerts.sns_topic", "pipeline.name", "thresholds.table"]


def test_missing_jars_are_told_with_what_brings_them(tmp_path: Path) -> None:
    with pytest.raises(StreamgaugeError, match="pip install"):
        kcl_needs.jars(tmp_path)


def test_java_that_does_not_run_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    java = tmp_path / "java"
    java.write_text("#!/bin/sh\necho broken >&2\nexit 3\n")
    java.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin")
    with pytest.raises(StreamgaugeError, match="broken"):
        kcl_needs.java()


def test_no_region_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_DEFAULT_REGION", raising=False)
    monkeypatch.delenv("AWS_REGION", raising=False)
    with pytest.raises(StreamgaugeError, match="AWS_REGION"):
        kcl_needs.region()
