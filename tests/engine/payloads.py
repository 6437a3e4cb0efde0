"""One table of odd payloads with their verdicts, and ways to read them that must all agree.

`verdicts` asks a decoder, `obvious` is the plain reading with the standard library, `agree` holds
them all against each other.
"""

import json
import math
import struct
from fractions import Fraction
from typing import Any

import numpy as np

from streamgauge.engine.batch import NO_TIME, Batch, Column, UserRecords
from streamgauge.engine.decode import Decoder, Schema
from streamgauge.engine.devices import Devices
from streamgauge.engine.fields import Fields

SCHEMA = Schema(device=("device",), time="ts", time_unit="ms", fields=("value", "deep.er.value"))
LAST_TIME = 253402300799999
GOOD = "a record that is read"


def message(inside: str, device: str = '"d"', ts: str = "1") -> bytes:
    return f'{{"device":{device},"ts":{ts},{inside}}}'.encode()


def nested(levels: int, opening: str = "[", closing: str = "]") -> bytes:
    return message(f'"x":{opening * levels}1{closing * levels}')


# Every payload with what becomes of it: GOOD or the reason. The field x is not read.
CASES: dict[str, tuple[bytes, str]] = {
    "plain": (b'{"device":"d","ts":1}', GOOD),
    "blanks": (b' \t\r\n{ "device" : "d" , "ts" : 1 } \t\r\n', GOOD),
    "escaped key": (b'{"d\\u0065vice":"d","\\u0074s":1}', GOOD),
    "no name": (message('"":1'), GOOD),
    "empty": (b"", "not_json"),
    "blank": (b" ", "not_json"),
    "form feed": (b'\x0c{"device":"d","ts":1}', "not_json"),
    "trailing zero byte": (b'{"device":"d","ts":1}\x00', "not_json"),
    "two objects": (b'{"device":"d","ts":1}{"device":"d","ts":1}', "not_json"),
    "two objects and a comma": (b'{"device":"d","ts":1},{"device":"d","ts":1}', "not_json"),
    "half an object": (b'{"device":"d","ts":1', "not_json"),
    "other half": (b',"ts":1}', "not_json"),
    "array": (b'[{"device":"d","ts":1}]', "not_object"),
    "string": (b'"device"', "not_object"),
    "number": (b"1", "not_object"),
    "null": (b"null", "not_object"),
    "trailing comma": (b'{"device":"d","ts":1,}', "not_json"),
    "single quotes": (b"{'device':'d','ts':1}", "not_json"),
    "bare key": (b'{device:"d","ts":1}', "not_json"),
    "comment": (b'{"device":"d",/**/"ts":1}', "not_json"),
    "unread NaN": (message('"x":NaN'), "not_json"),
    "unread Infinity": (message('"x":Infinity'), "not_json"),
    "unread -Infinity": (message('"x":-Infinity'), "not_json"),
    "read NaN": (message('"value":NaN'), "not_json"),
    "nan": (message('"x":nan'), "not_json"),
    "True": (message('"x":True'), "not_json"),
    "unread plus": (message('"x":+1'), "not_json"),
    "unread leading zero": (message('"x":01'), "not_json"),
    "unread minus zero one": (message('"x":-01'), "not_json"),
    "unread bare point": (message('"x":1.'), "not_json"),
    "unread point first": (message('"x":.5'), "not_json"),
    "unread half exponent": (message('"x":1e+'), "not_json"),
    "unread hexadecimal": (message('"x":0x1'), "not_json"),
    "unread underscore": (message('"x":1_000'), "not_json"),
    "unread wide digits": (message('"x":\uff11'), "not_json"),
    "unread trailing comma": (message('"x":[1,]'), "not_json"),
    "unread control character": (message('"x":"a\tb"'), "not_json"),
    "unread delete": (message('"x":"a\x7fb"'), GOOD),
    "unread odd escape": (message('"x":"\\x41"'), "not_json"),
    "unread short escape": (message('"x":"\\u12G4"'), "not_json"),
    "unread 1e999": (message('"x":1e999'), GOOD),
    "unread -1e999 deep inside": (message('"x":[{"y":[-1e999]}]'), GOOD),
    "unread integer of 5,000 digits": (message('"x":' + "9" * 5000), GOOD),
    "unread -integer of 5,000 digits": (message('"x":-' + "9" * 5000), GOOD),
    "read 1e999": (message('"value":1e999'), "number_range"),
    "read -1e999": (message('"value":-1e999'), "number_range"),
    "read integer of 400 digits": (message('"value":' + "9" * 400), "number_range"),
    "read integer of 5,000 digits": (message('"value":-' + "9" * 5000), "number_range"),
    "deep 1e999": (message('"deep":{"er":{"value":1e999}}'), "number_range"),
    "1e999 beside the deep one": (message('"deep":{"er":{"value":1},"x":1e999}'), GOOD),
    "1e999 inside a read array": (message('"value":[1e999]'), GOOD),
    "largest": (message('"value":1.7976931348623157e308'), GOOD),
    "smallest": (message('"value":5e-324'), GOOD),
    "beneath the smallest": (message('"value":1e-400'), GOOD),
    "just under the largest and a half": (message('"value":17976931348623158' + "0" * 292), GOOD),
    "past it": (message('"value":17976931348623159' + "0" * 292), "number_range"),
    "minus zero": (message('"value":-0'), GOOD),
    "minus zero point zero": (message('"value":-0.0'), GOOD),
    "2**53 + 1": (message('"value":9007199254740993'), GOOD),
    "2**53 as a float": (message('"value":9007199254740992.0'), GOOD),
    "2**53": (message('"value":-9007199254740992'), GOOD),
    "2**64": (message('"value":18446744073709551616'), GOOD),
    "30 digits": (message('"value":' + "123456789" * 3 + "012"), GOOD),
    "1e300": (message('"value":1e300'), GOOD),
    "first duplicate is no device": (b'{"device":1.5,"device":"d","ts":1}', GOOD),
    "last duplicate is no device": (b'{"device":"d","device":1.5,"ts":1}', "device_type"),
    "first duplicate is no time": (b'{"device":"d","ts":"x","ts":1}', GOOD),
    "first duplicate is beyond": (message('"value":1e999,"value":5'), GOOD),
    "last duplicate is beyond": (message('"value":5,"value":1e999'), "number_range"),
    "duplicates on the way": (message('"deep":{"er":{"value":1}},"deep":{"er":2}'), GOOD),
    "duplicate objects": (message('"deep":{"er":{"value":1}},"deep":{"er":{}}'), GOOD),
    "escaped duplicate": (message('"value":1,"v\\u0061lue":2'), GOOD),
    "no object on the way": (message('"deep":[{"er":{"value":1}}]'), GOOD),
    "null on the way": (message('"deep":{"er":null}'), GOOD),
    "text on the way": (message('"deep":"er"'), GOOD),
    "128 deep": (nested(127), GOOD),
    "129 deep": (nested(128), "too_deep"),
    "128 objects deep": (nested(127, '{"y":', "}"), GOOD),
    "129 objects deep": (nested(128, '{"y":', "}"), "too_deep"),
    "129 deep, overridden": (message(f'"x":{"[" * 128}{"]" * 128},"x":1'), "too_deep"),
    "wide, not deep": (message(f'"x":[{",".join(["[]"] * 500)}]'), GOOD),
    "brackets in text": (message('"x":"' + "[{" * 500 + '"'), GOOD),
    "brackets after an escaped quote": (message('"x":"\\"' + "[" * 500 + '"'), GOOD),
    "brackets after backslashes": (message('"x":"\\\\","y":' + "[" * 128 + "]" * 128), "too_deep"),
    "100,000 brackets": (b"[" * 100_000, "too_deep"),
    "100,000 objects": (b'{"a":' * 100_000, "too_deep"),
    "unread bad UTF-8": (b'{"device":"d","ts":1,"x":"\xff"}', "not_utf8"),
    "unread key in bad UTF-8": (b'{"device":"d","ts":1,"\xc3":1}', "not_utf8"),
    "overlong": (b'{"device":"d","ts":1,"x":"\xc0\x80"}', "not_utf8"),
    "surrogate as UTF-8": (b'{"device":"d","ts":1,"x":"\xed\xa0\x80"}', "not_utf8"),
    "beyond U+10FFFF": (b'{"device":"d","ts":1,"x":"\xf4\x90\x80\x80"}', "not_utf8"),
    "UTF-8 cut short": (b'{"device":"d","ts":1}\xe2\x82', "not_utf8"),
    "device in bad UTF-8": (b'{"device":"\xff","ts":1}', "not_utf8"),
    "good UTF-8": (message('"x":"\u00e9\u20ac\U0001f600"'), GOOD),
    "byte order mark": (b'\xef\xbb\xbf{"device":"d","ts":1}', "byte_order_mark"),
    "byte order mark inside": (message('"x":"\ufeff"'), GOOD),
    "UTF-16": ('{"device":"d","ts":1}'.encode("utf-16"), "not_utf8"),
    "UTF-16 without mark": ('{"device":"d","ts":1}'.encode("utf-16-be"), "not_json"),
    "unread high surrogate": (message('"x":"\\ud800"'), "surrogate"),
    "unread low surrogate": (message('"x":"\\uDC00"'), "surrogate"),
    "unread key with a surrogate": (message('"\\ud800":1'), "surrogate"),
    "overridden surrogate": (message('"x":"\\udfff","x":1'), "surrogate"),
    "read surrogate": (message('"value":"\\uD800x"'), "surrogate"),
    "high, then no low": (message('"x":"\\ud800\\u0041"'), "surrogate"),
    "low before high": (message('"x":"\\udc00\\ud800"'), "surrogate"),
    "high high low": (message('"x":"\\ud800\\ud83d\\ude00"'), "surrogate"),
    "pair": (message('"x":"\\ud83d\\uDE00"'), GOOD),
    "read pair": (message('"value":"\\ud83d\\ude00"'), GOOD),
    "high, backslash, low": (message('"x":"\\ud83d\\\\\\ude00"'), "surrogate"),
    "pair between halves": (message('"x":"\\ud83d\\ud83d\\ude00\\ude00"'), "surrogate"),
    "no escape at all": (message('"x":"\\\\ud800"'), GOOD),
    "escape after a backslash": (message('"x":"\\\\\\ud800"'), "surrogate"),
    "device missing": (b'{"ts":1}', "device_missing"),
    "device null": (b'{"device":null,"ts":1}', "device_type"),
    "device empty": (b'{"device":"","ts":1}', "device_type"),
    "device integer": (b'{"device":7,"ts":1}', GOOD),
    "device minus zero": (b'{"device":-0,"ts":1}', GOOD),
    "device large integer": (b'{"device":123456789012345678901234567890,"ts":1}', GOOD),
    "device beyond": (b'{"device":' + b"9" * 400 + b',"ts":1}', "number_range"),
    "device 1.0": (b'{"device":1.0,"ts":1}', "device_type"),
    "device 1e0": (b'{"device":1e0,"ts":1}', "device_type"),
    "device true": (b'{"device":true,"ts":1}', "device_type"),
    "device array": (b'{"device":[],"ts":1}', "device_type"),
    "device object": (b'{"device":{},"ts":1}', "device_type"),
    "device and time missing": (b"{}", "device_missing"),
    "time missing": (b'{"device":"d"}', "time_missing"),
    "time null": (b'{"device":"d","ts":null}', "time_type"),
    "time as text": (b'{"device":"d","ts":"21"}', "time_type"),
    "time true": (b'{"device":"d","ts":true}', "time_type"),
    "time array": (b'{"device":"d","ts":[]}', "time_type"),
    "time object": (b'{"device":"d","ts":{}}', "time_type"),
    "time 1.0": (b'{"device":"d","ts":1.0}', GOOD),
    "time 2.5": (b'{"device":"d","ts":2.5}', GOOD),
    "time 3.5": (b'{"device":"d","ts":3.5}', GOOD),
    "time -0.5": (b'{"device":"d","ts":-0.5}', GOOD),
    "time -0.6": (b'{"device":"d","ts":-0.6}', "time_range"),
    "time 1e3": (b'{"device":"d","ts":1e3}', GOOD),
    "time -1": (b'{"device":"d","ts":-1}', "time_range"),
    "last time": (b'{"device":"d","ts":253402300799999}', GOOD),
    "last time and nearly a half": (b'{"device":"d","ts":253402300799999.4}', GOOD),
    "last time and a half": (b'{"device":"d","ts":253402300799999.5}', "time_range"),
    "past the last time": (b'{"device":"d","ts":253402300800000}', "time_range"),
    "time 2**63": (b'{"device":"d","ts":9223372036854775808}', "time_range"),
    "time 1e300": (b'{"device":"d","ts":1e300}', "time_range"),
    "time 1e999": (b'{"device":"d","ts":1e999}', "number_range"),
    "time of 5,000 digits": (b'{"device":"d","ts":' + b"9" * 5000 + b"}", "number_range"),
    "bytes come before device": (b'{"ts":1,"x":"\xff"}', "not_utf8"),
    "numbers come before device": (b'{"ts":1,"value":1e999}', "number_range"),
    "device comes before time": (b'{"device":1.5,"ts":"x"}', "device_type"),
    "value null": (message('"value":null'), GOOD),
    "value true": (message('"value":true'), GOOD),
    "value text": (message('"value":"21.5"'), GOOD),
    "value array": (message('"value":[1,"a",null,-0.0]'), GOOD),
    "value object": (message('"value":{"a":{"b":1}}'), GOOD),
    "1 MiB": (message('"x":"' + "x" * (1 << 20) + '"'), GOOD),
    "10^5 fields": (
        message(",".join(f'"k{number}":{number}' for number in range(100_000))),
        GOOD,
    ),
}


