"""One message's bytes: is it a payload, and if not, why.

A payload is one JSON object (RFC 8259) in UTF-8 without byte order mark, without a lone surrogate
escape and without NaN or Infinity, in which objects and arrays are nested at most `DEPTH_MAX` deep
(the message itself is 1). Of equal keys the last one counts. `message_of` is the slow, exact
reading, whose verdict is final; `unproven` finds, for many payloads at once and cheaply, those
about which a quick JSON decoder could be wrong, because it does not look at what it skips.

| reason | the payload |
|---|---|
| not_utf8 | has bytes that are no UTF-8 |
| byte_order_mark | begins with U+FEFF |
| too_deep | is nested deeper than `DEPTH_MAX` |
| not_json | is no JSON text, or has NaN or Infinity |
| surrogate | has an escape of half a surrogate pair |
| not_object | is another JSON value than an object |
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np

DEPTH_MAX = 128
_DEEP_BYTES_MIN = 2 * (DEPTH_MAX + 1)  # a shorter payload cannot be too deep and well formed
_INTEGER_DIGITS_MAX = 4300  # a longer integer stands for an infinite one: it is far beyond float64
_MARK = b"\xef\xbb\xbf"
_PAIR = re.compile(rb"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}")
_HALF = re.compile(rb"\\u[dD][89a-fA-F]")


class Unreadable(Exception):
    """A payload is not one; `reason` is its code, the text says what was found and expected."""

    def __init__(self, reason: str, message: str) -> None:
        """Keep the code beside the text."""
        super().__init__(message)
        self.reason = reason


def message_of(payload: bytes) -> dict[str, Any]:
    """The JSON object of a payload; raises Unreadable.

    An unread number may have any size: what is beyond float64 comes out as an infinite float, or as
    an exact integer of up to 4,300 digits.
    """
    try:
        text = payload.decode("utf-8")
    except UnicodeDecodeError as error:
        found = f"byte 0x{payload[error.start]:02x} at offset {error.start}"
        raise Unreadable("not_utf8", f"payload: {found} is no UTF-8") from None
    if payload.startswith(_MARK):
        raise Unreadable("byte_order_mark", "payload: begins with a byte order mark, expected {")
    if depth(payload) > DEPTH_MAX:
        raise Unreadable("too_deep", f"payload: nested deeper than {DEPTH_MAX}")
    try:
        message = _DECODER.decode(text)
    except ValueError as error:
        raise Unreadable("not_json", f"payload: not JSON: {error}") from None
    if lone_surrogate(payload):
        raise Unreadable("surrogate", "payload: an escape \\uD800..\\uDFFF without its other half")
    if type(message) is not dict:
        raise Unreadable("not_object", f"payload: is {name_of(message)}, expected an object")
    return message


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is no JSON number")


def _integer(digits: str) -> int | float:
    if len(digits.lstrip("-")) <= _INTEGER_DIGITS_MAX:
        try:
            return int(digits)
        except ValueError:  # the process may have set a lower limit of its own
            pass
    return -math.inf if digits[0] == "-" else math.inf


_DECODER = json.JSONDecoder(parse_constant=_refuse, parse_int=_integer)


def depth(payload: bytes) -> int:
    """How deep objects and arrays are nested; exact for a well-formed text, without recursion."""
    if payload.count(b"{") + payload.count(b"[") <= 1:
        return 1
    if b"\\" in payload:
        payload = payload.replace(b"\\\\", b"  ").replace(b'\\"', b"  ")
    text = np.frombuffer(payload, np.uint8)
    outside = (np.cumsum(text == ord('"'), dtype=np.int32) & 1) == 0
    folded = text | 0x20  # the square brackets become the curly ones
    steps = (folded == ord("{")).astype(np.int8) - (folded == ord("}"))
    return int(np.cumsum(steps * outside, dtype=np.int32).max(initial=0))


def lone_surrogate(payload: bytes) -> bool:
    """Whether a well-formed text has, anywhere, an escape of one half of a surrogate pair alone."""
    if b"\\ud" not in payload and b"\\uD" not in payload:
        return False
    # An escaped backslash is taken out first, so that what is left after \ is an escape's letter;
    # the blanks keep apart what it stood between.
    rest = _PAIR.sub(b"  ", payload.replace(b"\\\\", b"  "))
    return _HALF.search(rest) is not None


def unproven(payloads: Sequence[bytes]) -> list[int]:
    """Rows whose bytes a decoder that skips over unread fields might wrongly accept.

    All others are UTF-8 and, if they are well-formed JSON, not too deep and without lone
    surrogates. The payloads are joined only to look for bytes, never to be parsed.
    """
    joined = b"\n".join(payloads)  # a line feed ends every UTF-8 sequence and every escape
    rows: set[int] = set()
    if not joined.isascii() and not _is_utf8(joined):
        rows.update(row for row, payload in enumerate(payloads) if not _is_utf8(payload))
    # msgspec 0.22 refuses lone surrogates even where it skips; nothing promises that it will.
    if b"\\" in joined and (b"\\ud" in joined or b"\\uD" in joined):
        rows.update(row for row, payload in enumerate(payloads) if lone_surrogate(payload))
    if max(map(len, payloads), default=0) >= _DEEP_BYTES_MIN:
        opened = [payload.count(b"{") + payload.count(b"[") for payload in payloads]
        rows.update(
            row
            for row, count in enumerate(opened)
            if count > DEPTH_MAX and depth(payloads[row]) > DEPTH_MAX
        )
    return sorted(rows)


def _is_utf8(payload: bytes) -> bool:
    try:
        payload.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def walk(value: Any, keys: Sequence[str]) -> Any:
    """The value at a path of keys inside a decoded JSON value; UNSET where there is none."""
    for key in keys:
        if type(value) is not dict:
            return msgspec.UNSET
        value = value.get(key, msgspec.UNSET)
    return value


def name_of(value: Any) -> str:
    """What a JSON value is, for a message: "a string", "null", "no such field"."""
    return _NAMES[type(value)]


_NAMES: dict[type, str] = {
    msgspec.UnsetType: "no such field",
    type(None): "null",
    bool: "a boolean",
    int: "an integer",
    float: "a number with fraction or exponent",
    str: "a string",
    list: "an array",
    dict: "an object",
}
