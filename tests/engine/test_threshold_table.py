"""What only the table in DynamoDB has: calls of a hundred keys, what is left over, odd items."""

from __future__ import annotations

import random
import shlex
from fractions import Fraction
from typing import Any

import boto3
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from memory_table import ABSENT, MemoryClient, MemoryTable, fail
from moto import mock_aws

from streamgauge.engine.aws import RefusedError, Service
from streamgauge.engine.errors import ConfigError, UnavailableError
from streamgauge.engine.limits import Entry
from streamgauge.engine.stores.dynamodb import (
    IDLE_ROUNDS_MAX,
    KEYS_MAX,
    PAUSES_SECONDS_MAX,
    TableThresholds,
    creation,
)
from streamgauge.engine.threshold import Thresholds

ARN = "arn:aws:dynamodb:eu-west-1:123456789012:table/limits"


class Bench:
    """A store over a table in memory, and the pauses that it made."""

    def __init__(self, seed: int = 0) -> None:
        self.table = MemoryTable(random=random.Random(seed))
        self.pauses: list[float] = []
        self.jitter = 1.0

    @property
    def store(self) -> TableThresholds:
        service = Service("dynamodb", make=self.table.client)
        return TableThresholds(
            "thresholds", service, sleep=self.pauses.append, random=lambda: self.jitter
        )

    def read(self, *keys: tuple[str, str]) -> dict[tuple[str, str], list[Entry]]:
        return {key: list(entries) for key, entries in self.store.read(keys).items()}


def keys(count: int) -> list[tuple[str, str]]:
    return [(f"d{number}", "r") for number in range(count)]


def filled(count: int, seed: int = 0) -> Bench:
    bench = Bench(seed)
    for number in range(count):
        bench.table.put(f"d{number}", "r", value=number)
    return bench


def test_a_call_has_a_hundred_different_keys_at_most() -> None:
    bench = filled(250)
    asked = [*keys(250), *keys(250)]
    assert len(bench.read(*asked)) == 250
    assert bench.table.calls == [("BatchGetItem", count) for count in (100, 100, 50)]
    assert bench.pauses == []


def test_what_can_be_no_key_is_not_asked_for() -> None:
    bench = filled(1)
    assert bench.read(("", "r"), ("d" * 2049, "r")) == {}
    assert bench.table.calls == []
    assert bench.read(("d" * 2048, "r" * 1024), ("d0", "r"), ("d0", "")) == {
        ("d0", "r"): [Entry(0.0)]
    }
    assert bench.table.calls == [("BatchGetItem", 2)]


@pytest.mark.parametrize("seed", range(5))
def test_what_is_left_unprocessed_is_asked_for_again(seed: int) -> None:
    bench = filled(100, seed)
    bench.table.unprocessed = 0.5
    assert len(bench.read(*keys(120)[20:])) == 80
    asked = [count for _, count in bench.table.calls]
    assert asked[0] == 100 and len(asked) > 3
    assert asked == sorted(asked, reverse=True)
    assert 0 < sum(bench.pauses) <= PAUSES_SECONDS_MAX


def test_a_table_that_leaves_all_keys_is_down() -> None:
    bench = filled(7)
    bench.table.unprocessed = 1.0
    with pytest.raises(UnavailableError, match="thresholds: busy, left 7 of 7 keys unread"):
        bench.read(*keys(7))
    assert bench.table.calls == [("BatchGetItem", 7)] * IDLE_ROUNDS_MAX
    assert len(bench.pauses) == IDLE_ROUNDS_MAX - 1
    assert sum(bench.pauses) <= PAUSES_SECONDS_MAX
    bench.table.unprocessed = 0.0
    assert len(bench.read(*keys(7))) == 7


class Slow(MemoryClient):
    """Gives one key a call and leaves the rest."""

    def batch_get_item(self, *, RequestItems: Any) -> dict[str, Any]:
        ((name, request),) = RequestItems.items()
        first, *rest = request["Keys"]
        answer = super().batch_get_item(RequestItems={name: {"Keys": [first]}})
        return answer | {"UnprocessedKeys": {name: {"Keys": rest}} if rest else {}}


def test_as_long_as_something_comes_it_goes_on_and_hardly_pauses() -> None:
    bench = filled(KEYS_MAX)
    service = Service("dynamodb", make=lambda: Slow(bench.table, 0))
    store = TableThresholds("thresholds", service, sleep=bench.pauses.append, random=lambda: 1.0)
    assert len(store.read(keys(KEYS_MAX))) == KEYS_MAX
    assert len(bench.table.calls) == KEYS_MAX
    assert sum(bench.pauses) == pytest.approx(PAUSES_SECONDS_MAX)


def test_pauses_have_full_jitter() -> None:
    bench = filled(7)
    bench.table.unprocessed, bench.jitter = 1.0, 0.0
    with pytest.raises(UnavailableError):
        bench.read(*keys(7))
    assert bench.pauses == [0.0] * (IDLE_ROUNDS_MAX - 1)


