"""The files that `fleet` writes beside its messages: what these are to be held against."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from ..producers.scenario import SECOND_MS, Rule
from ..producers.truth import Rule as TrueRule
from .destination import Target

LOW, HIGH = -40.0, 200.0  # what the rule's WHERE lets through

_PIPELINE = """\
# Written by `streamgauge fleet`: the rule that its truth judges by.
[pipeline]
name = {pipeline}
{source}
[record]
device = "device"
time = "ts"
topic = "topic"

[[rules]]
name = {name}
sql = '''
SELECT device, ts, temperature FROM 'home/+/thermostat'
WHERE temperature > {low:g} AND temperature < {high:g}
'''
measure = "temperature"
window = "{window_seconds}s"
statistic = "mean"
fire_when = "above"
threshold = {threshold!r}
clear_margin = {clear_margin!r}
min_samples = {min_samples}
hold = "{hold_seconds}s"
severity = {severity}

[delivery]
allowed_lateness = "{lateness_seconds}s"
max_clock_skew = "{skew_seconds}s"
"""
_SOURCE = """
[source]
stream = {stream}
"""


def pipeline_text(rule: Rule, target: Target) -> str:
    """A pipeline file of this rule; it reads the stream that is sent to, if one is."""
    values = {name: getattr(rule, name) for name in rule.__struct_fields__}
    for name in ("pipeline", "name", "severity"):
        values[name] = json.dumps(values[name])  # a basic string of TOML has the same escapes
    source = _SOURCE.format(stream=json.dumps(target.stream)) if target.kind == "kinesis" else ""
    return _PIPELINE.format(**values, low=LOW, high=HIGH, source=source)


def true_rule(rule: Rule) -> TrueRule:
    """The same rule as the truth takes it."""
    return TrueRule(
        pipeline=rule.pipeline,
        name=rule.name,
        threshold=rule.threshold,
        clear_margin=rule.clear_margin,
        min_samples=rule.min_samples,
        severity=rule.severity,
        window=rule.window_seconds * SECOND_MS,
        lateness=rule.lateness_seconds * SECOND_MS,
        skew=rule.skew_seconds * SECOND_MS,
        hold=rule.hold_seconds * SECOND_MS,
        low=LOW,
        high=HIGH,
    )


def lines(rows: Iterable[Mapping[str, Any]]) -> bytes:
    """Rows as NDJSON."""
    return msgspec.json.Encoder().encode_lines(list(rows))
