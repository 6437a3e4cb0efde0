"""The real shard loop under a schedule drawn from a seed: crashes, outages, twins, torn state.

`Simulation(seed).run()` ends when every record has arrived and been read by a worker that was left
in peace; `check()` then holds what lies in the sinks, and the history behind the last state object,
against the plain oracle and against one uninterrupted run.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import drive
import generate
import memory_stream
import msgspec
from generate import Plan
from memory_stream import Faults, MemoryStream
from plain_kpl import Kinesis
from plain_oracle import Oracle

from streamgauge import Alert, Outcome, Position, Rejected
from streamgauge.consumers.metrics import Metrics
from streamgauge.consumers.recall import FULL_KEPT
from streamgauge.consumers.shard import Host, Shard
from streamgauge.engine import state
from streamgauge.engine.errors import FencedError, StateError, UnavailableError
from streamgauge.engine.limits import Entry
from streamgauge.engine.sinks.local import MemorySink
from streamgauge.engine.stores.memory import MemoryStates
from streamgauge.engine.stores.thresholds import MappingThresholds
from streamgauge.rules import spec as specs
from streamgauge.rules.plan import Pipeline

STEPS_MAX = 20_000
PEACE = Faults()
CHAOS = Faults(throttled=0.1, expired=0.05, empty=0.1, again=0.2)


class FlakyThresholds(MappingThresholds):
    """A table that is down at some calls."""

    def __init__(self, items: Sequence[Mapping[str, Any]], rng: random.Random) -> None:
        limits: dict[tuple[str, str], list[Entry]] = {}
        for item in items:
            names = ("value", "clear_margin", "version", "effective_from")
            entry = Entry(**{name: item[name] for name in names if name in item})
            limits.setdefault((item["device"], item["rule"]), []).append(entry)
        super().__init__(limits)
        self.random = rng
        self.down = 0.0

    def read(self, keys: Sequence[tuple[str, str]]) -> Mapping[tuple[str, str], Sequence[Entry]]:
        if self.random.random() < self.down:
            raise UnavailableError("the table is down")
        return super().read(keys)


@dataclass
class History:
    """What all state objects of one shard were made of: the answers of the pushes behind each."""

    behind: dict[int, list[drive.Answer]] = field(default_factory=dict)
    position: Position | None = None  # of the newest object written
    torn: bool = False


class Worker:
    """One life of the loop of one shard, with the pushes that its memory is made of."""

    def __init__(self, simulation: Simulation, shard_id: str) -> None:
        self.simulation = simulation
        self.history = simulation.histories[shard_id]
        self.pushes: list[drive.Answer] = []
        self.shard = Shard(shard_id, simulation.host(self))

    # What the host is made of.
    def observe(self, outcome: Outcome) -> None:
        answer = drive.Answer()
        drive.take(answer, outcome)
        self.pushes.append(answer)

    def log(self, event: str, **fields: Any) -> None:
        self.simulation.events.append(event)
        assert msgspec.json.encode(fields)
        if event == "shard_started":
            self.pushes = list(self.history.behind.get(fields["generation"], []))

    # The state store, watched.
    def create(self, pipeline: str, shard: str, generation: int, data: bytes) -> None:
        states = self.simulation.states
        before = set(self.simulation.objects(shard))
        try:
            states.create(pipeline, shard, generation, data)
        finally:
            if generation in set(self.simulation.objects(shard)) - before:
                self.written(generation, data)

    def written(self, generation: int, data: bytes) -> None:
        history = self.history
        history.behind[generation] = list(self.pushes)
        sequence, sub = state.decode(data)[1]["positions"][self.shard.shard_id]
        position = Position(self.shard.shard_id, sequence, sub)
        if history.position is not None and not history.torn:
            assert position.order >= history.position.order, "an owner that had lost went on"
        history.position, history.torn = position, False

    def __getattr__(self, name: str) -> Any:
        return getattr(self.simulation.states, name)


class Simulation:
    """One stream, one set of sinks and stores, and the workers that come and go."""

    def __init__(
        self,
        seed: int,
        toml: str,
        records: Mapping[str, Sequence[Kinesis]],
        thresholds: Sequence[Mapping[str, Any]] = (),
    ) -> None:
        self.random = random.Random(seed)
        self.toml, self.kinesis, self.items = toml, records, thresholds
        self.spec = specs.parse(toml)
        self.clock = 0.0
        self.alerts, self.errors, self.states = MemorySink(), MemorySink(), MemoryStates()
        self.thresholds = FlakyThresholds(thresholds, self.random)
        self.stream = MemoryStream(
            {name: [drive.record(given) for given in of] for name, of in records.items()},
            random=self.random,
            limit=self.random.choice([1, 3, 10, 1000]),
            arrived=dict.fromkeys(records, 0),
        )
        self.save_seconds = self.random.choice([0.0, 0.5, 2.0, 1000.0])
        self.histories = {name: History() for name in records}
        self.truths: dict[str, tuple[Oracle, list[dict[str, Any]]]] = {}
        self.events: list[str] = []
        self.steps: list[str] = []
        self.crash_at: Callable[[int], bool] = lambda step: False

    def now(self) -> float:
        return self.clock

    def plan(self) -> Pipeline:
        return Pipeline.plan(self.spec, self.thresholds, one_shard=True, now=self.now)

    def host(self, worker: Worker) -> Host:
        return Host(
            pipeline=self.spec.pipeline.name, plan=self.plan, reader=self.stream,
            alerts=self.alerts, errors=self.errors, states=worker, save_seconds=self.save_seconds,
            observe=worker.observe, log=worker.log, metrics=Metrics(),
            now=self.now, random=self.random.random,
        )  # fmt: skip

    def step(self, worker: Worker) -> bool:
        """One step; False if it cost the worker its life."""
        self.clock = max(self.clock, worker.shard.ready_at)
        self.steps.append(worker.shard.due().__name__)
        assert len(self.steps) < STEPS_MAX, "no end in sight"
        try:
            worker.shard.step()
        except FencedError:
            return False
        return not self.crash_at(len(self.steps))

    def torment(self, steps: int) -> None:
        """Let workers live and die at random while records arrive and services fail."""
        self.stream.faults, self.thresholds.down = CHAOS, 0.2
        workers = [Worker(self, name) for name in self.kinesis]
        for _ in range(steps):
            self.arrive()
            self.hurt()
            number = self.random.randrange(len(workers))
            worker = workers[number]
            name = worker.shard.shard_id
            if self.random.random() < 0.02:
                workers.append(Worker(self, name))  # a twin: the older one is not told
            if not self.step(worker) or self.random.random() < 0.08:
                del workers[number]
                if name not in [one.shard.shard_id for one in workers]:
                    self.tear(name)
                    workers.append(Worker(self, name))
        self.stream.faults, self.thresholds.down = PEACE, 0.0
        for sink in (self.alerts, self.errors, self.states):
            sink.fail_next = sink.lose_next = 0

    def objects(self, name: str) -> dict[int, bytes]:
        """The state objects of one shard, to be looked at and damaged."""
        return self.states._objects.setdefault((self.spec.pipeline.name, name), {})

    def arrive(self) -> None:
        name = self.random.choice(list(self.kinesis))
        more = self.stream.arrived[name] + self.random.choice([0, 1, 2, 5])
        self.stream.arrived[name] = min(more, len(self.kinesis[name]))

    def hurt(self) -> None:
        sink = self.random.choice([self.alerts, self.errors, self.states])
        sink.fail_next = self.random.choice([0] * 20 + [1, 3])
        sink.lose_next = self.random.choice([0] * 20 + [1])

    def tear(self, name: str) -> None:
        """Damage the newest state object, now and then."""
        objects = self.objects(name)
        if objects and self.random.random() < 0.2:
            newest = max(objects)
            objects[newest] = objects[newest][: self.random.randrange(len(objects[newest]))]
            self.histories[name].torn = True

    def settle(self) -> None:
        """Everything has arrived; one worker a shard reads to the tip and stops."""
        for name, records in self.kinesis.items():
            self.stream.arrived[name] = len(records)
            worker = Worker(self, name)
            while not (worker.shard.at_tip and worker.shard.idle):
                if not self.step(worker):
                    worker = Worker(self, name)
                if worker.shard.at_tip:
                    worker.shard.finish()
            assert len([data for data in self.objects(name).values() if whole(data)]) <= FULL_KEPT
            self.check(worker)

    def check(self, worker: Worker) -> None:
        """The invariants, once a shard is read to its end."""
        name = worker.shard.shard_id
        oracle, uninterrupted = self.truth(name)
        answer = drive.Answer()
        for push in worker.pushes:
            answer.alerts += [fresh(alert) for alert in push.alerts]
            answer.statistics += push.statistics
            answer.rejected += push.rejected
            drive.add(answer.counts, push.counts)
        oracle.counts["repeated"] = answer.counts.get("repeated", 0)
        if answer.counts:
            drive.compare(answer, oracle)
        assert self.published(name) == answer.alerts == uninterrupted
        self.check_errors(name, oracle)

    def published(self, name: str) -> list[dict[str, Any]]:
        """The alerts of one shard as a subscriber sees them who knows an id once."""
        seen: dict[str, dict[str, Any]] = {}
        for row in self.alerts.rows:
            assert isinstance(row, Alert)
            alert = fresh(msgspec.to_builtins(row))
            if str(alert["last_position"]).startswith(f"{name}:"):
                assert seen.setdefault(row.id, alert) == alert, "one id, two alerts"
        return list(seen.values())

    def truth(self, name: str) -> tuple[Oracle, list[dict[str, Any]]]:
        """What the oracle says of one shard, and the alerts of a run without any trouble."""
        if name not in self.truths:
            oracle = drive.oracle_of(self.toml, self.items, [self.kinesis[name]])
            outcome = self.plan().push(map(drive.record, self.kinesis[name]))
            alerts = [fresh(msgspec.to_builtins(alert)) for alert in outcome.alerts]
            self.truths[name] = oracle, alerts
        return self.truths[name]

    def check_errors(self, name: str, oracle: Oracle) -> None:
        """Every rejected record is in the error stream, with its bytes."""
        found: dict[tuple[str, str | None], bytes] = {}
        for row in self.errors.rows:
            assert isinstance(row, Rejected)
            if row.at.shard_id == name:
                assert found.setdefault((str(row.at), row.rule), row.data) == row.data
        assert found == {
            (row["position"], row["rule"]): row["user"].data for row in oracle.rejected
        }


def whole(data: bytes) -> bool:
    """Whether a state object can be read."""
    try:
        return state.decode(data)[0] == "full"
    except StateError:
        return False


def fresh(alert: dict[str, Any]) -> dict[str, Any]:
    """An alert but for the mark that its limit was an old one: that the table's outages decide."""
    return {key: value for key, value in alert.items() if key != "stale"}