class Verdict(tuple[Any, ...]):
    """(device, time, value, deep value) of a good payload, each as text that shows every bit."""


def bits(value: Any) -> Any:
    """A value as an engine may hold it: numbers as float64 plus the exact large integer."""
    if type(value) in (int, float):
        number = float(value) + 0.0
        large = value if type(value) is int and abs(value) > 1 << 53 else None
        return struct.pack(">d", number), large
    return repr(value)


class Depth(dict[str, Any]):
    """An object that knows how deep what it was made of is nested, overridden members too."""

    depth = 0


def nesting(value: Any) -> int:
    if isinstance(value, list):
        return 1 + max(map(nesting, value), default=0)
    return value.depth if isinstance(value, Depth) else 0


def members(pairs: list[tuple[str, Any]]) -> Depth:
    json.dumps(pairs, ensure_ascii=False).encode("utf-8")  # refuses lone surrogates
    made = Depth(pairs)
    made.depth = 1 + max((nesting(value) for _, value in pairs), default=0)
    return made


def refuse(constant: str) -> None:
    raise ValueError(constant)


def whole(digits: str) -> int | float:
    return int(digits) if len(digits) < 4000 else float(digits)


def look_up(found: Any, *keys: str) -> Any:
    for key in keys:
        if not isinstance(found, dict) or key not in found:
            return "MISSING"
        found = found[key]
    return dict(found) if isinstance(found, Depth) else found


