"""How long a value is as JSON text: what functions that build Arrays are bounded by."""

from __future__ import annotations

import msgspec

from .values import Value

_encode = msgspec.json.Encoder(decimal_format="number").encode


def json_bytes(value: Value) -> int | None:
    """Return the bytes of a value's JSON text; None where it has none (Undefined, raw bytes)."""
    if type(value) is bytes:
        return None
    try:
        return len(_encode(value))
    except (TypeError, ValueError, RecursionError):
        return None
