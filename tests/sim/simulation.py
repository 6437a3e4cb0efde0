"""The real shard loop under a schedule drawn from a seed: crashes, outages, twins, torn state.

Over stand-ins of the services in memory run the real reader, sinks and stores (see cloud.py).
`Simulation(seed).run()` ends when every record has arrived and been read by a worker that was left
in peace; `check()` then holds what the subscribers of the topic got, what lies in the error stream,
and the history behind the last state object, against the plain oracle and against one uninterrupted
run. Whenever a state object is written, all alerts and rejected records of the pushes behind it
must be in the topic and in the error stream.
"""

from __future__ import annotations

import base64
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import drive
import msgspec
from cloud import Cloud, Process, fresh
from memory_stream import Faults, MemoryStream
from plain_kpl import Kinesis
from plain_oracle import Oracle

from streamgauge import Outcome, Position
from streamgauge.consumers.metrics import Metrics
from streamgauge.consumers.recall import FULL_KEPT
from streamgauge.consumers.shard import Host, Reader, Shard
from streamgauge.engine import state
from streamgauge.engine.errors import FencedError, StateError
from streamgauge.engine.limits import ThresholdStore
from streamgauge.engine.stores.s3 import BucketStates
from streamgauge.rules import spec as specs
from streamgauge.rules.plan import Pipeline

STEPS_MAX = 20_000
CHAOS = Faults(throttled=0.0, expired=0.05, empty=0.1, again=0.2)


class Crash(BaseException):
    """The process is killed where this is raised."""


class Figures(NamedTuple):
    """What became of the user records that were accepted, and of the alerts that are right."""

    accepted: int
    lost: int
    missing: int
    spurious: int
    repeated: int


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
        self.process = simulation.process()
        self.metrics = Metrics()
        self.shard = Shard(shard_id, simulation.host(self))

    # What the host is made of.
    def observe(self, outcome: Outcome) -> None:
        answer = drive.Answer()
        drive.take(answer, outcome)
        self.pushes.append(answer)
        self.simulation.computed += len(outcome.alerts)

    def log(self, event: str, **fields: Any) -> None:
        self.simulation.events.append(event)
        assert msgspec.json.encode(fields)
        if event == "shard_started":
            self.pushes = list(self.history.behind.get(fields["generation"], []))

    # The state store, watched.
    def create(self, pipeline: str, shard: str, generation: int, data: bytes) -> None:
        self.simulation.saving[id(data)] = self, generation, data
        self.states.create(pipeline, shard, generation, data)

    def written(self, generation: int, data: bytes) -> None:
        """Note what an object was made of, the moment it is there."""
        history = self.history
        history.behind[generation] = list(self.pushes)
        sequence, sub = state.decode(data)[1]["positions"][self.shard.shard_id]
        position = Position(self.shard.shard_id, sequence, sub)
        self.simulation.check_told(self.pushes)
        if generation < max(self.simulation.objects(self.shard.shard_id)):
            return  # an owner that was stopped inside the call: it has lost, and will see so
        if history.position is not None and not history.torn:
            assert position.order >= history.position.order, "an owner that had lost went on"
        history.position, history.torn = position, False

    @property
    def states(self) -> BucketStates:
        return self.process.states

    def __getattr__(self, name: str) -> Any:
        return getattr(self.states, name)


