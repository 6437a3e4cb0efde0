"""The merger of the fan-out mode: chunks in any order in, alerts out, the same for every order.

Of each shard it knows the chunks that were sent, in their order, and which of them are merged. What
lies before the first that is not is *passed*: the shard time there is the merger's for that shard.
A pane end is evaluated when the times of all shards that are not finished are past it and the
allowed lateness; by then a sample that belonged before it is merged, or it was late.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal

import numpy as np

from . import state
from .alert import AlertStates, alert_id
from .batch import NO_TIME, Alert, Ints, Position
from .counts import RuleCounts
from .devices import Devices
from .errors import StateError
from .judge import Rule
from .pane_rule import Ended, PaneRule
from .panes import PANE, Partial
from .threshold import Thresholds

FULL: Literal["full"] = "full"
SWEEPS = 8  # times in `forget_after` that memory of silent devices is looked for
MODE = "fan_out"  # before the fingerprints of its rules: windows of the other mode are not its


class Merger:
    """Panes of a whole stream, its alert states, and how far it is.

    A shard is known before the one that it was split or merged from is finished: else windows might
    be evaluated that its samples belong to.

    positions: up to which each shard is passed. times: int ms, of each shard there. done: the pane
    end, int ms, up to which all is evaluated; None before the first.
    """

    def __init__(
        self,
        name: str,
        rules: Sequence[Rule],
        thresholds: Thresholds,
        *,
        allowed_lateness: int,
        forget_after: int,
        now: Callable[[], float] = time.time,
    ) -> None:
        """Start with an empty memory; durations are int ms."""
        self.name, self.rules, self.now = name, tuple(rules), now
        self.positions: dict[str, Position] = {}
        self.times: dict[str, int] = {}
        self.finished: set[str] = set()
        self.done: int | None = None
        self._thresholds = thresholds
        self._lateness, self._forget_after = allowed_lateness, forget_after
        self._devices = Devices()
        self._swept = NO_TIME
        self._of = [
            PaneRule(
                rule.window,
                rule.statistic,
                AlertStates(rule.fire_when, rule.min_samples, rule.hold),
                f"{MODE}:{rule.fingerprint}",
            )
            for rule in self.rules
        ]

    def know(self, shards: Iterable[str]) -> None:
        """Note shards that nothing may be evaluated without, until they are finished."""
        for shard in shards:
            self.times.setdefault(shard, NO_TIME)

    def merge(self, partial: Partial) -> None:
        """Add the panes of a chunk. Once: whoever sends chunks knows which came back."""
        ids, names = self._devices.ids, partial.names
        numbers = np.zeros(len(names), np.int64)
        used = np.unique(np.concatenate([panes.device for panes in partial.panes]))
        numbers[used] = [ids[names[place]] for place in used.tolist()]
        self._devices.fresh.clear()
        for rule, panes in zip(self._of, partial.panes, strict=True):
            early = self.done is not None and bool((panes.pane < self.done).any())
            assert not early, "a pane came after it was evaluated: its samples were late"
            rule.put(panes, numbers[panes.device])

    def passed(self, shard: str, position: Position | None, shard_time: int) -> None:
        """Note that all chunks of a shard up to a position are merged, and its time there."""
        if position is not None:
            self.positions[shard] = position
        self.times[shard] = max(self.times.get(shard, NO_TIME), shard_time)

    def finish(self, shard: str) -> None:
        """Note that a shard is passed to its end: it holds nothing back any more."""
        self.finished.add(shard)
        self.times.pop(shard, None)

    @property
    def watermark(self) -> int | None:
        """The time that all shards are past, int ms; None: all that there were are finished."""
        return min(self.times.values(), default=None)

    def evaluate(self, counts: dict[str, RuleCounts]) -> list[Alert]:
        """Evaluate every pane end that can be; the alerts, by time, rule and device.

        Nothing while no shard is known: its samples may belong anywhere.

        Args:
            counts: of each rule; its alerts are counted there.

        Raises:
            UnavailableError: limits are not known, as their table is down. Call again: what is
                evaluated by then is not told twice.
        """
        watermark = self.watermark
        if watermark is None or watermark == NO_TIME:
            return []
        return self._evaluate_to((watermark - self._lateness - 1) // PANE * PANE, counts)

    def evaluate_all(self, counts: dict[str, RuleCounts]) -> list[Alert]:
        """Evaluate to the end of all windows: nothing will ever come, as after a back-test."""
        return self._evaluate_to(self._last_end(), counts)

    def _last_end(self) -> int:
        ends = [of.last + of.length for of in self._of if of.last is not None]
        return max(ends, default=NO_TIME)

    def _evaluate_to(self, last: int, counts: dict[str, RuleCounts]) -> list[Alert]:
        alerts: list[Alert] = []
        self._prepare()
        while (end := self._next_end()) is not None and end <= last:
            for index, (rule, of) in enumerate(zip(self.rules, self._of, strict=True)):
                ended = of.end(end)
                if len(ended.device):
                    alerts += self._judge(index, rule, of, end, ended, counts[rule.name])
            self.done = end
        if last != NO_TIME:
            self.done = last if self.done is None else max(self.done, last)
            self._sweep(last)
        return alerts

    def _prepare(self) -> None:
        """Have the limits of all devices that may be evaluated, before anything changes."""
        self._thresholds.prepare(self._devices.names, self._living())

    def _living(self) -> Ints:
        """The numbers of all devices that have one."""
        free = np.array(self._devices.free, np.int64)
        return np.setdiff1d(np.arange(len(self._devices)), free)

    def _next_end(self) -> int | None:
        """The next pane end at which a window may hold something."""
        after = NO_TIME if self.done is None else self.done
        if any(not of.idle for of in self._of):
            return after + PANE
        begins = [of.first_from(after) for of in self._of]
        found = min((begin for begin in begins if begin is not None), default=None)
        return None if found is None else found + PANE

    def _judge(
        self, index: int, rule: Rule, of: PaneRule, end: int, ended: Ended, counts: RuleCounts
    ) -> list[Alert]:
        of.meet(ended.device, end, self._forget_after)
        finite = np.isfinite(ended.value)  # a sum beyond float64 is passed over
        device, value, samples = ended.device[finite], ended.value[finite], ended.samples[finite]
        times = np.full(len(device), end)
        limits = self._thresholds.limits(index, device, times)
        changes = of.alerts.advance(device, times, value, samples, limits.value, limits.margin)
        counts.alerts += len(changes)
        names = self._devices.names
        found = []
        for row, new in changes:
            name = names[int(device[row])]
            found.append(
                Alert(
                    id=alert_id(self.name, rule.name, name, new, end),
                    pipeline=self.name,
                    rule=rule.name,
                    device=name,
                    state=new,
                    time=end,
                    value=float(value[row]),
                    samples=int(samples[row]),
                    threshold=float(limits.value[row]),
                    threshold_version=limits.version[row],
                    window_start=end - rule.window,
                    window_end=end,
                    first_position=None,
                    last_position=None,
                    severity=rule.severity,
                    stale=bool(limits.stale[row]),
                )
            )
        return sorted(found, key=lambda alert: alert.device)

    def inspect(self, device: str) -> list[dict[str, Any]]:
        """What each rule knows of a device now; nothing where it is unknown."""
        number = self._devices.ids[device] if device in self._devices.ids else -1
        if number < 0:
            return []
        found = []
        for rule, of in zip(self.rules, self._of, strict=True):
            of.alerts.reserve(number + 1)
            seen = int(of.seen[number]) if number < len(of.seen) else NO_TIME
            pending = int(of.alerts.pending[number])
            firing = bool(of.alerts.firing[number])
            found.append({
                "rule": rule.name, "device": device,
                "state": "firing" if firing else "ok" if pending == NO_TIME else "pending",
                "time": None if seen == NO_TIME else seen,
            })  # fmt: skip
        return found

    @property
    def firing(self) -> dict[str, int]:
        """How many devices are firing now, by rule."""
        pairs = zip(self.rules, self._of, strict=True)
        return {rule.name: int(np.count_nonzero(of.alerts.firing)) for rule, of in pairs}

    @property
    def stale_devices(self) -> int:
        """How many devices are judged by limits that are too old, as the table is down."""
        return self._thresholds.stale_devices

    def _sweep(self, time: int) -> None:
        """Free devices of which nothing is held and that were silent for twice `forget_after`."""
        if time - self._swept < max(PANE, self._forget_after // SWEEPS):
            return
        self._swept = time
        known = len(self._devices)
        free = np.ones(known, np.bool_)
        free[self._devices.free] = False
        for of in self._of:
            free[of.held(known)] = False
            size = min(known, len(of.seen))
            free[:size] &= of.seen[:size] < time - 2 * self._forget_after
        gone: Ints = np.flatnonzero(free)
        if gone.size:
            for of in self._of:
                of.alerts.forget(gone)
                of.seen[gone[gone < len(of.seen)]] = NO_TIME
            self._thresholds.forget(gone)
            for number in gone.tolist():
                self._devices.forget(number)

    def save(self, earlier: Sequence[int] = ()) -> bytes:
        """The next state object; `earlier` as of Pipeline.save. All chunks sent must be merged."""
        device = self._living()
        local = np.full(len(self._devices), -1, np.int64)
        local[device] = np.arange(len(device))
        names = self._devices.names
        body = {
            "pipeline": self.name,
            "mode": MODE,
            "earlier": list(earlier),
            "positions": {
                shard: [at.sequence_number, at.sub_sequence_number]
                for shard, at in self.positions.items()
            },
            "times": dict(self.times),
            "finished": sorted(self.finished),
            "done": self.done,
            "devices": [names[number] for number in device.tolist()],
            "rules": {
                rule.name: of.save(device, local)
                for rule, of in zip(self.rules, self._of, strict=True)
            },
        }
        return state.encode(FULL, body)

    def restore(self, data: bytes) -> list[str]:
        """Take over a state object; the names of rules that start empty, as they have changed.

        Raises:
            StateError: it cannot be read, or is of another pipeline or mode.
        """
        _, body = state.decode(data)
        if (body.get("pipeline"), body.get("mode")) != (self.name, MODE):
            found = f"{body.get('pipeline')!r} in mode {body.get('mode')!r}"
            raise StateError(f"state of pipeline {found}, not of {self.name!r} in mode {MODE!r}")
        changed = []
        try:
            ids = self._devices.ids
            device = np.fromiter((ids[name] for name in body["devices"]), np.int64)
            self._devices.fresh.clear()
            self.done, self.finished = body["done"], set(body["finished"])
            self.times = dict(body["times"])
            self.positions = {
                shard: Position(shard, sequence, sub)
                for shard, (sequence, sub) in body["positions"].items()
            }
            for rule, of in zip(self.rules, self._of, strict=True):
                saved = body["rules"].get(rule.name)
                if saved is None or saved["fingerprint"] != of.fingerprint:
                    changed.append(rule.name)
                else:
                    of.restore(saved, device, NO_TIME if self.done is None else self.done)
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise StateError(f"a state object lacks what it should hold: {error!r}") from error
        return changed
