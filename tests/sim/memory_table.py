"""A DynamoDB table in memory, with the faults of the real one, behind clients shaped like boto3's.

`MemoryTable` is the table, `client()` makes a client of it, so that the real `Service` and
`TableThresholds` run over it: `Service("dynamodb", make=table.client)`. It knows the calls and
expressions that limits need, and no others; test_memory_table.py holds it against moto.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from decimal import Decimal
from typing import Any, NoReturn

import memory_service
from memory_service import MemoryService, Refusal

KEYS_MAX = 100
KEY_BYTES_MAX = {"device": 2048, "rule": 1024}
BUSY, EXPIRED = "ProvisionedThroughputExceededException", "ExpiredTokenException"
ABSENT, INVALID = "ResourceNotFoundException", "ValidationException"
LOST = "ConditionalCheckFailedException"

Item = dict[str, dict[str, Any]]
Key = tuple[str, str]


class MemoryTable(MemoryService):
    """One table with the keys device and rule; more faults, to be set at any time.

    answers_left: calls that are answered until all are throttled. unprocessed: how likely a key of
    a BatchGetItem is left. lag_seconds: how old the answer to a read may be that does not ask for
    consistency; always just so old. page_items: items of a page of Query and Scan. before_write: is
    called, once, before the next write is looked at, for a race.
    """

    THROTTLED = Refusal(BUSY, 400, "The level of configured provisioned throughput was exceeded")
    FAILED = Refusal("InternalServerError", 500, "Internal server error")
    EXPIRED = Refusal(EXPIRED, 400, "The security token included in the request is expired")

    def __init__(self, name: str = "thresholds", **how: Any) -> None:
        self.name = name
        self.page_items = 1000
        self.before_write: Callable[[], object] | None = None
        self.calls: list[tuple[str, int]] = []  # operation and number of keys, also of refused ones
        self._versions: dict[Key, list[tuple[float, Item]]] = {}
        super().__init__(**how)

    def heal(self) -> None:
        super().heal()
        self.answers_left = float("inf")
        self.unprocessed = self.lag_seconds = 0.0

    def client(self) -> MemoryClient:
        """A client with the credentials that are to be had now."""
        return MemoryClient(self, self.credentials)

    def put(self, device: str, rule: str, **attributes: Any) -> None:
        """Write an item by hand: numbers and texts, or attributes as the client takes them."""
        item = {name: _attribute(value) for name, value in attributes.items()}
        self.write({"device": {"S": device}, "rule": {"S": rule}, **item})

    def item(self, device: str, rule: str, consistent: bool = True) -> Item | None:
        """What a read gives now."""
        asked = float("inf") if consistent else self.now() - self.lag_seconds
        seen = [item for since, item in self._versions.get((device, rule), ()) if since <= asked]
        return copy.deepcopy(seen[-1]) if seen else None

    def items(self) -> list[Item]:
        """All items as they are, by device and rule."""
        found = [self.item(*key) for key in sorted(self._versions)]
        return [item for item in found if item is not None]

    def write(self, item: Item) -> None:
        """Write an item, whatever is there."""
        key = (item["device"]["S"], item["rule"]["S"])
        self._versions.setdefault(key, []).append((self.now(), copy.deepcopy(item)))

    def _refuse(self, operation: str, credentials: int) -> None:
        super()._refuse(operation, credentials)
        if self.answers_left <= 0:
            memory_service.fail(operation, self.THROTTLED)
        self.answers_left -= 1


class MemoryClient:
    """The part of boto3's DynamoDB client that limits need."""

    def __init__(self, table: MemoryTable, credentials: int) -> None:
        self._table = table
        self._credentials = credentials

    def batch_get_item(self, *, RequestItems: Mapping[str, Any]) -> dict[str, Any]:
        ((name, request),) = RequestItems.items()
        keys = request["Keys"]
        with self._call("BatchGetItem", name, len(keys)) as table:
            if len(keys) > KEYS_MAX:
                fail("BatchGetItem", INVALID, f"Member must have length less than {KEYS_MAX + 1}")
            named = [_key("BatchGetItem", key) for key in keys]
            if len(set(named)) < len(named):
                fail("BatchGetItem", INVALID, "Provided list of item keys contains duplicates")
            left = [key for key in keys if table.random.random() < table.unprocessed]
            consistent = request.get("ConsistentRead", False)
            found = [
                table.item(*one, consistent)
                for one, key in zip(named, keys, strict=True)
                if key not in left
            ]
            table.random.shuffle(found)
            return {
                "Responses": {name: [item for item in found if item is not None]},
                "UnprocessedKeys": {name: {**request, "Keys": left}} if left else {},
            }

    def get_item(
        self, *, TableName: str, Key: Item, ConsistentRead: bool = False
    ) -> dict[str, Any]:
        with self._call("GetItem", TableName, 1) as table:
            item = table.item(*_key("GetItem", Key), ConsistentRead)
            return {} if item is None else {"Item": item}

    def update_item(
        self,
        *,
        TableName: str,
        Key: Item,
        UpdateExpression: str,
        ConditionExpression: str,
        ExpressionAttributeNames: Mapping[str, str],
        ExpressionAttributeValues: Mapping[str, Any],
    ) -> dict[str, Any]:
        with self._call("UpdateItem", TableName, 1, writes=True) as table:
            names, values = ExpressionAttributeNames, ExpressionAttributeValues
            _check_used(UpdateExpression + " " + ConditionExpression, names, values)
            key = _key("UpdateItem", Key)
            race, table.before_write = table.before_write, None
            if race is not None:
                race()
            item = table.item(*key) or {}
            if not all(
                _holds(one, item, names, values) for one in ConditionExpression.split(" AND ")
            ):
                fail("UpdateItem", LOST, "The conditional request failed")
            changed = {**copy.deepcopy(Key), **item}
            for name, value in _changes(UpdateExpression, names, values):
                changed.pop(name, None)
                if value is not None:
                    changed[name] = value
            table.write(changed)
            return {}

    def scan(self, *, TableName: str, **request: Any) -> dict[str, Any]:
        with self._call("Scan", TableName, 0) as table:
            return _page(table, table.items(), **request)

    def query(
        self,
        *,
        TableName: str,
        KeyConditionExpression: str,
        ExpressionAttributeNames: Mapping[str, str],
        ExpressionAttributeValues: Mapping[str, Any],
        **request: Any,
    ) -> dict[str, Any]:
        with self._call("Query", TableName, 0) as table:
            names, values = ExpressionAttributeNames, ExpressionAttributeValues
            _check_used(KeyConditionExpression, names, values)
            found = [
                one for one in table.items() if _holds(KeyConditionExpression, one, names, values)
            ]
            return _page(table, found, **request)

    @contextmanager
    def _call(
        self, operation: str, name: str, keys: int, writes: bool = False
    ) -> Iterator[MemoryTable]:
        self._table.calls.append((operation, keys))
        with self._table.call(operation, self._credentials, writes):
            if name != self._table.name:
                fail(operation, ABSENT, "Requested resource not found")
            yield self._table


