"""The table of limits: how it is read, what it does to a pipeline, and how it is changed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from botocore.exceptions import ClientError
from moto import mock_aws

from streamgauge import Record
from streamgauge.engine.aws import RefusedError, Service, make_client
from streamgauge.engine.errors import ConfigError, StreamgaugeError, UnavailableError
from streamgauge.engine.limits import Entry
from streamgauge.engine.stores.dynamodb import KEYS_MAX, TableThresholds
from streamgauge.engine.stores.threshold_items import HISTORY_MAX, ThresholdItems
from streamgauge.rules import spec as specs
from streamgauge.rules.plan import Pipeline

OWN = Entry(90.0, 2.0, 0, None)
TOML = """
[pipeline]
name = "p"
[record]
device = "device"
time = "ts"
[[rules]]
name = "hot"
sql = "SELECT * FROM '#'"
measure = "value"
window = "1s"
threshold = 90.0
"""


@pytest.fixture
def client() -> Iterator[Any]:
    with mock_aws():
        made = make_client("dynamodb")
        made.create_table(
            TableName="t", BillingMode="PAY_PER_REQUEST",
            KeySchema=[{"AttributeName": "device", "KeyType": "HASH"},
                       {"AttributeName": "rule", "KeyType": "RANGE"}],
            AttributeDefinitions=[{"AttributeName": name, "AttributeType": "S"}
                                  for name in ("device", "rule")],
        )  # fmt: skip
        yield made


class Table:
    """A client that counts, and refuses what it is told to."""

    def __init__(self, client: Any) -> None:
        self.client, self.asked, self.fail, self.leave = client, list[int](), 0, 0

    def batch_get_item(self, RequestItems: Any) -> Any:
        keys = RequestItems["t"]["Keys"]
        self.asked.append(len(keys))
        if self.fail:
            self.fail -= 1
            told = {"Error": {"Code": "ProvisionedThroughputExceededException", "Message": "x"}}
            raise ClientError(told, "BatchGetItem")
        if not self.leave:
            return self.client.batch_get_item(RequestItems=RequestItems)
        some, rest = keys[: -self.leave], keys[-self.leave :]
        answer = {"Responses": {"t": []}}
        if some:
            answer = self.client.batch_get_item(RequestItems={"t": {"Keys": some}})
        return {**answer, "UnprocessedKeys": {"t": {"Keys": rest}}}


def store(table: Any) -> TableThresholds:
    return TableThresholds("t", Service("dynamodb", table), sleep=lambda _: None)


def put(client: Any, device: str, **attributes: Any) -> None:
    item = {"device": {"S": device}, "rule": {"S": "hot"}, **attributes}
    client.put_item(TableName="t", Item=item)


def test_a_hundred_a_call_and_what_is_not_there_is_left_out(client: Any) -> None:
    table = Table(client)
    for number in range(0, 250, 2):
        put(client, f"d{number}", value={"N": str(number)})
    keys = [(f"d{number}", "hot") for number in range(250)]
    long = [("x" * 2049, "hot"), ("", "hot"), ("d", "r" * 1025)]
    found = store(table).read(keys + keys[:9] + long)
    assert table.asked == [KEYS_MAX, KEYS_MAX, 50]
    assert found == {(f"d{n}", "hot"): [Entry(float(n))] for n in range(0, 250, 2)}


def test_keys_left_unprocessed_are_asked_for_again(client: Any) -> None:
    table = Table(client)
    for number in range(100):
        put(client, f"d{number}", value={"N": "1"})
    table.leave = 30
    keys = [(f"d{number}", "hot") for number in range(100)]
    with pytest.raises(UnavailableError, match="busy, left 30 of 100"):
        store(table).read(keys)
    table.leave = 0
    assert len(store(table).read(keys)) == 100


def test_numbers_are_the_nearest_float64(client: Any) -> None:
    put(client, "d", value={"N": "58.540000000000000000000000000000000001"},
        clear_margin={"N": "1E-5"}, version={"N": "12345678901234567890"},
        effective_from={"N": "1700000000000"},
        history={"L": [{"M": {"value": {"N": "7"}, "version": {"S": "a"}}}]})  # fmt: skip
    assert store(client).read([("d", "hot")])["d", "hot"] == [
        Entry(7.0, None, "a", None), Entry(58.54, 1e-5, 12345678901234567890, 1700000000000)
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("attributes", "named"),
    [
        ({}, "value: expected a number, found nothing"),
        ({"value": {"S": "7"}}, "value: expected a number"),
        ({"value": {"N": "1"}, "clear_margin": {"N": "-1"}}, "clear_margin"),
        ({"value": {"N": "1"}, "effective_from": {"N": "1.5"}}, "effective_from"),
        ({"value": {"N": "1"}, "history": {"S": "x"}}, "history: expected a list"),
        ({"value": {"N": "1"}, "history": {"L": [{"M": {}}]}}, "history.0.: value"),
    ],
)
def test_an_item_that_is_no_limit_is_named(
    attributes: dict[str, Any], named: str, client: Any
) -> None:
    put(client, "dev", **attributes)
    with pytest.raises(ConfigError, match=rf"table t: device 'dev', rule 'hot'.*{named}"):
        store(client).read([("dev", "hot")])


def test_a_missing_table_says_how_to_make_it(client: Any) -> None:
    with pytest.raises(RefusedError, match="create-table --table-name absent"):
        TableThresholds("absent", Service("dynamodb")).read([("d", "hot")])


def reading(number: int, value: float, device: str = "d") -> Record:
    text = json.dumps({"device": device, "ts": 1_000_000 + 10_000 * number, "value": value})
    return Record("s", str(number), text.encode())


class Clocked:
    """A pipeline over the table, and its clock."""

    def __init__(self, table: Any) -> None:
        self.seconds, self.table = 0.0, table
        self.pipeline = Pipeline.plan(specs.parse(TOML), store(table), now=lambda: self.seconds)

    def push(self, *records: Record) -> list[Any]:
        return self.pipeline.push(records).alerts


def test_while_the_table_is_throttled_the_last_limits_hold(client: Any) -> None:
    put(client, "d", value={"N": "50"}, version={"N": "3"})
    clocked = Clocked(Table(client))
    (first,) = clocked.push(reading(1, 60.0))
    assert (first.threshold, first.threshold_version, first.stale) == (50.0, 3, False)
    clocked.seconds, clocked.table.fail = 11.0, 1
    (second,) = clocked.push(reading(2, 40.0))
    assert second.state == "resolved" and second.stale is True
    assert clocked.pipeline.stale_devices == 1
    clocked.seconds = 22.0
    (third,) = clocked.push(reading(3, 60.0))
    assert third.stale is False and clocked.pipeline.stale_devices == 0


def test_without_the_table_nothing_is_guessed_and_the_batch_waits(client: Any) -> None:
    put(client, "d", value={"N": "50"})
    clocked = Clocked(Table(client))
    clocked.table.fail = 3
    for _ in range(3):
        with pytest.raises(UnavailableError, match="limits of 1 devices are not known"):
            clocked.push(reading(1, 60.0))
    (alert,) = clocked.push(reading(1, 60.0))
    assert alert.threshold == 50.0


def test_a_change_is_in_force_from_its_time_and_a_replay_decides_the_same(client: Any) -> None:
    items = ThresholdItems("t", Service("dynamodb"))
    items.set("d", "hot", 50.0, None, 1_030_000, OWN)
    rows = [reading(number, 60.0) for number in range(1, 6)]
    first = Clocked(Table(client)).push(*rows)
    assert [(a.time, a.threshold, a.threshold_version) for a in first] == [(1_030_000, 50.0, 1)]
    items.set("d", "hot", 70.0, None, 9_000_000, OWN)
    assert [a.id for a in Clocked(Table(client)).push(*rows)] == [a.id for a in first]


def test_a_change_bumps_the_version_and_keeps_history(client: Any) -> None:
    items = ThresholdItems("t", Service("dynamodb"), updated_by="me")
    for number in range(20):
        change = items.set("d", "hot", 50.0 + number, 1.0, 1000 + number, OWN)
        assert change.written and change.entries[-1].version == number + 1
    entries = items.get("d", "hot")
    assert len(entries) == HISTORY_MAX + 1
    assert [entry.version for entry in entries] == list(range(4, 21))
    assert not items.set("d", "hot", 69.0, 1.0, 5000, OWN).written
    assert items.set("d", "hot", 1.0, None, None, None).entries == [Entry(1.0, None, 21, None)]
    item = client.get_item(TableName="t", Key={"device": {"S": "d"}, "rule": {"S": "hot"}})
    assert item["Item"]["updated_by"] == {"S": "me"}


def test_of_two_writers_none_undoes_the_other(client: Any) -> None:
    items = ThresholdItems("t", Service("dynamodb"))

    class Racing:
        raced = 0

        def __getattr__(self, operation: str) -> Any:
            if operation == "put_item" and self.raced < 2:
                self.raced += 1
                items.set("d", "hot", 10.0 + self.raced, None, self.raced, OWN)
            return getattr(client, operation)

    change = ThresholdItems("t", Service("dynamodb", Racing())).set(
        "d", "hot", 99.0, None, 1000, OWN
    )
    assert [entry.value for entry in change.entries] == [90.0, 11.0, 12.0, 99.0]
    assert items.get("d", "hot") == change.entries


def test_what_no_item_can_hold(client: Any) -> None:
    items = ThresholdItems("t", Service("dynamodb"))
    for device, value in (("", 1.0), ("x" * 3000, 1.0), ("d", 1e300), ("d", float("nan"))):
        with pytest.raises(StreamgaugeError):
            items.set(device, "hot", value, None, 1, OWN)


def test_an_export_is_restored_as_it_was(client: Any) -> None:
    items = ThresholdItems("t", Service("dynamodb"))
    items.set("d", "hot", 50.0, None, 1000, OWN)
    items.set("e", "hot", 51.0, 3.0, 1000, OWN)
    before = items.all()
    assert [one[:2] for one in before] == [("d", "hot"), ("e", "hot")]
    assert items.all("e") == before[1:]
    for device, rule, entries in before:
        assert not items.restore(device, rule, entries).written
        client.delete_item(TableName="t", Key={"device": {"S": device}, "rule": {"S": rule}})
        assert items.restore(device, rule, entries).written
    assert items.all() == before
