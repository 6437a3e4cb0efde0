"""One suite over every table of limits, and what is said of one that is wrong."""

import gzip
import itertools
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import boto3
import msgspec
import pytest
from effort import examples
from hypothesis import given, settings
from hypothesis import strategies as st
from moto import mock_aws

from streamgauge.engine.aws import Service
from streamgauge.engine.errors import ConfigError
from streamgauge.engine.limits import Entry, ThresholdStore
from streamgauge.engine.stores.dynamodb import TableThresholds
from streamgauge.engine.stores.thresholds import (
    PROBLEMS_MAX,
    FileThresholds,
    MappingThresholds,
)

Items = dict[tuple[str, str], list[Entry]]


def line(key: tuple[str, str], entry: Entry) -> dict[str, Any]:
    found = {"device": key[0], "rule": key[1], **msgspec.to_builtins(entry)}
    return {name: value for name, value in found.items() if value is not None}


def file_of(path: Path, items: Items) -> ThresholdStore:
    opened = gzip.open if path.suffix == ".gz" else open
    with opened(path, "wt", encoding="utf-8") as lines:
        for key, entries in items.items():
            for entry in entries:
                lines.write(json.dumps(line(key, entry)) + "\n")
    return FileThresholds(path)


@pytest.fixture(scope="module", autouse=True)
def aws() -> Iterator[None]:
    with mock_aws():
        yield


def attributes(entry: Entry) -> dict[str, Any]:
    """An entry as somebody writes it into DynamoDB who does not know our code."""
    found: dict[str, Any] = {"value": {"N": repr(entry.value)}}
    if entry.clear_margin is not None:
        found["clear_margin"] = {"N": repr(entry.clear_margin)}
    if entry.version is not None:
        found["version"] = {"S" if isinstance(entry.version, str) else "N": str(entry.version)}
    if entry.effective_from is not None:
        found["effective_from"] = {"N": str(entry.effective_from)}
    return found


numbers = itertools.count()


def table_of(items: Items) -> ThresholdStore:
    client, name = boto3.client("dynamodb"), f"limits-{next(numbers)}"
    keys = ("device", "HASH"), ("rule", "RANGE")
    client.create_table(
        TableName=name,
        BillingMode="PAY_PER_REQUEST",
        AttributeDefinitions=[{"AttributeName": key, "AttributeType": "S"} for key, _ in keys],
        KeySchema=[{"AttributeName": key, "KeyType": kind} for key, kind in keys],
    )
    for (device, rule), entries in items.items():
        item = {"device": {"S": device}, "rule": {"S": rule}, **attributes(entries[-1])}
        if len(entries) > 1:
            item["history"] = {"L": [{"M": attributes(entry)} for entry in entries[:-1]]}
        client.put_item(TableName=name, Item=item)
    return TableThresholds(name, Service("dynamodb", client))


TABLES: dict[str, Callable[[Path, Items], ThresholdStore]] = {
    "file": lambda path, items: file_of(path / "t.ndjson", items),
    "file.gz": lambda path, items: file_of(path / "t.ndjson.gz", items),
    "mapping": lambda path, items: MappingThresholds(items),
    "table": lambda path, items: table_of(items),
}
each_table = pytest.mark.parametrize("table", TABLES.values(), ids=TABLES.keys())


def entries(values: st.SearchStrategy[float], version_max: int | None) -> Any:
    least = None if version_max is None else -version_max
    return st.builds(
        Entry,
        value=values,
        clear_margin=st.none() | st.floats(0, 1e9, allow_subnormal=False).filter(dynamodb_has),
        version=st.none() | st.integers(least, version_max) | st.text(),
        effective_from=st.none() | st.integers(0, 253402300799999),
    )


def dynamodb_has(number: float) -> bool:
    return number == 0 or 1e-130 <= abs(number) <= 9.9e125


