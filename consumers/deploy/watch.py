"""What watches the functions: alarms that roll a deployment back, and a dashboard."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from ..lambda_metrics import DIMENSION, NAMESPACE
from .cloudformation import Node, choose, ref, resource, sub
from .functions import ALIAS, Function
from .names import Named

MINUTE = 60  # seconds
BEHIND_MINUTES = 3  # in a row that a function is behind, until that is an alarm
WIDGET_WIDTH, WIDGET_HEIGHT = 12, 6  # a row has 24 columns


def parameters() -> Node:
    """When an alarm goes off, and who is told."""
    return {
        "IteratorAgeAlarmMs": {
            "Type": "Number", "Default": 300_000, "MinValue": 1,
            "Description": f"How far the function may be behind, {BEHIND_MINUTES} minutes in a row",
        },
        "AlarmTopicArn": {
            "Type": "String", "Default": "",
            "Description": "SNS topic that is told of alarms; empty: none",
        },
    }  # fmt: skip


def resources(functions: Sequence[Function], named: Named) -> Node:
    """Alarms of each function, and one dashboard of all."""
    found: Node = {}
    for one in functions:
        errors = _alarm(one.name, "Errors", Statistic="Sum", EvaluationPeriods=1, Threshold=0)
        age = _alarm(
            one.name, "IteratorAge", Statistic="Maximum", EvaluationPeriods=BEHIND_MINUTES,
            Threshold=ref("IteratorAgeAlarmMs"),
        )  # fmt: skip
        found |= dict(zip(one.alarms, (errors, age), strict=False))
    widgets = ",\n".join(map(json.dumps, _widgets(functions, named)))
    body = f'{{"widgets": [\n{widgets}\n]}}'
    found["Dashboard"] = resource(
        "AWS::CloudWatch::Dashboard",
        {"DashboardName": sub(f"{named.function}-${{Stage}}"), "DashboardBody": sub(body)},
    )
    return found


def _alarm(function: str, metric: str, **when: Any) -> Node:
    return resource(
        "AWS::CloudWatch::Alarm",
        {
            "AlarmDescription": f"{metric} of the pipeline's function: see docs/lambda.md",
            "Namespace": "AWS/Lambda",
            "MetricName": metric,
            "Dimensions": [
                {"Name": "FunctionName", "Value": ref(function)},
                {"Name": "Resource", "Value": sub(f"${{{function}}}:{ALIAS}")},
            ],
            "Period": MINUTE,
            "ComparisonOperator": "GreaterThanThreshold",
            "TreatMissingData": "notBreaching",
            **when,
            "AlarmActions": choose("HasAlarmTopic", [ref("AlarmTopicArn")]),
        },
    )


def _widgets(functions: Sequence[Function], named: Named) -> list[Node]:
    """Six graphs: what was read, what was refused, alerts, how far behind, errors, state."""
    reading = [one for one in functions if one.reads is not None]
    read = ["records", "evaluated", "filtered", "duplicates"]
    shown: tuple[tuple[str, str, list[list[Any]]], ...] = (
        ("user records", "Sum", _of_pipeline(named, read)),
        ("rejected, late, repeated", "Sum", _of_pipeline(named, ["rejected", "late", "repeated"])),
        ("alerts", "Sum", _of_pipeline(named, ["alerts"])),
        ("iterator age, ms", "Maximum", _of_functions(reading, ["IteratorAge"])),
        ("invocations", "Sum", _of_functions(functions, ["Invocations", "Errors", "Throttles"])
         + _of_pipeline(named, ["failed", "fenced"])),
        ("state: ms to save, bytes", "Maximum", _of_pipeline(named, ["save", "state_bytes"])),
    )  # fmt: skip
    return [
        {
            "type": "metric",
            "x": number % 2 * WIDGET_WIDTH, "y": number // 2 * WIDGET_HEIGHT,
            "width": WIDGET_WIDTH, "height": WIDGET_HEIGHT,
            "properties": {
                "title": title, "stat": stat, "period": MINUTE, "region": "${AWS::Region}",
                "view": "timeSeries", "metrics": metrics,
            },
        }
        for number, (title, stat, metrics) in enumerate(shown)
    ]  # fmt: skip


def _of_pipeline(named: Named, metrics: list[str]) -> list[list[Any]]:
    return [[NAMESPACE, metric, DIMENSION, named.title] for metric in metrics]


def _of_functions(functions: Sequence[Function], metrics: list[str]) -> list[list[Any]]:
    names = [one.name for one in functions]
    return [
        ["AWS/Lambda", metric, "FunctionName", f"${{{name}}}"]
        for name in names
        for metric in metrics
    ]
