"""What a pipeline remembers of one shard between batches, and how it is saved and restored.

A state object's body holds: `pipeline`; `earlier` (see Pipeline.save); `next` (number of the next
Kinesis record); `positions` (shard id -> [sequence number, sub-sequence number], the last applied);
`shard_time` (int ms); `devices` (names) with `seen`, `since` and `home` (place in `homes`, shard
ids); `log` (where the retained samples came from); `rules` (name -> fingerprint, and the samples
and alert states of these devices); `gone` (names of devices forgotten since the last body, before
what `devices` says). A full body speaks of all devices; a delta of those that had a record since
the last body, and holds just the samples that came since. Laid one over the other in order they
give the state again.

The shards in `positions` are those that the state goes back to: its own, and the ones that were
split or merged into it. A body without `home` is of a version that did not keep it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from .alert import AlertStates
from .batch import NO_TIME, SUB_BITS, Ints, Position
from .devices import Devices
from .kernels import Samples
from .positions import PositionLog
from .window import Window

_Piece = tuple[Ints, Mapping[str, Any] | None]  # devices, and what is saved of them: None, nothing
NOWHERE = ""  # the home of devices whose last shard is not known
FORGET_ROUNDS = 8  # unused memory is looked for this many times in `forget_after`


class RuleMemory:
    """The windows and alert states of one rule."""

    def __init__(self, fingerprint: str, window: Window, alerts: AlertStates) -> None:
        """Take both as they are; `fingerprint` says what they are of."""
        self.fingerprint = fingerprint
        self.window = window
        self.alerts = alerts

    def forget(self, device: Ints) -> None:
        """Drop the windows of these devices; what fires keeps firing."""
        self.window.forget(device)
        self.alerts.forget(device)

    def save(self, device: Ints, local: Ints, oldest: int) -> dict[str, Any]:
        """The columns of these devices; `local` maps device numbers to rows of the body."""
        size = int(device.max(initial=-1)) + 1
        self.window.reserve(size)
        self.alerts.reserve(size)
        samples = self.window.retained(device)
        if oldest:
            samples = samples.take(np.flatnonzero(samples.serial >= oldest))
        body: dict[str, Any] = {
            "fingerprint": self.fingerprint,
            "samples": {
                "device": local[samples.device].astype(np.int32),
                "time": samples.time,
                "value": samples.value,
                "serial": samples.serial,
            },
            "newest": self.window.newest[device],
        }
        for name in AlertStates.COLUMNS:
            body[name] = getattr(self.alerts, name)[device]
        return body


class Memory:
    """The state of one shard (or of one back-test): devices, rules, positions."""

    def __init__(
        self, rules: Mapping[str, RuleMemory], forget_after: int, one_clock: bool = True
    ) -> None:
        """Start empty.

        Args:
            rules: by name. forget_after: int ms. one_clock: arrival times are those that Kinesis
                gives the records of one shard, and no other shard's records will come.
        """
        self.rules = dict(rules)
        self.one_clock = one_clock
        self.removed: dict[str, int] = {}  # restored rules that are no more: devices that fire
        self.forget_after = forget_after
        self.devices = Devices()
        self.seen = np.zeros(0, np.int64)  # arrival of the last decoded record, ms
        self.since = np.zeros(0, np.int64)  # serial from which on the device is remembered
        self.home = np.zeros(0, np.int64)  # shard of the last decoded record, a number of `homes`
        self.homes: dict[str, int] = {}
        self.log = PositionLog()
        self.positions: dict[str, Position] = {}
        self.shard_time = NO_TIME
        self._touched = np.zeros(0, np.bool_)
        self._gone: list[str] = []  # forgotten since the last state object
        self._saved = 0  # serials below this one are in a state object
        self._sweep = NO_TIME

    def reserve(self) -> None:
        """Make room for all devices known by name."""
        more = len(self.devices) - len(self.seen)
        if more <= 0:
            return
        more = max(more, len(self.seen), 64)
        self.seen = np.concatenate((self.seen, np.full(more, NO_TIME)))
        self.since = np.concatenate((self.since, np.zeros(more, np.int64)))
        self.home = np.concatenate((self.home, np.zeros(more, np.int64)))
        self._touched = np.concatenate((self._touched, np.zeros(more, np.bool_)))

    def meet(self, device: Ints, arrival: Ints, serial: Ints, shard_id: str) -> Ints | None:
        """Note decoded records; how often each row's device was forgotten in this batch so far.

        Args:
            device, arrival (ms, NO_TIME where unknown), serial: int64 (rows,), in arrival order.
            shard_id: where they were read.

        Returns:
            int64 (rows,), or None where no device was forgotten: the usual case.
        """
        self.reserve()
        if self.devices.fresh:
            self.since[self.devices.fresh] = serial[0]
            self.devices.fresh.clear()
        self._touched[device] = True
        home = self._home(shard_id)
        if len(self.homes) > 1:  # of one shard alone every home is number 0
            self.home[device] = home
        known = arrival[arrival != NO_TIME]
        self.one_clock &= len(known) == len(arrival)
        rounds = None
        if known.size:
            before = self.seen[device]
            before = before[before != NO_TIME]
            oldest = min(int(known.min()), int(before.min(initial=known.min())))
            if int(known.max()) - oldest > self.forget_after:
                rounds = self._rounds(device, arrival, serial)
            self.shard_time = max(self.shard_time, int(known.max()))
        self.seen[device] = arrival
        return rounds

    def _home(self, shard_id: str) -> int:
        return self.homes.setdefault(shard_id, len(self.homes))

    def _rounds(self, device: Ints, arrival: Ints, serial: Ints) -> Ints | None:
        order = np.argsort(device, kind="stable")
        number, time = device[order], arrival[order]
        same = np.zeros(len(order), np.bool_)
        same[1:] = number[1:] == number[:-1]
        before = np.where(same, np.roll(time, 1), self.seen[number])
        gone = (before != NO_TIME) & (time != NO_TIME) & (time - before > self.forget_after)
        if not gone.any():
            return None
        count = np.cumsum(gone)
        first = np.maximum.accumulate(np.where(same, 0, np.arange(len(order))))
        rounds = np.empty(len(order), np.int64)
        rounds[order] = count - count[first] + gone[first]
        self.since[number[gone]] = serial[order][gone]
        return rounds

    def forget(self, device: Ints) -> None:
        """Drop the windows of these devices (unique) under every rule."""
        for rule in self.rules.values():
            rule.forget(device)

    def sweep(self) -> Ints:
        """Free devices silent so long that their next record cannot find anything; their numbers.

        Twice `forget_after` of shard time: the arrival times that Kinesis gives the records of one
        shard may go back a little, never by as much as `forget_after`. Nothing is freed where they
        come from elsewhere, are missing, or are those of several shards: then no one clock tells
        what comes next. A device that fires is kept, with an empty window.
        """
        if not self.one_clock:
            return np.zeros(0, np.int64)
        every = max(1, self.forget_after // FORGET_ROUNDS)
        if self.shard_time - self._sweep < every:
            return np.zeros(0, np.int64)
        self._sweep = self.shard_time
        known = len(self.devices)
        silent = self.seen[:known] < self.shard_time - 2 * self.forget_after
        silent &= self.seen[:known] != NO_TIME
        if not silent.any():
            return np.zeros(0, np.int64)
        device = np.flatnonzero(silent)
        self.forget(device)
        self.devices.names = list(self.devices.names)  # outcomes handed out keep their names
        fires = np.zeros(known, np.bool_)
        for rule in self.rules.values():
            rule.alerts.reserve(known)
            fires |= rule.alerts.firing[:known]
        gone: Ints = device[~fires[device]]
        self.seen[gone] = NO_TIME
        self._touched[gone] = False
        for number in gone.tolist():
            if self._saved:
                self._gone.append(self.devices.names[number])
            self.devices.forget(number)
        return gone

    def live_records(self) -> Ints:
        """Numbers of the Kinesis records that some retained sample came from, sorted."""
        everything = np.arange(len(self.devices))
        serials = [rule.window.retained(everything).serial for rule in self.rules.values()]
        return np.unique(np.concatenate([np.zeros(0, np.int64), *serials]) >> SUB_BITS)

    def save(self, full: bool) -> dict[str, Any]:
        """The body of the next state object; what it holds counts as saved from now on."""
        self.reserve()
        known = len(self.devices)
        device = np.arange(known) if full else np.flatnonzero(self._touched[:known])
        unused = [*self.devices.free, *self.devices.fresh]  # fresh: read, but not applied
        if full and unused:
            device = np.setdiff1d(device, np.asarray(unused))
        local = np.full(known, -1, np.int64)
        local[device] = np.arange(len(device))
        oldest = 0 if full else self._saved
        rules = {name: rule.save(device, local, oldest) for name, rule in self.rules.items()}
        serials = [rule["samples"]["serial"] for rule in rules.values()]
        numbers = np.unique(np.concatenate([np.zeros(0, np.int64), *serials]) >> SUB_BITS)
        self._touched[:] = False
        forgotten, self._gone = self._gone, []
        self._saved = self.log.next << SUB_BITS
        names = self.devices.names
        return {
            "next": self.log.next,
            "positions": {
                shard: [at.sequence_number, at.sub_sequence_number]
                for shard, at in self.positions.items()
            },
            "shard_time": self.shard_time,
            "gone": [] if full else forgotten,
            "devices": [names[number] for number in device.tolist()],
            "seen": self.seen[device],
            "since": self.since[device],
            "homes": list(self.homes),
            "home": self.home[device].astype(np.int32),
            "log": self.log.save(numbers),
            "rules": rules,
        }

    def restore(self, bodies: Iterable[Mapping[str, Any]]) -> list[str]:
        """Take a full body and the deltas after it, in order; into an empty memory.

        Returns the names of rules whose saved state is of another fingerprint or absent: they start
        empty.
        """
        parts: dict[str, list[_Piece]] = {name: [] for name in self.rules}
        changed: set[str] = set()
        lost: set[int] = set()
        for body in bodies:
            ids = self.devices.ids
            gone = np.fromiter((ids[name] for name in body["gone"]), np.int64)
            self.reserve()
            self.seen[gone] = NO_TIME
            self.since[gone] = body["next"] << SUB_BITS
            lost.update(gone.tolist())
            for pieces in parts.values():
                pieces.append((gone, None))
            device = np.fromiter((ids[name] for name in body["devices"]), np.int64)
            lost.difference_update(device.tolist())
            self.reserve()
            self.seen[device] = body["seen"]
            self.since[device] = body["since"]
            self.home[device] = self._homes_in(body)
            self.shard_time = body["shard_time"]
            self.log.restore(body["log"], body["next"])
            for shard, (sequence, sub) in body["positions"].items():
                self.positions[shard] = Position(shard, sequence, sub)
            self.removed = {
                name: int(np.count_nonzero(saved["firing"]))
                for name, saved in body["rules"].items()
                if name not in self.rules
            }
            for name, rule in self.rules.items():
                saved = body["rules"].get(name)
                if saved is None or saved["fingerprint"] != rule.fingerprint:
                    changed.add(name)
                else:
                    parts[name].append((device, saved))
        for name, rule in self.rules.items():
            if name not in changed:
                self._restore_rule(rule, parts[name])
        for number in sorted(lost):
            if self.seen[number] == NO_TIME:
                self.devices.forget(number)
        self.devices.fresh.clear()
        self._saved = self.log.next << SUB_BITS
        return sorted(changed)

    def _homes_in(self, body: Mapping[str, Any]) -> Ints:
        """Of the devices of a body, in numbers of ours; where they are not told, as far as known.

        A memory of one shard is its devices' home; of more, the home is none of them.
        """
        if "home" not in body:
            shards = list(body["positions"])
            home = self._home(shards[0] if len(shards) == 1 else NOWHERE)
            return np.full(len(body["devices"]), home)
        numbers = np.fromiter(map(self._home, body["homes"]), np.int64, len(body["homes"]))
        found: Ints = numbers[body["home"]]
        return found

    def _restore_rule(self, rule: RuleMemory, parts: list[_Piece]) -> None:
        known = len(self.devices)
        newest = np.full(known, NO_TIME)
        rule.alerts.reserve(known)
        pieces = [Samples(*(np.zeros(0, kind) for kind in (int, int, float, int)))]
        for device, saved in parts:
            if saved is None:
                newest[device] = NO_TIME
                for column in AlertStates.COLUMNS:
                    blank = False if column == "firing" else NO_TIME
                    getattr(rule.alerts, column)[device] = blank
                continue
            newest[device] = saved["newest"]
            for column in AlertStates.COLUMNS:
                getattr(rule.alerts, column)[device] = saved[column]
            some = saved["samples"]
            pieces.append(
                Samples(device[some["device"]], some["time"], some["value"], some["serial"])
            )
        samples = Samples._make(np.concatenate(column) for column in zip(*pieces, strict=True))
        kept = samples.serial >= self.since[samples.device]
        kept &= samples.time >= newest[samples.device] - rule.window.keep
        rule.window.restore(samples.take(np.flatnonzero(kept)), np.arange(known), newest)