FLOATS = st.floats(allow_nan=False, allow_infinity=False)
ENTRIES = entries(FLOATS, None)
STORABLE = entries(FLOATS.filter(dynamodb_has), 10**38 - 1)  # by DynamoDB
KEYS = st.tuples(st.text(min_size=1), st.text(min_size=1))


@each_table
@settings(max_examples=examples(50))
@given(data=st.data())
def test_entries_come_back_as_given(
    table: Any, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    each = STORABLE if table is TABLES["table"] else ENTRIES
    several = st.lists(each, min_size=1, max_size=20)
    items: Items = data.draw(st.dictionaries(KEYS, several, max_size=5))
    store: ThresholdStore = table(tmp_path_factory.mktemp("table"), items)
    asked = [*items, ("nobody", "no rule"), *items]
    found = store.read(asked)
    assert {key: list(entries) for key, entries in found.items()} == items
    assert store.read([]) == {}


@each_table
def test_any_number_of_keys_may_be_asked_for(table: Any, tmp_path: Path) -> None:
    items = {(f"d{n}", "r"): [Entry(float(n), version=n)] for n in range(0, 250, 2)}
    store: ThresholdStore = table(tmp_path, items)
    asked = [(f"d{n % 250}", "r") for n in range(750)]
    found = store.read(asked)
    assert {key: list(entries) for key, entries in found.items()} == items


@each_table
def test_an_id_that_no_table_can_hold_has_no_limit(table: Any, tmp_path: Path) -> None:
    store: ThresholdStore = table(tmp_path, {("d", "r"): [Entry(1.0)]})
    odd: Sequence[tuple[str, str]] = [
        ("", "r"), ("d", ""), ("d" * 2049, "r"), ("é" * 1025, "r"), ("d", "r" * 1025),
        ("\ud800", "r"),
    ]  # fmt: skip
    assert store.read([*odd, ("d", "r"), *odd]) == {("d", "r"): [Entry(1.0)]}
    assert store.read(odd) == {}


def test_a_file_may_hold_more_than_is_read(tmp_path: Path) -> None:
    path = tmp_path / "t.ndjson"
    path.write_bytes(
        b'\xef\xbb\xbf{"device": 7, "rule": "hot", "value": 70, "site": "north", "history": []}\n'
        b"\n  \r\n"
        b'{"device": "7", "rule": "hot", "value": -0.0, "version": "2", "effective_from": 5,'
        b' "clear_margin": null}\r\n'
        b'{"device": -30000000000000000000000, "rule": "cold", "value": 1e2}'
    )
    store = FileThresholds(path)
    assert len(store) == 2
    assert store.rules == {"hot", "cold"}
    assert store.read([("7", "hot"), ("-30000000000000000000000", "cold")]) == {
        ("7", "hot"): [Entry(70.0), Entry(0.0, version="2", effective_from=5)],
        ("-30000000000000000000000", "cold"): [Entry(100.0)],
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"[1]", "expected one JSON object, found [1]"),
        (b"{", "expected one JSON object, found '{': "),
        (b"\xff", "expected one JSON object, found "),
        (b"[" * 100_000, "expected one JSON object, found "),
        (b'{"rule":"r","value":1}', "expected the keys device, rule and value; missing: device"),
        (b'{"device":"d","values":1}', "missing: rule, value (found 'values')"),
        (b'{"device":"","rule":"r","value":1}', "device: expected a text that is not empty"),
        (
            b'{"device":5.0,"rule":"r","value":1}',
            "device: expected a text that is not empty, found",
        ),
        (b'{"device":true,"rule":"r","value":1}', "device: expected a text"),
        (b'{"device":"d","rule":7,"value":1}', "rule: expected a text that is not empty, found 7"),
        (
            b'{"device":"d","rule":"r","value":"90"}',
            "device 'd', rule 'r': value: expected a finite number, found '90'",
        ),
        (b'{"device":"d","rule":"r","value":null}', "value: expected a finite number, found None"),
        (b'{"device":"d","rule":"r","value":true}', "value: expected a finite number, found True"),
        (b'{"device":"d","rule":"r","value":1e999}', "expected one JSON object"),
        (b'{"device":"d","rule":"r","value":NaN}', "expected one JSON object"),
        (b'{"device":"d","rule":"r","value":1' + b"0" * 400 + b"}", "value: expected a finite"),
        (b'{"device":"d","rule":"r","value":1,"clear_margin":-1}', "clear_margin: expected a num"),
        (b'{"device":"d","rule":"r","value":1,"version":[]}', "version: expected an integer or"),
        (b'{"device":"d","rule":"r","value":1,"effective_from":1e12}', "effective_from: expected"),
        (
            b'{"device":"d","rule":"r","value":1,"effective_from":1700000000000000}',
            "effective_from: expected an integer, ms since 1970",
        ),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, text: bytes, message: str) -> None:
    path = tmp_path / "t.ndjson"
    path.write_bytes(b'{"device":"d","rule":"r","value":1}\n' + text + b"\n")
    with pytest.raises(ConfigError) as caught:
        FileThresholds(path)
    (problem,) = caught.value.problems
    assert problem.where == f"{path}:2"
    assert message in str(problem)
    assert len(str(problem)) < len(str(path)) + 250


