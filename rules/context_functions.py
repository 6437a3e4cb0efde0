"""The functions that show how a message came: its topic, its sender, its MQTT properties.

What is not known is Undefined (`Scope.context`). A function takes the message and its arguments,
already evaluated; a wrong number or wrong types of arguments give Undefined.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import Any

from msgspec import UNSET

from . import topic as topics
from .message import Scope
from .values import Value, exact, integer_of

Function = Callable[[Scope, Sequence[Value]], Value]

PROPERTIES = ("content_type", "response_topic", "correlation_data", "format_indicator")


def topic(message: Scope, arguments: Sequence[Value]) -> Value:
    """Return the whole topic for topic(), for topic(n) its n-th level, counted from 1."""
    if message.topic is None or len(arguments) > 1:
        return UNSET
    if not arguments:
        return topics.visible(message.topic)
    n = integer_of(arguments[0])
    found = None if n is None else topics.level(message.topic, n)
    return UNSET if found is None else found


def get_mqtt_property(message: Scope, arguments: Sequence[Value]) -> Value:
    """Return one property of the PUBLISH packet of MQTT 5."""
    (name,) = arguments if len(arguments) == 1 else (None,)
    known = message.context.get("mqtt_properties", {})
    return exact(known.get(name, UNSET)) if name in PROPERTIES else UNSET


def get_user_properties(message: Scope, arguments: Sequence[Value]) -> Value:
    """Return all values of one user property, or all properties as objects of one pair each."""
    pairs = message.context.get("user_properties", UNSET)
    if pairs is UNSET:
        return UNSET
    if not arguments:
        return [{name: value} for name, value in pairs]
    if len(arguments) > 1 or type(arguments[0]) is not str:
        return UNSET
    return [value for name, value in pairs if name == arguments[0]] or UNSET


def _known(name: str, otherwise: Any = UNSET) -> Function:
    """Return the function without arguments that shows one value of the context."""

    def show(message: Scope, arguments: Sequence[Value]) -> Value:
        return exact(message.context.get(name, otherwise)) if not arguments else UNSET

    return show


def _sql_version(message: Scope, arguments: Sequence[Value]) -> Value:
    return "2016-03-23" if not arguments else UNSET


FUNCTIONS: Mapping[str, Function] = {
    "accountid": _known("accountid"),
    "clientid": _known("clientid", "n/a"),  # what AWS shows of a message that did not come by MQTT
    "get_mqtt_property": get_mqtt_property,
    "get_user_properties": get_user_properties,
    "principal": _known("principal"),
    "sourceip": _known("sourceip"),
    "sql_version": _sql_version,
    "timestamp": _known("timestamp"),
    "topic": topic,
    "traceid": _known("traceid"),
}


# By chance: from 16 bytes that the message draws, so that a replay draws the same.


def _rand(drawn: bytes) -> Value:
    return Decimal(repr((int.from_bytes(drawn[:8]) >> 11) * 2.0**-53))


def _newuuid(drawn: bytes) -> Value:
    return str(uuid.UUID(bytes=drawn, version=4))


DRAWN: Mapping[str, Callable[[bytes], Value]] = {"newuuid": _newuuid, "rand": _rand}
