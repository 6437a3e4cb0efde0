"""A fleet that speaks while the clock goes on, and faults that come and go by that clock.

`Live(seed)` has a reading of each device every PERIOD seconds; `at(seconds, action)` says what
happens when, `go(until)` lets time pass. How long it takes after `ended()` until all shards are at
their tip is the recovery.
"""

from __future__ import annotations

import bisect
import itertools
import json
import random
from collections.abc import Callable
from typing import Any

import msgspec
from plain_kpl import Kinesis, User, repacked
from simulation import Figures, History, Simulation, Worker

from streamgauge.engine.limits import Entry

START = 1_767_600_000_000  # ms
PERIOD = 10  # seconds between two readings of a device
SWING = 60  # seconds in which all values go up and down once
DEVICES = 8
SHARDS = ("shardId-000000000000", "shardId-000000000001")
REFRESH = 10.0  # seconds
SAVE_SECONDS = 30.0
OWN = 90.0  # the rule's limit
TOML = """
[pipeline]
name = "live"
[record]
device = "device"
time = "ts"
[[rules]]
name = "hot"
sql = "SELECT device, ts, t FROM '#' WHERE t > -50"
measure = "t"
window = "20s"
threshold = 90.0
clear_margin = 1.0
min_samples = 2
[[rules]]
name = "peak"
sql = "SELECT * FROM '#'"
measure = "t"
window = "10s"
statistic = "max"
threshold = 95.0
[thresholds]
table = "thresholds"
refresh = "10s"
"""


def device(shard: int, number: int) -> str:
    return f"d{shard}-{number}"


LIMITS = [
    {"device": device(shard, number), "rule": "hot", "value": 86.5, "version": 3}
    for shard in range(len(SHARDS))
    for number in range(0, DEVICES, 2)
]


def value(rng: random.Random, second: int) -> float:
    """High in one half of a swing and low in the other, for all devices at about the same time."""
    return (96.0 if second % SWING < SWING / 2 else 80.0) + rng.randrange(-30, 31) / 10


def payload(rng: random.Random, name: str, second: int) -> bytes:
    """A reading; now and then one that is rejected: by the decoder, or by both rules."""
    message = {"device": name, "ts": START + 1000 * second, "t": value(rng, second)}
    drawn = rng.random()
    if drawn < 0.04:
        return json.dumps(message).encode()[:-1]
    if drawn < 0.08:
        message["t"] = "hot"
    return json.dumps(message).encode()


def readings(rng: random.Random, seconds: int) -> dict[str, list[Kinesis]]:
    """The Kinesis records of each shard; some are aggregates."""
    found = {}
    for number, shard in enumerate(SHARDS):
        users = [
            User(shard, str(at), 0, payload(rng, device(number, one), second), b"k",
                 START + 1000 * second)
            for at, (second, one) in enumerate(
                itertools.product(range(0, seconds, PERIOD), range(DEVICES)), 1
            )
        ]  # fmt: skip
        found[shard] = repacked(users, iter(lambda: rng.choice([1, 1, 3]), None))
    return found


class Live(Simulation):
    """Workers read as records arrive; their sinks and stores are their own, not another's.

    workers: those that live. recovery: seconds, None before it is over.
    """

    def __init__(self, seed: int, minutes: float = 8) -> None:
        self.seconds = round(60 * minutes)
        records = readings(random.Random(seed), self.seconds)
        super().__init__(seed, TOML, records, LIMITS, fifo=seed % 2 == 1)
        self.stream.limit = 1000
        self.save_seconds = SAVE_SECONDS
        self.shared = None
        self.arrivals = {name: [given.arrival for given in of] for name, of in records.items()}
        self.workers = [Worker(self, name) for name in records]
        self.recovery: float | None = None
        self._ended_at: float | None = None
        self._tips: set[str] = set()
        self._plans: list[tuple[float, int, Callable[[], object]]] = []

    def at(self, seconds: float, action: Callable[[], object]) -> None:
        """Have something happen at a time."""
        bisect.insort(self._plans, (seconds, len(self._plans), action))

    def ended(self) -> None:
        """Note that the fault is over: from now on the recovery counts."""
        self.cloud.heal()
        self._ended_at, self._tips, self.recovery = self.clock, set(), None

    def go(self, until: float) -> None:
        """Let time pass, and do what is due."""
        while True:
            worker = min(self.workers, key=lambda one: one.shard.ready_at)
            due = max(self.clock, worker.shard.ready_at)
            if self._plans and self._plans[0][0] <= min(due, until):
                seconds, _, action = self._plans.pop(0)
                self.clock = max(self.clock, seconds)
                self._arrive()
                action()
            elif due >= until:
                self.clock = max(self.clock, until)
                self._arrive()
                return
            else:
                self.clock = due
                self._arrive()
                self.turn(worker)

    def turn(self, worker: Worker) -> None:
        """Let one worker do one step; where that kills it, another one begins."""
        if not self.step(worker):
            self.crash(worker)
        elif self.steps[-1] == "read" and worker.shard.at_tip and self._ended_at is not None:
            self._tips.add(worker.shard.shard_id)
            if self.recovery is None and self._tips == set(SHARDS):
                self.recovery = self.clock - self._ended_at

    def crash(self, worker: Worker) -> None:
        """Kill a worker; another one takes its place, unless a twin of it lives."""
        name = worker.shard.shard_id
        self.workers = [one for one in self.workers if one is not worker]
        if name not in [one.shard.shard_id for one in self.workers]:
            self.workers.append(Worker(self, name))

    def crash_all(self) -> None:
        for worker in list(self.workers):
            self.crash(worker)

    def set_limit(self, name: str, limit: float) -> None:
        """Change a limit as `thresholds set` does: in force in two refresh intervals."""
        start = START + round(1000 * (self.clock + 2 * REFRESH))
        own = Entry(OWN, 1.0, 0, None)
        self.cloud.limits().set(name, "hot", Entry(limit, None, None, start), own)

    def finish(self) -> Figures:
        """Let all records arrive and be read; check what came of it, with the limits as told."""
        self.go(self.seconds)
        if self._ended_at is None:
            self.ended()
        self.go(self.clock + 30)
        assert self.recovery is not None, "not all was read again half a minute after the end"
        self.items = self._limits()
        self.settle()
        return self.figures()

    def replay(self) -> None:
        """Read all records once more, without any state, and check that the answer is the same."""
        self.cloud.states.objects.clear()
        self.histories = {name: History() for name in SHARDS}
        self.settle()

    def _limits(self) -> list[dict[str, Any]]:
        """The limits in the table, as the oracle takes them; version 0 is the rule's own limit."""
        return [
            {
                "device": item["device"]["S"],
                "rule": item["rule"]["S"],
                **msgspec.to_builtins(entry),
                "version": entry.version or None,
            }
            for item in self.cloud.table.items()
            for entry in self.cloud.limits().entries(item)
        ]

    def _arrive(self) -> None:
        now = START + round(1000 * self.clock)
        for name, arrivals in self.arrivals.items():
            self.stream.arrived[name] = bisect.bisect_right(arrivals, now)
