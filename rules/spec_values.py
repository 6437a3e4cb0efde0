"""The kinds of value that a pipeline file holds: how each is read, named in errors and shown.

A `Kind` says what is expected, turns what TOML gives into the form the engine uses (a duration into
milliseconds, a size into bytes), and turns that back into TOML text for the reference page. It
knows nothing of keys and tables.
"""

from __future__ import annotations

import datetime
import difflib
import json
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

DURATION_MAX = 36_500 * 86_400_000  # ms: a hundred years, far below the end of int64
SIZE_MAX = 5 << 40  # bytes: the largest object of S3
NAME_CHARACTERS_MAX = 128
TEXT_SHOWN_MAX = 60  # characters of a found value that a message repeats

_DURATION_UNITS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_SIZE_UNITS = {
    "B": 1, "kB": 10**3, "MB": 10**6, "GB": 10**9,
    "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40,
}  # fmt: skip
_QUANTITY = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*([A-Za-z]*)")
_NAME = re.compile(rf"[A-Za-z0-9][A-Za-z0-9_.-]{{0,{NAME_CHARACTERS_MAX - 1}}}")
_AWS_NAME = re.compile(r"[A-Za-z0-9_.-]{1,255}")
_ARN = r"arn:aws[a-z-]*:{}:[a-z0-9-]+:[0-9]{{12}}:{}[A-Za-z0-9_.-]+"
_STREAM_ARN = re.compile(_ARN.format("kinesis", "stream/"))
_TABLE_ARN = re.compile(_ARN.format("dynamodb", "table/"))
_TOPIC_ARN = re.compile(_ARN.format("sns", ""))
_LOCATION = re.compile(r"s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/.*)?")
_BROKER = re.compile(r"mqtts?://(\[[0-9A-Fa-f:]+\]|[A-Za-z0-9._-]+)(:[0-9]{1,5})?/?")
_ALERT_KEYS = (
    "state", "device", "time", "value", "samples", "threshold", "threshold_version",
    "window_start", "window_end", "severity", "reason",
)  # fmt: skip


class Secret(str):
    """Text that is never shown: its repr hides it, so that no log or traceback prints it."""

    __slots__ = ()

    def __repr__(self) -> str:
        """The same three stars for every secret."""
        return "'***'"


