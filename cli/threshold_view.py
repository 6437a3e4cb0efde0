"""Limits on a terminal: a table of the entries of items, and which of them is in force."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

import msgspec

from ..engine.limits import Entry
from ..engine.stores.threshold_items import Change, in_force
from ..rules.spec import RuleSpec
from .threshold_lines import row_of
from .threshold_listing import Listing

Limit = tuple[str, str, Sequence[Entry]]  # device, rule, entries

HEADING = ("device", "rule", "value", "margin", "version", "in force from (UTC)", "")
IN_FORCE, UPCOMING, HISTORY = "in force", "upcoming", "history"


def statuses(entries: Sequence[Entry], time: int) -> list[str]:
    """What each entry is at a time (int ms): in force, upcoming or history."""
    now = in_force(entries, time)
    return [
        IN_FORCE if number == now else UPCOMING if _comes(entries, number, time) else HISTORY
        for number, entry in enumerate(entries)
    ]


def _comes(entries: Sequence[Entry], number: int, time: int) -> bool:
    """Whether an entry will be in force: it starts later, and none of the same start follows."""
    start = entries[number].effective_from or 0
    return start > time and in_force(entries, start) == number


def by_start(entries: Sequence[Entry]) -> list[Entry]:
    """The entries in the order in which they hold."""
    return sorted(entries, key=lambda entry: entry.effective_from or 0)


def table(limits: Sequence[Limit], time: int) -> Iterator[str]:
    """The lines of a table of limits as they are at a time (int ms), each entry on one."""
    rows = [HEADING] if limits else []
    for device, rule, entries in limits:
        ordered = by_start(entries)
        for entry, status in zip(ordered, statuses(ordered, time), strict=True):
            margin = "the rule's" if entry.clear_margin is None else number(entry.clear_margin)
            cells = (plain(device), plain(rule), number(entry.value), margin, version(entry))
            rows.append((*cells, start_text(entry.effective_from), status))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  ".join(map(str.ljust, row, widths)).rstrip()


def ndjson(limits: Sequence[Limit], time: int) -> Iterator[str]:
    """The same as lines of a thresholds file, with the key `status` besides."""
    for device, rule, entries in limits:
        ordered = by_start(entries)
        for entry, status in zip(ordered, statuses(ordered, time), strict=True):
            row = row_of(device, rule, entry) | {"status": status.replace(" ", "_")}
            yield msgspec.json.encode(row).decode()


def absent(found: Listing, rules: Sequence[RuleSpec], device: str | None) -> Iterator[str]:
    """What holds of the rules that no item was found of."""
    having = {rule for _, rule, _ in found.limits}
    if found.wrong or (device is None and having):
        return
    who = "no device has an item" if device is None else f"{plain(device)} has no item"
    for rule in rules:
        if rule.name not in having:
            limit = f"{number(rule.threshold)}, margin {number(rule.clear_margin)}"
            yield f"{rule.name}: {who}: the rule's own limit is in force, {limit}"


def told(device: str, rule: RuleSpec, change: Change, start: int | None) -> Iterator[str]:
    """What a change came to, and the limits before and after it.

    Args:
        device, rule: whose. change: what was done. start: int ms, from when it was meant to hold.
    """
    entries = change.entries
    which = len(entries) - 1 if change.written or start is None else in_force(entries, start)
    done = "" if change.written else ": that is so already, nothing is written"
    yield f"{plain(device)} {rule.name}: {_limit(entries[which], rule)}{done}"
    begin = entries[which].effective_from or 0
    others = [entry for number, entry in enumerate(entries) if number != which]
    older = [entry for entry in others if (entry.effective_from or 0) <= begin]
    if older:
        before = others[others.index(older[in_force(older, begin)])]
        yield f"  before: {_limit(before, rule)}"
    for entry in by_start(others):
        if (entry.effective_from or 0) > begin:
            yield f"  after: {_limit(entry, rule)}"


def _limit(entry: Entry, rule: RuleSpec) -> str:
    own = f"{number(rule.clear_margin)} (the rule's)"
    margin = own if entry.clear_margin is None else number(entry.clear_margin)
    since = start_text(entry.effective_from)
    return f"{number(entry.value)}, margin {margin}, version {version(entry)}, " + (
        "always" if since == "always" else f"from {since}"
    )


def version(entry: Entry) -> str:
    """The version of an entry, or a stroke."""
    return "-" if entry.version is None else plain(str(entry.version))


def number(value: float) -> str:
    """A float64 in the fewest digits that give it back."""
    return repr(value).removesuffix(".0")


def start_text(start: int | None) -> str:
    """From when an entry is in force, as `--effective-from` and `--at` take it."""
    return "always" if start is None else utc(start)


def utc(time: int) -> str:
    """A time (int ms) as ISO 8601, with ms where there are any."""
    seconds, rest = divmod(time, 1000)
    shown = f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}"
    return f"{shown}.{rest:03}Z" if rest else f"{shown}Z"


def plain(text: str) -> str:
    """Text as a terminal may have it: what is not printable is escaped."""
    return text if text.isprintable() else text.encode("unicode_escape").decode()
