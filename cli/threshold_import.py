"""The loop of `streamgauge thresholds import`: many limits into the table, item by item.

Items are read a hundred at a time, and only those that change are written. A stop comes between two
items; what is done stays done, and the same import goes on from there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import typer

from ..engine.errors import ConfigError, Problem
from ..engine.limits import Entry
from ..engine.sinks.base import Patience
from ..engine.stores.dynamodb import KEYS_MAX
from ..engine.stores.threshold_attributes import Item, Name
from ..engine.stores.threshold_items import UNREAD, ThresholdItems
from ..rules.spec import RuleSpec
from .progress import ProgressBar
from .summary import plural
from .threshold_lines import PROBLEMS_MAX, Given
from .threshold_table import Opened

INTERRUPTED = 130


@dataclass
class Tally:
    """How far an import has got: (device, rule) pairs of `total`."""

    total: int
    written: int = 0
    unchanged: int = 0
    problems: list[Problem] = field(default_factory=list)  # items that are no limits
    wrong: int = 0

    @property
    def done(self) -> int:
        """How many are through."""
        return self.written + self.unchanged + self.wrong


class Importer:
    """Brings given limits into a table; `tally` tells how far it is, also after an error."""

    def __init__(
        self,
        items: ThresholdItems,
        rules: Sequence[RuleSpec],
        start: Callable[[], int],
        patience: Patience,
    ) -> None:
        """Make no call yet.

        Args:
            items: the table. rules: of the pipeline. start: int ms, from when a limit is in force
                that is written now. patience: with a table that is busy or down.
        """
        self.tally = Tally(0)
        self._items = items
        self._own = {rule.name: own(rule) for rule in rules}
        self._start = start
        self._patience = patience

    def run(
        self, given: Sequence[Given], asked: Callable[[], bool], advance: Callable[[int], None]
    ) -> None:
        """Bring them in, until that is done or `asked` says stop; `advance` is told how many are.

        Raises:
            UnavailableError: the table has been busy or down for longer than patience lasts.
            StreamgaugeError: it refused for good.
        """
        self.tally = Tally(len(given))
        for at in range(0, len(given), KEYS_MAX):
            part = given[at : at + KEYS_MAX]
            seen = self._patience.insist(partial(self._read, part))
            for one in part:
                if asked():
                    return
                self._bring(one, seen)
                advance(self.tally.done)

    def _read(self, part: Sequence[Given]) -> dict[Name, Item]:
        return self._items.read([(one.device, one.rule) for one in part])

    def _bring(self, one: Given, seen: Mapping[Name, Item]) -> None:
        items: list[Item | None] = [seen.get((one.device, one.rule))]

        def change() -> bool:
            item = items.pop() if items else UNREAD  # a repeat reads it anew
            if one.exact:
                return self._items.restore(one.device, one.rule, one.entries, item).written
            return self._set(one, item)

        try:
            written = self._patience.insist(change)
        except ConfigError as error:
            self.tally.wrong += 1
            room = PROBLEMS_MAX - len(self.tally.problems)
            self.tally.problems += error.problems[:room]
        else:
            self.tally.written += written
            self.tally.unchanged += not written

    def _set(self, one: Given, item: Item | None) -> bool:
        """Set the lines one after the other; whether any was written."""
        written = False
        for entry in sorted(one.entries, key=lambda entry: entry.effective_from or 0):
            begin = self._start() if entry.effective_from is None else entry.effective_from
            wanted = Entry(entry.value, entry.clear_margin, None, begin)
            change = self._items.set(one.device, one.rule, wanted, self._own[one.rule], item)
            written, item = written or change.written, UNREAD
        return written


def bring(of: Opened, given: Sequence[Given], asked: Callable[[], bool], dry_run: bool) -> int:
    """Bring given limits into the table of a pipeline and say how far that got; the exit status.

    Raises:
        ConfigError: of items that are no limits; the others are through.
        StreamgaugeError: as Importer.run.
    """
    importer = Importer(of.items, of.spec.rules, of.soonest, of.patience)
    try:
        with ProgressBar(len(given), noun="limits") as bar:
            importer.run(given, asked, lambda done: bar.advance(done, done))
    except KeyboardInterrupt:
        pass
    finally:
        _say(_counts(importer.tally, dry_run))
    if importer.tally.problems:
        raise ConfigError(importer.tally.problems)
    if importer.tally.done < len(given):
        _say("interrupted: the same import goes on from there")
        return INTERRUPTED
    return 0


def _counts(tally: Tally, dry_run: bool) -> str:
    written = f"{tally.written:,} {'would be ' if dry_run else ''}written"
    wrong = f", {tally.wrong:,} left alone: what is there is no limit" if tally.wrong else ""
    of = f"{tally.done:,} of {plural(tally.total, 'limit')}"
    return f"{of}: {written}, {tally.unchanged:,} as they were{wrong}"


def _say(text: str) -> None:
    """Talk goes to standard error."""
    typer.echo(text, err=True)


def own(rule: RuleSpec) -> Entry:
    """What holds for a device without an item, as an entry: the rule's own limit, always."""
    return Entry(rule.threshold, rule.clear_margin, 0, None)
