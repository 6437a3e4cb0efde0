"""The resources that hold data: stream, table of limits, topic, buckets. They outlive the stack."""

from __future__ import annotations

from collections.abc import Sequence

from .cloudformation import Node, att, choose, excused, kept, ref, resource, sub
from .names import FIFO, PANES, STREAM, TABLE, TOPIC, Named, Place
from .permissions import VERSION

KEY = choose("UseKms", ref("KmsKeyArn"))
NONCURRENT_DAYS = 30  # that a removed object of the error stream can be put back
STATE_NONCURRENT_DAYS = 1  # of state each invocation writes one, and each list passes over the old
UPLOAD_DAYS = 7  # after which an upload that was never finished is removed


def parameters(named: Named) -> Node:
    """What each stage sets of them."""
    found: Node = {
        "StreamName": {"Type": "String", "Default": named.stream},
        "StreamMode": {
            "Type": "String",
            "Default": "PROVISIONED",
            "AllowedValues": ["PROVISIONED", "ON_DEMAND"],
        },
        "ShardCount": {
            "Type": "Number", "Default": 1, "MinValue": 1,
            "Description": "Of a provisioned stream",
        },
        "RetentionHours": {
            "Type": "Number", "Default": 48, "MinValue": 24, "MaxValue": 8760,
            "Description": "How long the stream can wait for an outage to end",
        },
        "ErrorsExpireDays": {
            "Type": "Number", "Default": 365, "MinValue": 1,
            "Description": "How long rejected records are kept",
        },
        "KmsKeyArn": {
            "Type": "String", "Default": "",
            "Description": "A key of your own for all that is stored; empty: keys of AWS",
        },
    }  # fmt: skip
    if named.panes is not None:
        found["PanesStreamName"] = {"Type": "String", "Default": named.panes}
        found["PanesShardCount"] = {
            "Type": "Number", "Default": 1, "MinValue": 1,
            "Description": "Of the stream of partial panes, where provisioned",
        }  # fmt: skip
    if named.table is not None:
        found["ThresholdsTableName"] = {"Type": "String", "Default": named.table}
    if named.topic is not None:
        found["AlertsTopicName"] = {"Type": "String", "Default": named.topic}
    for bucket, name in named.buckets.items():
        found[f"{name}Name"] = {"Type": "String", "Default": bucket}
    return found


def resources(named: Named) -> Node:
    """All of them that the file names."""
    found = {STREAM: _stream(STREAM)}
    if named.panes is not None:
        found[PANES] = _stream(PANES)
    if named.table is not None:
        found[TABLE] = _table()
    if named.topic is not None:
        found[TOPIC] = _topic(named.topic)
    for bucket, name in named.buckets.items():
        found[name] = _bucket(name, [place for place in named.places if place.bucket == bucket])
        found[f"{name}Policy"] = _tls_only(name)
    return found


def _stream(name: str) -> Node:
    count = "ShardCount" if name == STREAM else "PanesShardCount"
    return kept(
        "AWS::Kinesis::Stream",
        {
            "Name": ref(f"{name}Name"),
            "StreamModeDetails": {"StreamMode": ref("StreamMode")},
            "ShardCount": choose("Provisioned", ref(count)),
            "RetentionPeriodHours": ref("RetentionHours"),
            "StreamEncryption": {
                "EncryptionType": "KMS",
                "KeyId": choose("UseKms", ref("KmsKeyArn"), "alias/aws/kinesis"),
            },
        },
    )


def _table() -> Node:
    keys = {"device": "HASH", "rule": "RANGE"}
    return kept(
        "AWS::DynamoDB::Table",
        {
            "TableName": ref("ThresholdsTableName"),
            "BillingMode": "PAY_PER_REQUEST",
            "AttributeDefinitions": [
                {"AttributeName": key, "AttributeType": "S"} for key in keys
            ],
            "KeySchema": [{"AttributeName": key, "KeyType": kind} for key, kind in keys.items()],
            "PointInTimeRecoverySpecification": {"PointInTimeRecoveryEnabled": True},
            "SSESpecification": {"SSEEnabled": True, "SSEType": "KMS", "KMSMasterKeyId": KEY},
        },
    )  # fmt: skip


def _topic(name: str) -> Node:
    properties: Node = {
        "TopicName": ref("AlertsTopicName"),
        "KmsMasterKeyId": choose("UseKms", ref("KmsKeyArn"), "alias/aws/sns"),
    }
    if name.endswith(FIFO):
        properties["FifoTopic"] = True
    return kept("AWS::SNS::Topic", properties)


def _lifecycle(place: Place) -> Node:
    """How long what lies at one location is kept."""
    state = place.section == "state"
    rule: Node = {
        "Id": place.section,
        "Status": "Enabled",
        "Prefix": place.prefix,
        "NoncurrentVersionExpiration": {
            "NoncurrentDays": STATE_NONCURRENT_DAYS if state else NONCURRENT_DAYS
        },
        "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": UPLOAD_DAYS},
    }
    expires = {"ExpirationInDays": ref("ErrorsExpireDays")}
    return {**rule, **expires} if place.section == "errors" else rule


def _bucket(name: str, places: Sequence[Place]) -> Node:
    """One bucket; of one that holds state alone no versions are kept.

    Each invocation writes a state object and removes an old one. Kept, they would lie in the way of
    every list; and of each shard the last three full ones are there in any case.
    """
    holds_state_alone = {place.section for place in places} == {"state"}
    encryption = choose(
        "UseKms",
        {"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": ref("KmsKeyArn")},
        {"SSEAlgorithm": "AES256"},
    )
    blocked = ("BlockPublicAcls", "BlockPublicPolicy", "IgnorePublicAcls", "RestrictPublicBuckets")
    node = kept(
        "AWS::S3::Bucket",
        {
            "BucketName": ref(f"{name}Name"),
            "BucketEncryption": {
                "ServerSideEncryptionConfiguration": [
                    {
                        "ServerSideEncryptionByDefault": encryption,
                        "BucketKeyEnabled": choose("UseKms", True),
                    }
                ]
            },
            "PublicAccessBlockConfiguration": dict.fromkeys(blocked, True),
            "OwnershipControls": {"Rules": [{"ObjectOwnership": "BucketOwnerEnforced"}]},
            "VersioningConfiguration": {"Status": "Suspended" if holds_state_alone else "Enabled"},
            "LifecycleConfiguration": {"Rules": list(map(_lifecycle, places))},
        },
    )
    reasons = {"CKV_AWS_18": "data events of CloudTrail tell who reads and writes it"}
    if holds_state_alone:
        reasons["CKV_AWS_21"] = (
            "state objects are numbered and never overwritten; see docs/deploy.md"
        )
    return excused(node, **reasons)


def _tls_only(name: str) -> Node:
    return resource(
        "AWS::S3::BucketPolicy",
        {
            "Bucket": ref(name),
            "PolicyDocument": {
                "Version": VERSION,
                "Statement": [
                    {
                        "Sid": "TlsOnly", "Effect": "Deny", "Principal": "*", "Action": "s3:*",
                        "Resource": [att(name), sub(f"${{{name}.Arn}}/*")],
                        "Condition": {"Bool": {"aws:SecureTransport": "false"}},
                    }
                ],
            },
        },
    )  # fmt: skip
