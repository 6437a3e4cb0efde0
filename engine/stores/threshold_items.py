"""Changes of the DynamoDB table of limits, item by item: for people, not for the engine.

A change adds an entry that is in force from a time on; the one before it moves into the history,
of which the newest HISTORY_MAX are kept. What came before stays as it was, so that a replay decides
as the first run did:

    no item   set 75 from T         set 70 from U
              90 version 0, always  90 version 0, always
              75 version 1, from T  75 version 1, from T
                                    70 version 2, from U

The first change of an item writes down, as version 0, what held until then: the rule's own limit.
Of two entries with the same start the one written later holds. Each write has the condition that
the item is still as it was read, so that of two writers neither undoes what the other did.

The caller needs dynamodb:BatchGetItem, GetItem and UpdateItem, and Query and Scan to list items.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from ..aws import RefusedError, Service
from ..errors import ConfigError, UnavailableError
from ..limits import Entry
from .dynamodb import KEYS_MAX, Table
from .threshold_attributes import (
    MANAGED,
    Item,
    Name,
    attributes_of,
    can_be_key,
    entries_of,
    key_of,
    name_of,
    storable,
)

HISTORY_MAX = 16  # entries kept besides the one that was written last
RACES_MAX = 10  # of one change, lost to other writers, until it is put off
LOST = "ConditionalCheckFailedException"
UNREAD: Item = {}  # in place of an item that is still to be read


def _once(call: Callable[[], Any]) -> Any:
    return call()


class Change(NamedTuple):
    """What a change came to: the entries in the order of writing, and whether it wrote any."""

    entries: list[Entry]
    written: bool


class ThresholdItems:
    """The items of one table of limits, to be read and changed."""

    def __init__(
        self, table: str, service: Service, *, updated_by: str = "", dry_run: bool = False
    ) -> None:
        """Make no call yet.

        Args:
            table: its name or ARN. service: `dynamodb`.
            updated_by: who changes items, noted there; empty: not noted.
            dry_run: say what a change would come to, and write nothing.
        """
        self._table = Table(table, service)
        self._updated_by = updated_by
        self._dry_run = dry_run

    @property
    def table(self) -> str:
        """The name of the table."""
        return self._table.name

    def entries(self, item: Item | None) -> list[Entry]:
        """The entries of an item, in the order of writing; [] of None. ConfigError: no limit."""
        return [] if item is None else entries_of(item, self.table)

    def get(self, device: str, rule: str) -> Item | None:
        """One item as it is now; None where there is none."""
        request = {"Key": key_of(device, rule), "ConsistentRead": True}
        item: Item | None = self._call("get_item", **request).get("Item")
        return item

    def read(self, names: Sequence[Name]) -> dict[Name, Item]:
        """The items that there are of these (device, rule), as they are now."""
        found: dict[Name, Item] = {}
        for start in range(0, len(names), KEYS_MAX):
            part = self._table.items(names[start : start + KEYS_MAX], consistent=True)
            found.update((name_of(item), item) for item in part)
        return found

    def pages(
        self, device: str | None = None, insist: Callable[[Callable[[], Any]], Any] = _once
    ) -> Iterator[list[Item]]:
        """All items, or those of one device, page by page, in no order that means anything.

        `insist` makes the call for one page, again where it wants to.
        """
        operation = "scan" if device is None else "query"
        request: dict[str, Any] = {"ConsistentRead": True}
        if device is not None:
            request |= {
                "KeyConditionExpression": "#device = :device",
                "ExpressionAttributeNames": {"#device": "device"},
                "ExpressionAttributeValues": {":device": {"S": device}},
            }
        while True:
            page = insist(lambda: self._call(operation, **request))
            yield page["Items"]
            if not page.get("LastEvaluatedKey"):
                return
            request["ExclusiveStartKey"] = page["LastEvaluatedKey"]

    def set(
        self,
        device: str,
        rule: str,
        entry: Entry,
        before: Entry | None = None,
        seen: Item | None = UNREAD,
    ) -> Change:
        """Let a limit be in force from its `effective_from` on.

        Nothing is written where that limit is in force at that time already.

        Args:
            device, rule: whose; `can_be_key`.
            entry: value, margin and start; the version is given here. Without `effective_from` it
                has always been in force: it takes the place of all entries, whatever they are.
            before: the limit until now of a device without an item.
            seen: the item as read a moment ago, None where there was none.

        Raises:
            UnavailableError: the table does not answer, or others kept changing the item.
            ConfigError: the item that is there is no limit.
            ValueError: the entry cannot be stored.
        """
        entry = storable(entry)
        if entry.effective_from is None:
            return self._change((device, rule), lambda found: _replaced(found, entry), seen, True)
        return self._change((device, rule), lambda found: _added(found, entry, before), seen)

    def restore(
        self, device: str, rule: str, entries: Sequence[Entry], seen: Item | None = UNREAD
    ) -> Change:
        """Let an item hold exactly these entries, at most HISTORY_MAX and one; raises as `set`."""
        assert 0 < len(entries) <= HISTORY_MAX + 1, len(entries)
        wanted = [storable(entry) for entry in entries]
        return self._change((device, rule), lambda found: wanted, seen, True)

    def _change(
        self,
        name: Name,
        change: Callable[[list[Entry]], list[Entry]],
        seen: Item | None,
        replaces: bool = False,
    ) -> Change:
        """Write what `change` makes of the entries that are there, unless that is the same."""
        assert can_be_key(*name), name
        for _ in range(RACES_MAX):
            item = self.get(*name) if seen is UNREAD else seen
            found = self._readable(item) if replaces else self.entries(item)
            wanted = change(found)
            if wanted == found:
                return Change(found, False)
            if self._dry_run or self._write(name, wanted, item):
                return Change(wanted, True)
            seen = UNREAD
        raise UnavailableError(
            f"table {self.table}: device {name[0]!r}, rule {name[1]!r}: others changed the item"
            f" {RACES_MAX} times while it was being changed"
        )

    def _readable(self, item: Item | None) -> list[Entry]:
        """The entries of an item that is to be replaced: none where it is no limit."""
        try:
            return self.entries(item)
        except ConfigError:
            return []

    def _write(self, name: Name, wanted: Sequence[Entry], seen: Item | None) -> bool:
        """Write an item unless it is no more as it was seen; whether it was written.

        Attributes that are not ours stay as they are.
        """
        new = attributes_of(wanted)
        if self._updated_by:
            new["updated_by"] = {"S": self._updated_by}
        old: Mapping[str, Any] = seen or {}
        gone = [f"#{one}" for one in MANAGED if one in old and one not in new]
        update = "SET " + ", ".join(f"#{one} = :{one}" for one in new)
        update += f" REMOVE {', '.join(gone)}" if gone else ""
        same = [
            f"#{one} = :old_{one}" if one in old else f"attribute_not_exists(#{one})"
            for one in MANAGED
        ]
        values = {f":{one}": value for one, value in new.items()}
        values |= {f":old_{one}": old[one] for one in MANAGED if one in old}
        try:
            self._call(
                "update_item",
                Key=key_of(*name),
                UpdateExpression=update,
                ConditionExpression=" AND ".join(same),
                ExpressionAttributeNames={f"#{one}": one for one in MANAGED},
                ExpressionAttributeValues=values,
            )
        except RefusedError as error:
            if error.code == LOST:
                return False
            raise
        return True

    def _call(self, operation: str, **request: Any) -> Any:
        return self._table.call(operation, TableName=self.table, **request)


def in_force(entries: Sequence[Entry], time: int) -> int:
    """Which entry is in force at a time (int ms): the one of the latest start at or before it.

    Of equal starts the later in the sequence; of a time before all of them, the oldest.
    """
    numbers = range(len(entries))
    begun = [number for number in numbers if _start(entries[number]) <= time]
    if begun:
        return max(begun, key=lambda number: (_start(entries[number]), number))
    return min(numbers, key=lambda number: (_start(entries[number]), -number))


def _start(entry: Entry) -> float:
    return entry.effective_from or -math.inf


def _added(found: list[Entry], entry: Entry, before: Entry | None) -> list[Entry]:
    """The entries of an item with one more, unless it changes nothing."""
    assert entry.effective_from is not None
    entries = found or ([] if before is None else [before])
    if found and _alike(found[in_force(found, entry.effective_from)], entry):
        return found
    return [*_newest(entries), _next(found, entry)]


def _replaced(found: list[Entry], entry: Entry) -> list[Entry]:
    """One entry that was always in force, unless that is so already."""
    if len(found) == 1 and found[0].effective_from is None and _alike(found[0], entry):
        return found
    return [_next(found, entry)]


def _alike(held: Entry, entry: Entry) -> bool:
    return (held.value, held.clear_margin) == (entry.value, entry.clear_margin)


def _next(found: Sequence[Entry], entry: Entry) -> Entry:
    """The entry with the version after all that are there; text is not counted."""
    versions = [held.version for held in found if isinstance(held.version, int)]
    version = max(versions, default=0) + 1
    return Entry(entry.value, entry.clear_margin, version, entry.effective_from)


def _newest(entries: Sequence[Entry]) -> list[Entry]:
    """The HISTORY_MAX entries of the latest starts, in the order in which they were written."""
    numbers = sorted(range(len(entries)), key=lambda number: (_start(entries[number]), number))
    return [entries[number] for number in sorted(numbers[-HISTORY_MAX:])]
