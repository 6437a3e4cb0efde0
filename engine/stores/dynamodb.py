"""The DynamoDB table of limits, read for whole batches; threshold_attributes.py has its items.

The caller needs dynamodb:BatchGetItem. Reads are eventually consistent, at half the price: a change
takes effect some time after it is written (`effective_from`), by when every reader has seen it.
"""

from __future__ import annotations

import random as random_module
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ..aws import RefusedError, Service
from ..errors import ConfigError, Problem, UnavailableError
from ..limits import Entry
from .threshold_attributes import Item, Name, can_be_key, entries_of, key_of, name_of

KEYS_MAX = 100  # of one BatchGetItem
IDLE_ROUNDS_MAX = 5  # in a row that bring nothing, until the table counts as busy
PAUSE_SECONDS_FIRST = 0.02  # before what was left unprocessed is asked for again
PAUSES_SECONDS_MAX = 0.2  # of one BatchGetItem and its repeats, all pauses together
ABSENT = "ResourceNotFoundException"


class TableThresholds:
    """A ThresholdStore over a DynamoDB table, which may be shared between threads.

    An item that is no limit is a ConfigError that stops whoever needs it: nothing of the batch is
    applied or lost, and once the item is mended the batch is decided by it. A device or rule that
    is too long for a key, or empty, has no item.
    """

    def __init__(
        self,
        table: str,
        service: Service,
        *,
        sleep: Callable[[float], object] = time.sleep,
        random: Callable[[], float] = random_module.random,
    ) -> None:
        """Make no call yet.

        Args:
            table: its name or ARN. service: `dynamodb`.
            sleep: seconds, between repeats of one call; at most PAUSES_SECONDS_MAX altogether.
            random: 0 to 1, for those pauses.
        """
        self._table = Table(table, service, sleep=sleep, random=random)

    @property
    def table(self) -> str:
        """The name of the table."""
        return self._table.name

    def read(self, keys: Sequence[Name]) -> Mapping[Name, Sequence[Entry]]:
        """Give the entries of each (device, rule) that has an item.

        Raises:
            UnavailableError: the table does not answer, or is too busy to give all items now.
            ConfigError: items are no limits; names each. Nothing is given of the others.
            RefusedError: the table is missing, or the caller may not read it.
        """
        found: dict[Name, Sequence[Entry]] = {}
        problems: list[Problem] = []
        wanted = [name for name in dict.fromkeys(keys) if can_be_key(*name)]
        for start in range(0, len(wanted), KEYS_MAX):
            for item in self._table.items(wanted[start : start + KEYS_MAX]):
                try:
                    found[name_of(item)] = entries_of(item, self.table)
                except ConfigError as error:
                    problems += error.problems
        if problems:
            raise ConfigError(problems)
        return found


class Table:
    """The calls to one table of limits, as readers and writers of it share them."""

    def __init__(
        self,
        name: str,
        service: Service,
        *,
        sleep: Callable[[float], object] = time.sleep,
        random: Callable[[], float] = random_module.random,
    ) -> None:
        """Make no call yet; see TableThresholds."""
        self.name = name
        self._service = service
        self._sleep = sleep
        self._random = random

    def call(self, operation: str, **request: Any) -> Any:
        """One call; where the table is missing, or another one, the error says how to make it."""
        try:
            return self._service.call(operation, f"table {self.name}", **request)
        except RefusedError as error:
            wrong_keys = error.code == "ValidationException" and "schema" in error.cause
            if wrong_keys or error.code == ABSENT:
                hint = f"make the table with: {creation(self.name)}"
                raise RefusedError(error.cause, error.code, hint) from error
            raise

    def items(self, names: Sequence[Name], *, consistent: bool = False) -> list[Item]:
        """The items that there are of at most KEYS_MAX different names, in any order.

        What the table leaves unprocessed is asked for again as long as that brings something.

        Raises:
            UnavailableError: it left the same keys IDLE_ROUNDS_MAX times in a row.
        """
        assert len(names) <= KEYS_MAX, len(names)
        found: list[Item] = []
        keys = [key_of(*name) for name in names]
        bound, pauses, idle = PAUSE_SECONDS_FIRST, PAUSES_SECONDS_MAX, 0
        while keys:
            request = {self.name: {"Keys": keys, "ConsistentRead": consistent}}
            answer = self.call("batch_get_item", RequestItems=request)
            for items in answer["Responses"].values():
                found += items
            left = answer.get("UnprocessedKeys", {})
            asked, keys = len(keys), [key for of in left.values() for key in of["Keys"]]
            idle = idle + 1 if len(keys) == asked else 0
            if idle == IDLE_ROUNDS_MAX:
                raise UnavailableError(
                    f"table {self.name}: busy, left {len(keys)} of {len(names)} keys unread"
                )
            if keys and pauses > 0:
                seconds = min(self._random() * bound, pauses)
                self._sleep(seconds)
                bound, pauses = 2 * bound, pauses - seconds
        return found


def creation(table: str) -> str:
    """The command line that makes the table: for people, not for programs."""
    region = ""
    if table.startswith("arn:"):
        region, table = f" --region {table.split(':')[3]}", table.rpartition("/")[2]
    return (
        f"aws dynamodb create-table{region} --table-name {table} --billing-mode PAY_PER_REQUEST"
        " --attribute-definitions AttributeName=device,AttributeType=S"
        " AttributeName=rule,AttributeType=S"
        " --key-schema AttributeName=device,KeyType=HASH AttributeName=rule,KeyType=RANGE"
    )
