"""A SAM template made from a pipeline file: everything that it names, and the function over it.

The names in the file are defaults of parameters, so each stage can have its own; the function is
told them by the environment, which overrides the file. The roles hold what the file needs.
"""

from __future__ import annotations

from collections.abc import Iterable

from ...rules.spec import Spec
from . import functions, ingest, stores, watch
from .cloudformation import Node, ref
from .names import PANES, STREAM, TABLE, TOPIC, Named, check_function, named

STORES = (STREAM, PANES, TABLE, TOPIC)
LOG_DAYS = [1, 3, 5, 7, 14, 30, 60, 90, 180, 365]


def template(spec: Spec, origin: str, python: str) -> Node:
    """The template of one pipeline file.

    Args:
        origin: what the file is called in messages. python: the version of the runtime.

    Raises:
        ConfigError: the file asks for what the Lambda host cannot do, or keeps data in directories.
    """
    check_function(spec, origin)
    of = named(spec, origin)
    roles = functions.ORDERED if of.panes is None else functions.FAN_OUT
    return {
        "AWSTemplateFormatVersion": "2010-09-09",
        "Transform": "AWS::Serverless-2016-10-31",
        "Description": f"The pipeline {of.title} of streamgauge as a Lambda function",
        "Parameters": _parameters() | functions.parameters(roles) | stores.parameters(of)
        | ingest.parameters() | watch.parameters(),
        "Conditions": conditions()
        | {"Iot": {"Fn::Equals": [ref("IotIngest"), "true"]}},
        "Resources": stores.resources(of)
        | functions.resources(roles, of, python)
        | ingest.resources(spec, of)
        | watch.resources(roles, of),
        "Outputs": outputs([*(one.name for one in roles), *STORES], of),
    }  # fmt: skip


def notes(spec: Spec, origin: str) -> list[str]:
    """What a template cannot make good."""
    of, found = named(spec, origin), []
    if len(of.buckets) == 1:
        found.append(
            "errors and state lie in one bucket, so state objects that were removed are kept for"
            " a day, and each list passes over them: a bucket for each is quicker"
        )
    if of.panes is not None:
        found.append(
            f"the panes of {spec.delivery.mergers} mergers go into as many shards at most:"
            " PanesShardCount above that is of no use"
        )
    if of.topic is None:
        found.append("alerts.sns_topic is not set: alerts go to the function's log")
    return found


def conditions() -> Node:
    """What is asked of parameters."""
    return {
        "UseKms": {"Fn::Not": [{"Fn::Equals": [ref("KmsKeyArn"), ""]}]},
        "Provisioned": {"Fn::Equals": [ref("StreamMode"), "PROVISIONED"]},
        "HasAlarmTopic": {"Fn::Not": [{"Fn::Equals": [ref("AlarmTopicArn"), ""]}]},
    }


def outputs(names: Iterable[str], of: Named) -> Node:
    """What others need of a stack."""
    absent = {TABLE: of.table is None, TOPIC: of.topic is None, PANES: of.panes is None}
    return {name: {"Value": ref(name)} for name in names if not absent.get(name)}


def stage() -> Node:
    """The parameter that tells stages apart."""
    return {
        "Stage": {
            "Type": "String", "Default": "prod", "AllowedPattern": "[A-Za-z0-9-]{1,20}",
            "Description": "Part of names; each stage is a stack of its own",
        },
        "LogDays": {
            "Type": "Number", "Default": 30, "AllowedValues": LOG_DAYS,
            "Description": "How long the log is kept",
        },
    }  # fmt: skip


def _parameters() -> Node:
    return stage() | {
        "Architecture": {
            "Type": "String", "Default": "x86_64", "AllowedValues": ["x86_64", "arm64"],
            "Description": "What the package is built for",
        },
        "MemorySize": {
            "Type": "Number", "Default": 1769, "MinValue": 256, "MaxValue": 10240,
            "Description": "In MB; a whole processor from 1769 on",
        },
        "TimeoutSeconds": {
            "Type": "Number", "Default": 60, "MinValue": 15, "MaxValue": 900,
            "Description": "An outage is waited out this long before the batch comes again",
        },
        "BatchSize": {
            "Type": "Number", "Default": 1000, "MinValue": 1, "MaxValue": 10000,
            "Description": "Kinesis records of one invocation, at most",
        },
        "BatchWindowSeconds": {
            "Type": "Number", "Default": 1, "MinValue": 0, "MaxValue": 300,
            "Description": "How long records are gathered for one invocation",
        },
        "MaximumRetryAttempts": {
            "Type": "Number", "Default": 10000, "MinValue": -1, "MaxValue": 10000,
            "Description": "Of a batch, before it is kept in the errors bucket and passed over",
        },
        "Canary": {
            "Type": "String", "Default": "true", "AllowedValues": ["true", "false"],
            "Description": "Give a new version a tenth of the invocations for five minutes first",
        },
    }  # fmt: skip
