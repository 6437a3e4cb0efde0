"""Decoding: devices, times, arrival and clock_skew, constants, and the rejected records."""

from typing import Any

import pytest
from payloads import decoded, names, payload, users_of, values

from streamgauge.engine.batch import LAST_TIME, NO_TIME
from streamgauge.engine.decode import Decoder, Schema
from streamgauge.engine.devices import Devices
from streamgauge.engine.fields import PAYLOADS_AT_ONCE, Fields
from streamgauge.engine.payload import unproven

PLAIN = Schema(device=("device",), time="ts", fields=("value",))


# --- devices ------------------------------------------------------------------------------------


def test_an_integer_device_and_its_text_are_one() -> None:
    large = 10**25
    rows = [payload(device) for device in ("7", 7, -3, "-3", large, str(large), 10**18, "x")]
    batch, rejected = decoded(PLAIN, rows)
    assert not rejected
    assert names(batch) == ["7", "7", "-3", "-3", str(large), str(large), str(10**18), "x"]
    assert len(batch.devices) == 5


def test_several_paths_are_joined() -> None:
    schema = Schema(device=("gateway", "sensor.id"), time="ts")
    rows = [
        b'{"gateway":"g","sensor":{"id":7},"ts":1}',
        b'{"gateway":"","sensor":{"id":7},"ts":1}',
        b'{"gateway":"g","sensor":{},"ts":1}',
    ]
    batch, rejected = decoded(schema, rows)
    assert names(batch) == ["g/7"]
    assert rejected == [(1, "device_type"), (2, "device_missing")]


def test_only_readable_rows_give_a_device_a_number() -> None:
    devices = Devices()
    decoder = Decoder(PLAIN)
    decoder.decode(users_of([payload("a"), payload("b", -1), payload("c", 1)]), devices)
    decoder.decode(users_of([payload("d", "x"), payload("a"), b"{"]), devices)
    assert devices.names == ["a", "c"]


# --- time, arrival, clock_skew ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("unit", "ts", "expected"),
    [
        ("s", 1700000000, 1700000000000),
        ("s", 1700000000.0005, 1700000000000),
        ("s", 1700000000.1234567, 1700000000123),
        ("ms", 1700000000000, 1700000000000),
        ("us", 1700000000000500, 1700000000000),
        ("us", 1700000000001500, 1700000000002),
        ("ns", 1700000000000500000, 1700000000000),
        ("ns", 1700000000000500001, 1700000000001),
        ("ns", 1.7e18, 1700000000000),
        ("ns", 253402300799999499999, LAST_TIME),
        ("iso8601", "2023-11-14T22:13:20Z", 1700000000000),
    ],
)
def test_units_of_time(unit: str, ts: Any, expected: int) -> None:
    schema = Schema(device=("device",), time="ts", time_unit=unit, fields=("ts",))
    batch, rejected = decoded(schema, [payload(ts=ts)])
    assert not rejected
    assert batch.time.tolist() == [expected] and values(batch.columns["ts"]) == [ts]
    mixed = decoded(schema, [payload(ts=ts), payload(ts=None), payload(), payload(ts=ts)])
    assert mixed[0].time.tolist()[0] == mixed[0].time.tolist()[-1] == expected


def test_a_unit_that_does_not_exist() -> None:
    with pytest.raises(ValueError, match="minutes"):
        Schema(device=("device",), time="ts", time_unit="minutes")


def test_without_a_time_path_the_time_is_that_of_arrival() -> None:
    schema = Schema(device=("device",), time=None)
    arrival = [5, NO_TIME, -1, LAST_TIME + 1, LAST_TIME]
    batch, rejected = decoded(schema, [payload(ts="x")] * 5, arrival)
    assert batch.time.tolist() == batch.arrival.tolist() == [5, LAST_TIME]
    assert rejected == [(1, "time_missing"), (2, "time_range"), (3, "time_range")]


