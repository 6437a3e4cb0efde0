"""Columns of a batch: every JSON kind, nested paths, and the same for every schema and slicing."""

import json
from typing import Any

import msgspec
import numpy as np
import pytest
from effort import examples
from hypothesis import given, settings
from hypothesis import strategies as st
from payloads import decoded, exact_only, names, payload, users_of, values

from streamgauge.engine.batch import NO_TIME, Batch, Column, Kind
from streamgauge.engine.decode import Decoder, Schema, column_of
from streamgauge.engine.devices import Devices

PLAIN = Schema(device=("device",), time="ts", fields=("value",))


def same(one: Column, other: Column) -> bool:
    return (
        one.kind.dtype == other.kind.dtype == np.uint8
        and one.number.dtype == other.number.dtype == np.float64
        and one.kind.tolist() == other.kind.tolist()
        and one.number.tobytes() == other.number.tobytes()
        and repr(one.other) == repr(other.other)
    )


# --- columns ------------------------------------------------------------------------------------

JSON_VALUES = st.one_of(
    st.just(msgspec.UNSET),
    st.none(),
    st.booleans(),
    st.integers(-(10**30), 10**30),
    st.integers(-10, 10),
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from([2**53, -(2**53), 2**53 + 1, 2.0**53, 1e300, -0.0]),
    st.text(max_size=3),
    st.lists(st.integers(), max_size=2),
    st.dictionaries(st.text(max_size=1), st.integers(), max_size=2),
)


@settings(deadline=None, max_examples=examples(200))
@given(
    st.one_of(
        st.lists(JSON_VALUES, max_size=12),
        st.lists(st.floats(allow_nan=False, allow_infinity=False), max_size=12),
        st.lists(st.integers(-5, 5), max_size=12),
        st.lists(st.text(max_size=3), min_size=1, max_size=12),
    )
)
def test_a_column_is_what_the_plain_way_makes(some: list[Any]) -> None:
    assert same(column_of(some), Column.of(some))


@pytest.mark.parametrize("beyond", [10**400, -(10**400), float("inf"), float("-inf")])
def test_a_column_refuses_what_is_beyond_float64(beyond: Any) -> None:
    for others in ([], [1.5], ["x"]):
        with pytest.raises(OverflowError):
            column_of([*others, beyond])


def test_columns_of_one_kind_need_nothing_beside_the_numbers() -> None:
    rows = [payload(value=number) for number in (1, 2.5, -0.0)]
    column = decoded(PLAIN, rows)[0].columns["value"]
    assert column.other is None
    assert column.number.tolist() == [1, 2.5, 0] and not np.signbit(column.number).any()
    assert set(column.kind.tolist()) == {Kind.NUMBER}


def test_large_integers_stay_exact() -> None:
    column = decoded(PLAIN, [payload(value=v) for v in (2**53 + 1, 10**30, 5)])[0].columns["value"]
    assert values(column) == [2**53 + 1, 10**30, 5]
    assert column.number.tolist() == [2.0**53, 1e30, 5.0]


def test_every_kind_and_missing() -> None:
    kinds = [None, True, 1, "x", [1], {"a": 1}]
    batch, rejected = decoded(PLAIN, [payload(), *(payload(value=value) for value in kinds)])
    assert not rejected
    assert batch.columns["value"].kind.tolist() == list(Kind)
    assert values(batch.columns["value"]) == [msgspec.UNSET, *kinds]


def test_the_batch_holds_exactly_the_fields_and_the_topic() -> None:
    schema = Schema(device=("device",), time="ts", topic="t", fields=("value", "device", "ts"))
    batch, _ = decoded(schema, [payload(t="a/b", value=1), payload(7, 2.5)])
    assert list(batch.columns) == ["value", "device", "ts"]
    assert values(batch.columns["device"]) == ["d", 7]
    assert values(batch.columns["ts"]) == [1, 2.5]
    assert batch.topic is not None and values(batch.topic) == ["a/b", msgspec.UNSET]
    assert decoded(PLAIN, [payload()])[0].topic is None


def test_no_rows_at_all() -> None:
    schema = Schema(device=("a", "b"), time="ts", time_unit="iso8601", arrival="x", fields=("v.w",))
    batch, rejected = decoded(schema, [])
    assert len(batch) == 0 and rejected == [] and len(batch.columns["v.w"]) == 0


def test_nested_paths() -> None:
    schema = Schema(device=("id.name",), time="at.ts", fields=("a.b.c", "a.b", "a.x"))
    rows = [
        b'{"id":{"name":"d"},"at":{"ts":5},"a":{"b":{"c":1},"x":2}}',
        b'{"id":{"name":"d"},"at":{"ts":5},"a":{"b":3}}',
        b'{"id":{"name":"d"},"at":{"ts":5},"a":[]}',
        b'{"id":{"name":"d"},"at":{"ts":5}}',
        b'{"id":{"name":1.5},"at":{"ts":5}}',
        b'{"id":{},"at":{"ts":5}}',
        b'{"id":"name","at":{"ts":5}}',
        b'{"id.name":"d","at.ts":5}',
        b'{"id":{"name":"d"},"at":5}',
    ]
    batch, rejected = decoded(schema, rows)
    assert values(batch.columns["a.b.c"]) == [1, msgspec.UNSET, msgspec.UNSET, msgspec.UNSET]
    assert values(batch.columns["a.b"]) == [{"c": 1}, 3, msgspec.UNSET, msgspec.UNSET]
    assert values(batch.columns["a.x"]) == [2, msgspec.UNSET, msgspec.UNSET, msgspec.UNSET]
    assert rejected == [
        (4, "device_type"),
        *((row, "device_missing") for row in (5, 6, 7)),
        (8, "time_missing"),
    ]