def is_beyond(value: Any) -> bool:
    try:
        return type(value) in (int, float) and not math.isfinite(float(value))
    except OverflowError:
        return True


def obvious(data: bytes) -> Verdict | None:
    """The plain reading with the standard library: what a payload says, None if it is refused."""
    try:
        found = json.loads(
            data.decode("utf-8"), parse_constant=refuse, parse_int=whole, object_pairs_hook=members
        )
        json.dumps(found, ensure_ascii=False).encode("utf-8")
    except (ValueError, RecursionError):
        return None
    if not isinstance(found, Depth) or nesting(found) > 128:
        return None
    device, ts, value = (look_up(found, key) for key in ("device", "ts", "value"))
    deep = look_up(found, "deep", "er", "value")
    if any(map(is_beyond, (device, ts, value, deep))):
        return None
    if "device" not in found or type(device) not in (int, str) or device == "":
        return None
    if type(ts) not in (int, float) or not 0 <= round(Fraction(ts)) <= LAST_TIME:
        return None
    return Verdict((str(device), round(Fraction(ts)), bits(value), bits(deep)))


def users_of(payloads: list[bytes], arrival: list[int] | None = None) -> UserRecords:
    """User records with these payloads, in order, of one shard; sequence numbers from 1."""
    rows = len(payloads)
    return UserRecords(
        shard_id="shard",
        sequences=[str(row + 1) for row in range(rows)],
        record=np.arange(rows),
        sub=np.zeros(rows, np.int64),
        data=payloads,
        keys=[b"key \xff"] * rows,
        arrival=np.array(arrival or [NO_TIME] * rows, np.int64),
        aggregated=np.zeros(rows, np.bool_),
    )


