"""What happened to every user record, so that nothing can vanish unseen."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .batch import Bytes, Verdict

_SUMMED = (
    *("decoded", "samples", "filtered", "duplicates", "rejected", "late", "alerts"),
    "interpreted",
)


@dataclass(slots=True)
class RuleCounts:
    """What one rule made of the decoded records.

    decoded = samples + filtered + duplicates + rejected. `late` is within `rejected`; `reasons`
    counts the filtered ones by `Verdict`; `interpreted` those whose WHERE or measure was taken one
    by one, as columns could not prove it, each as often as that was.
    """

    decoded: int = 0
    samples: int = 0
    filtered: int = 0
    duplicates: int = 0
    rejected: int = 0
    late: int = 0
    alerts: int = 0
    interpreted: int = 0
    reasons: Counter[Verdict] = field(default_factory=Counter)

    def count_filtered(self, codes: Bytes) -> None:
        """Count the rows that a filter let not through; codes: `Verdict` of each, uint8 (rows,)."""
        for code, many in enumerate(np.bincount(codes, minlength=len(Verdict)).tolist()):
            if code not in (Verdict.PASS, Verdict.COSTLY) and many:
                self.reasons[Verdict(code)] += many
                self.filtered += many

    def add(self, other: RuleCounts) -> None:
        """Add another batch's counts."""
        for name in _SUMMED:
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.reasons.update(other.reasons)


class Counts:
    """Counts of user records by verdict: records = evaluated + filtered + duplicates + rejected.

    `repeated` counts positions that were applied before; they stand outside `records`. `late`
    counts those of the rejected that were late for some rule; `samples` and `alerts` sum over the
    rules.
    """

    __slots__ = (
        "records",
        "evaluated",
        "filtered",
        "duplicates",
        "rejected",
        "late",
        "repeated",
        "rules",
    )

    def __init__(self, rules: Iterable[str] = ()) -> None:
        """Start at zero for these rules."""
        self.records = 0
        self.evaluated = 0
        self.filtered = 0
        self.duplicates = 0
        self.rejected = 0
        self.late = 0
        self.repeated = 0
        self.rules = {name: RuleCounts() for name in rules}

    @property
    def samples(self) -> int:
        """Samples over all rules: lines of statistics."""
        return sum(rule.samples for rule in self.rules.values())

    @property
    def alerts(self) -> int:
        """Alerts over all rules."""
        return sum(rule.alerts for rule in self.rules.values())

    def add(self, other: Counts) -> None:
        """Add another push's counts."""
        for name in self.__slots__[:-1]:
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for rule, counts in other.rules.items():
            self.rules.setdefault(rule, RuleCounts()).add(counts)

    def check(self) -> None:
        """Assert the two identities of the accounting; only a bug can break them."""
        verdicts = self.evaluated + self.filtered + self.duplicates + self.rejected
        assert self.records == verdicts, f"{self.records} records, {verdicts} verdicts"
        for name, rule in self.rules.items():
            parts = rule.samples + rule.filtered + rule.duplicates + rule.rejected
            assert rule.decoded == parts, f"rule {name}: {rule.decoded} decoded, {parts} verdicts"

    def as_dict(self) -> dict[str, Any]:
        """The keys of the machine-readable summary."""
        rules = {
            name: {
                key: getattr(rule, key)
                for key in ("samples", "filtered", "duplicates", "rejected", "late", "alerts")
            }
            for name, rule in self.rules.items()
        }
        names = ("records", "evaluated", "filtered", "duplicates", "rejected", "late")
        return {
            **{name: getattr(self, name) for name in names},
            "samples": self.samples,
            "alerts": self.alerts,
            "repeated": self.repeated,
            "rules": rules,
        }
