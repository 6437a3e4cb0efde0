"""The template of the fan-out mode: three functions, each with what it calls and nothing else."""

from __future__ import annotations

import importlib
import json
from typing import Any

import pytest
from drawn_panes import PLAIN, TOML

from streamgauge.consumers.deploy import template as function
from streamgauge.consumers.deploy.cloudformation import Node
from streamgauge.consumers.deploy.names import check_function
from streamgauge.engine.errors import ConfigError
from streamgauge.rules import spec as specs

STREAMS = 'panes_stream = "telemetry-panes"\nmergers = 8\n[source]\nstream = "telemetry"\n'
PLACES = """
[thresholds]
table = "limits"
[alerts]
sns_topic = "arn:aws:sns:us-east-1:000000000000:alerts"
[errors]
location = "s3://one/errors/"
[state]
location = "s3://two/state/"
"""
FILE = TOML.format(**PLAIN) + STREAMS + PLACES
ROLES = ("Dispatcher", "Worker", "Merger")


def made(text: str = FILE) -> Node:
    return function.template(specs.parse(text), "p.toml", "3.12")


def allowed(template: Node, role: str) -> dict[str, Any]:
    """Actions by their names, with the resources that they are for."""
    (policy,) = template["Resources"][f"{role}Role"]["Properties"]["Policies"]
    found: dict[str, Any] = {}
    for one in policy["PolicyDocument"]["Statement"]:
        one = one.get("Fn::If", [None, one])[1]
        for action in one["Action"]:
            found.setdefault(action, []).append(json.dumps(one["Resource"]))
    return found


def test_each_function_may_do_what_it_calls_and_nothing_else() -> None:
    template = made()
    panes, source = (
        '{"Fn::GetAtt": ["' + name + '", "Arn"]}' for name in ("PanesStream", "Stream")
    )
    dispatcher, worker, merger = (allowed(template, role) for role in ROLES)
    log = {"logs:CreateLogStream", "logs:PutLogEvents", "kms:Decrypt", "kms:GenerateDataKey"}
    read = {"kinesis:DescribeStream", "kinesis:DescribeStreamSummary", "kinesis:GetRecords",
            "kinesis:GetShardIterator", "kinesis:ListShards"}  # fmt: skip
    state = {"s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:ListBucket"}
    assert dispatcher.keys() == log | read | state | {"lambda:InvokeFunction", "kinesis:PutRecords"}
    assert worker.keys() == log | {"kinesis:PutRecords", "s3:PutObject"}
    assert merger.keys() == log | read | state | {"dynamodb:BatchGetItem", "sns:Publish"}
    assert dispatcher["kinesis:GetRecords"] == [source] and merger["kinesis:GetRecords"] == [panes]
    assert dispatcher["kinesis:PutRecords"] == worker["kinesis:PutRecords"] == [panes]
    assert dispatcher["lambda:InvokeFunction"] == ['{"Fn::Sub": "${Worker.Arn}:live"}']
    assert worker["s3:PutObject"] == ['{"Fn::Sub": "${ErrorsBucket.Arn}/errors/*"}']


def test_two_mappings_of_one_lane_and_one_function_that_is_invoked() -> None:
    resources = made()["Resources"]
    events = {role: resources[role]["Properties"].get("Events") for role in ROLES}
    assert events["Worker"] is None
    streams = []
    for role in ("Dispatcher", "Merger"):
        mapping = events[role]["Records"]["Properties"]
        assert mapping["ParallelizationFactor"] == 1
        assert mapping["StartingPosition"] == "TRIM_HORIZON"
        assert mapping["FunctionResponseTypes"] == ["ReportBatchItemFailures"]
        streams.append((mapping["Stream"]["Fn::GetAtt"][0], mapping["MaximumRetryAttempts"]))
    assert streams == [("Stream", {"Ref": "MaximumRetryAttempts"}), ("PanesStream", -1)]
    assert "Consumer" not in resources and resources["PanesStream"]["DeletionPolicy"] == "Retain"


def test_each_function_finds_its_handler_and_its_names() -> None:
    template = made()
    for role in ROLES:
        properties = template["Resources"][role]["Properties"]
        module, _, name = properties["Handler"].rpartition(".")
        assert callable(getattr(importlib.import_module(module), name))
        variables = properties["Environment"]["Variables"]
        assert variables["STREAMGAUGE_DELIVERY__PANES_STREAM"] == {"Ref": "PanesStream"}
        worker = variables.get("STREAMGAUGE_WORKER")
        assert worker == ({"Ref": "Worker.Alias"} if role == "Dispatcher" else None)
        for alarm in properties["DeploymentPreference"]["Alarms"]:
            dimensions = template["Resources"][alarm["Ref"]]["Properties"]["Dimensions"]
            assert dimensions[0]["Value"] == {"Ref": role}
    assert template["Parameters"]["PanesStreamName"]["Default"] == "telemetry-panes"
    assert {*ROLES, "PanesStream"} <= template["Outputs"].keys()
    environment = {"STREAMGAUGE_DELIVERY__PANES_STREAM": "other"}
    assert specs.parse(FILE, "p", environment).delivery.panes_stream == "other"


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        (STREAMS, '[source]\nstream = "telemetry"\n', "delivery.panes_stream: error: the fan_out"),
        ("telemetry-panes", "telemetry", "delivery.panes_stream.*panes need one of their own"),
        ("mergers = 8", "mergers = 0", "delivery.mergers.*from 1 to 1000"),
        ("[errors]", '[archive]\nlocation = "s3://lake/b/"\n[errors]', "archive.*fan_out mode"),
        ("[source]", '[source]\nout_of_range = "reject"', "source.out_of_range"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_named(old: str, new: str, named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        check_function(specs.parse(FILE.replace(old, new)), "p.toml")


def test_the_ordered_mode_has_nothing_of_it() -> None:
    text = FILE.replace('mode = "fan_out"', 'mode = "ordered"')
    template = made(text)
    assert "Panes" not in json.dumps(template) and "Consumer" in template["Resources"]