def payload(device: Any = "d", ts: Any = 1, **fields: Any) -> bytes:
    """A message with these fields."""
    return json.dumps({"device": device, "ts": ts, **fields}).encode()


def decoded(
    schema: Schema, payloads: list[bytes], arrival: list[int] | None = None
) -> tuple[Batch, list[tuple[int, str]]]:
    """The batch, and (row, reason) of each rejected record."""
    batch, rejected = Decoder(schema).decode(users_of(payloads, arrival), Devices())
    return batch, [(int(row.at.sequence_number) - 1, row.reason) for row in rejected]


def values(column: Column) -> list[Any]:
    """The Python value of every row."""
    return [column.value(row) for row in range(len(column))]


def names(batch: Batch) -> list[str]:
    """The device of every row."""
    return [batch.devices.names[number] for number in batch.device]


class Doubting(Fields):
    """A quick reading that vouches for nothing, so that every row is read the exact way."""

    def read(self, payloads: Any) -> tuple[dict[str, list[Any]], list[int]]:
        values, _ = super().read(payloads)
        return {path: ["?"] * len(payloads) for path in values}, list(range(len(payloads)))


def exact_only(schema: Schema) -> Decoder:
    """A decoder that reads every row the exact way."""
    decoder = Decoder(schema)
    decoder._fields = Doubting({path: object for path in decoder._paths})
    return decoder