def test_every_bad_line_is_listed_up_to_a_limit(tmp_path: Path) -> None:
    path = tmp_path / "t.ndjson"
    path.write_text("oops\n" * (PROBLEMS_MAX + 5))
    with pytest.raises(ConfigError) as caught:
        FileThresholds(path)
    assert len(caught.value.problems) == PROBLEMS_MAX + 1
    assert str(caught.value.problems[-1]) == f"{path}: error: 5 more lines are wrong"


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "torn.gz").write_bytes(gzip.compress(b'{"device":"d"}\n' * 99)[:-9])
    (tmp_path / "plain.gz").write_bytes(b'{"device":"d","rule":"r","value":1}\n')
    for name, message in [
        ("absent.ndjson", "No such file"),
        (".", "Is a directory"),
        ("torn.gz", "end-of-stream"),
        ("plain.gz", "Not a gzipped file"),
    ]:
        with pytest.raises(ConfigError, match=f"cannot be read: .*{message}"):
            FileThresholds(tmp_path / name)


def test_a_mapping_takes_numbers_entries_and_histories_and_is_not_copied() -> None:
    history = (Entry(1.0), Entry(2.0, effective_from=9))
    limits: dict[tuple[str, str], Any] = {
        ("a", "r"): 5,
        ("b", "r"): Entry(6.0),
        ("c", "r"): history,
    }
    store = MappingThresholds(limits)
    assert store.read([("a", "r"), ("b", "r"), ("c", "r"), ("d", "r")]) == {
        ("a", "r"): (Entry(5),),
        ("b", "r"): (Entry(6.0),),
        ("c", "r"): history,
    }
    limits["d", "r"] = 7.5
    assert store.read([("d", "r")]) == {("d", "r"): (Entry(7.5),)}
    limits["d", "r"] = [7.5]
    with pytest.raises(ConfigError, match="'d'.*expected entries, found 7.5"):
        store.read([("d", "r")])


@pytest.mark.parametrize(
    ("key", "limit", "message"),
    [
        (("a", "r"), float("nan"), r"\('a', 'r'\): error: value: expected a finite number"),
        (("a", "r"), "90", "value: expected a finite number, found '90'"),
        (("a", "r"), [1.0], "expected entries, found 1.0"),
        (("a", "r"), None, "value: expected a finite number, found None"),
        ((7, "r"), 1.0, r"expected keys \(device, rule\) of two texts, found \(7, 'r'\)"),
        ("a", 1.0, "expected keys"),
        (("a", ""), 1.0, "expected keys"),
        (("a", "r", "x"), 1.0, "expected keys"),
    ],
)
def test_a_bad_mapping_is_refused_at_once(key: Any, limit: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        MappingThresholds({("good", "r"): 1.0, key: limit})
    assert len(caught.value.problems) == 1
