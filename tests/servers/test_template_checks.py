"""The templates under the linters of others: no finding without a written reason."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import drawn_panes
import pytest
from live_run import PLACES, TOML
from servers import need

from streamgauge.consumers.deploy import container
from streamgauge.consumers.deploy import template as function
from streamgauge.consumers.deploy.cloudformation import Node, yaml
from streamgauge.rules import spec as specs

BARE = PLACES.partition("[errors]")[1] + PLACES.partition("[errors]")[2]  # no table, no topic
FIFO = PLACES.replace(":alerts", ":alerts.fifo").replace("s3://bucket/state", "s3://other/state")
FAN_OUT = drawn_panes.TOML.format(**drawn_panes.PLAIN) + 'panes_stream = "panes"\n'
pytestmark = pytest.mark.slow


def templates() -> dict[str, Node]:
    """Of files that name everything, as little as can be, and everything otherwise."""
    made = {}
    for name, places in (("all", PLACES), ("bare", BARE), ("fifo", FIFO)):
        spec = specs.parse(TOML + places)
        made[f"{name}-function"] = function.template(spec, "p.toml", "3.12")
        made[f"{name}-worker"] = container.template(spec, "p.toml")
    for name, places in (("fan-all", PLACES), ("fan-bare", BARE)):
        spec = specs.parse(FAN_OUT + '[source]\nstream = "telemetry"\n' + places)
        made[f"{name}-functions"] = function.template(spec, "p.toml", "3.12")
    return made


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("templates")
    for name, made in templates().items():
        (folder / f"{name}.yaml").write_text(yaml(made))
    return folder


def run(*command: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)


def checkov(folder: Path) -> dict[str, Any]:
    """What checkov says of all templates of a folder."""
    options = ["--framework", "cloudformation", "--skip-download", "--output", "json"]
    done = run(need("checkov"), "--directory", str(folder), *options, cwd=folder)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_cfn_lint_finds_nothing(folder: Path) -> None:
    names = sorted(str(path) for path in folder.glob("*.yaml"))
    done = run(need("cfn-lint"), "--include-checks", "I", "--", *names, cwd=folder)
    assert done.returncode == 0, done.stdout


def test_checkov_finds_nothing_that_has_no_reason(folder: Path) -> None:
    found = checkov(folder)
    failed = [(row["check_id"], row["resource"]) for row in found["results"]["failed_checks"]]
    assert failed == []
    assert found["summary"]["passed"] > 100 and found["summary"]["parsing_errors"] == 0
    for row in found["results"]["skipped_checks"]:
        assert len(row["check_result"]["suppress_comment"].split()) > 4, row["check_id"]


def test_each_reason_is_of_a_check_that_would_fail(tmp_path: Path) -> None:
    """A reason that stays when its finding is gone would hide the next one."""
    reasons = set()
    for name, made in templates().items():
        for at, node in made["Resources"].items():
            told = node.pop("Metadata", {}).get("checkov", {}).get("skip", [])
            reasons |= {(name, at, one["id"]) for one in told}
        (tmp_path / f"{name}.yaml").write_text(yaml(made))
    found = checkov(tmp_path)["results"]["failed_checks"]
    failed = {
        (Path(row["file_path"]).stem, row["resource"].rpartition(".")[2], row["check_id"])
        for row in found
    }
    assert failed == reasons


def test_both_see_what_is_wrong(tmp_path: Path) -> None:
    """Planted: a type of a property, a bucket that is open."""
    made = templates()["all-function"]
    bucket = made["Resources"]["Bucket"]["Properties"]
    del bucket["PublicAccessBlockConfiguration"]
    made["Resources"]["Consumer"]["Properties"]["Runtime"] = "python2.7"
    (tmp_path / "t.yaml").write_text(yaml(made))
    done = run(need("cfn-lint"), "t.yaml", cwd=tmp_path)
    assert done.returncode != 0 and "python2.7" in done.stdout
    failed = {row["check_id"] for row in checkov(tmp_path)["results"]["failed_checks"]}
    assert "CKV_AWS_53" in failed
    assert os.listdir(tmp_path) == ["t.yaml"]
