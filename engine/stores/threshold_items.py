"""Limits of single devices, read and changed item by item: for people, not for the engine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from ..aws import RefusedError, Service
from ..errors import StreamgaugeError
from ..limits import Entry, shown
from .dynamodb import Table
from .threshold_attributes import (
    DEVICE_BYTES_MAX,
    RULE_BYTES_MAX,
    Item,
    attributes_of,
    can_be_key,
    entries_of,
    key_of,
    name_of,
    storable,
)

HISTORY_MAX = 16  # entries kept in `history`
RACES_MAX = 10  # of one change, lost to other writers, until it is given up
CHANGED = "ConditionalCheckFailedException"
WATCHED = ("value", "clear_margin", "version", "effective_from", "history")


class Change(NamedTuple):
    """What a change came to: the entries now, and whether anything was written."""

    entries: list[Entry]
    written: bool


class ThresholdItems:
    """One table of limits, with conditional writes: of two writers none undoes the other."""

    def __init__(self, table: str, service: Service, *, updated_by: str = "") -> None:
        """Take the table's name and the service `dynamodb`; `updated_by` is put into items."""
        self._table = Table(table, service)
        self._updated_by = updated_by

    def get(self, device: str, rule: str) -> list[Entry]:
        """The entries of one (device, rule), the current one last; [] where there is none."""
        item = self._get(device, rule)
        return [] if item is None else entries_of(item, self._table.name)

    def set(
        self,
        device: str,
        rule: str,
        value: float,
        clear_margin: float | None,
        effective_from: int | None,
        before: Entry | None,
    ) -> Change:
        """Let a limit be in force from a time on; the entries before it stay as history.

        Args:
            device, rule: whose. value: the limit. clear_margin: None for the rule's own.
            effective_from: int ms; None: always, which drops what was before.
            before: what held where the table has no item, as far as a replay asks; None: nothing.

        Nothing is written where the newest entry says the same already. A new item gets version 1.

        Raises:
            UnavailableError: the table does not answer.
            ConfigError: the item that is there is no limit.
            StreamgaugeError: no item can be of this name or hold this, or others changed it each
                time.
        """
        try:
            wanted = storable(Entry(value, clear_margin, None, effective_from))
        except ValueError as error:
            raise StreamgaugeError(str(error)) from None
        for _ in range(RACES_MAX):
            item = self._get(device, rule)
            found = [] if item is None else entries_of(item, self._table.name)
            newest = found[-1] if found else None
            if newest is not None and _same(newest, wanted):
                return Change(found, False)
            entry = Entry(value, clear_margin, _next(newest), effective_from)
            older = found if found or before is None else [before]
            kept = [] if effective_from is None else older[-HISTORY_MAX:]
            if self._put(device, rule, [*kept, entry], item):
                return Change([*kept, entry], True)
        raise self._contested(device, rule)

    def restore(self, device: str, rule: str, wanted: Sequence[Entry]) -> Change:
        """Let an item hold exactly these entries, the last one current, whatever is there now."""
        kept = [*wanted[:-1][-HISTORY_MAX:], wanted[-1]]
        for _ in range(RACES_MAX):
            item = self._get(device, rule)
            found = [] if item is None else entries_of(item, self._table.name)
            if found == kept:
                return Change(found, False)
            if self._put(device, rule, kept, item):
                return Change(kept, True)
        raise self._contested(device, rule)

    def all(self, device: str | None = None) -> list[tuple[str, str, list[Entry]]]:
        """Every item, or those of one device: device, rule and entries, by device and rule."""
        request: dict[str, Any] = {"TableName": self._table.name}
        operation = "scan"
        if device is not None:
            operation = "query"
            request["KeyConditionExpression"] = "device = :device"
            request["ExpressionAttributeValues"] = {":device": {"S": device}}
        found = []
        while True:
            page = self._table.call(operation, **request)
            found += [(*name_of(one), entries_of(one, self._table.name)) for one in page["Items"]]
            if not page.get("LastEvaluatedKey"):
                return sorted(found, key=lambda one: one[:2])
            request["ExclusiveStartKey"] = page["LastEvaluatedKey"]

    def _get(self, device: str, rule: str) -> Item | None:
        if not can_be_key(device, rule):
            raise StreamgaugeError(
                f"expected a device of 1 to {DEVICE_BYTES_MAX} bytes and a rule of at most"
                f" {RULE_BYTES_MAX}, found {shown(device)} and {shown(rule)}"
            )
        request = {"TableName": self._table.name, "Key": key_of(device, rule)}
        found: Item | None = self._table.call("get_item", ConsistentRead=True, **request).get(
            "Item"
        )
        return found

    def _put(self, device: str, rule: str, wanted: Sequence[Entry], seen: Item | None) -> bool:
        """Write an item unless it has changed since it was seen; whether it was written."""
        item = {**key_of(device, rule), **attributes_of(wanted)}
        if self._updated_by:
            item["updated_by"] = {"S": self._updated_by}
        condition: dict[str, Any] = {"ConditionExpression": "attribute_not_exists(device)"}
        if seen is not None:  # an item made by hand may have no version: all of it is compared
            tests = [
                f"#{name} = :{name}" if name in seen else f"attribute_not_exists(#{name})"
                for name in WATCHED
            ]
            condition = {
                "ConditionExpression": " AND ".join(tests),
                "ExpressionAttributeNames": {f"#{name}": name for name in WATCHED},
                "ExpressionAttributeValues": {f":{n}": seen[n] for n in WATCHED if n in seen},
            }
        try:
            self._table.call("put_item", TableName=self._table.name, Item=item, **condition)
        except RefusedError as error:
            if error.code == CHANGED:
                return False
            raise
        return True

    def _contested(self, device: str, rule: str) -> StreamgaugeError:
        return StreamgaugeError(
            f"table {self._table.name}: device {shown(device)}, rule {shown(rule)}: changed by"
            f" others {RACES_MAX} times in a row; try again"
        )


def _same(newest: Entry, wanted: Entry) -> bool:
    """Whether a change would change nothing: the same limit, in force by then."""
    if (newest.value, newest.clear_margin) != (wanted.value, wanted.clear_margin):
        return False
    if wanted.effective_from is None or newest.effective_from is None:
        return newest.effective_from is None
    return newest.effective_from <= wanted.effective_from


def _next(newest: Entry | None) -> int:
    """The version after an item's current one; one that is no number counts as none."""
    version = None if newest is None else newest.version
    return version + 1 if isinstance(version, int) else 1
