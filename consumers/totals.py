"""What became of a whole input, for the summary at its end."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from ..engine.counts import Counts
from ..engine.pipeline import Outcome


@dataclass
class Totals:
    """What became of a whole input.

    reasons: how often each (stage, reason) occurred among the rejected records. states: how often
    each alert state was entered. unread: records that no rule saw, because they could not be read.
    """

    counts: Counts
    reasons: Counter[tuple[str, str]] = field(default_factory=Counter)
    states: Counter[str] = field(default_factory=Counter)
    unread: int = 0

    def merge(self, other: Totals) -> None:
        """Add what became of another input, or part of one."""
        self.counts.add(other.counts)
        self.reasons.update(other.reasons)
        self.states.update(other.states)
        self.unread += other.unread

    def add(self, outcome: Outcome) -> None:
        """Add what one push gave."""
        self.counts.add(outcome.counts)
        self.states.update(alert.state for alert in outcome.alerts)
        for row in outcome.rejected:
            self.reasons[row.stage, row.reason] += 1
            self.unread += row.rule is None
