"""One item of the DynamoDB table of limits: its attributes read as entries, and written.

    device          S   partition key, 1 to 2,048 bytes of UTF-8
    rule            S   sort key, 1 to 1,024 bytes
    value           N   the limit
    clear_margin    N   absent: the rule's own
    version         N   whole, or S; comes back in alerts
    effective_from  N   whole ms since 1970 UTC; absent: always in force
    history         L   of M, each with these four: the older entries in the order of writing
    updated_by      S   for people

Only the keys and `value` must be there, an attribute that is NULL counts as absent, and others may
stand beside them. Tables are edited by hand: what is no limit is refused by name, never guessed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

from ..errors import ConfigError, Problem
from ..limits import Entry, checked, shown

DEVICE_BYTES_MAX = 2048  # of a partition key
RULE_BYTES_MAX = 1024  # of a sort key
VERSION_BYTES_MAX = 1024  # of a version that is text, so that an item stays small
NUMBER_MIN, NUMBER_MAX = 1e-130, 9.9e125  # magnitudes that DynamoDB holds, besides 0
DIGITS_MAX = 38  # of a number
MANAGED = ("value", "clear_margin", "version", "effective_from", "history", "updated_by")

Attributes = dict[str, dict[str, Any]]
Item = Mapping[str, Mapping[str, Any]]  # as the DynamoDB client gives it
Name = tuple[str, str]  # (device, rule)

_KINDS = {"S": "the text", "N": "the number", "BOOL": "the boolean", "L": "the list", "M": "a map"}


def can_be_key(device: str, rule: str) -> bool:
    """Whether an item of this device and rule can exist: keys are neither empty nor too long."""
    return 0 < _bytes(device) <= DEVICE_BYTES_MAX and 0 < _bytes(rule) <= RULE_BYTES_MAX


def key_of(device: str, rule: str) -> Attributes:
    """The key of an item, as the client takes it."""
    return {"device": {"S": device}, "rule": {"S": rule}}


def name_of(item: Item) -> Name:
    """Device and rule of an item."""
    return item["device"]["S"], item["rule"]["S"]


def entries_of(item: Item, table: str) -> list[Entry]:
    """All entries of an item, in the order of writing: its history, then what it says itself.

    Raises:
        ConfigError: it is no limit; names table, device, rule and attribute, and what was expected.
    """
    found: list[Entry] = []
    faults: list[str] = []
    history = item.get("history", {"NULL": True})
    if "L" not in history and "NULL" not in history:
        faults.append(f"history: expected a list of maps, found {_found(history)}")
    for number, older in enumerate(history.get("L", ())):
        try:
            if "M" not in older:
                raise ValueError(f"expected a map, found {_found(older)}")
            found.append(_entry(older["M"]))
        except ValueError as error:
            faults.append(f"history[{number}]: {error}")
    try:
        found.append(_entry(item))
    except ValueError as error:
        faults.append(str(error))
    if faults:
        device, rule = name_of(item)
        where = f"table {table}: device {shown(device)}, rule {shown(rule)}"
        raise ConfigError([Problem(where, fault) for fault in faults])
    return found


def attributes_of(entries: Sequence[Entry]) -> Attributes:
    """The attributes of an item that holds these entries, the last one being its own."""
    found = _attributes(entries[-1])
    if len(entries) > 1:
        found["history"] = {"L": [{"M": _attributes(entry)} for entry in entries[:-1]]}
    return found


def storable(entry: Entry) -> Entry:
    """The same entry, checked; ValueError says which field is not as an item can hold it."""
    entry = checked(entry)
    for name, number in (("value", entry.value), ("clear_margin", entry.clear_margin or 0.0)):
        if number and not NUMBER_MIN <= abs(number) <= NUMBER_MAX:
            raise ValueError(
                f"{name}: expected 0 or a number that DynamoDB holds, from {NUMBER_MIN} to"
                f" {NUMBER_MAX} on either side, found {number!r}"
            )
    version = entry.version
    if isinstance(version, int) and abs(version) >= 10**DIGITS_MAX:
        raise ValueError(f"version: expected at most {DIGITS_MAX} digits, found {shown(version)}")
    if isinstance(version, str) and _bytes(version) > VERSION_BYTES_MAX:
        raise ValueError(
            f"version: expected at most {VERSION_BYTES_MAX} bytes of text, found {shown(version)}"
        )
    return entry


def _entry(attributes: Item) -> Entry:
    value = _number(attributes, "value")
    if value is None:
        raise ValueError("value: expected a number, found nothing")
    margin = _number(attributes, "clear_margin")
    start = _whole(attributes, "effective_from")
    version = attributes.get("version", {})
    known = version["S"] if "S" in version else _whole(attributes, "version")
    return checked(Entry(float(value), None if margin is None else float(margin), known, start))


def _number(attributes: Item, name: str) -> str | None:
    """The text of a number; None where the attribute is absent or NULL.

    float() of such a text is the nearest float64, however many digits it has.
    """
    given = attributes.get(name)
    if given is None or "NULL" in given:
        return None
    if "N" not in given:
        raise ValueError(f"{name}: expected a number, found {_found(given)}")
    text: str = given["N"]
    return text


def _whole(attributes: Item, name: str) -> int | None:
    text = _number(attributes, name)
    if text is None:
        return None
    number = Decimal(text)
    if number != number.to_integral_value():
        raise ValueError(f"{name}: expected a whole number, found {text}")
    return int(number)


def _attributes(entry: Entry) -> Attributes:
    found: Attributes = {"value": {"N": _text(entry.value)}}
    if entry.clear_margin is not None:
        found["clear_margin"] = {"N": _text(entry.clear_margin)}
    if entry.version is not None:
        kind = "S" if isinstance(entry.version, str) else "N"
        found["version"] = {kind: str(entry.version)}
    if entry.effective_from is not None:
        found["effective_from"] = {"N": str(entry.effective_from)}
    return found


def _bytes(text: str) -> float:
    """How long a text is as UTF-8; infinite where it has none, for half a surrogate pair."""
    try:
        return len(text.encode())
    except UnicodeEncodeError:
        return math.inf


def _text(number: float) -> str:
    """A float64 in the fewest digits that give it back."""
    return repr(number).removesuffix(".0")


def _found(given: Mapping[str, Any]) -> str:
    kind, value = next(iter(given.items()))
    return f"{_KINDS.get(kind, 'an attribute')} {shown(value)}, of type {kind}"