def fail(operation: str, code: str, message: str) -> NoReturn:
    """Raise an error as the service would."""
    memory_service.fail(operation, Refusal(code, 400, message))


def _attribute(value: Any) -> dict[str, Any]:
    if isinstance(value, dict):
        return value
    return {"S": value} if isinstance(value, str) else {"N": str(value)}


def _key(operation: str, key: Mapping[str, Any]) -> Key:
    if {name: set(of) for name, of in key.items()} != {"device": {"S"}, "rule": {"S"}}:
        fail(operation, INVALID, "The provided key element does not match the schema")
    for name, size_max in KEY_BYTES_MAX.items():
        if not 0 < len(key[name]["S"].encode()) <= size_max:
            fail(operation, INVALID, f"The size of the key {name} must be from 1 to {size_max}")
    return key["device"]["S"], key["rule"]["S"]


def _check_used(expression: str, names: Mapping[str, str], values: Mapping[str, Any]) -> None:
    used = set(re.findall(r"[#:]\w+", expression))
    if used != names.keys() | values.keys():
        fail("UpdateItem", INVALID, f"unused or undefined: {used ^ (names.keys() | values.keys())}")


def _holds(condition: str, item: Item, names: Mapping[str, str], values: Mapping[str, Any]) -> bool:
    if absent := re.fullmatch(r"attribute_not_exists\((#\w+)\)", condition):
        return names[absent[1]] not in item
    equal = re.fullmatch(r"(#\w+) = (:\w+)", condition)
    assert equal, condition
    return names[equal[1]] in item and _plain(item[names[equal[1]]]) == _plain(values[equal[2]])


def _plain(attribute: Mapping[str, Any]) -> Any:
    """An attribute as a value that compares as the service does: numbers by what they are."""
    ((kind, value),) = attribute.items()
    if kind == "L":
        return [_plain(one) for one in value]
    if kind == "M":
        return {name: _plain(one) for name, one in value.items()}
    return Decimal(value) if kind == "N" else (kind, value)


def _changes(
    update: str, names: Mapping[str, str], values: Mapping[str, Any]
) -> Iterator[tuple[str, Any]]:
    """Each attribute that an update sets, with its value, and that it removes, with None."""
    found = re.fullmatch(r"SET (.+?)(?: REMOVE (.+))?", update)
    assert found, update
    for part in found[1].split(", "):
        name, _, value = part.partition(" = ")
        yield names[name], values[value]
    for name in found[2].split(", ") if found[2] else ():
        yield names[name], None


def _page(
    table: MemoryTable,
    items: list[Item],
    Limit: int = 0,
    ConsistentRead: bool = False,
    ExclusiveStartKey: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    if ExclusiveStartKey is not None:
        after = _key("Scan", ExclusiveStartKey)
        items = [item for item in items if (item["device"]["S"], item["rule"]["S"]) > after]
    size = Limit or table.page_items
    page: dict[str, Any] = {"Items": items[:size], "Count": len(items[:size])}
    if len(items) >= size:
        page["LastEvaluatedKey"] = {name: items[size - 1][name] for name in ("device", "rule")}
    return page
