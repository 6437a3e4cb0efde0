"""One rule in the fan-out mode: panes that come in any order, windows evaluated at pane ends.

    pane ends    e-2     e-1      e          e is evaluated once, when nothing can come before it
                |-------|-------|
                '--- [e - length, e) ---'    for each device that has a sample in there

What is in the window is kept as a running sum; the pane that enters is added, the one that leaves
is taken away. Least and greatest values are looked for again only where the one that leaves was
it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from .alert import AlertStates
from .batch import NO_TIME, Floats, Ints
from .pane_sums import PaneSums
from .panes import PANE, Panes

COLUMNS = ("device", "pane", "samples", "high", "low", "unit", "least", "most")


class Ended(NamedTuple):
    """The windows that end at one pane end, all (rows,): value float64, samples int64."""

    device: Ints
    value: Floats
    samples: Ints


class PaneRule:
    """The panes and alert states of one rule over all devices.

    alerts: the states. seen: int64 ms, the last pane end at which each device was evaluated.
    """

    def __init__(self, length: int, statistic: str, alerts: AlertStates, fingerprint: str) -> None:
        """Start empty; `length` is int ms, whole panes."""
        assert length % PANE == 0 and length > 0
        self.length, self.statistic = length, statistic
        self.alerts, self.fingerprint = alerts, fingerprint
        self.seen = np.zeros(0, np.int64)
        self._sums = PaneSums()
        self._best = np.zeros(0, np.float64)  # least or greatest of each window, by `_sign`
        self._sign = {"min": 1.0, "max": -1.0}.get(statistic, 0.0)
        self._panes: dict[int, list[Panes]] = {}  # by where they begin; of distinct devices each

    def put(self, panes: Panes, device: Ints) -> None:
        """Keep panes of a chunk; `device` are their numbers here, int64 (rows,)."""
        if not len(device):
            return
        order = np.argsort(panes.pane, kind="stable")
        begins = panes.pane[order]
        starts = np.flatnonzero(np.concatenate(([True], begins[1:] != begins[:-1])))
        for start, end in zip(starts.tolist(), [*starts[1:].tolist(), len(order)], strict=True):
            rows = order[start:end]
            self._panes.setdefault(int(begins[start]), []).append(_taken(panes, rows, device))

    def first_from(self, time: int) -> int | None:
        """Where the first pane from a time on begins, both int ms; None where there is none."""
        return min((begin for begin in self._panes if begin >= time), default=None)

    @property
    def last(self) -> int | None:
        """Where the newest begins."""
        return max(self._panes, default=None)

    @property
    def idle(self) -> bool:
        """Whether no window holds anything, as far as evaluated."""
        return not self._sums.count.any()

    def end(self, time: int) -> Ended:
        """Move the window on to a pane end, int ms; what there is to evaluate.

        Pane ends come one after the other; some may be left out while the rule is `idle`.
        """
        for part in self._panes.pop(time - PANE - self.length, ()):
            self._leave(part)
        for part in self._panes.get(time - PANE, ()):
            self._enter(part)
        device = np.flatnonzero(self._sums.count)
        return Ended(device, self._values(device), self._sums.count[device])

    def _enter(self, part: Panes) -> None:
        self._sums.add(part.device, part)
        if self._sign:
            more = len(self._sums.count) - len(self._best)
            self._best = np.concatenate((self._best, np.full(more, np.inf)))
            own = self._extreme(part)
            self._best[part.device] = np.minimum(self._best[part.device], own)

    def _leave(self, part: Panes) -> None:
        self._sums.take_away(part.device, part)
        if self._sign:
            lost = part.device[self._extreme(part) <= self._best[part.device]]
            self._best[lost] = np.inf
            again = np.zeros(len(self._best), np.bool_)
            again[lost] = True
            newest = int(part.pane[0]) + self.length  # of the panes that have entered
            for begin, parts in self._panes.items():
                if begin < newest and lost.size:
                    for other in parts:
                        rows = again[other.device]
                        found = self._extreme(other)[rows]
                        some = other.device[rows]
                        self._best[some] = np.minimum(self._best[some], found)

    def _extreme(self, part: Panes) -> Floats:
        return part.least if self._sign > 0 else -part.most

    def _values(self, device: Ints) -> Floats:
        if self._sign:
            found: Floats = self._best[device] * self._sign + 0.0
            return found
        if self.statistic == "count":
            return self._sums.count[device].astype(np.float64)
        return self._sums.values(device, self.statistic == "mean")

    def held(self, devices: int) -> Ints:
        """The device numbers below `devices` that have a pane here, or fire."""
        found = np.zeros(devices, np.bool_)
        for parts in self._panes.values():
            for part in parts:
                found[part.device] = True
        self.alerts.reserve(devices)
        return np.flatnonzero(found | self.alerts.firing[:devices])

    def meet(self, device: Ints, time: int, forget_after: int) -> None:
        """Note that devices (unique) are evaluated at a pane end; those silent for longer than
        `forget_after` start anew, but for what fires."""
        more = int(device.max(initial=-1)) + 1 - len(self.seen)
        if more > 0:
            self.seen = np.concatenate((self.seen, np.full(max(more, len(self.seen)), NO_TIME)))
        before = self.seen[device]
        gone = device[(before != NO_TIME) & (time - before > forget_after)]
        if gone.size:
            self.alerts.forget(gone)
        self.seen[device] = time

    def save(self, device: Ints, local: Ints) -> dict[str, Any]:
        """The columns of a state object; `local` maps device numbers to rows of the body."""
        size = int(device.max(initial=-1)) + 1
        self.alerts.reserve(size)
        more = size - len(self.seen)
        if more > 0:
            self.seen = np.concatenate((self.seen, np.full(more, NO_TIME)))
        parts = [part for parts in self._panes.values() for part in parts]
        body: dict[str, Any] = {"fingerprint": self.fingerprint, "seen": self.seen[device]}
        for name in AlertStates.COLUMNS:
            body[name] = getattr(self.alerts, name)[device]
        for name in COLUMNS:
            kind = np.float64 if name in ("unit", "least", "most") else np.int64
            columns = [np.zeros(0, kind), *(getattr(part, name) for part in parts)]
            body[f"pane_{name}"] = np.concatenate(columns)
        body["pane_device"] = local[body["pane_device"]]
        first, wide = 0, list[list[int]]()
        for part in parts:
            wide += ([first + row, exact] for row, exact in part.wide.items())
            first += len(part.device)
        return {**body, "wide": wide}

    def restore(self, body: Mapping[str, Any], device: Ints, done: int) -> None:
        """Take over what was saved; `device` are the numbers here of the body's devices.

        `done` is the pane end, int ms, up to which windows were evaluated.
        """
        size = int(device.max(initial=-1)) + 1
        self.alerts.reserve(size)
        self.seen = np.full(size, NO_TIME)
        self.seen[device] = body["seen"]
        for name in AlertStates.COLUMNS:
            getattr(self.alerts, name)[device] = body[name]
        columns = {name: body[f"pane_{name}"] for name in COLUMNS}
        panes = Panes(**columns, wide={int(row): int(exact) for row, exact in body["wide"]})
        number = device[panes.device]
        # Of one device and pane there are as many rows as chunks: they are put one by one layer.
        for rows in _layers(number, panes.pane):
            self.put(_taken(panes, rows, number), number[rows])
        for begin in sorted(self._panes):
            if begin + PANE <= done:
                for part in self._panes[begin]:
                    self._enter(part)


def _taken(panes: Panes, rows: Ints, device: Ints) -> Panes:
    """Some rows, under the device numbers of the whole fleet."""
    wide = {}
    if panes.wide:
        wide = {new: panes.wide[old] for new, old in enumerate(rows.tolist()) if old in panes.wide}
    columns = {name: getattr(panes, name)[rows] for name in COLUMNS[1:]}
    return Panes(device[rows], **columns, wide=wide)


def _layers(device: Ints, pane: Ints) -> list[Ints]:
    """Rows in groups in each of which a (device, pane) occurs once."""
    order = np.lexsort((pane, device))
    device, pane = device[order], pane[order]
    same = np.zeros(len(order), np.bool_)
    same[1:] = (device[1:] == device[:-1]) & (pane[1:] == pane[:-1])
    count = np.cumsum(same)
    first = np.maximum.accumulate(np.where(same, 0, np.arange(len(order)))) if len(order) else order
    depth = count - count[first] if len(order) else order
    return [order[depth == level] for level in range(int(depth.max(initial=-1)) + 1)]