def test_a_throttled_call_is_not_repeated_here() -> None:
    bench = filled(3)
    bench.table.throttle_next = 1
    with pytest.raises(UnavailableError, match="BatchGetItem on table thresholds: Provisioned"):
        bench.read(*keys(3))
    assert bench.table.calls == [("BatchGetItem", 3)]
    assert bench.pauses == []
    assert len(bench.read(*keys(3))) == 3


def test_new_credentials_are_found() -> None:
    bench = filled(1)
    store = bench.store
    assert store.read(keys(1))
    bench.table.expire()
    with pytest.raises(UnavailableError, match="ExpiredTokenException.*renew the credentials"):
        store.read(keys(1))
    bench.table.renew()
    assert store.read(keys(1)) == {("d0", "r"): [Entry(0.0)]}


DIGITS = st.text("0123456789", min_size=1, max_size=38)


@given(st.sampled_from(["", "-"]), DIGITS, st.integers(0, 38), st.integers(-120, 80))
def test_numbers_are_the_nearest_float64(sign: str, digits: str, point: int, power: int) -> None:
    text = f"{sign}{digits[:point] or '0'}.{digits[point:] or '0'}E{power}"
    bench = Bench()
    bench.table.put("d", "r", value={"N": text})
    assert bench.read(("d", "r")) == {("d", "r"): [Entry(float(Fraction(text)))]}


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("58.54", 58.54),
        ("0.10000000000000000555111512312578270212", 0.1),
        ("9007199254740993", 9007199254740992.0),  # a tie, to even
        ("9007199254740993.0000000000000000000001", 9007199254740994.0),
        ("-0", 0.0),
        ("1E+2", 100.0),
    ],
)
def test_numbers_by_example(text: str, number: float) -> None:
    bench = Bench()
    bench.table.put("d", "r", value={"N": text}, clear_margin={"N": text.lstrip("-")})
    (entry,) = bench.read(("d", "r"))["d", "r"]
    assert (entry.value.hex(), entry.clear_margin) == (number.hex(), abs(number))


def test_whole_numbers_are_exact_however_they_are_written() -> None:
    bench = Bench()
    version = 12345678901234567890123456789012345678
    bench.table.put("a", "r", value=1, version=version, effective_from={"N": "1.7E12"})
    bench.table.put("b", "r", value=1, version="1", effective_from={"N": "1700000000000.0"})
    assert bench.read(("a", "r"), ("b", "r")) == {
        ("a", "r"): [Entry(1.0, None, version, 1700000000000)],
        ("b", "r"): [Entry(1.0, None, "1", 1700000000000)],
    }


def test_null_counts_as_absent_and_other_attributes_do_not_matter() -> None:
    null = {"NULL": True}
    bench = Bench()
    bench.table.put(
        "d", "r", value=1, clear_margin=null, version=null, effective_from=null, history=null,
        site="north", S={"S": "x"}, N={"N": "1"}, M={"M": {}},
    )  # fmt: skip
    assert bench.read(("d", "r")) == {("d", "r"): [Entry(1.0)]}


HISTORY = {"M": {"value": {"N": "1"}}}


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        ({}, "value: expected a number, found nothing"),
        ({"value": {"NULL": True}}, "value: expected a number, found nothing"),
        ({"value": "90"}, "value: expected a number, found the text '90', of type S"),
        ({"value": {"BOOL": True}}, "value: expected a number, found the boolean True, of type"),
        ({"value": {"NS": ["1"]}}, "value: expected a number, found an attribute ['1'], of type"),
        ({"value": {"N": "NaN"}}, "value: expected a finite number, found nan"),
        ({"value": 1, "clear_margin": -1}, "clear_margin: expected a number at or above 0"),
        ({"value": 1, "clear_margin": "2"}, "clear_margin: expected a number, found the text"),
        ({"value": 1, "version": 1.5}, "version: expected a whole number, found 1.5"),
        ({"value": 1, "version": {"BOOL": True}}, "version: expected a number, found the boolean"),
        ({"value": 1, "effective_from": 1.5}, "effective_from: expected a whole number, found 1.5"),
        ({"value": 1, "effective_from": -1}, "effective_from: expected an integer, ms since 1970"),
        ({"value": 1, "effective_from": 10**18}, "effective_from: expected an integer, ms since"),
        ({"value": 1, "effective_from": "2026-01-01"}, "effective_from: expected a number, found"),
        ({"value": 1, "history": 5}, "history: expected a list of maps, found the number '5'"),
        ({"value": 1, "history": {"L": [HISTORY, {"N": "5"}]}}, "history[1]: expected a map, foun"),
        ({"value": 1, "history": {"L": [{"M": {}}]}}, "history[0]: value: expected a number, fou"),
    ],
)
def test_an_item_that_is_no_limit_is_named(attributes: dict[str, Any], message: str) -> None:
    bench = filled(2)
    bench.table.put("odd", "r", **attributes)
    with pytest.raises(ConfigError) as caught:
        bench.read(*keys(2), ("odd", "r"))
    (problem,) = caught.value.problems
    assert problem.where == "table thresholds: device 'odd', rule 'r'"
    assert problem.message.startswith(message)
    assert len(bench.read(*keys(2))) == 2


