"""The table in memory against moto's: the same calls give the same answers and refusals."""

from __future__ import annotations

import random
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError, EndpointConnectionError
from memory_table import MemoryTable
from moto import mock_aws

from streamgauge.engine.aws import Service
from streamgauge.engine.errors import UnavailableError

NAME = "thresholds"
DEVICES, RULES = ("a", "b", "ç"), ("hot", "cold")
ATTRIBUTES = ("value", "version", "history")
SCHEMA: dict[str, Any] = {
    "BillingMode": "PAY_PER_REQUEST",
    "AttributeDefinitions": [
        {"AttributeName": name, "AttributeType": "S"} for name in ("device", "rule")
    ],
    "KeySchema": [
        {"AttributeName": "device", "KeyType": "HASH"},
        {"AttributeName": "rule", "KeyType": "RANGE"},
    ],
}


@pytest.fixture
def moto_client() -> Iterator[Any]:
    with mock_aws():
        client = boto3.client("dynamodb")
        client.create_table(TableName=NAME, **SCHEMA)
        yield client


def key(device: str, rule: str) -> dict[str, Any]:
    return {"device": {"S": device}, "rule": {"S": rule}}


def answer(client: Any, operation: str, request: dict[str, Any]) -> Any:
    """What a call gives, or the code and status of its refusal."""
    try:
        given = getattr(client, operation)(**request)
    except ClientError as error:
        status = error.response["ResponseMetadata"]["HTTPStatusCode"]
        return error.response["Error"]["Code"], status, error.operation_name
    found = {name: given[name] for name in ("Item", "Items", "UnprocessedKeys") if name in given}
    for name, items in given.get("Responses", {}).items():
        found[name] = sorted(map(plain, items), key=repr)
    return plain(found)


def plain(value: Any) -> Any:
    """An answer with its numbers by what they are, not by how they are written."""
    if isinstance(value, dict):
        number = set(value) == {"N"}
        return Decimal(value["N"]) if number else {k: plain(v) for k, v in value.items()}
    return [plain(one) for one in value] if isinstance(value, list) else value


def number(rng: random.Random) -> dict[str, str]:
    return {"N": rng.choice(["1", "1.0", "-2", "1e1", "10", "0.1000000000000000055511151231"])}


def attribute(rng: random.Random) -> dict[str, Any]:
    kind = rng.choice(["N", "N", "S", "L"])
    if kind == "L":
        return {"L": [{"M": {"value": number(rng)}} for _ in range(rng.randint(0, 2))]}
    return number(rng) if kind == "N" else {"S": rng.choice(["", "x", "1"])}


def drawn(rng: random.Random) -> tuple[str, dict[str, Any]]:
    """One call of those that limits need, now and then with one fault."""
    one = key(rng.choice(DEVICES), rng.choice(RULES))
    wrong = rng.random() < 0.05
    table = NAME if wrong or rng.random() < 0.95 else "absent"
    operation = rng.choice(["get_item", "update_item", "update_item", "batch_get_item", "query"])
    if operation == "get_item":
        one = {"device": {"S": "a"}} if wrong else one
        return operation, {"TableName": table, "Key": one, "ConsistentRead": True}
    if operation == "batch_get_item":
        pairs = [(device, rule) for device in DEVICES for rule in RULES]
        keys = [key(*pair) for pair in rng.sample(pairs, rng.randint(1, 5))]
        if wrong:
            keys = rng.choice([keys * 2, [key(str(number), "hot") for number in range(101)]])
        return operation, {"RequestItems": {table: {"Keys": keys, "ConsistentRead": True}}}
    if operation == "query":
        return operation, {
            "TableName": table,
            "KeyConditionExpression": "#device = :device",
            "ExpressionAttributeNames": {"#device": "device"},
            "ExpressionAttributeValues": {":device": one["device"]},
        }
    return operation, {"TableName": table, "Key": one, **update(rng, wrong)}


def update(rng: random.Random, wrong: bool) -> dict[str, Any]:
    """A write in the form that ThresholdItems gives it, on whatever condition."""
    new = {name: attribute(rng) for name in ATTRIBUTES if rng.random() < 0.5 or name == "value"}
    old = {name: attribute(rng) for name in ATTRIBUTES if rng.random() < 0.2}
    gone = [f"#{name}" for name in ATTRIBUTES if name not in new]
    update = "SET " + ", ".join(f"#{name} = :{name}" for name in new)
    update += f" REMOVE {', '.join(gone)}" if gone else ""
    same = [
        f"#{name} = :old_{name}" if name in old else f"attribute_not_exists(#{name})"
        for name in ATTRIBUTES
        if name in old or rng.random() < 0.3
    ]
    condition = " AND ".join(same or ["attribute_not_exists(#value)"])
    values = {f":{name}": value for name, value in new.items()}
    values |= {f":old_{name}": value for name, value in old.items()}
    if wrong:
        values[":unused"] = {"N": "1"}
    return {
        "UpdateExpression": update,
        "ConditionExpression": condition,
        "ExpressionAttributeNames": {
            f"#{n}": n for n in ATTRIBUTES if f"#{n}" in update + condition
        },
        "ExpressionAttributeValues": values,
    }


@pytest.mark.parametrize("seed", range(4))
def test_it_answers_as_moto_does(moto_client: Any, seed: int) -> None:
    rng = random.Random(seed)
    ours = MemoryTable(NAME).client()
    seen = set()
    for turn in range(150):
        operation, request = drawn(rng)
        expected = answer(moto_client, operation, request)
        assert answer(ours, operation, request) == expected, (seed, turn, operation, request)
        seen.add((operation, expected[0] if isinstance(expected, tuple) else "well"))
    assert {("update_item", "well"), ("update_item", "ConditionalCheckFailedException")} <= seen


