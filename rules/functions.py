"""The functions of IoT SQL, in one table: what is here, what is known by name, what needs AWS.

A function takes the message and its arguments, already evaluated. A wrong number or wrong types of
arguments give Undefined, never an error. Names are matched in lower case.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from msgspec import UNSET

from . import topic as topics
from .values import Value, integer_of


class Message(Protocol):
    """What an expression can see: the payload by path, and the topic."""

    topic: str | None

    def value(self, path: str) -> Value:
        """Return the value at a dotted path, Undefined where there is none."""


def topic(message: Message, arguments: Sequence[Value]) -> Value:
    """Return the whole topic for topic(), for topic(n) its n-th level, counted from 1."""
    if message.topic is None or len(arguments) > 1:
        return UNSET
    if not arguments:
        return topics.visible(message.topic)
    n = integer_of(arguments[0])
    found = None if n is None else topics.level(message.topic, n)
    return UNSET if found is None else found


FUNCTIONS: Mapping[str, Callable[[Message, Sequence[Value]], Value]] = {"topic": topic}

LATER = frozenset(
    """
    abs accountid acos asin atan atan2 bitand bitnot bitor bitxor ceil chr clientid concat cos cosh
    decode encode endswith exp floor get get_dynamodb get_mqtt_property get_or_default
    get_user_properties indexof isnull isundefined length ln log lower lpad ltrim md2 md5 mod nanvl
    newuuid numbytes parse_time power principal rand regexp_matches regexp_replace regexp_substr
    remainder replace round rpad rtrim sha1 sha224 sha256 sha384 sha512 sign sin sinh sourceip
    sql_version sqrt startswith substring tan tanh time_to_epoch timestamp traceid transform trim
    trunc upper
    """.split()
)

CLOUD = frozenset(
    "aws_lambda get_registry_data get_secret get_thing_shadow machinelearning_predict".split()
)

AGGREGATES = frozenset("avg count max mean median min stddev sum total variance".split())
