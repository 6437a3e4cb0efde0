"""What properties of an MQTT 5 message tell, as IoT SQL shows it.

Source: the OASIS standard MQTT 5.0, section 3.3.2.3; AWS IoT's guide on get_mqtt_property() and
get_user_properties() for the names and forms.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import Any

from .mqtt_packets import Numbers, Texts

_FORMAT, _CONTENT, _RESPONSE, _CORRELATION, _USER = 0x01, 0x03, 0x08, 0x09, 0x26
_FORMATS = ("UNSPECIFIED_BYTES", "UTF8_DATA")

Context = Mapping[str, Any]  # as of rules.message

NONE: Context = {"mqtt_properties": {}, "user_properties": []}  # a message of MQTT 5 without any


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
