"""The torture file under a broken pipeline file, redriven with the right one: the right answer.

What must be sent is worked out here one user record at a time, without the code under test: once
a record that was rejected gives a sample of a rule and device, all alerts of the two.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import drive
import msgspec
import plain_kpl
import pytest
from lambda_drive import TABLE, TOML, records

from streamgauge import Record
from streamgauge.cli.redrive_run import Options, run
from streamgauge.consumers.redrive import Wanted
from streamgauge.engine.folder import Folder
from streamgauge.engine.sinks.archive import Archive
from streamgauge.engine.sinks.errors_directory import ErrorDirectory
from streamgauge.rules import spec as specs
from streamgauge.rules.plan import Pipeline

BREAKS = {
    "measure": ('measure = "temperature"', 'measure = "temperatur"', {"overheating"}),
    "skew": ('max_clock_skew = "5m"', 'max_clock_skew = "0s"', None),
    "device": ('device = "device"', 'device = "devise"', None),
}
TABLES = '\n[errors]\nlocation = "errors"\n[archive]\nlocation = "archive"\nformat = "ndjson.gz"\n'


def broken(old: str, new: str) -> set[tuple[str, str | None]]:
    """A run under the broken file; the positions and rules that it rejected."""
    assert old in TOML
    found: set[tuple[str, str | None]] = set()
    for shard, of in records().items():
        pipeline = Pipeline.plan(
            specs.parse(TOML.replace(old, new)), TABLE, one_shard=True, keep_read=True
        )
        sink = Archive(Folder("archive"), "torture", "ndjson.gz", 1, 1.0).shard(shard)
        errors = ErrorDirectory("errors", "torture")
        for at in range(0, len(of), 50):
            outcome = pipeline.push(map(drive.record, of[at : at + 50]))
            sink.deliver(outcome.read)
            errors.deliver(outcome.rejected)
            found |= {(str(row.at), row.rule) for row in outcome.rejected}
    return found


def expected(rejected: set[tuple[str, str | None]]) -> list[dict[str, Any]]:
    """The alerts that a redrive with the right file must send, rule by rule."""
    pipeline = Pipeline.plan(specs.parse(TOML), TABLE)
    begun: set[tuple[str, str]] = set()
    alerts: list[dict[str, Any]] = []
    every = [user for of in records().values() for one in of for user in plain_kpl.opened(one)]
    for user in every:
        if user.fault is not None:
            continue
        key = user.key.decode("utf-8", "replace")
        record = Record(user.shard, user.sequence, user.data, key, user.arrival, user.sub)
        outcome = pipeline.push([record])
        for part in outcome.statistics:
            if {(user.position, None), (user.position, part.rule)} & rejected:
                begun |= {(part.rule, part.names[number]) for number in part.device.tolist()}
        alerts += [msgspec.to_builtins(a) for a in outcome.alerts if (a.rule, a.device) in begun]
    order = [rule.name for rule in pipeline.rules]
    return sorted(alerts, key=lambda alert: order.index(alert["rule"]))


@pytest.mark.parametrize("name", BREAKS)
def test_a_redrive_sends_what_the_right_file_would_have_given(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    old, new, rules = BREAKS[name]
    rejected = broken(old, new)
    Path("p.toml").write_text(TOML + TABLES)
    options = Options(Path("p.toml"), Wanted(), None, False, TABLE, Path("a.ndjson"), False)
    report = run(options)
    found = [msgspec.json.decode(line) for line in Path("a.ndjson").read_bytes().splitlines()]
    assert report.evaluated and found
    assert found == expected(rejected)
    assert rules is None or {alert["rule"] for alert in found} == rules
    assert run(options).evaluated == 0