class Simulation:
    """One stream, one cloud of services, and the workers that come and go.

    shared: all workers are shards of one process, with the same sinks and stores. reader: another
    one than that of the cloud. truth_items: the limits that the oracle goes by.
    """

    def __init__(
        self,
        seed: int,
        toml: str,
        records: Mapping[str, Sequence[Kinesis]],
        thresholds: Sequence[Mapping[str, Any]] = (),
        fifo: bool | None = None,
    ) -> None:
        self.random = random.Random(seed)
        self.toml, self.kinesis, self.items = toml, records, thresholds
        self.spec = specs.parse(toml)
        self.clock = 0.0
        self.stream = MemoryStream(
            {name: [drive.record(given) for given in of] for name, of in records.items()},
            random=self.random,
            limit=self.random.choice([1, 3, 10, 1000]),
            arrived=dict.fromkeys(records, 0),
        )
        self.cloud = Cloud(
            self.stream, self.spec.pipeline.name,
            fifo=self.random.random() < 0.5 if fifo is None else fifo,
            now=self.now, spend=self.spend, random=self.random,
        )  # fmt: skip
        self.cloud.load(thresholds)
        self.cloud.states.on_put = self.saved
        self.saving: dict[int, tuple[Worker, int, bytes]] = {}  # who writes these very bytes
        self.shared = self.cloud.process() if self.random.random() < 0.3 else None
        self.reader: Reader | None = None
        self.save_seconds = self.random.choice([0.0, 0.5, 2.0, 1000.0])
        self.histories = {name: History() for name in records}
        self.truths: dict[str, tuple[Oracle, list[dict[str, Any]]]] = {}
        self.events: list[str] = []
        self.steps: list[str] = []
        self.answers: dict[str, drive.Answer] = {}  # of each shard that was checked
        self.stepping: Worker | None = None
        self.deaths = 0
        self.computed = 0  # alerts of all pushes, also of records that are applied again
        self.crash_at: Callable[[int], bool] = lambda step: False

    def now(self) -> float:
        return self.clock

    def spend(self, seconds: float) -> None:
        self.clock += seconds

    def process(self) -> Process:
        return self.shared or self.cloud.process()

    def plan(self, thresholds: ThresholdStore) -> Pipeline:
        return Pipeline.plan(self.spec, thresholds, one_shard=True, now=self.now)

    def host(self, worker: Worker) -> Host:
        process = worker.process
        return Host(
            pipeline=self.spec.pipeline.name, plan=lambda: self.plan(process.thresholds),
            reader=self.reader or process.reader, alerts=process.alerts, errors=process.errors,
            states=worker, save_seconds=self.save_seconds, observe=worker.observe, log=worker.log,
            metrics=worker.metrics, now=self.now, random=self.random.random,
        )  # fmt: skip

    def step(self, worker: Worker) -> bool:
        """One step; False if it cost the worker its life."""
        self.clock = max(self.clock, worker.shard.ready_at)
        self.steps.append(worker.shard.due().__name__)
        assert len(self.steps) < STEPS_MAX, "no end in sight"
        before, self.stepping = self.stepping, worker
        try:
            worker.shard.step()
        except Crash:
            self.deaths += 1
            return False
        except FencedError:
            return False
        finally:
            self.stepping = before
        return not self.crash_at(len(self.steps))

    def crash_at_call(
        self, number: int, instead: Callable[[], object] | None = None
    ) -> list[tuple[str, bool]]:
        """Let the process die in one moment of its calls, or something else happen in it, once.

        Each call has two: before anything of it is done, and before its answer goes back. Gives
        the list that they are noted in.
        """
        moments: list[tuple[str, bool]] = []

        def meet(operation: str, done: bool) -> None:
            if self.stepping is None:  # the oracle asks, too
                return
            moments.append((operation, done))
            if len(moments) != number:
                return
            if instead is None:
                raise Crash
            for service in self.cloud.services:
                service.on_call = None
            instead()

        for service in self.cloud.services:
            service.on_call = meet
        return moments

    def torment(self, steps: int) -> None:
        """Let workers live and die at random while records arrive and services fail."""
        self.stream.faults = CHAOS
        workers = [Worker(self, name) for name in self.kinesis]
        for _ in range(steps):
            self.arrive()
            if self.random.random() < 0.2:
                self.cloud.hurt()
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
        self.cloud.heal()

    def saved(self, key: str, data: bytes, old: bytes | None) -> None:
        assert old is None, "a state object was overwritten"
        worker, generation, _ = self.saving[id(data)]
        worker.written(generation, data)

    def folder(self, name: str) -> str:
        return f"{self.spec.pipeline.name}/{name}/"

    def objects(self, name: str) -> dict[int, bytes]:
        """The state objects of one shard."""
        folder, objects = self.folder(name), self.cloud.states.objects
        found = {key: data for key, data in objects.items() if key.startswith(folder)}
        return {int(key.removeprefix(folder)): data for key, data in found.items()}

    def damage(self, name: str, generation: int, data: bytes) -> None:
        """Put other bytes in the place of a state object."""
        key = f"{self.folder(name)}{generation:020}"
        assert key in self.cloud.states.objects
        self.cloud.states.objects[key] = data
        self.histories[name].torn = True

    def arrive(self) -> None:
        name = self.random.choice(list(self.kinesis))
        more = self.stream.arrived[name] + self.random.choice([0, 1, 2, 5])
        self.stream.arrived[name] = min(more, len(self.kinesis[name]))

    def tear(self, name: str) -> None:
        """Damage the newest state object, now and then."""
        objects = self.objects(name)
        if objects and self.random.random() < 0.2:
            newest = max(objects)
            size = self.random.randrange(len(objects[newest]))
            self.damage(name, newest, objects[newest][:size])

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
        self.answers[name] = answer
        oracle.counts["repeated"] = answer.counts.get("repeated", 0)
        if answer.counts:
            drive.compare(answer, oracle)
        assert answer.alerts == uninterrupted
        published = [alert for alert in self.cloud.alerts().values() if of_shard(alert, name)]
        assert by_id(published) == by_id(uninterrupted)
        if self.cloud.topic.fifo:
            assert by_device(published) == by_device(uninterrupted)
        assert self.rejected(name) == {
            (row["position"], row["rule"]): row["user"].data for row in oracle.rejected
        }

    def check_told(self, pushes: Sequence[drive.Answer]) -> None:
        """All that these pushes gave was accepted by the topic, or is in the error stream."""
        accepted, held = self.cloud.told()
        for push in pushes:
            for alert in push.alerts:
                assert alert["id"] in accepted, "the state passes an unpublished alert"
            for row in push.rejected:
                data = base64.b64decode(row["data"])
                assert held.get((row["position"], row["rule"])) == data, (
                    "the state passes an unwritten error record"
                )

    def rejected(self, name: str) -> dict[tuple[str, str | None], bytes]:
        """The rejected records of one shard that are in the error stream."""
        found = self.cloud.rejected().items()
        return {key: data for key, data in found if key[0].startswith(f"{name}:")}

    @property
    def replayed(self) -> int:
        """Alerts that came of records which were applied again."""
        return self.computed - len(self.cloud.alerts())

    def truth(self, name: str) -> tuple[Oracle, list[dict[str, Any]]]:
        """What the oracle says of one shard, and the alerts of a run without any trouble."""
        if name not in self.truths:
            oracle = drive.oracle_of(self.toml, self.items, [self.kinesis[name]])
            pipeline = self.plan(self.cloud.process().thresholds)
            outcome = pipeline.push(map(drive.record, self.kinesis[name]))
            alerts = [fresh(msgspec.to_builtins(alert)) for alert in outcome.alerts]
            self.truths[name] = oracle, alerts
        return self.truths[name]

    def figures(self) -> Figures:
        """The figures of all shards, once they are checked."""
        oracles = [self.truth(name)[0] for name in self.kinesis]
        accepted = sum(oracle.counts["records"] for oracle in oracles)
        counted = sum(answer.counts.get("records", 0) for answer in self.answers.values())
        wanted = {(row["position"], row["rule"]) for of in oracles for row in of.rejected}
        unwritten = wanted - self.cloud.rejected().keys()
        right = {alert["id"] for name in self.kinesis for alert in self.truth(name)[1]}
        published = self.cloud.alerts().keys()
        return Figures(
            accepted, accepted - counted + len(unwritten), len(right - published),
            len(published - right), self.cloud.repeated,
        )  # fmt: skip


def whole(data: bytes) -> bool:
    """Whether a state object can be read."""
    try:
        return state.decode(data)[0] == "full"
    except StateError:
        return False


def of_shard(alert: Mapping[str, Any], name: str) -> bool:
    return str(alert["last_position"]).startswith(f"{name}:")


def by_id(alerts: Sequence[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {alert["id"]: alert for alert in alerts}


def by_device(alerts: Sequence[dict[str, Any]]) -> dict[tuple[str, str], list[str]]:
    """The ids of each device and rule in their order."""
    found: dict[tuple[str, str], list[str]] = {}
    for alert in alerts:
        found.setdefault((alert["rule"], alert["device"]), []).append(alert["id"])
    return found
