"""The functions of a pipeline: one that does all, or the three of the fan-out mode.

    ordered     stream -> Consumer
    fan_out     stream -> Dispatcher -> Worker, many at once -> panes stream -> Merger
                                 \'-- which chunks count ------^

Each has a role of its own, which may do what that function calls and nothing else; permissions.py
lists it. Versions can run side by side during a canary: they agree on what is stored and sent.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from ...rules.edges import BUCKET
from . import permissions, stores
from .cloudformation import Node, att, excused, kept, literal, ref, resource, sub
from .names import PANES, STREAM, TABLE, TOPIC, Named
from .package import ENTRY, HANDLERS

ALIAS = "live"
CANARY = "Canary10Percent5Minutes"
FOREVER = -1  # retries of a mapping: until a record expires
OUTSIDE = "it calls public endpoints of AWS alone; a VPC would add no boundary"


class Function(NamedTuple):
    """One function of a template.

    name: its logical id. suffix: of its name. handler: its entry. reads: the stream whose mapping
    invokes it; None: another function does. timeout: the parameter that says how long it may take.
    """

    name: str
    suffix: str
    handler: str
    reads: str | None
    timeout: str = "TimeoutSeconds"

    @property
    def log(self) -> str:
        """Logical id of its log group."""
        return f"{self.name}Log"

    @property
    def alarms(self) -> list[str]:
        """Logical ids of its alarms, for errors and, where it reads a stream, for its age."""
        prefix = "" if self.name == CONSUMER else self.name
        of_stream = [] if self.reads is None else [f"{prefix}IteratorAgeAlarm"]
        return [f"{prefix}ErrorsAlarm", *of_stream]


CONSUMER = "Consumer"
DISPATCHER, WORKER, MERGER = "Dispatcher", "Worker", "Merger"
ORDERED = (Function(CONSUMER, "", ENTRY, STREAM),)
FAN_OUT = (
    Function(DISPATCHER, "-dispatcher", HANDLERS[DISPATCHER], STREAM),
    Function(WORKER, "-worker", HANDLERS[WORKER], None, "WorkerTimeoutSeconds"),
    Function(MERGER, "-merger", HANDLERS[MERGER], PANES),
)


def parameters(functions: Sequence[Function]) -> Node:
    """What a stage sets of them beyond what every template has."""
    if functions is not FAN_OUT:
        return {}
    return {
        "WorkerTimeoutSeconds": {
            "Type": "Number", "Default": 40, "MinValue": 15, "MaxValue": 890,
            "Description": "Of a worker; less than TimeoutSeconds, as a dispatcher waits for it",
        }
    }  # fmt: skip


def resources(functions: Sequence[Function], of: Named, python: str) -> Node:
    """All functions, each with its role and its log."""
    found: Node = {}
    for one in functions:
        found |= _resources(one, of, python)
    return found


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


def _resources(function: Function, of: Named, python: str) -> Node:
    name = sub(f"{of.function}-${{Stage}}{function.suffix}")
    properties: Node = {
        "FunctionName": name,
        "CodeUri": f"{of.title}.zip",
        "Handler": function.handler,
        "Runtime": f"python{python}",
        "Architectures": [ref("Architecture")],
        "MemorySize": ref("MemorySize"),
        "Timeout": ref(function.timeout),
        "Role": att(f"{function.name}Role"),
        "KmsKeyArn": stores.KEY,
        "LoggingConfig": {"LogGroup": ref(function.log)},  # lines as the function writes them
        "Environment": {"Variables": _variables(function, of)},
    }
    if function.reads is not None:
        mapping = _mapping(of, function.reads)
        properties["Events"] = {"Records": {"Type": "Kinesis", "Properties": mapping}}
    properties |= {
        "AutoPublishAlias": ALIAS,
        "DeploymentPreference": {
            "Enabled": ref("Canary"),
            "Type": CANARY,
            "Alarms": [ref(alarm) for alarm in function.alarms],
        },
    }
    statements = [*_statements(function, of), permissions.write_log(function.log)]
    role = permissions.role("lambda.amazonaws.com", statements)
    return {
        function.name: excused(
            resource("AWS::Serverless::Function", properties), **_reasons(function)
        ),
        f"{function.name}Role": resource("AWS::IAM::Role", role),
        function.log: log_group(sub(f"/aws/lambda/{of.function}-${{Stage}}{function.suffix}")),
    }


def _reasons(function: Function) -> dict[str, str]:
    """Why it is well as it is where checkov would have it otherwise."""
    if function.reads is None:
        return {
            "CKV_AWS_117": OUTSIDE,
            "CKV_AWS_115": "a dispatcher waits for what it invokes, sixteen at most, a shard",
            "CKV_AWS_116": "it is invoked synchronously: its dispatcher is told of every failure",
        }
    return {
        "CKV_AWS_117": OUTSIDE,
        "CKV_AWS_115": "a mapping runs at most one invocation a shard, which is its limit",
        "CKV_AWS_116": "batches that are given up go to the mapping's own destination",
    }


def _variables(function: Function, of: Named) -> Node:
    found = environment(of, ref(STREAM), ref(TABLE), ref(TOPIC))
    if of.panes is not None:
        found["STREAMGAUGE_DELIVERY__PANES_STREAM"] = ref(PANES)
    if function.name == DISPATCHER:
        found["STREAMGAUGE_WORKER"] = {"Ref": f"{WORKER}.Alias"}
    return found


def _statements(function: Function, of: Named) -> list[Node]:
    arns = permissions.of_stack(of)
    if function.name == CONSUMER:
        return [*permissions.of_pipeline(of, arns), *permissions.failed_batches(of)]
    if function.name == WORKER:
        return permissions.of_worker(of, arns)
    if function.name == MERGER:
        return [*permissions.of_merger(of, arns), *permissions.failed_batches(of)]
    worker = sub(f"${{{WORKER}.Arn}}:{ALIAS}")
    return [*permissions.of_dispatcher(of, arns, worker), *permissions.failed_batches(of)]


def _mapping(of: Named, stream: str) -> Node:
    """One lane a shard: with more, the state of a shard would have two owners.

    What a mapping of the panes stream gave up, a merger would wait for: it never does.
    """
    retries: Any = FOREVER if stream == PANES else ref("MaximumRetryAttempts")
    return {
        "Stream": att(stream),
        "StartingPosition": "TRIM_HORIZON",
        "BatchSize": ref("BatchSize"),
        "MaximumBatchingWindowInSeconds": ref("BatchWindowSeconds"),
        "ParallelizationFactor": 1,
        "FunctionResponseTypes": ["ReportBatchItemFailures"],
        "BisectBatchOnFunctionError": True,
        "MaximumRetryAttempts": retries,
        "DestinationConfig": {
            "OnFailure": {"Destination": att(of.buckets[of.place("errors").bucket])}
        },
    }