def test_a_path_below_one_that_is_read_itself() -> None:
    schema = Schema(device=("id.name",), time="at.ts", fields=("id", "at", "at.ts.x"))
    rows = [
        b'{"id":{"name":"d"},"at":{"ts":5}}',
        b'{"id":{"name":""},"at":{"ts":5}}',
        b'{"id":{"name":[1]},"at":{"ts":5}}',
        b'{"id":{"name":7},"at":{"ts":true}}',
        b'{"id":7,"at":{"ts":5}}',
    ]
    batch, rejected = decoded(schema, rows)
    assert names(batch) == ["d"] and values(batch.columns["id"]) == [{"name": "d"}]
    assert values(batch.columns["at.ts.x"]) == [msgspec.UNSET]
    reasons = ["device_type", "device_type", "time_type", "device_missing"]
    assert rejected == list(enumerate(reasons, 1))


def test_more_fields_than_have_a_column_function_of_their_own() -> None:
    paths = tuple(f"k{number}" for number in range(12))
    batch, _ = decoded(
        Schema(device=("device",), time="ts", fields=paths),
        [payload(**{path: number for number, path in enumerate(paths)})],
    )
    assert [values(batch.columns[path]) for path in paths] == [[n] for n in range(12)]


SCHEMAS = [
    PLAIN,
    Schema(device=("device", "n.id"), time="n.ts", time_unit="s", fields=("n", "n.x", "value")),
    Schema(device=("device",), time="ts", time_unit="iso8601", fields=("ts", "n.x.y"), topic="n"),
    Schema(device=("n.id",), time=None, arrival="ts", time_unit="us", fields=("value", "device")),
    Schema(device=("ts",), time="ts", time_unit="ns", arrival="n.ts", max_clock_skew=0),
    Schema(device=("ts",), time="ts", time_unit="ms"),
    Schema(device=("ts",), time="ts", time_unit="iso8601"),
    Schema(device=("device",), time="ts", constants={"n.x": 5, "value": "v"},
           fields=("n", "n.x", "value")),
]  # fmt: skip
DECODERS = [Decoder(schema) for schema in SCHEMAS]
SOME = st.sampled_from(
    [1, 5, 1.5, -1, "d", "", "7", 7, None, True, [], {}, {"y": 1}, 10**30, 1e300, 2**53 + 1, 2000,
     "1970-01-01 00:00Z", "2026-01-31T10:11:12Z"]
)  # fmt: skip
MESSAGES = st.fixed_dictionaries(
    {},
    optional={
        "device": SOME,
        "ts": SOME,
        "value": SOME,
        "n": SOME | st.fixed_dictionaries({}, optional={"id": SOME, "ts": SOME, "x": SOME}),
    },
)


EXACT = [exact_only(schema) for schema in SCHEMAS]


@settings(deadline=None, max_examples=examples(150))
@given(st.integers(0, len(SCHEMAS) - 1), st.lists(MESSAGES, max_size=8), st.integers(1, 8))
def test_every_schema_reads_the_same_quickly_and_exactly(
    number: int, messages: list[dict[str, Any]], size: int
) -> None:
    payloads = [json.dumps(message).encode() for message in messages]
    arrival = [1500 if row % 2 else NO_TIME for row in range(len(payloads))]
    answers = []
    for decoder in (DECODERS[number], EXACT[number]):
        batch, rejected = decoder.decode(users_of(payloads, arrival), Devices())
        answers.append(shown(batch, rejected))
    assert answers[0] == answers[1]
    devices, parts = Devices(), []
    for first in range(0, len(payloads), size):  # cut in slices: the same rows
        users = users_of(payloads[first : first + size], arrival[first : first + size])
        batch, rejected = DECODERS[number].decode(users, devices)
        parts += shown(batch, rejected, first)
    assert sorted(parts) == sorted(answers[0])


def shown(batch: Batch, rejected: list[Any], first: int = 0) -> list[str]:
    """One text a row with all that is known of it."""
    columns = {**batch.columns, **({"topic": batch.topic} if batch.topic else {})}
    rows = [
        f"{first + row} {name} {time} {arrival} "
        + " ".join(f"{key}={columns[key].value(index)!r}" for key in columns)
        for index, (row, name, time, arrival) in enumerate(
            zip(batch.row.tolist(), names(batch), batch.time.tolist(), batch.arrival.tolist(),
                strict=True)
        )
    ]  # fmt: skip
    return rows + [
        f"{first + int(row.at.sequence_number) - 1} {row.reason} {row.message}" for row in rejected
    ]
