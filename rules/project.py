"""A route of the bridge: a statement to a function from one message to what is sent on.

    topic, payload  >  FROM and WHERE  >  the payload that SELECT puts out, and its partition key

One message at a time: columns pay where windows are, not here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any, NamedTuple

from msgspec import UNSET

from ..engine.errors import ConfigError
from ..engine.payload import message_of
from .draft import Draft
from .message import Message, Scope
from .output import OutputError
from .rule import Rule
from .template import Template
from .values import CostlyError, Value, number_text

KEY_CHARACTERS_MAX = 256  # of a partition key


class RouteError(Exception):
    """A route cannot take a message; `reason` is the code of the rejected record."""

    def __init__(self, reason: str, message: str) -> None:
        """Keep the code beside the text."""
        super().__init__(message)
        self.reason = reason


class Sent(NamedTuple):
    """What goes on: partition key and payload."""

    partition_key: str
    data: bytes


class Keyed:
    """What one statement puts out of a message, and its partition key.

    filter: the topic filter of FROM, None where there is none.
    """

    def __init__(
        self,
        sql: str,
        partition_key: str | None,
        *,
        where: str = "route",
        key_name: str = "partition_key",
        **choices: str,
    ) -> None:
        """Compile; `where` is the place of the statement in what the user wrote.

        Args:
            partition_key: a template; None: the key is the caller's affair. key_name: its name in
                what the user wrote. choices: version, int_division and undefined_logic.

        Raises:
            ConfigError: with every problem of the statement and of the template.
        """
        self._rule = Rule(sql, where=where, **choices)
        self.filter = self._rule.filter
        self._key: Template | None = None
        if partition_key is not None:
            self._key = self._rule.template(partition_key, f"{where}.{key_name}")
        self._text = partition_key or ""

    def of(
        self,
        topic: str | None,
        payload: bytes,
        context: Mapping[str, Any] | None = None,
        seed: bytes = b"",
    ) -> Sent:
        """What a message becomes, whatever WHERE says; the key is empty without a template.

        `context` and `seed` are as of `Message`.

        Raises:
            Unreadable: the payload is none.
            RouteError: it has no partition key, or nothing that a stream takes.
        """
        return self._sent(self._message(topic, payload, context, seed))

    def _message(
        self, topic: str | None, payload: bytes, context: Mapping[str, Any] | None, seed: bytes
    ) -> Message:
        body, known = message_of(payload), self._rule.definitions
        return Message(payload, topic, context, definitions=known, seed=seed, body=body)

    def _sent(self, message: Scope) -> Sent:
        try:
            key = "" if self._key is None else self._keyed(self._key, message)
            return Sent(key, self._rule.output(message))
        except (CostlyError, OutputError) as error:
            raise RouteError("record", str(error)) from None

    def _keyed(self, template: Template, message: Scope) -> str:
        values = template.values(message)
        key = "".join(_text(value, self._text) for _, value in values)
        if not 1 <= len(key) <= KEY_CHARACTERS_MAX:
            expected = f"expected 1 to {KEY_CHARACTERS_MAX} characters"
            raise RouteError("partition_key", f"partition key: {expected}, found {len(key)}")
        return key


class Route(Keyed):
    """One statement and the template of its partition key, ready for messages.

    filter: the topic filter of FROM, which is to be subscribed to. passed: how many messages went
    on, filtered: how many WHERE left out.
    """

    filter: str
    matches: Callable[[str], bool]

    def __init__(self, sql: str, partition_key: str, *, where: str = "route", **choices: str):
        """Compile, as `Keyed` does; a route needs FROM."""
        super().__init__(sql, partition_key, where=where, **choices)
        if self.filter is None:
            draft = Draft(sql, "value", where, True, choices)
            draft.tell(len(sql), "expected FROM with a topic filter: it is what is subscribed to")
            raise ConfigError(draft.problems)
        self.passed = self.filtered = 0
        self.matches = self._rule.matches

    def send(
        self,
        topic: str,
        payload: bytes,
        context: Mapping[str, Any] | None = None,
        seed: bytes = b"",
    ) -> Sent | None:
        """What a message becomes; None where WHERE is not true of it. Arguments as of `of`.

        Raises:
            Unreadable: the payload is none.
            RouteError: it has no partition key, or nothing that a stream takes.
        """
        message = self._message(topic, payload, context, seed)
        try:
            passes = self._rule.passes(message)
        except CostlyError as error:
            raise RouteError("record", str(error)) from None
        if not passes:
            self.filtered += 1
            return None
        sent = self._sent(message)
        self.passed += 1
        return sent


def _text(value: Value, template: str) -> str:
    """A value as it stands in a key: text as it is, numbers and Booleans as JSON has them."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Decimal):
        return number_text(value)
    found = "nothing" if value is UNSET else "null" if value is None else "an object or array"
    raise RouteError("partition_key", f"partition key {template}: expected a value, found {found}")