def toml_text(value: Any) -> str:
    """One value as TOML writes it; `None` is the empty string."""
    if value is None:
        return ""
    if isinstance(value, (tuple, list)):
        return "[" + ", ".join(map(toml_text, value)) + "]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{k} = {toml_text(v)}" for k, v in value.items()) + "}"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    return str(value).lower() if isinstance(value, (bool, float)) else str(value)


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of value of a pipeline file.

    name: the word of the reference page. expected: completes "expected ...". read: from TOML's
    value to the engine's, raising ValueError with a hint (or nothing) where that cannot be. unit:
    of the value as the user writes it. show: from the engine's value back to TOML text.
    """

    name: str
    expected: str
    read: Callable[[Any], Any]
    unit: str = ""
    show: Callable[[Any], str] = toml_text


def found(value: Any) -> str:
    """Name a value that TOML gave, with its type: `the text "60"`, `the integer 60`."""
    if isinstance(value, dict):
        return "a table with " + (", ".join(map(str, value)) or "no key")
    names: tuple[tuple[Any, str], ...] = (
        (bool, "the boolean"),
        (int, "the integer"),
        (float, "the number"),
        (str, "the text"),
        (list, "the array"),
        ((datetime.date, datetime.time), "the date or time"),
    )
    if isinstance(value, int) and value.bit_length() > 4096:
        return "an integer of more than a thousand digits"
    name = next(name for kind, name in names if isinstance(value, kind))
    text = toml_text(value)
    return f"{name} {text if len(text) <= TEXT_SHOWN_MAX else text[:TEXT_SHOWN_MAX] + ' ...'}"


def nearest(word: str, words: Sequence[str]) -> str | None:
    """The valid word that a mistyped one is most like, or None where nothing is near."""
    lower = {w.lower(): w for w in words}
    near = difflib.get_close_matches(word.lower(), lower, n=1, cutoff=0.6)
    return lower[near[0]] if near else None


def _refuse(hint: str = "") -> ValueError:
    return ValueError(hint)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        quoted = isinstance(value, (int, float, datetime.date)) and not isinstance(value, bool)
        raise _refuse(f'put it in quotes: "{value}"' if quoted else "")
    if not value.strip():
        raise _refuse("it is empty")
    return value


def _matching(*patterns: re.Pattern[str]) -> Callable[[Any], str]:
    def read(value: Any) -> str:
        text = _text(value)
        if any(pattern.fullmatch(text) for pattern in patterns):
            return text
        raise _refuse()

    return read


def _broker(value: Any) -> str:
    text = _text(value)
    if "@" in text:
        raise _refuse("no user name in the address: see mqtt.username")
    if not _BROKER.fullmatch(text):
        raise _refuse()
    return text


def _path(value: Any) -> str:
    text = _text(value)
    if any(part != part.strip() or not part for part in text.split(".")):
        raise _refuse("the names between the dots must not be empty or padded with blanks")
    return text


def _paths(value: Any) -> tuple[str, ...]:
    if isinstance(value, str):
        return (_path(value),)
    if not isinstance(value, list) or not value:
        raise _refuse()
    paths = tuple(map(_path, value))
    if len(set(paths)) < len(paths):
        raise _refuse("a path is listed twice")
    return paths


def _location(value: Any) -> str:
    text = _text(value)
    if "://" in text and not _LOCATION.fullmatch(text):
        raise _refuse()
    return text


def _number(least: float = -math.inf) -> Callable[[Any], float]:
    def read(value: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise _refuse()
        try:
            number = float(value)
        except OverflowError:
            raise _refuse("it is beyond float64") from None
        if not math.isfinite(number) or number < least:
            raise _refuse()
        return number

    return read


def _integer(least: int, most: int) -> Callable[[Any], int]:
    def read(value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise _refuse()
        return value

    return read


def _quantity(units: dict[str, int], least: int, most: int, example: str) -> Callable[[Any], int]:
    """Read a number with a unit, exactly: no rounding, whole milliseconds or bytes."""

    def read(value: Any) -> int:
        if isinstance(value, int) and not isinstance(value, bool):
            raise _refuse(f'a unit is needed: "{value}{example}"')
        match = _QUANTITY.fullmatch(value.strip()) if isinstance(value, str) else None
        if match is None:
            raise _refuse()
        digits, unit = match.groups()
        if unit not in units or value != digits + unit:
            near = next((u for u in units if unit.lower()[: len(u)] == u.lower()), None)
            near = near or (None if unit else example)
            raise _refuse(f'did you mean "{digits}{near}"?' if near else "")
        exact = Fraction(digits) * units[unit]
        if exact.denominator != 1:
            raise _refuse("it is finer than one " + ("ms" if "ms" in units else "byte"))
        if not least <= exact <= most:
            most_text = _shown(units)(most)
            raise _refuse(f"it must be {'more than 0' if least else 'at least 0'} and at most "
                          f"{most_text}")  # fmt: skip
        return int(exact)

    return read


def _shown(units: dict[str, int]) -> Callable[[Any], str]:
    """Write a quantity with the unit people use: "60s" and "24h" rather than "1m" and "1d"."""

    def show(value: Any) -> str:
        if value is None:
            return ""
        for unit, factor in sorted(units.items(), key=lambda item: -item[1]):
            if value % factor == 0 and (value != factor or unit not in ("m", "d")):
                if value or unit in ("s", "B"):
                    return f'"{value // factor}{unit}"'
        raise AssertionError("the smallest unit divides everything")

    return show


def _json(value: Any) -> bool:
    """Whether a TOML value is also a JSON value: no dates, no nan, no inf."""
    if isinstance(value, dict):
        return all(map(_json, value.values()))
    if isinstance(value, list):
        return all(map(_json, value))
    return isinstance(value, (str, int)) or (isinstance(value, float) and math.isfinite(value))


def _messages(value: Any) -> tuple[dict[str, Any] | str, ...]:
    messages = value if isinstance(value, list) else [value]
    for message in messages:
        if not isinstance(message, (dict, str)):
            raise _refuse()
        if not _json(message):
            raise _refuse("a message is JSON: no dates, no nan, no inf")
    if not messages:
        raise _refuse("it is empty")
    return tuple(messages)


def _changes(value: Any) -> tuple[dict[str, Any], ...]:
    changes = []
    for item in value if isinstance(value, list) else [value]:
        change = {"state": item} if isinstance(item, str) else item
        if not isinstance(change, dict):
            raise _refuse()
        for key in change:
            if key not in _ALERT_KEYS:
                near = nearest(key, _ALERT_KEYS)
                raise _refuse(f'an alert has no "{key}"' + (f': did you mean "{near}"?' if near
                                                            else ""))  # fmt: skip
        if change.get("state", "firing") not in ("firing", "resolved"):
            raise _refuse('a state is "firing" or "resolved"')
        changes.append(change)
    return tuple(changes)


def choice(values: Sequence[Any]) -> Kind:
    """The kind of a key that takes one of a few values; the nearest is the hint."""

    def read(value: Any) -> Any:
        if value in values and type(value) is type(values[0]):
            return value
        if isinstance(value, datetime.date):
            raise _refuse(f'put it in quotes: "{value}"')
        words = [word for word in values if isinstance(word, str)]
        near = nearest(value, words) if isinstance(value, str) else None
        raise _refuse(f'did you mean "{near}"?' if near else "")

    shown = [toml_text(value) for value in values]
    listed = " or ".join(filter(None, (", ".join(shown[:-1]), shown[-1])))
    return Kind("one of " + ", ".join(shown), listed, read)


_SAFE = "letters, digits, _, - and ., beginning with a letter or digit"
_COUNT_MAX = 1 << 31
TEXT = Kind("text", "text in quotes", _text)
SECRET = Kind("text", "text", lambda value: Secret(_text(value)))
NAME = Kind("name", f"a name: {_SAFE}, at most {NAME_CHARACTERS_MAX}", _matching(_NAME))
PATH = Kind("path", 'a dotted path such as "reading.value"', _path)
PATHS = Kind(
    "path or array of paths",
    'a path such as "device", or an array of different paths such as ["gateway", "sensor"]',
    _paths,
    show=lambda paths: toml_text(paths[0] if len(paths) == 1 else paths),
)
NUMBER = Kind("number", "a finite number", _number())
MARGIN = Kind("number", "a finite number of at least 0", _number(0.0))
COUNT = Kind("integer", "an integer of at least 1", _integer(1, _COUNT_MAX))
IN_FLIGHT = Kind("integer", "an integer from 1 to 65535", _integer(1, 65_535))
MERGERS = Kind("integer", "an integer from 1 to 1000", _integer(1, 1000))
DURATION = Kind(
    "duration",
    'a duration such as "500ms", "60s", "5m", "24h" or "1d"',
    _quantity(_DURATION_UNITS, 0, DURATION_MAX, "s"),
    "ms, s, m, h, d",
    _shown(_DURATION_UNITS),
)
LENGTH = Kind(
    "duration",
    'a duration of more than 0 such as "500ms", "60s", "5m", "24h" or "1d"',
    _quantity(_DURATION_UNITS, 1, DURATION_MAX, "s"),
    "ms, s, m, h, d",
    _shown(_DURATION_UNITS),
)
SIZE = Kind(
    "size",
    'a size of more than 0 such as "64MiB" or "10MB"',
    _quantity(_SIZE_UNITS, 1, SIZE_MAX, "MiB"),
    "B, kB, MB, GB, KiB, MiB, GiB, TiB",
    _shown(_SIZE_UNITS),
)
LOCATION = Kind("location", 'a directory, or "s3://bucket/prefix/"', _location)
STREAM = Kind(
    "name or ARN",
    "the name or the ARN of a Kinesis stream",
    _matching(_AWS_NAME, _STREAM_ARN),
)
TABLE = Kind(
    "name or ARN",
    "the name or the ARN of a DynamoDB table",
    _matching(_AWS_NAME, _TABLE_ARN),
)
TOPIC = Kind(
    "ARN",
    'the ARN of an SNS topic such as "arn:aws:sns:eu-central-1:123456789012:alerts"',
    _matching(_TOPIC_ARN),
)
BROKER = Kind("address", '"mqtt://host:1883" or "mqtts://host:8883"', _broker)
MESSAGES = Kind(
    "message or array of messages",
    "a message (a table, or its payload as text), or an array of messages",
    _messages,
)
CHANGES = Kind(
    "state, alert or array of these",
    '"firing", "resolved", a table of keys of an alert, or an array of these',
    _changes,
)
