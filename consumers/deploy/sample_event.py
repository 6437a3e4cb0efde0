"""An event for a pipeline file: records that its first rule lets through, beyond the threshold."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime
from typing import Any

from ...engine import kpl
from ...rules.plan import compile_rules
from ...rules.spec import Spec

SHARD = "shardId-000000000000"
FIRST_NUMBER = 49_590_338_271_490_256_608_559_692_538_361_571_095_921_575_989_136_588_898
DEVICE = "sample-device"
STEP_MS = 1000  # of event time, from one message to the next
PER_AGGREGATE = 10
_PER_SECOND = {"s": (1, 1000), "ms": (1, 1), "us": (1000, 1), "ns": (1_000_000, 1)}


def event(spec: Spec, records: int, aggregated: bool, now: int) -> dict[str, Any]:
    """One event of a mapping, whose messages end at `now` (int ms).

    A rule whose WHERE wants something particular filters them: that is an answer, too.
    """
    messages = payloads(spec, records, now)
    if aggregated:
        cut = [messages[at : at + PER_AGGREGATE] for at in range(0, records, PER_AGGREGATE)]
        data = [kpl.aggregate([(DEVICE, one, None) for one in some]) for some in cut]
        keys = ["a"] * len(data)  # the outer key that the KPL writes
    else:
        data, keys = messages, [DEVICE] * records
    stream = (spec.source.stream or "telemetry").rpartition("/")[2]
    arn = f"arn:aws:kinesis:eu-west-1:123456789012:stream/{stream}"
    return {"Records": [
        {
            "kinesis": {
                "kinesisSchemaVersion": "1.0",
                "partitionKey": key,
                "sequenceNumber": str(FIRST_NUMBER + number),
                "data": base64.b64encode(one).decode("ascii"),
                "approximateArrivalTimestamp": now / 1000,
            },
            "eventSource": "aws:kinesis",
            "eventVersion": "1.0",
            "eventID": f"{SHARD}:{FIRST_NUMBER + number}",
            "eventName": "aws:kinesis:record",
            "invokeIdentityArn": "arn:aws:iam::123456789012:role/sample",
            "awsRegion": "eu-west-1",
            "eventSourceARN": arn,
        }
        for number, (one, key) in enumerate(zip(data, keys, strict=True))
    ]}  # fmt: skip


def payloads(spec: Spec, count: int, now: int) -> list[bytes]:
    """The messages: every path that a rule reads holds a number just beyond its threshold."""
    rule, compiled = spec.rules[0], compile_rules(spec)
    beyond = rule.threshold + (1 if rule.fire_when == "above" else -1)
    numbers = {path for one in compiled for path in one.reads} | {rule.measure}
    found = []
    for number in range(count):
        message: dict[str, Any] = {}
        for path in sorted(numbers):
            _put(message, path, beyond)
        for path in spec.record.device:
            _put(message, path, DEVICE)
        if spec.record.topic is not None:
            _put(message, spec.record.topic, topic(compiled[0].from_filter or "#"))
        if spec.record.time is not None:
            _put(message, spec.record.time, _time(spec, now - (count - 1 - number) * STEP_MS))
        found.append(json.dumps(message).encode())
    return found


def topic(pattern: str) -> str:
    """A topic that a filter lets through."""
    return "/".join("sample" if level in ("+", "#") else level for level in pattern.split("/"))


def _time(spec: Spec, at: int) -> int | str:
    if spec.record.time_unit == "iso8601":
        return datetime.fromtimestamp(at / 1000, UTC).isoformat()
    times, divided = _PER_SECOND[spec.record.time_unit]
    return at * times // divided


def _put(message: dict[str, Any], path: str, value: object) -> None:
    """Set what lies at a dotted path; a value that stands in the way gives way to an object."""
    *outer, last = path.split(".")
    for name in outer:
        held = message.get(name)
        if not isinstance(held, dict):
            held = message[name] = {}
        message = held
    if not isinstance(message.get(last), dict):
        message[last] = value