@pytest.mark.parametrize(
    ("there", "asked"),
    [
        ({"N": "75.0"}, {"N": "75"}),
        ({"N": "1e2"}, {"N": "100"}),
        ({"S": "75"}, {"N": "75"}),
        ({"L": [{"M": {"value": {"N": "1.50"}}}]}, {"L": [{"M": {"value": {"N": "1.5"}}}]}),
        ({"L": [{"N": "1"}, {"N": "2"}]}, {"L": [{"N": "2"}, {"N": "1"}]}),
        ({"NULL": True}, {"NULL": True}),
    ],
)
def test_it_compares_as_moto_does(
    there: dict[str, Any], asked: dict[str, Any], moto_client: Any
) -> None:
    names = {"#value": "value"}
    first: dict[str, Any] = {
        "TableName": NAME, "Key": key("d", "r"), "UpdateExpression": "SET #value = :value",
        "ConditionExpression": "attribute_not_exists(#value)", "ExpressionAttributeNames": names,
        "ExpressionAttributeValues": {":value": there},
    }  # fmt: skip
    then = first | {
        "ConditionExpression": "#value = :old",
        "ExpressionAttributeValues": {":value": {"N": "9"}, ":old": asked},
    }
    ours = MemoryTable(NAME).client()
    for request in (first, then):
        expected = answer(moto_client, "update_item", request)
        assert answer(ours, "update_item", request) == expected


def whole(client: Any, operation: str, **request: Any) -> list[Any]:
    """All pages put together."""
    found, start = [], {}
    for _ in range(20):
        page = getattr(client, operation)(TableName=NAME, Limit=2, **request, **start)
        assert len(page["Items"]) <= 2
        found += page["Items"]
        if not page.get("LastEvaluatedKey"):
            return sorted(found, key=repr)
        start = {"ExclusiveStartKey": page["LastEvaluatedKey"]}
    raise AssertionError("no end")


def test_its_pages_hold_what_those_of_moto_hold(moto_client: Any) -> None:
    ours = MemoryTable(NAME).client()
    for device in DEVICES:
        for rule in "pqrst":
            write = {
                "TableName": NAME,
                "Key": key(device, rule),
                "UpdateExpression": "SET #value = :value",
                "ConditionExpression": "attribute_not_exists(#value)",
                "ExpressionAttributeNames": {"#value": "value"},
                "ExpressionAttributeValues": {":value": {"N": str(ord(rule))}},
            }
            assert answer(ours, "update_item", write) == answer(moto_client, "update_item", write)
    by_device = {
        "KeyConditionExpression": "#device = :device",
        "ExpressionAttributeNames": {"#device": "device"},
        "ExpressionAttributeValues": {":device": {"S": "ç"}},
    }
    assert len(whole(ours, "scan")) == 15
    assert whole(ours, "scan") == whole(moto_client, "scan")
    assert len(whole(ours, "query", **by_device)) == 5
    assert whole(ours, "query", **by_device) == whole(moto_client, "query", **by_device)


def test_keys_have_the_limits_of_the_real_service() -> None:
    """Which moto does not have for every call."""
    ours = MemoryTable(NAME).client()
    for one in (key("", "r"), key("d", ""), key("é" * 1025, "r"), key("d", "r" * 1025)):
        for operation, request in (
            ("get_item", {"TableName": NAME, "Key": one}),
            ("batch_get_item", {"RequestItems": {NAME: {"Keys": [key("d", "r"), one]}}}),
        ):
            assert answer(ours, operation, request)[0] == "ValidationException"
    assert answer(ours, "get_item", {"TableName": NAME, "Key": key("d" * 2048, "r" * 1024)}) == {}


def test_its_faults_are_errors_as_boto3_raises_them() -> None:
    clock = [0.0]
    table = MemoryTable(NAME, now=lambda: clock[0], random=random.Random(1))
    table.put("d", "r", value=1)
    service = Service("dynamodb", make=table.client)

    def read() -> Any:
        return service.call("get_item", "table", TableName=NAME, Key=key("d", "r"))

    assert read()["Item"]["value"] == {"N": "1"}
    table.throttle_next = 1
    with pytest.raises(UnavailableError, match="ProvisionedThroughputExceededException"):
        read()
    assert read()
    table.down_until = 5.0
    with pytest.raises(EndpointConnectionError):
        table.client().scan(TableName=NAME)
    clock[0] = 5.0
    assert read()
    table.expire()
    for _ in range(2):  # no new ones yet
        with pytest.raises(UnavailableError, match="ExpiredTokenException"):
            read()
    old = table.client()
    table.renew()
    with pytest.raises(ClientError, match="ExpiredTokenException"):
        old.scan(TableName=NAME)
    assert read()
    table.lag_seconds = 2.0
    table.put("d", "r", value=2)
    clock[0] = 6.9
    assert read()["Item"]["value"] == {"N": "1"}
    clock[0] = 7.0
    assert read()["Item"]["value"] == {"N": "2"}


def test_keys_are_left_unprocessed_as_often_as_is_asked() -> None:
    table = MemoryTable(NAME, random=random.Random(5))
    table.unprocessed = 0.5
    keys = [key(str(number), "r") for number in range(100)]
    left = table.client().batch_get_item(RequestItems={NAME: {"Keys": keys}})["UnprocessedKeys"]
    assert 30 < len(left[NAME]["Keys"]) < 70