QUICK = Decoder(SCHEMA)
EXACT = exact_only(SCHEMA)


def shown(column: Column, row: int) -> Any:
    if column.kind[row] == 0:
        return repr("MISSING")
    if column.kind[row] != 3:
        return repr(column.value(row))
    assert column.number[row] != 0 or not np.signbit(column.number[row])
    held = None if column.other is None else column.other[row]
    large = held if type(held) is int else None
    return struct.pack(">d", column.number[row]), large


def verdicts(decoder: Decoder, payloads: list[bytes]) -> list[Verdict | str]:
    """For each payload what was read, or the reason why it was refused."""
    users, devices = users_of(payloads), Devices()
    batch, rejected = decoder.decode(users, devices)
    found: dict[int, Verdict | str] = {}
    for index, row in enumerate(batch.row.tolist()):
        columns = [shown(batch.columns[path], index) for path in decoder.schema.fields]
        name = devices.names[batch.device[index]]
        found[row] = Verdict((name, int(batch.time[index]), *columns))
    for refused in rejected:
        row = int(refused.at.sequence_number) - 1
        assert refused.data == payloads[row] and refused.stage == "decode" and refused.message
        assert row not in found
        found[row] = refused.reason
    assert len(devices) == len(
        {verdict[0] for verdict in found.values() if not isinstance(verdict, str)}
    )
    return [found[row] for row in range(len(payloads))]


def agree(payloads: list[bytes]) -> list[Verdict | str]:
    """All ways of reading give one verdict: together, one by one, exact, and obvious."""
    together = verdicts(QUICK, payloads)
    assert verdicts(EXACT, payloads) == together
    for data, verdict in zip(payloads, together, strict=True):
        assert verdicts(QUICK, [data]) == [verdict], data[:200]
        assert obvious(data) == (None if isinstance(verdict, str) else verdict), data[:200]
    return together
