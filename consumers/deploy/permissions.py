"""What a pipeline may do in AWS: statements for what its file names, and for nothing else.

Each list of actions is what the modules named beside it call. No statement has `*` for an action,
and a resource always names something of the stack.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from .cloudformation import Node, att, choose, literal, ref, sub
from .names import PANES, STREAM, TABLE, TOPIC, Named

VERSION = "2012-10-17"
READ_STREAM = [  # the mapping, kinesis_reader.py
    "kinesis:DescribeStream",
    "kinesis:DescribeStreamSummary",
    "kinesis:GetRecords",
    "kinesis:GetShardIterator",
    "kinesis:ListShards",
]
READ_LIMITS = ["dynamodb:BatchGetItem"]  # stores/dynamodb.py
PUBLISH = ["sns:Publish"]  # sinks/sns.py
FORWARD = ["kinesis:ListShards", "kinesis:PutRecords"]  # sinks/forward.py, by a producer
PUT_PANES = ["kinesis:PutRecords"]  # pane_wire.py
LOCATIONS = {
    "errors": ["s3:PutObject"],  # sinks/errors_s3.py
    "state": ["s3:GetObject", "s3:PutObject", "s3:DeleteObject"],  # stores/s3.py
    "archive": ["s3:PutObject"],  # sinks/archive.py in Lambda: one object an invocation
}
USE_KEY = ["kms:Decrypt", "kms:GenerateDataKey"]
FAILED = "aws/lambda/"  # where a mapping puts the batches that it gives up, in its bucket


def allow(sid: str, actions: list[str], resources: Any, **more: Any) -> Node:
    """One statement."""
    return {"Sid": sid, "Effect": "Allow", "Action": actions, "Resource": resources, **more}


class Arns(NamedTuple):
    """What the statements are about. buckets: by the bucket's name in the file."""

    stream: Node
    table: Node
    topic: Node
    buckets: dict[str, str]

    def objects(self, bucket: str, prefix: str) -> Node:
        """All objects below a prefix."""
        return sub(f"{self.buckets[bucket]}/{literal(prefix)}*")


def of_stack(named: Named) -> Arns:
    """Those of the resources in the same template."""
    buckets = {bucket: f"${{{name}.Arn}}" for bucket, name in named.buckets.items()}
    return Arns(att(STREAM), att(TABLE), ref(TOPIC), buckets)


def by_name(named: Named) -> Arns:
    """Those of resources whose names are parameters, in the account and region of the stack."""
    buckets = {
        bucket: f"arn:${{AWS::Partition}}:s3:::${{{name}Name}}"
        for bucket, name in named.buckets.items()
    }
    stream, table, topic = (
        _here(service, resource)
        for service, resource in (
            ("kinesis", "stream/${StreamName}"),
            ("dynamodb", "table/${ThresholdsTableName}"),
            ("sns", "${AlertsTopicName}"),
        )
    )
    return Arns(stream, table, topic, buckets)


def of_pipeline(named: Named, arns: Arns) -> list[Node]:
    """What the pipeline itself calls, whichever host drives it."""
    found = [allow("ReadStream", READ_STREAM, arns.stream), *_limits(named, arns)]
    found += [*_topic(named, arns), *_forwards(named), *_places(named, arns)]
    return [*found, _key()]


def of_dispatcher(named: Named, arns: Arns, worker: Node) -> list[Node]:
    """What a dispatcher calls: lambda_dispatcher.py."""
    return [
        allow("ReadStream", READ_STREAM, arns.stream),
        allow("InvokeWorker", ["lambda:InvokeFunction"], worker),
        allow("TellMergers", PUT_PANES, att(PANES)),
        *_places(named, arns, "state"),
        _key(),
    ]


def of_worker(named: Named, arns: Arns) -> list[Node]:
    """What a worker calls: lambda_worker.py."""
    puts = allow("PutPanes", PUT_PANES, att(PANES))
    return [puts, *_forwards(named), *_places(named, arns, "errors"), _key()]


def of_merger(named: Named, arns: Arns) -> list[Node]:
    """What a merger calls: lambda_merger.py."""
    found = [allow("ReadPanes", READ_STREAM, att(PANES)), *_limits(named, arns)]
    return [*found, *_topic(named, arns), *_places(named, arns, "errors", "state"), _key()]


def _limits(named: Named, arns: Arns) -> list[Node]:
    return [] if named.table is None else [allow("ReadLimits", READ_LIMITS, arns.table)]


def _topic(named: Named, arns: Arns) -> list[Node]:
    return [] if named.topic is None else [allow("PublishAlerts", PUBLISH, arns.topic)]


def _forwards(named: Named) -> list[Node]:
    streams = list(map(_stream, named.forwards))
    return [allow("Forward", FORWARD, streams)] if streams else []


def _places(named: Named, arns: Arns, *sections: str) -> list[Node]:
    """The locations of some sections, of all where none is named."""
    found = [
        allow(section.capitalize(), LOCATIONS[section], arns.objects(bucket, prefix))
        for section, bucket, prefix in named.places
        if not sections or section in sections
    ]
    if sections and "state" not in sections:
        return found
    # Where a caller may not list, S3 answers 403 for an object that is not there, not 404.
    bucket = arns.buckets[named.place("state").bucket]
    return [*found, allow("ListState", ["s3:ListBucket"], sub(bucket))]


def _key() -> Node:
    return choose("UseKms", allow("UseKey", USE_KEY, ref("KmsKeyArn")))


def failed_batches(named: Named) -> list[Node]:
    """What the mapping needs to put the batches that it gives up beside the error stream."""
    bucket = named.place("errors").bucket
    return [
        allow("FailedBatches", ["s3:PutObject"], of_stack(named).objects(bucket, FAILED)),
        allow("ListFailedBatches", ["s3:ListBucket"], att(named.buckets[bucket])),
    ]


def write_log(group: str) -> Node:
    """What a function or a task needs to write into its log group."""
    return allow("WriteLog", ["logs:CreateLogStream", "logs:PutLogEvents"], att(group))


def role(service: str, statements: list[Node]) -> Node:
    """A role that one service takes on, with one policy."""
    trust = {"Effect": "Allow", "Principal": {"Service": service}, "Action": "sts:AssumeRole"}
    return {
        "AssumeRolePolicyDocument": {"Version": VERSION, "Statement": [trust]},
        "Policies": [
            {
                "PolicyName": "pipeline",
                "PolicyDocument": {"Version": VERSION, "Statement": statements},
            }
        ],
    }


def _here(service: str, resource: str) -> Node:
    """A resource in the account and region of the stack."""
    return sub(f"arn:${{AWS::Partition}}:{service}:${{AWS::Region}}:${{AWS::AccountId}}:{resource}")


def _stream(stream: str) -> Node | str:
    return stream if stream.startswith("arn:") else _here("kinesis", f"stream/{stream}")
