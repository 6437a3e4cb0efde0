"""encode and decode of IoT SQL, with the one scheme there is: base64 (RFC 4648).

Semantics: the AWS IoT Core developer guide. Where the guide is silent, the choice is made here:

- at most `values.text_chars_max` bytes are encoded, and as many come out of a decoding: it takes
  longer texts than other functions do, so that every payload AWS IoT takes comes back;
- the alphabet is strict, with no line ends, but padding may be missing, as in Java's decoder;
- what decodes to JSON that a payload could hold (nested at most 128 deep, no half of a surrogate
  pair, numbers within float64) is that value, any other UTF-8 is a text; what is neither is Null.
"""

from __future__ import annotations

import binascii
from collections.abc import Mapping, Sequence

import msgspec
from msgspec import UNSET

from ..engine.payload import DEPTH_MAX, depth, lone_surrogate
from .arguments import Function, text, utf8
from .values import Value, exact, text_chars_max

SCHEME = "base64"
encoded_chars_max = -(-text_chars_max // 3) * 4
_parse = msgspec.json.Decoder().decode


def encode(message: object, arguments: Sequence[Value]) -> Value:
    """Encode the payload itself (its bytes, where the argument is *), or a value's text."""
    if len(arguments) != 2 or arguments[1] != SCHEME:
        return UNSET
    value = arguments[0]
    if type(value) is not bytes:
        characters = text(value)
        value = None if characters is None else utf8(characters)
    if value is None or len(value) > text_chars_max:
        return UNSET
    return binascii.b2a_base64(value, newline=False).decode("ascii")


def decode(message: object, arguments: Sequence[Value]) -> Value:
    """Decode to the JSON value or the text that was encoded; Null where there is neither."""
    if len(arguments) != 2 or arguments[1] != SCHEME:
        return UNSET
    value = arguments[0]
    if type(value) not in (str, bytes):
        value = text(value)
    if value is None or len(value) > encoded_chars_max:
        return UNSET
    data = _bytes_of(value)
    return None if data is None else _value_of(data)


def _bytes_of(encoded: str | bytes) -> bytes | None:
    """What was encoded; None where the text is no base64."""
    try:
        symbols = encoded.encode("ascii") if isinstance(encoded, str) else encoded
        if b"=" not in symbols:
            symbols += b"=" * (-len(symbols) % 4)
        # Strict as it is, a2b_base64 lets surplus padding pass.
        return None if len(symbols) % 4 else binascii.a2b_base64(symbols, strict_mode=True)
    except ValueError:
        return None


def _value_of(data: bytes) -> Value:
    """The JSON value that bytes hold, else the text; None where they are not UTF-8."""
    try:
        characters = data.decode()
    except UnicodeDecodeError:
        return None
    # msgspec refuses halves of surrogate pairs itself, though nothing promises that it will.
    if depth(data) > DEPTH_MAX or lone_surrogate(data):
        return characters
    try:
        return exact(_parse(characters))
    except (msgspec.MsgspecError, ValueError):
        return characters


FUNCTIONS: Mapping[str, Function] = {"decode": decode, "encode": encode}