def test_clock_skew_is_of_rows_whose_arrival_is_known() -> None:
    schema = Schema(device=("device",), time="ts", max_clock_skew=100)
    rows = [payload(ts=ts) for ts in (1100, 1101, 1101, 5, 1100.4, 1100.6)]
    arrival = [1000, 1000, NO_TIME, 1000, 1000, 1000]
    batch, rejected = decoded(schema, rows, arrival)
    assert batch.time.tolist() == [1100, 1101, 5, 1100]
    assert batch.arrival.tolist() == [1000, NO_TIME, 1000, 1000]
    assert rejected == [(1, "clock_skew"), (5, "clock_skew")]


def test_other_reasons_come_before_clock_skew() -> None:
    rows = [payload(ts=10**9, value=1), b'{"device":"d","ts":1000000000,"value":1e999}']
    assert decoded(PLAIN, rows, [0, 0])[1] == [(0, "clock_skew"), (1, "number_range")]


def test_the_arrival_time_may_stand_in_the_message() -> None:
    schema = Schema(device=("device",), time="ts", time_unit="s", arrival="got", max_clock_skew=500)
    rows = [
        payload(ts=10.5, got=10),
        payload(ts=10.6, got=10),
        payload(ts=1),
        payload(ts=1, got="2"),
        payload(ts=1, got=-1),
        payload(ts="1", got=-1),
        payload(ts=1, got=None),
    ]
    batch, rejected = decoded(schema, rows, [7] * len(rows))
    assert batch.arrival.tolist() == [10_000]
    assert rejected == [
        (1, "clock_skew"),
        (2, "arrival_missing"),
        (3, "arrival_type"),
        (4, "arrival_range"),
        (5, "time_type"),
        (6, "arrival_type"),
    ]
    alone = Schema(device=("device",), time=None, time_unit="s", arrival="got")
    batch, rejected = decoded(alone, rows)
    assert batch.time.tolist() == batch.arrival.tolist() == [10_000, 10_000]
    assert [reason for _, reason in rejected][0] == "arrival_missing"


# --- constants ----------------------------------------------------------------------------------


def constant(fields: tuple[str, ...] = ("value",), **given: Any) -> Schema:
    constants = {path.replace("__", "."): value for path, value in given.items()}
    return Schema(device=("device",), time="ts", fields=fields, constants=constants)


def test_a_constant_stands_for_what_the_payload_holds() -> None:
    rows = [b'{"ts":5,"value":1e999,"device":1.5}', b'{"ts":6}', b'{"ts":6', b'{"ts":"x"}']
    batch, rejected = decoded(constant(device="all", value=2.5), rows)
    assert names(batch) == ["all", "all"] and batch.time.tolist() == [5, 6]
    assert values(batch.columns["value"]) == [2.5, 2.5]
    assert rejected == [(2, "not_json"), (3, "time_type")]


def test_constants_above_at_and_below_a_path() -> None:
    schema = constant(("a.b", "c", "e"), a={"b": 1}, c__d=2, e=3, e__f=4)
    batch, _ = decoded(schema, [payload(a={"b": 9}, c={"x": 1}), payload(c=5), payload(e={"g": 1})])
    assert values(batch.columns["a.b"]) == [1, 1, 1]
    assert values(batch.columns["c"]) == [{"x": 1, "d": 2}, {"d": 2}, {"d": 2}]
    assert values(batch.columns["e"]) == [{"f": 4}] * 3


