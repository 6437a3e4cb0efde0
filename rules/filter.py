"""The filter of one compiled rule: a verdict for each row, from FROM and then from WHERE."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from msgspec import UNSET

from ..engine.batch import Batch, Bools, Bytes, Verdict
from .columns import Frame, Remembered, Truths, UnprovableError
from .conditions import condition
from .elements import within_limits
from .interpret import OLDER, Dialect, evaluate
from .message import Row, topic_texts
from .tree import Node
from .values import CostlyError, truth_of

_FALSE = np.uint8(Verdict.WHERE_FALSE)
_UNDEFINED = np.uint8(Verdict.WHERE_UNDEFINED)
_PASS = np.uint8(Verdict.PASS)


@dataclass(slots=True)
class FilterCounts:
    """How many rows a filter has seen, and how many of them only the exact evaluator could tell."""

    rows: int = 0
    interpreted: int = 0


def verdict_of(value: Any) -> Verdict:
    """Return what a condition's value says: only true lets a message pass."""
    truth = truth_of(value)
    if truth is UNSET:
        return Verdict.WHERE_UNDEFINED
    return Verdict.PASS if truth else Verdict.WHERE_FALSE


class RuleFilter:
    """FROM and WHERE of one rule; a row gets the first verdict that holds, in this order.

    `matches` is None where FROM is not applied, `where` where the statement has none; constants in
    it are folded.
    """

    def __init__(
        self,
        matches: Callable[[str], bool] | None,
        where: Node | None,
        dialect: Dialect,
        definitions: Mapping[str, Node] | None = None,
    ) -> None:
        """Compile the condition as far as it has a columnar form; `definitions` as of `Scope`."""
        self.counts = FilterCounts()
        self._where = where
        self._dialect = dialect
        self._topics = None if matches is None else Remembered(_topic_verdict(matches))
        self._step: Callable[[Frame], Truths] | None = None
        self._definitions = definitions or {}
        # Columns do not tell 10.0 from 10.
        if where is not None and dialect.version != OLDER and within_limits(where):
            try:
                self._step = condition(where, dialect)
            except UnprovableError:
                pass

    @property
    def columnar(self) -> bool:
        """Whether WHERE, if there is one, has a form over columns at all."""
        return self._where is None or self._step is not None

    def __call__(self, batch: Batch) -> Bytes:
        """Return a `Verdict` for each row, uint8 (rows,)."""
        rows = len(batch)
        self.counts.rows += rows
        before = None if self._topics is None else self._from(batch, self._topics)
        if self._where is None:
            return np.zeros(rows, np.uint8) if before is None else before
        verdicts, unproven = self._quick(batch)
        if before is not None:
            verdicts = np.where(before == _PASS, verdicts, before)
            unproven = None if unproven is None else unproven & (before == _PASS)
        if unproven is not None:
            self._exact(batch, verdicts, unproven)
        return verdicts

    def _from(self, batch: Batch, known: Remembered) -> Bytes:
        return np.frombuffer(bytearray(map(known.__getitem__, topic_texts(batch))), np.uint8)

    def _quick(self, batch: Batch) -> tuple[Bytes, Bools | None]:
        if self._step is None:
            return np.zeros(len(batch), np.uint8), np.ones(len(batch), np.bool_)
        with np.errstate(all="ignore"):
            truths = self._step(Frame(batch))
        verdicts: Bytes = np.logical_not(truths.true).view(np.uint8) * _FALSE
        if truths.undefined is not None:
            verdicts = np.where(truths.undefined, _UNDEFINED, verdicts)
        return verdicts, truths.unproven

    def _exact(self, batch: Batch, verdicts: Bytes, unproven: Bools) -> None:
        assert self._where is not None
        message = Row(batch, self._definitions, self._dialect.version == OLDER)
        rows = np.flatnonzero(unproven).tolist()
        self.counts.interpreted += len(rows)
        for row in rows:
            message.move(row)
            try:
                verdicts[row] = verdict_of(evaluate(self._where, message, self._dialect))
            except CostlyError:
                verdicts[row] = Verdict.COSTLY


def _topic_verdict(matches: Callable[[str], bool]) -> Callable[[str | None], int]:
    def verdict(topic: str | None) -> int:
        if topic is None:
            return Verdict.TOPIC_MISSING
        return Verdict.PASS if matches(topic) else Verdict.TOPIC_MISMATCH

    return verdict
