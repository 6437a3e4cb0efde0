"""Panes of one chunk on their way to several mergers: cut by device, as bytes, and read back.

    chunk --> panes --+--> merger 0: contents 0, 1      each of at most PART_BYTES_MAX
                      +--> merger 1: contents 0

A device belongs to one merger, by the MD5 of its name, whatever the shards of the stream between.
The same chunk under the same rules gives the same contents; `digest` tells whether two are the
same, so parts of different makings of one chunk are never mixed. Contents have the container of
state objects: versioned, checksummed, no pickle.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from . import state
from .batch import NO_TIME, Ints
from .counts import Counts
from .errors import StateError, StreamgaugeError
from .judge import Rule
from .panes import Panes, Partial

PART_BYTES_MAX = 1_000_000  # of contents: a Kinesis record has 1 MiB, with what stands around them
HASH_BITS = 128  # of the MD5 of a device, as of the hash keys of Kinesis
_COLUMNS = ("device", "pane", "samples", "high", "low", "unit", "least", "most")


class Parts(NamedTuple):
    """What one merger gets of a chunk; both are empty where it gets nothing."""

    digest: str
    contents: list[bytes]


def merger_of(device: str, mergers: int) -> int:
    """The merger that a device belongs to, of so many."""
    digest = hashlib.md5(device.encode(), usedforsecurity=False).digest()
    return int.from_bytes(digest, "big") * mergers >> HASH_BITS


def cut(partial: Partial, rules: Sequence[Rule], mergers: int) -> list[Parts]:
    """The parts of each merger, in their order.

    Raises:
        StreamgaugeError: a single pane does not fit, as its device's name is too long.
    """
    names = partial.names
    owner = np.fromiter((merger_of(name, mergers) for name in names), np.int64, len(names))
    return [
        _cut_for(partial, rules, [np.flatnonzero(owner[of.device] == one) for of in partial.panes])
        for one in range(mergers)
    ]


def read(content: bytes, shard: str, rules: Sequence[Rule]) -> Partial:
    """The panes of one content, for these rules; a rule that it was not made under has none.

    Raises:
        StateError: it cannot be read.
    """
    _, body = state.decode(content)
    try:
        made = {rule["name"]: rule for rule in body["rules"]}
        names: list[str] = list(body["names"])
        panes = [_panes(made.get(rule.name), rule, len(names)) for rule in rules]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise StateError(f"panes lack what they should hold: {error!r}") from error
    return Partial(shard, None, NO_TIME, names, panes, Counts())


def _cut_for(partial: Partial, rules: Sequence[Rule], rows: list[Ints]) -> Parts:
    """Parts of some rows of each rule: in halves, quarters and so on until each fits."""
    if not any(map(len, rows)):
        return Parts("", [])
    pieces, most = 1, max(map(len, rows))
    while True:
        contents = [
            _content(partial, rules, [_piece(of, number, pieces) for of in rows])
            for number in range(pieces)
        ]
        if max(map(len, contents)) <= PART_BYTES_MAX:
            break
        if pieces > most:
            raise StreamgaugeError(f"a pane of more than {PART_BYTES_MAX} bytes: a device's name")
        pieces *= 2
    whole = hashlib.sha256(b"".join(hashlib.sha256(one).digest() for one in contents))
    return Parts(whole.hexdigest()[:32], contents)


def _piece(rows: Ints, number: int, pieces: int) -> Ints:
    return rows[len(rows) * number // pieces : len(rows) * (number + 1) // pieces]


def _content(partial: Partial, rules: Sequence[Rule], rows: list[Ints]) -> bytes:
    used = np.unique(np.concatenate([of.device[some] for of, some in _pairs(partial, rows)]))
    local = np.full(len(partial.names), -1, np.int64)
    local[used] = np.arange(len(used))
    found = []
    for rule, (of, some) in zip(rules, _pairs(partial, rows), strict=True):
        columns: dict[str, Any] = {name: getattr(of, name)[some] for name in _COLUMNS}
        columns["device"] = local[columns["device"]]
        wide = [[new, of.wide[old]] for new, old in enumerate(some.tolist()) if old in of.wide]
        found.append({"name": rule.name, "fingerprint": rule.fingerprint, "wide": wide, **columns})
    names = [partial.names[number] for number in used.tolist()]
    return state.encode("full", {"names": names, "rules": found})


def _pairs(partial: Partial, rows: list[Ints]) -> list[tuple[Panes, Ints]]:
    return list(zip(partial.panes, rows, strict=True))


def _panes(made: dict[str, Any] | None, rule: Rule, devices: int) -> Panes:
    if made is None or made["fingerprint"] != rule.fingerprint:
        none, real = np.zeros(0, np.int64), np.zeros(0, np.float64)
        return Panes(none, none, none, none, none, real, real, real, {})
    columns = {name: made[name] for name in _COLUMNS}
    if len({len(column) for column in columns.values()}) != 1:
        raise ValueError("columns of different lengths")
    device = columns["device"]
    if len(device) and not (0 <= int(device.min()) and int(device.max()) < devices):
        raise ValueError("a device that has no name")
    return Panes(**columns, wide={int(row): int(exact) for row, exact in made["wide"]})
