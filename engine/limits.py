"""One limit as a table holds it, and how a table of limits is asked.

threshold.py looks limits up for a batch and knows no table; the tables in stores/ know no batch.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import msgspec

from .batch import LAST_TIME


class Entry(msgspec.Struct, frozen=True):
    """One limit of a (device, rule) and the time from which it is in force.

    value: finite. clear_margin: finite, >= 0, None for the rule's own. version: as the table has
    it. effective_from: int ms UTC, None for "always in force".
    """

    value: float
    clear_margin: float | None = None
    version: int | str | None = None
    effective_from: int | None = None


class ThresholdStore(Protocol):
    """A table of limits. Implementations are in stores/; all may be shared between shards."""

    def read(self, keys: Sequence[tuple[str, str]]) -> Mapping[tuple[str, str], Sequence[Entry]]:
        """Give all entries, current and history, of each (device, rule); others are left out.

        Order says nothing, save that of two entries with the same `effective_from` the later one
        in the sequence holds. The call may be repeated at any time and with any keys.

        Raises:
            UnavailableError: not all keys could be read; the caller asks for all of them again.
        """
        ...


def checked(entry: Entry) -> Entry:
    """The same entry with plain floats; ValueError says which field is not as it must be."""
    value = _finite("value", entry.value)
    margin = entry.clear_margin
    if margin is not None:
        margin = _finite("clear_margin", margin)
        if margin < 0.0:
            raise ValueError(f"clear_margin: expected a number at or above 0, found {margin!r}")
    version = entry.version
    if version is not None and (isinstance(version, bool) or not isinstance(version, int | str)):
        raise ValueError(f"version: expected an integer or a string, found {shown(version)}")
    start = entry.effective_from
    if start is not None and (type(start) is not int or not 0 <= start <= LAST_TIME):
        raise ValueError(
            f"effective_from: expected an integer, ms since 1970 up to {LAST_TIME},"
            f" found {shown(start)}"
        )
    return Entry(value, margin, version, start)


def _finite(name: str, number: Any) -> float:
    if not isinstance(number, bool) and isinstance(number, int | float):
        try:
            as_float = float(number) + 0.0
        except OverflowError:
            as_float = math.inf
        if math.isfinite(as_float):
            return as_float
    raise ValueError(f"{name}: expected a finite number, found {shown(number)}")


def shown(found: Any) -> str:
    """What was found instead, short enough for a message."""
    text = repr(found)
    return text if len(text) <= 40 else text[:37] + "..."
