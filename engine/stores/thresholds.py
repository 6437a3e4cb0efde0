"""Tables of limits that are at hand: a file and a mapping.

A thresholds file is NDJSON, one entry a line: `device`, `rule`, `value`, and where wanted
`clear_margin`, `version`, `effective_from` (ms). Several lines of one (device, rule) are its
history; of two with the same `effective_from` the later line holds. Other keys are allowed.
"""

from __future__ import annotations

import codecs
import difflib
import gzip
import os
import zlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from ..errors import ConfigError, Problem
from ..limits import Entry, checked, shown

PROBLEMS_MAX = 100  # of one file that are listed; the rest is counted
_REQUIRED = ("device", "rule", "value")


class FileThresholds:
    """A ThresholdStore over a thresholds file (`.gz` is read too), read once, when it is made.

    A file that changes is not read again: the same run gives the same answer throughout.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Read the file.

        Raises:
            ConfigError: the file cannot be read or lines are wrong; names each with its number.
        """
        self.path = Path(path)
        self._entries: dict[tuple[str, str], list[Entry]] = {}
        problems: list[Problem] = []
        wrong = 0
        opened = gzip.open if self.path.suffix == ".gz" else open
        try:
            with opened(self.path, "rb") as lines:
                for number, line in enumerate(lines, 1):
                    problem = self._take(number, line)
                    wrong += problem is not None
                    if problem and wrong <= PROBLEMS_MAX:
                        problems.append(problem)
        except (OSError, EOFError, zlib.error) as error:
            cause = getattr(error, "strerror", None) or str(error)
            problems.append(Problem(str(self.path), f"cannot be read: {cause}"))
        if wrong > PROBLEMS_MAX:
            more = f"{wrong - PROBLEMS_MAX} more lines are wrong"
            problems.append(Problem(str(self.path), more))
        if problems:
            raise ConfigError(problems)

    def __len__(self) -> int:
        """The number of (device, rule) pairs that have a limit."""
        return len(self._entries)

    @property
    def rules(self) -> frozenset[str]:
        """The rules that the file names: one that no pipeline has is likely a slip of the pen."""
        return frozenset(rule for _, rule in self._entries)

    def read(self, keys: Sequence[tuple[str, str]]) -> Mapping[tuple[str, str], Sequence[Entry]]:
        """Give the entries of each key that has any."""
        return {key: self._entries[key] for key in keys if key in self._entries}

    def _take(self, number: int, line: bytes) -> Problem | None:
        where = f"{self.path}:{number}"
        if number == 1:
            line = line.removeprefix(codecs.BOM_UTF8)
        if not line.strip():
            return None
        try:
            item = msgspec.json.decode(line)
        except (ValueError, RecursionError) as error:
            return Problem(where, f"expected one JSON object, found {_text(line)}: {error}")
        if type(item) is not dict:
            return Problem(where, f"expected one JSON object, found {shown(item)}")
        missing = [key for key in _REQUIRED if key not in item]
        if missing:
            return _missing(where, missing, item)
        try:
            key = (_name("device", item["device"]), _name("rule", item["rule"]))
            margin, version = item.get("clear_margin"), item.get("version")
            entry = checked(Entry(item["value"], margin, version, item.get("effective_from")))
        except ValueError as error:
            return Problem(where, f"{_known(item)}{error}")
        self._entries.setdefault(key, []).append(entry)
        return None


class MappingThresholds:
    """A ThresholdStore over a mapping of (device, rule) to a number, an Entry, or several.

    The mapping is not copied: what is changed in it holds from the next refresh on.
    """

    def __init__(self, limits: Mapping[tuple[str, str], float | Entry | Sequence[Entry]]) -> None:
        """Take the mapping; ConfigError lists every key and limit that is wrong now."""
        self.limits = limits
        problems: list[Problem] = []
        for key, limit in limits.items():
            problem = _key_problem(key)
            try:
                for entry in _entries(limit):
                    checked(entry)
            except ValueError as error:
                problem = problem or Problem(f"thresholds: {shown(key)}", str(error))
            if problem:
                problems.append(problem)
        if problems:
            raise ConfigError(problems)

    def read(self, keys: Sequence[tuple[str, str]]) -> Mapping[tuple[str, str], Sequence[Entry]]:
        """Give the entries of each key that has any; ConfigError where one has become wrong."""
        found = {}
        for key in keys:
            if key in self.limits:
                try:
                    found[key] = _entries(self.limits[key])
                except ValueError as error:
                    raise ConfigError([Problem(f"thresholds: {key}", str(error))]) from error
        return found


def _entries(limit: float | Entry | Sequence[Entry]) -> Sequence[Entry]:
    if isinstance(limit, Entry):
        return (limit,)
    if isinstance(limit, list | tuple):
        wrong = [entry for entry in limit if not isinstance(entry, Entry)]
        if wrong:
            raise ValueError(f"expected entries, found {shown(wrong[0])}")
        return limit
    return (Entry(limit),)  # type: ignore[arg-type]  # what is no number is found by `checked`


def _key_problem(key: Any) -> Problem | None:
    if type(key) is tuple and len(key) == 2 and all(isinstance(part, str) and part for part in key):
        return None
    return Problem("thresholds", f"expected keys (device, rule) of two texts, found {shown(key)}")


def _name(key: str, value: Any) -> str:
    """A device or rule as text: a device id may be an integer, taken as its decimal text."""
    if type(value) is int and key == "device":
        return str(value)
    if type(value) is not str or not value:
        raise ValueError(f"{key}: expected a text that is not empty, found {shown(value)}")
    return value


def _known(item: Mapping[str, Any]) -> str:
    """Whose line it is, as far as that can be told."""
    if type(item["device"]) in (str, int) and type(item["rule"]) is str:
        return f"device {shown(item['device'])}, rule {shown(item['rule'])}: "
    return ""


def _missing(where: str, missing: Iterable[str], item: Mapping[str, Any]) -> Problem:
    keys = ", ".join(missing)
    near = [
        f"found {found!r}"
        for key in missing
        for found in difflib.get_close_matches(key, item.keys(), 1)
    ]
    return Problem(where, f"expected the keys device, rule and value; missing: {keys}", *near[:1])


def _text(line: bytes) -> str:
    return shown(line.strip().decode("utf-8", "backslashreplace"))
