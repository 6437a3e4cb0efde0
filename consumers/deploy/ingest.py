"""From AWS IoT Core into the stream: a topic rule for each filter that a rule of the file has."""

from __future__ import annotations

from ...rules.plan import compile_rules
from ...rules.spec import Spec
from .cloudformation import Node, att, choose, ref, resource, sub
from .names import STREAM, Named
from .permissions import allow, role

FAILED = "iot/"  # where messages lie that could not be put into the stream
SQL_VERSION = "2016-03-23"


def parameters() -> Node:
    """Whether IoT Core is the source."""
    return {
        "IotIngest": {
            "Type": "String", "Default": "true", "AllowedValues": ["true", "false"],
            "Description": "Put messages of AWS IoT Core into the stream",
        }
    }  # fmt: skip


def resources(spec: Spec, named: Named) -> Node:
    """A rule for each filter, and the role they share."""
    filters = dict.fromkeys(one.from_filter or "#" for one in compile_rules(spec))
    bucket = named.buckets[named.place("errors").bucket]
    statements = [
        allow("PutRecords", ["kinesis:PutRecord"], att(STREAM)),
        allow("KeepFailed", ["s3:PutObject"], sub(f"${{{bucket}.Arn}}/{FAILED}*")),
        choose("UseKms", allow("UseKey", ["kms:GenerateDataKey"], ref("KmsKeyArn"))),
    ]
    properties = role("iot.amazonaws.com", statements)
    found = {"IotRole": resource("AWS::IAM::Role", properties, Condition="Iot")}
    for number, pattern in enumerate(filters, 1):
        found[f"IotRule{number}"] = _rule(spec, bucket, pattern)
    return found


def _rule(spec: Spec, bucket: str, pattern: str) -> Node:
    """What MQTT says of a message stands in it afterwards: the topic, where the file reads it."""
    topic = spec.record.topic
    selected = "*" if topic is None or "." in topic else f"*, topic() AS {topic}"
    key = "/".join(f"${{{path}}}" for path in spec.record.device)
    payload = {
        "AwsIotSqlVersion": SQL_VERSION,
        "Sql": f"SELECT {selected} FROM {_quoted(pattern)}",
        "RuleDisabled": False,
        "Actions": [
            {"Kinesis": {"StreamName": ref(STREAM), "PartitionKey": key,
                         "RoleArn": att("IotRole")}},
        ],
        "ErrorAction": {
            "S3": {"BucketName": ref(bucket), "Key": FAILED + "${topic()}/${newuuid()}.json",
                   "RoleArn": att("IotRole")},
        },
    }  # fmt: skip
    return resource("AWS::IoT::TopicRule", {"TopicRulePayload": payload}, Condition="Iot")


def _quoted(pattern: str) -> str:
    return "'" + pattern.replace("'", "''") + "'"
