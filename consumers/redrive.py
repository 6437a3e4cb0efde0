"""Rejected records evaluated again after a fix, each for the rule that it names alone.

The answer is that of a back-test: the present pipeline file, with the rules in question only, over
the archive from its beginning, in which the rejected records stand at their own positions with
their own arrival times. From the first redriven sample of a (rule, device) on, all alerts of the
two are sent: those that were sent before have the same ids. Nothing is put into the stream again,
for there the records would have other positions and arrival times, be late, and reach every rule
and every other reader of the stream. The state of a live consumer is not touched.

What was redriven is marked once its alerts are sent, rule by rule:

    _redriven/<pipeline>/<rule>-<hash>.ndjson    lines of position, rule (that the row names), for

A run that dies in between sends the alerts of the unmarked ones again, with the same ids.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import msgspec
import numpy as np

from ..engine import files
from ..engine.batch import Alert, Record, Rejected
from ..engine.errors import InputError
from ..engine.folder import Place
from ..engine.pipeline import Outcome
from ..engine.sinks import error_objects

STAGES = ("deaggregate", "decode", "measure", "window")  # of the engine: what it can do again
LATE = "late"
FOLDER = "_redriven"
KIND = "application/x-ndjson"


class Key(NamedTuple):
    """One thing to redrive: the position, the rule that its row names, and the rule to evaluate."""

    position: str
    named: str | None
    rule: str


class _Mark(msgspec.Struct):
    """A line of a marker."""

    position: str
    rule: str | None
    redriven: str


@dataclass(frozen=True)
class Wanted:
    """Which rejected rows are meant; None: all. since: arrival, int ms."""

    stage: str | None = None
    reason: str | None = None
    rule: str | None = None
    since: int | None = None

    def row(self, row: Rejected) -> bool:
        """Whether a row is meant; one that names no rule is of every rule."""
        return (
            self.stage in (None, row.stage)
            and self.reason in (None, row.reason)
            and (self.rule is None or row.rule in (None, self.rule))
            and (self.since is None or (row.arrival_time or 0) >= self.since)
        )


@dataclass
class Todo:
    """What is to be redriven, and what is not, by why.

    rows: without an archive, all that may be evaluated, whatever was asked for: they are each
    other's past. keys: what was asked for and is not marked.
    """

    rows: list[Rejected] = field(default_factory=list)
    keys: set[Key] = field(default_factory=set)
    left: Counter[str] = field(default_factory=Counter)


def todo(
    rows: Iterable[Rejected],
    rules: Collection[str],
    wanted: Wanted,
    done: Collection[Key],
    *,
    alone: bool,
) -> Todo:
    """What of the error stream is to be redriven.

    Args:
        rows: all rejected rows. rules: of the pipeline file. wanted: which rows.
        done: what is marked. alone: there is no archive that could tell what is late.
    """
    found = Todo()
    for row in rows:
        meant = wanted.row(row)
        if row.stage not in STAGES or (alone and row.reason == LATE):
            why = "of another stage" if row.stage not in STAGES else "late, which needs the archive"
            found.left[why] += meant
            continue
        if alone:
            found.rows.append(row)
        if not meant:
            continue
        for rule in rules if row.rule is None else (row.rule,):
            key = Key(str(row.at), row.rule, rule)
            if rule not in rules:
                found.left["of a rule that is no more"] += 1
            elif wanted.rule not in (None, rule):
                continue
            elif key in done:
                found.left["redriven before"] += 1
            else:
                found.keys.add(key)
    found.left = +found.left
    return found


def records(rows: Iterable[Rejected], rule: str) -> Iterator[Record]:
    """The rejected records that concern one rule, shard after shard, each by position, once."""
    meant = {row.at: row for row in rows if row.rule in (None, rule)}
    first: dict[str, tuple[int, int]] = {}
    for at in meant:
        first[at.shard_id] = min(first.get(at.shard_id, at.order), at.order)
    for at in sorted(meant, key=lambda at: (first[at.shard_id], at.shard_id, at.order)):
        row = meant[at]
        whole = row.stage == "deaggregate" and at.sub_sequence_number == 0
        yield Record(
            at.shard_id,
            at.sequence_number,
            row.data,
            row.partition_key,
            row.arrival_time,
            None if whole and row.reason != "key_index" else at.sub_sequence_number,
        )


class Evaluation:
    """What comes of the keys while outcomes are taken; these must hand over what was read.

    alerts: those to be sent, in order. still: rejected again, and why.
    """

    def __init__(self, keys: Iterable[Key]) -> None:
        """Take the keys to look for."""
        self.alerts: list[Alert] = []
        self.still: dict[tuple[str, str | None], str] = {}
        self.seen: set[str] = set()
        self._keys = frozenset(keys)
        self._for: dict[str, set[str]] = {}  # rules by position
        for key in self._keys:
            self._for.setdefault(key.position, set()).add(key.rule)
        self._records = {position.rsplit(":", 1)[0] for position in self._for}
        self._begun: dict[tuple[str, str], tuple[str, tuple[int, int]]] = {}

    def take(self, outcome: Outcome) -> None:
        """Take the next outcome."""
        rows = self._rows(outcome)
        for row in outcome.rejected:
            if (position := str(row.at)) in self._for:
                self.still[position, row.rule] = row.reason
        if rows:
            self._begin(outcome, rows)
        for alert in outcome.alerts:
            begun = self._begun.get((alert.rule, alert.device))
            if begun is None:
                continue
            assert alert.last_position is not None
            shard, sequence, sub = alert.last_position.rsplit(":", 2)
            if shard != begun[0] or (int(sequence), int(sub)) >= begun[1]:
                self.alerts.append(alert)

    def alerts_of(self, rule: str) -> list[Alert]:
        """Those of one rule."""
        return [alert for alert in self.alerts if alert.rule == rule]

    def done(self, rule: str) -> list[Key]:
        """The keys of one rule that were evaluated and not rejected again, in order."""
        return sorted(
            (key for key in self._keys if key.rule == rule and self.fate(key) is None), key=_order
        )

    def fate(self, key: Key) -> str | None:
        """Why a key is not done: the reason it was rejected for again, or `absent`."""
        if key.position not in self.seen:
            return "absent"
        again = self.still.get((key.position, None))
        return again if again is not None else self.still.get((key.position, key.rule))

    def _rows(self, outcome: Outcome) -> dict[int, str]:
        """Positions that are looked for, by their number in the outcome."""
        found: dict[int, str] = {}
        offset = 0
        for users, lost in outcome.read:
            names = enumerate(users.sequences)
            hits = [n for n, name in names if f"{users.shard_id}:{name}" in self._records]
            if hits:
                for row in np.flatnonzero(np.isin(users.record, hits)).tolist():
                    if (position := str(users.position(row))) in self._for:
                        found[offset + row] = position
                self.seen |= {str(row.at) for row in lost}
            offset += len(users)
        self.seen |= set(found.values())
        return found

    def _begin(self, outcome: Outcome, rows: Mapping[int, str]) -> None:
        """Note the first redriven sample of each rule and device."""
        numbers = list(rows)
        for part in outcome.statistics:
            for at in np.flatnonzero(np.isin(part.index, numbers)).tolist():
                position = rows[int(part.index[at])]
                if part.rule in self._for[position]:
                    shard, sequence, sub = position.rsplit(":", 2)
                    device = part.names[int(part.device[at])]
                    start = shard, (int(sequence), int(sub))
                    self._begun.setdefault((part.rule, device), start)


def marked(place: Place, pipeline: str) -> set[Key]:
    """What is marked as redriven.

    Raises:
        InputError: a marker is none; names it.
        UnavailableError: the location cannot be read.
    """
    found: set[Key] = set()
    for name in place.names(f"{FOLDER}/{files.segment(pipeline)}/"):
        try:
            for mark in map(_DECODER.decode, (place.get(name) or b"").splitlines()):
                found.add(Key(mark.position, mark.rule, mark.redriven))
        except (ValueError, RecursionError) as error:
            raise InputError(f"{place.url(name)}: not a marker of a redrive: {error}") from error
    return found


def mark(place: Place, pipeline: str, rule: str, keys: list[Key]) -> None:
    """Mark keys of one rule; the same keys give the same object."""
    lines = _ENCODER.encode_lines([_Mark(key.position, key.named, key.rule) for key in keys])
    digest = hashlib.sha256(lines).hexdigest()[:32]
    name = f"{FOLDER}/{files.segment(pipeline)}/{files.segment(f'{rule}-{digest}.ndjson')}"
    place.put(name, lines, KIND)


def rejected(place: Place, pipeline: str | None) -> Iterator[Rejected]:
    """The error stream at a place; see error_objects.read."""
    return error_objects.read(place, pipeline)


_DECODER = msgspec.json.Decoder(_Mark)
_ENCODER = msgspec.json.Encoder()


def _order(key: Key) -> tuple[str, int, int, str]:
    shard, sequence, sub = key.position.rsplit(":", 2)
    return shard, int(sequence), int(sub), key.named or ""