def test_a_later_constant_takes_the_place_of_an_earlier_one() -> None:
    first, second = {"x": 1}, {"g": 1}
    schema = constant(("c", "e"), c__d=2, c=first, e=second, e__f=4)
    batch, rejected = decoded(schema, [payload(c=5), payload(), b"{}", payload(e=6)])
    assert values(batch.columns["c"]) == [{"x": 1}] * 3
    assert values(batch.columns["e"]) == [{"g": 1, "f": 4}] * 3
    assert rejected == [(2, "device_missing")]
    assert (first, second) == ({"x": 1}, {"g": 1})


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"device": ""}, "device_type"),
        ({"device": None}, "device_type"),
        ({"device": 1.5}, "device_type"),
        ({"device__name": "x"}, "device_type"),
        ({"ts": "x"}, "time_type"),
        ({"ts": -1}, "time_range"),
        ({"ts__x": 1}, "time_type"),
        ({"value": 10**400}, "number_range"),
        ({"value": float("inf")}, "number_range"),
    ],
)
def test_a_constant_that_does_not_fit_refuses_every_record(given: Any, reason: str) -> None:
    batch, rejected = decoded(constant(**given), [payload(), b"[", payload()])
    assert len(batch) == 0
    assert rejected == [(0, reason), (1, "not_json"), (2, reason)]


# --- rejected records, and rows that do not disturb each other ----------------------------------


def test_a_rejected_record_keeps_its_bytes_place_and_arrival() -> None:
    rows = [payload(), b'{"device":"d"}', payload()]
    _, rejected = Decoder(PLAIN).decode(users_of(rows, [1, 2, 3]), Devices())
    (row,) = rejected
    assert (row.stage, row.reason, row.rule) == ("decode", "time_missing", None)
    assert row.message == "ts: no such field, expected a number of ms"
    assert (str(row.at), row.arrival_time, row.data) == ("shard:2:0", 2, rows[1])
    assert row.partition_key == "key \\xff"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"\xff", "payload: byte 0xff at offset 0 is no UTF-8"),
        (b"[]", "payload: is an array, expected an object"),
        (b'{"device":""}', "device: an empty string, expected a non-empty string or an integer"),
        (b'{"device":null}', "device: null, expected a non-empty string or an integer"),
        (payload(ts="x"), "ts: a string, expected a number of ms"),
        (payload(ts=-1), "ts: outside the years 1970..9999, read in the unit ms"),
        (payload(ts=10**9), "ts: 999999999 ms ahead of the arrival time, at most 300000 are"
                            " allowed"),
        (payload(value=10**400), "value: a number beyond float64"),
    ],
)  # fmt: skip
def test_messages_say_what_where_and_what_was_expected(data: bytes, message: str) -> None:
    _, rejected = Decoder(PLAIN).decode(users_of([data], [1]), Devices())
    assert [row.message for row in rejected] == [message]


def test_rows_around_the_border_of_a_chunk() -> None:
    total = 2 * PAYLOADS_AT_ONCE + 3
    bad = {0, PAYLOADS_AT_ONCE - 1, PAYLOADS_AT_ONCE, PAYLOADS_AT_ONCE + 1, total - 1}
    rows = [b'{"x":"\xff"}' if row in bad else payload(value=row) for row in range(total)]
    batch, rejected = decoded(PLAIN, rows)
    assert [row for row, _ in rejected] == sorted(bad)
    good = [row for row in range(total) if row not in bad]
    assert batch.row.tolist() == good == batch.columns["value"].number.tolist()


def test_the_quick_reading_goes_on_behind_a_payload_that_fails() -> None:
    read, doubtful = Fields({"a": int}).read([b'{"a":1}', b"x", b"", b'{"a":"x"}', b'{"a":5}'])
    assert doubtful == [1, 2, 3]
    assert [read["a"][0], read["a"][4]] == [1, 5]


def test_what_a_decoder_could_overlook_is_found_by_its_bytes() -> None:
    deep = b"[" * 129 + b"]" * 129
    some = [
        b'"\\ud83d\\ude00"', b'"\\ud800"', b'"\xff"', "\u00e9".encode(), deep, b'"' + deep + b'"',
        b'"\\uDC00"', b"{}", b"\xc3", b"\xa9",
    ]  # fmt: skip
    assert unproven(some) == [1, 2, 4, 6, 8, 9]
    assert unproven([]) == [] and unproven([b""]) == []