def test_all_that_is_wrong_in_one_read_is_named() -> None:
    bench = filled(1)
    bench.table.put("x", "r", value="1", history={"L": [{"N": "1"}, {"S": "2"}]})
    bench.table.put("y", "r", value="1")
    with pytest.raises(ConfigError) as caught:
        bench.read(("d0", "r"), ("x", "r"), ("y", "r"))
    assert sorted(f"{p.where[25:28]} {p.message[:10]}" for p in caught.value.problems) == [
        "'x' history[0]", "'x' history[1]", "'x' value: exp", "'y' value: exp",
    ]  # fmt: skip


def test_a_missing_table_says_how_it_is_made() -> None:
    bench = Bench()
    store = TableThresholds("limits", Service("dynamodb", make=bench.table.client))
    with pytest.raises(RefusedError) as caught:
        store.read(keys(1))
    hint = f"(make the table with: {creation('limits')})"
    assert str(caught.value).endswith(f"Requested resource not found {hint}")
    assert caught.value.code == ABSENT


def made(command: str) -> None:
    """Run a printed `aws dynamodb create-table` with boto3."""
    words = shlex.split(command)
    assert words[:3] == ["aws", "dynamodb", "create-table"]
    options: dict[str, list[str]] = {}
    for word in words[3:]:
        if word.startswith("--"):
            options[word] = values = []
        else:
            values.append(word)
    pairs = {
        name: [dict(pair.split("=") for pair in value.split(",")) for value in options.pop(name)]
        for name in ("--attribute-definitions", "--key-schema")
    }
    (region,) = options.pop("--region", ["us-east-1"])
    (table,), (billing,) = options.pop("--table-name"), options.pop("--billing-mode")
    assert options == {}
    boto3.client("dynamodb", region_name=region).create_table(
        TableName=table,
        BillingMode=billing,
        AttributeDefinitions=pairs["--attribute-definitions"],
        KeySchema=pairs["--key-schema"],
    )


@pytest.mark.parametrize(("table", "region"), [("limits", "us-east-1"), (ARN, "eu-west-1")])
def test_the_command_that_makes_the_table_makes_one_that_can_be_read(
    table: str, region: str
) -> None:
    with mock_aws():
        made(creation(table))
        client = boto3.client("dynamodb", region_name=region)
        item = {"device": {"S": "d"}, "rule": {"S": "r"}, "value": {"N": "1.5"}}
        client.put_item(TableName="limits", Item=item)
        store = TableThresholds(table, Service("dynamodb", client))
        assert store.read([("d", "r"), ("e", "r")]) == {("d", "r"): [Entry(1.5)]}


def test_a_table_with_other_keys_says_so() -> None:
    class Other(MemoryClient):
        def batch_get_item(self, *, RequestItems: Any) -> dict[str, Any]:
            message = "The provided key element does not match the schema"
            fail("BatchGetItem", "ValidationException", message)

    store = TableThresholds("t", Service("dynamodb", Other(MemoryTable(), 0)))
    with pytest.raises(RefusedError, match="does not match the schema .make the table with: aws"):
        store.read(keys(1))


class Denied(MemoryClient):
    def batch_get_item(self, *, RequestItems: Any) -> dict[str, Any]:
        fail("BatchGetItem", "AccessDeniedException", "not authorized")


def test_a_missing_permission_is_named() -> None:
    store = TableThresholds("t", Service("dynamodb", Denied(MemoryTable(), 0)))
    with pytest.raises(RefusedError, match="the caller needs dynamodb:BatchGetItem"):
        store.read(keys(1))


def test_what_was_read_before_the_table_went_down_is_kept() -> None:
    bench = filled(250)
    limits = Thresholds(bench.store, [("r", 90.0, 0.0)], now=lambda: 0.0)
    names, devices = [name for name, _ in keys(250)], np.arange(250)
    for left, asked in ((250 - 100, [100, 100]), (250 - 200, [100, 50])):
        bench.table.answers_left = 1
        with pytest.raises(UnavailableError, match=f"the limits of {left} devices are not known"):
            limits.prepare(names, devices)
        assert [count for _, count in bench.table.calls] == asked
        bench.table.calls.clear()
    bench.table.answers_left = 1
    limits.prepare(names, devices)
    assert bench.table.calls == [("BatchGetItem", 50)]
    assert limits.limits(0, devices, devices).value.tolist() == list(range(250))
