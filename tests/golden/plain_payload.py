"""What a payload says, read slowly: its faults, the device, the time, topics and comparisons.

The faults of one payload come as a list of all reasons it may be rejected for, the first to be
checked in front.
"""

from __future__ import annotations

import datetime
import json
import math
import re
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

LAST_TIME = 253402300799999  # 9999-12-31T23:59:59.999Z
DEPTH_MAX = 128
MISSING = object()
NUMBER_TEXT = re.compile(r"-?[0-9]+(\.[0-9]+)?([eE]-?[0-9]+)?")
MILLISECONDS = {"s": Fraction(1000), "ms": Fraction(1), "us": Fraction(1, 1000)}
MILLISECONDS |= {"ns": Fraction(1, 1_000_000)}
ISO_TIME = re.compile(
    r"(\d{4}-\d\d-\d\d)[T ](\d\d:\d\d:\d\d)(?:\.(\d+))?(Z|[+-]\d\d:\d\d)?", re.ASCII
)


def refuse(constant: str) -> None:
    raise ValueError(constant)


def whole_number(text: str) -> int | float:
    return int(text) if len(text) <= 400 else math.inf


def keep_last(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    return dict(pairs)


def depth(text: str) -> int:
    """How deep brackets are nested, those inside strings left out."""
    level = deepest = 0
    for mark in re.findall(r'"(?:[^"\\]|\\.)*"|[\[{]|[\]}]', text, re.DOTALL):
        level += {"[": 1, "{": 1, "]": -1, "}": -1}.get(mark, 0)
        deepest = max(deepest, level)
    return deepest


def lone_surrogate(text: str) -> bool:
    """Whether an escape in the text stands for one half of a pair alone."""
    halves = re.findall(r"\\(?:u([0-9a-fA-F]{4})|.)|(.)", text, re.DOTALL)
    units = [int(code, 16) if code else 0 for code, _ in halves]
    index = 0
    while index < len(units):
        pair = units[index : index + 2]
        if 0xD800 <= pair[0] < 0xDC00 and len(pair) == 2 and 0xDC00 <= pair[1] < 0xE000:
            index += 2
        elif 0xD800 <= pair[0] < 0xE000:
            return True
        else:
            index += 1
    return False


def parse(data: bytes) -> tuple[Any, list[str]]:
    """The message and every fault of its bytes, in the order of the checks."""
    text, faults = data.decode("utf-8", "replace"), []
    if text.encode() != data:
        faults.append("not_utf8")
    if text.startswith("\ufeff"):
        faults.append("byte_order_mark")
        text = text[1:]
    if depth(text) > DEPTH_MAX:
        faults.append("too_deep")
    message = None
    try:
        message = json.loads(
            text, parse_constant=refuse, parse_int=whole_number, object_pairs_hook=keep_last
        )
    except (ValueError, RecursionError):
        faults.append("not_json")
    if lone_surrogate(text):
        faults.append("surrogate")
    if not isinstance(message, dict) and "not_json" not in faults:
        faults.append("not_object")
    return message, faults


def look_up(message: Any, path: str) -> Any:
    for key in path.split("."):
        if not isinstance(message, dict) or key not in message:
            return MISSING
        message = message[key]
    return message


def is_number(value: Any) -> bool:
    return type(value) in (int, float)


def finite(value: int | float) -> bool:
    try:
        return math.isfinite(float(value))
    except OverflowError:
        return False


def device_of(message: Any, paths: Sequence[str]) -> tuple[str, list[str]]:
    parts, faults = [], []
    for path in paths:
        part = look_up(message, path)
        if part is MISSING:
            faults.append("device_missing")
        elif type(part) is int or (isinstance(part, str) and part):
            parts.append(str(part))
        else:
            faults.append("device_type")
    return "/".join(parts), faults


def time_of(value: Any, unit: str) -> tuple[int, list[str]]:
    """Event time in ms: the exact value rounded half to even, its range checked afterwards."""
    if value is MISSING:
        return 0, ["time_missing"]
    if unit == "iso8601":
        found = ISO_TIME.fullmatch(value) if isinstance(value, str) else None
        if not found:
            return 0, ["time_type"]
        day, clock, fraction, zone = found.groups()
        moment = datetime.datetime.fromisoformat(f"{day}T{clock}{zone or 'Z'}")
        seconds = (moment - datetime.datetime.fromtimestamp(0, datetime.UTC)).total_seconds()
        exact = Fraction(seconds) + Fraction(int(fraction or 0), 10 ** len(fraction or ""))
        milliseconds = round(exact * 1000)
    elif not is_number(value):
        return 0, ["time_type"]
    elif not finite(value):
        return 0, ["time_range"]
    else:
        milliseconds = round(Fraction(value) * MILLISECONDS[unit])
    return milliseconds, [] if 0 <= milliseconds <= LAST_TIME else ["time_range"]


def topic_matches(levels: list[str], topic: list[str]) -> bool:
    if levels == ["#"]:
        return bool(topic)
    if not levels or not topic:
        return levels == topic
    return levels[0] in ("+", topic[0]) and topic_matches(levels[1:], topic[1:])


def from_passes(source: str, topic: Any) -> bool:
    if not isinstance(topic, str) or (topic.startswith("$") and source[0] in "+#"):
        return False
    return topic_matches(source.split("/"), topic.split("/"))


def where_passes(message: Any, where: list[tuple[str, str, float]]) -> bool:
    """Text that is a number converts; everything else compares as Undefined."""
    for path, operator, limit in where:
        value = look_up(message, path)
        if isinstance(value, str) and NUMBER_TEXT.fullmatch(value):
            value = float(value)
        if not is_number(value) or not (value > limit if operator == ">" else value < limit):
            return False
    return True
