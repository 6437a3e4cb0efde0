"""A SAM template made from a pipeline file: everything that it names, and the function over it.

The names in the file are defaults of parameters, so each stage can have its own; the function is
told them by the environment, which overrides the file. The roles hold what the file needs.
"""

from __future__ import annotations

from collections.abc import Iterable

from ...rules.edges import BUCKET
from ...rules.spec import Spec
from . import ingest, stores, watch
from .cloudformation import Node, att, excused, kept, literal, ref, resource, sub
from .names import STREAM, TABLE, TOPIC, Named, check_function, named
from .package import ENTRY
from .permissions import failed_batches, of_pipeline, of_stack, role, write_log

FUNCTION, LOG = "Consumer", "ConsumerLog"
ALIAS = "live"
CANARY = "Canary10Percent5Minutes"
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
    return {
        "AWSTemplateFormatVersion": "2010-09-09",
        "Transform": "AWS::Serverless-2016-10-31",
        "Description": f"The pipeline {of.title} of streamgauge as a Lambda function",
        "Parameters": _parameters() | stores.parameters(of) | ingest.parameters()
        | watch.parameters(),
        "Conditions": conditions()
        | {"Iot": {"Fn::Equals": [ref("IotIngest"), "true"]}},
        "Resources": stores.resources(of)
        | _function(of, python)
        | ingest.resources(spec, of)
        | watch.resources(FUNCTION, ALIAS, of),
        "Outputs": outputs((FUNCTION, STREAM, TABLE, TOPIC), of),
    }  # fmt: skip


def notes(spec: Spec, origin: str) -> list[str]:
    """What a template cannot make good."""
    of, found = named(spec, origin), []
    if len(of.buckets) == 1:
        found.append(
            "errors and state lie in one bucket, so state objects that were removed are kept for"
            " a day, and each list passes over them: a bucket for each is quicker"
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
    absent = {TABLE: of.table is None, TOPIC: of.topic is None}
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


def log_group(name: Node) -> Node:
    """A log group; its key must let the service logs use it."""
    return kept(
        "AWS::Logs::LogGroup",
        {"LogGroupName": name, "RetentionInDays": ref("LogDays"), "KmsKeyId": stores.KEY},
    )


def environment(of: Named, stream: Node, table: Node, topic: Node, bucket: str = "{}") -> Node:
    """The names that the stack gives, in place of those in the file.

    `bucket` makes of a bucket's logical id what its name is found by.
    """
    found = {"STREAMGAUGE_SOURCE__STREAM": stream}
    if of.table is not None:
        found["STREAMGAUGE_THRESHOLDS__TABLE"] = table
    if of.topic is not None:
        found["STREAMGAUGE_ALERTS__SNS_TOPIC"] = topic
    for section, name, prefix in of.places:
        place = f"{BUCKET}${{{bucket.format(of.buckets[name])}}}/{literal(prefix)}"
        found[f"STREAMGAUGE_{section.upper()}__LOCATION"] = sub(place)
    return found


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


def _function(of: Named, python: str) -> Node:
    name = sub(f"{of.function}-${{Stage}}")
    reasons = {
        "CKV_AWS_117": "it calls public endpoints of AWS alone; a VPC would add no boundary",
        "CKV_AWS_115": "a mapping runs at most one invocation a shard, which is its limit",
        "CKV_AWS_116": "batches that are given up go to the mapping's own destination",
    }
    statements = [*of_pipeline(of, of_stack(of)), *failed_batches(of), write_log(LOG)]
    return {
        FUNCTION: excused(
            resource(
                "AWS::Serverless::Function",
                {
                    "FunctionName": name,
                    "CodeUri": f"{of.title}.zip",
                    "Handler": ENTRY,
                    "Runtime": f"python{python}",
                    "Architectures": [ref("Architecture")],
                    "MemorySize": ref("MemorySize"),
                    "Timeout": ref("TimeoutSeconds"),
                    "Role": att("ConsumerRole"),
                    "KmsKeyArn": stores.KEY,
                    "LoggingConfig": {"LogGroup": ref(LOG)},  # lines as the function writes them
                    "Environment": {
                        "Variables": environment(of, ref(STREAM), ref(TABLE), ref(TOPIC))
                    },
                    "Events": {"Records": {"Type": "Kinesis", "Properties": _mapping(of)}},
                    "AutoPublishAlias": ALIAS,
                    "DeploymentPreference": {
                        "Enabled": ref("Canary"),
                        "Type": CANARY,
                        "Alarms": [ref(alarm) for alarm in watch.ALARMS],
                    },
                },
            ),
            **reasons,
        ),
        "ConsumerRole": resource("AWS::IAM::Role", role("lambda.amazonaws.com", statements)),
        LOG: log_group(sub(f"/aws/lambda/{of.function}-${{Stage}}")),
    }


def _mapping(of: Named) -> Node:
    """One lane a shard: with more, the state of a shard would have two owners."""
    return {
        "Stream": att(STREAM),
        "StartingPosition": "TRIM_HORIZON",
        "BatchSize": ref("BatchSize"),
        "MaximumBatchingWindowInSeconds": ref("BatchWindowSeconds"),
        "ParallelizationFactor": 1,
        "FunctionResponseTypes": ["ReportBatchItemFailures"],
        "BisectBatchOnFunctionError": True,
        "MaximumRetryAttempts": ref("MaximumRetryAttempts"),
        "DestinationConfig": {
            "OnFailure": {"Destination": att(of.buckets[of.place("errors").bucket])}
        },
    }