def generated(seed: int) -> Simulation:
    """A simulation of a stream drawn from the seed: a few devices, much of it out of order."""
    rng = random.Random(seed)
    scale = rng.choice([10, 1000, 60_000])
    rules = tuple(
        generate.rule_text(
            number, length, rng.choice(generate.STATISTICS), rng.choice(["above", "below"]),
            rng.choice([90.0, 71.5, 93.12]), rng.choice([0.0, 2.0]), rng.randint(1, 3),
            rng.choice([0, 0, scale]), "", "#",
        )
        for number, length in enumerate((scale, 3 * scale))
    )  # fmt: skip
    plan = Plan(scale, (scale, 3 * scale), scale, rules, arrivals=True, skew=3 * scale)
    items = [
        {"device": "a", "rule": "rule0", "value": 71.5, "version": 1},
        {"device": "a", "rule": "rule0", "value": 95.0, "version": 2,
         "effective_from": generate.START + 5 * scale},
        {"device": "7", "rule": "rule1", "value": 60.0, "clear_margin": 1.0},
    ]  # fmt: skip
    drawn = (
        generate.seeded(seed + 1_000_000 * turn, devices=4, count=40, plan=plan, odd=0.3, shards=2)
        for turn in itertools.count()
    )
    case = next(case for case in drawn if has_ids_of_its_own(case, items))
    records = memory_stream.by_shard(given for batch in case.batches for given in batch)
    return Simulation(seed, case.toml + '[thresholds]\nrefresh = "1s"\n', records, items)


def has_ids_of_its_own(case: generate.Case, items: Sequence[Mapping[str, Any]]) -> bool:
    """Not so where a device is forgotten and comes back with the very times of its old alerts."""
    alerts = drive.oracle_of(case.toml, items, case.batches).alerts
    changes = [tuple(alert[key] for key in ("rule", "device", "state", "time")) for alert in alerts]
    return len(set(changes)) == len(changes)
