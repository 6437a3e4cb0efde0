"""All limits of a pipeline's rules in its table, with what else lies there."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import NamedTuple

from ..engine.errors import ConfigError, Problem
from ..engine.limits import Entry
from ..engine.sinks.base import Patience
from ..engine.stores.threshold_attributes import Item, name_of
from ..engine.stores.threshold_items import ThresholdItems
from .threshold_lines import PROBLEMS_MAX


class Listing(NamedTuple):
    """What a table holds, by device and rule.

    limits: device, rule and entries in the order of writing. wrong: how many items of these rules
    are no limits. problems: what is wrong with the first of them. others: how many items there are
    of rules that the pipeline does not have.
    """

    limits: list[tuple[str, str, list[Entry]]]
    wrong: int
    problems: list[Problem]
    others: Counter[str]

    def check(self) -> None:
        """Raise the ConfigError of the items that are no limits."""
        if self.problems:
            raise ConfigError(self.problems)


def listed(
    items: ThresholdItems,
    rules: Sequence[str],
    known: Sequence[str],
    patience: Patience,
    device: str | None = None,
    advance: Callable[[int], None] = lambda done: None,
) -> Listing:
    """Read all items, or those of one device.

    Args:
        items: the table. rules: those asked for. known: those that the pipeline has.
        patience: with a table that is busy or down.
        advance: is told how many items are read.
    """
    found = Listing([], 0, [], Counter())
    wrong = done = 0
    for page in items.pages(device, patience.insist):
        done += len(page)
        for item in page:
            rule = name_of(item)[1]
            if rule in rules:
                wrong += not _take(item, items, found)
            elif rule not in known:
                found.others[rule] += 1
        advance(done)
    found.limits.sort(key=lambda limit: limit[:2])
    return found._replace(wrong=wrong)


def _take(item: Item, items: ThresholdItems, found: Listing) -> bool:
    try:
        found.limits.append((*name_of(item), items.entries(item)))
    except ConfigError as error:
        room = PROBLEMS_MAX - len(found.problems)
        found.problems.extend(error.problems[:room])
        return False
    return True
