"""What is printed of the faults that were survived: a line for each, and one for all."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from live import Live
from simulation import Figures


class Fault(NamedTuple):
    """A row: `play` runs it, checks what is special about it, and gives the repeats allowed."""

    id: str
    text: str
    play: Callable[[Live], int]


@dataclass
class Table:
    """What came of all rows."""

    faults: Sequence[Fault]
    seeds: int
    survived: dict[str, list[tuple[Figures, float]]] = field(default_factory=dict)
    begun: set[str] = field(default_factory=set)
    failed: set[str] = field(default_factory=set)

    def __str__(self) -> str:
        lines = [f"{'':4} {'accepted':>8} {'repeats':>7} {'recovery':>8}"]
        for fault in self.faults:
            if runs := self.survived.get(fault.id):
                accepted = sum(figures.accepted for figures, _ in runs)
                repeated = sum(figures.repeated for figures, _ in runs)
                worst = max(seconds for _, seconds in runs)
                cells = f"{fault.id:4} {accepted:8,} {repeated:7,} {worst:6.1f} s"
                lines.append(f"{cells}  {fault.text}")
        runs = [run for of in self.survived.values() for run in of]
        total = [sum(column) for column in zip(*(figures for figures, _ in runs), strict=True)]
        accepted, lost, missing, spurious, repeated = total or [0] * 5
        lines.append(
            f"faults survived {len(self.begun - self.failed)} of {len(self.begun)}"
            f" (seeds {self.seeds}), records accepted {accepted:,}, lost {lost},"
            f" alerts missing {missing}, spurious {spurious}, raw duplicates {repeated},"
            f" worst recovery {max((seconds for _, seconds in runs), default=0.0):.1f} s"
        )
        return "\n".join(lines)
