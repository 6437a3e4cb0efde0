"""Properties of MQTT 5 packets: from bytes, and as IoT SQL shows those of a message.

Source: the OASIS standard MQTT 5.0, section 2.2.2 and 3.3.2.3; AWS IoT's guide on
get_mqtt_property() and get_user_properties() for the names and forms.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import Any

from .mqtt_packets import ProtocolError, read_varint

IDENTIFIER = 0x0B  # of a subscription
_FORMAT, _CONTENT, _RESPONSE, _CORRELATION, _USER = 0x01, 0x03, 0x08, 0x09, 0x26
_FORMATS = ("UNSPECIFIED_BYTES", "UTF8_DATA")
_SIZES = {  # of properties in bytes; those not here have a length of their own
    0x01: 1, 0x02: 4, 0x11: 4, 0x13: 2, 0x21: 2, 0x22: 2, 0x23: 2, 0x24: 1, 0x25: 1, 0x27: 4,
    0x28: 1, 0x29: 1, 0x2A: 1,
}  # fmt: skip
_TEXTS = {0x03: 1, 0x08: 1, 0x09: 1, 0x12: 1, 0x15: 1, 0x16: 1, 0x1A: 1, 0x1C: 1, 0x1F: 1, 0x26: 2}

Numbers = dict[int, list[int]]  # those that are numbers, by identifier
Texts = list[tuple[int, tuple[bytes, ...]]]  # identifier, and one text or a pair, in order
Context = Mapping[str, Any]  # as of rules.message

NONE: Context = {"mqtt_properties": {}, "user_properties": []}  # a message of MQTT 5 without any


def read(held: bytes, at: int, end: int) -> tuple[Numbers, Texts, int]:
    """The properties that begin at `at` with their length, and where they end.

    Raises:
        ProtocolError: they are cut off, or one is none of MQTT 5.
        IndexError: `held` ends within them.
    """
    length = read_varint(held, at) if at < end else None
    if length is None or length[0] + length[1] > end:
        raise ProtocolError("properties that are cut off")
    at, stop = length[1], length[0] + length[1]
    numbers: Numbers = {}
    texts: Texts = []
    while at < stop:
        name = held[at]
        at += 1
        if name == IDENTIFIER:
            number = read_varint(held, at)
            if number is None:
                raise ProtocolError("properties that are cut off")
            numbers.setdefault(name, []).append(number[0])
            at = number[1]
        elif size := _SIZES.get(name, 0):
            numbers.setdefault(name, []).append(int.from_bytes(held[at : at + size]))
            at += size
        elif count := _TEXTS.get(name, 0):
            found = []
            for _ in range(count):
                first = at + 2
                at = first + int.from_bytes(held[at:first])
                found.append(bytes(held[first:at]))
            texts.append((name, tuple(found)))
        else:
            raise ProtocolError(f"property 0x{name:02x}, which is none")
    if at != stop:
        raise ProtocolError("properties that are cut off")
    return numbers, texts, at


def of_packet(numbers: Numbers, texts: Texts) -> Context:
    """What those of a PUBLISH tell; of one that may come once the last counts."""
    formats = numbers.get(_FORMAT)
    if not texts and not formats:
        return NONE
    once = {name: found[0] for name, found in texts if name != _USER}
    content, response = once.get(_CONTENT), once.get(_RESPONSE)
    return told(
        formats[-1] if formats else None,
        None if content is None else _text(content),
        None if response is None else _text(response),
        once.get(_CORRELATION),
        [(_text(pair[0]), _text(pair[1])) for name, pair in texts if name == _USER],
    )


def told(
    format_indicator: int | None,
    content_type: str | None,
    response_topic: str | None,
    correlation_data: bytes | None,
    user: Sequence[tuple[str, str]],
) -> Context:
    """The same from their values, None where a message has none; for `rules.message.Message`."""
    properties: dict[str, str] = {}
    if format_indicator is not None and 0 <= format_indicator < len(_FORMATS):
        properties["format_indicator"] = _FORMATS[format_indicator]
    if content_type is not None:
        properties["content_type"] = content_type
    if response_topic is not None:
        properties["response_topic"] = response_topic
    if correlation_data is not None:
        properties["correlation_data"] = base64.b64encode(correlation_data).decode()
    return {"mqtt_properties": properties, "user_properties": list(user)}


def _text(data: bytes) -> str:
    """UTF-8 as the standard wants it; other bytes, which no broker should let through, escaped."""
    return data.decode("utf-8", "backslashreplace")
