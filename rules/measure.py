"""The measure of one compiled rule, where it is more than a field: a value for each row."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import numpy as np
from msgspec import UNSET

from ..engine.batch import Batch, Column, Kind, kind_of
from .filter import FilterCounts
from .interpret import OLDER, Dialect, evaluate
from .message import Row
from .tree import Node
from .values import CostlyError


class RuleMeasure:
    """What an expression of the SELECT gives for each row, numbers rounded once to float64.

    A number beyond float64 and a value that takes too many steps are Undefined.
    """

    def __init__(self, node: Node, dialect: Dialect, definitions: Mapping[str, Node]) -> None:
        """Take an expression with constants folded; `definitions` as of `Scope`."""
        self.counts = FilterCounts()
        self._node = node
        self._dialect = dialect
        self._definitions = definitions

    def __call__(self, batch: Batch) -> Column:
        """The value of each row."""
        rows = len(batch)
        self.counts.rows += rows
        self.counts.interpreted += rows
        kind, number = np.zeros(rows, np.uint8), np.zeros(rows)
        other: list[Any] = [None] * rows
        message = Row(batch, self._definitions, self._dialect.version == OLDER)
        for row in range(rows):
            message.move(row)
            found = self._of(message)
            if type(found) is Decimal:
                number[row] = float(found)
                kind[row] = Kind.NUMBER if np.isfinite(number[row]) else Kind.UNDEFINED
                continue
            kind[row] = kind_of(found)
            if kind[row] > Kind.NULL:
                other[row] = found
        number[kind != Kind.NUMBER] = 0.0
        return Column(kind, number, other if any(o is not None for o in other) else None)

    def _of(self, message: Row) -> Any:
        try:
            return evaluate(self._node, message, self._dialect)
        except CostlyError:
            return UNSET
