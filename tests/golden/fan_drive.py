"""The three functions of the fan-out mode over a cloud in memory, driven as Lambda drives them.

The source is handed over in batches as a mapping does it, the panes stream is the stand-in that
producers are tested with: its shards split and merge, answers are lost, entries are refused. Any
call to the outside can be the last thing that a function does.
"""

from __future__ import annotations

import base64
import json
import random
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor, Future
from typing import Any

import msgspec
from drawn_panes import Sent, records_of
from lambda_drive import ARN
from memory_kinesis import Faults, MemoryKinesis
from memory_stream import MemoryStream

from streamgauge import Alert, Record
from streamgauge.consumers.lambda_dispatcher import Dispatcher
from streamgauge.consumers.lambda_merger import MergerFunction
from streamgauge.consumers.lambda_sandbox import Clock
from streamgauge.consumers.lambda_worker import Worker
from streamgauge.consumers.pane_wire import Chunk, chunk_of
from streamgauge.engine.aws import Service
from streamgauge.engine.errors import StreamgaugeError
from streamgauge.engine.sinks.local import MemorySink
from streamgauge.engine.stores.memory import MemoryStates
from streamgauge.producers.kinesis import KinesisWriter
from streamgauge.rules import spec as specs

LAMBDA = 'panes_stream = "s"\nmergers = 3\n'
TURNS_MAX = 20_000
TORN = b"torn"


class Killed(BaseException):
    """The sandbox is gone: nothing in it catches this."""


class Failed(Exception):
    """What a mapping sees of a function that failed."""


class Inline(Executor):
    """Runs what is submitted at once: a test is the same each time."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:
            future.set_exception(error)
        return future


class Hooked:
    """Another object, whose calls are told before and after their effect."""

    def __init__(self, of: Any, told: Callable[[str], object], *names: str) -> None:
        self._of, self._told, self._names = of, told, names

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._of, name)
        if name not in self._names:
            return found

        def call(*args: Any, **kwargs: Any) -> Any:
            self._told(f"before {name}")
            answer = found(*args, **kwargs)
            self._told(f"after {name}")
            return answer

        return call


def event_of(records: Sequence[Record]) -> dict[str, Any]:
    """The event of a mapping; JSON and back, as it comes."""
    event = {"Records": [
        {"eventID": f"{one.shard_id}:{one.sequence_number}", "eventSource": "aws:kinesis",
         "eventSourceARN": ARN,
         "kinesis": {"sequenceNumber": one.sequence_number, "partitionKey": one.partition_key,
                     "data": base64.b64encode(one.data).decode(),
                     **({} if one.arrival is None else
                        {"approximateArrivalTimestamp": one.arrival / 1000})}}
        for one in records
    ]}  # fmt: skip
    return json.loads(json.dumps(event))  # type: ignore[no-any-return]


class Fan:
    """One pipeline in a cloud of its own.

    deadly: how likely each call to the outside is the last one. failing: how likely a worker fails.
    tearing: how likely the newest object of a merger is damaged before it is loaded.
    """

    def __init__(
        self,
        toml: str,
        sent: Sent,
        seed: int = 0,
        size: int = 1,
        shards: int = 2,
        parents: Mapping[str, tuple[str, ...]] | None = None,
        **faults: float,
    ) -> None:
        self.random = random.Random(seed)
        self.spec = specs.parse(toml)
        held = {shard: records_of(shard, rows, size) for shard, rows in sent.items()}
        self.source = MemoryStream(held, random=self.random, parents=parents or {})
        self.chunks: dict[tuple[str, int], list[Chunk]] = {}  # as workers were handed them
        self.at = dict.fromkeys(held, 0)  # what the mapping has been told is done
        self.kinesis = MemoryKinesis(shards, seed, Faults(**faults))
        self.read = dict[str, int]()  # of each shard of the panes stream
        self.sink, self.rows, self.store = MemorySink(), MemorySink(), MemoryStates()
        self.seconds, self.deadly, self.failing, self.tearing = 0.0, 0.0, 0.0, 0.0
        self.log: list[dict[str, Any]] = []
        self.on_call: Callable[[str], object] = lambda name: None
        self._warm: dict[str, Any] = {}

    # What the functions are made of.

    def alerts(self) -> Any:
        return Hooked(self.sink, self.call, "deliver")

    def errors(self) -> Any:
        return Hooked(self.rows, self.call, "deliver")

    def states(self) -> Any:
        return Hooked(self.store, self.call, "create")

    def thresholds(self) -> None:
        return None

    def call(self, name: str) -> None:
        self.on_call(name)
        if self.random.random() < self.deadly:
            raise Killed(name)

    def _sleep(self, seconds: float) -> None:
        self.seconds += max(seconds, 0.01)

    def _common(self) -> dict[str, Any]:
        def log(event: str, **fields: Any) -> None:
            self.log.append({"event": event, **fields})

        return {"clock": Clock(lambda: self.seconds, lambda: 2e9, self._sleep), "log": log}

    def writer(self) -> Any:
        return Hooked(KinesisWriter(Service("kinesis", self.kinesis), "s"), self.call, "put")

    def invoke(self, event: dict[str, Any]) -> dict[str, Any]:
        """A worker in a sandbox of its own, which may fail before or after its work."""
        self.call("before invoke")
        chunk = chunk_of(event, self.spec.pipeline.name)
        self.chunks.setdefault((chunk.shard, chunk.number), []).append(chunk)
        if self.random.random() < self.failing:
            raise StreamgaugeError("the worker failed")
        try:
            worker = Worker(self.spec, self, writer=self.writer(), **self._common())  # type: ignore[arg-type]
            answer = worker(json.loads(json.dumps(event)), None)
        except Killed as error:
            raise StreamgaugeError(f"the worker is gone: {error}") from error
        if self.random.random() < self.failing:
            raise StreamgaugeError("the answer of the worker is lost")
        self.call("after invoke")
        return json.loads(json.dumps(answer))  # type: ignore[no-any-return]

    def dispatcher(self) -> Dispatcher:
        return Dispatcher(
            self.spec, self.invoke, self, stream=lambda name: self.source,  # type: ignore[arg-type]
            writer=self.writer(), threads=Inline(), **self._common(),
        )  # fmt: skip

    def merger(self) -> MergerFunction:
        return MergerFunction(self.spec, self, stream=lambda name: self.panes(), **self._common())  # type: ignore[arg-type]

    # What drives them.

    def hand(self, role: str, records: Sequence[Record], cold: bool = False) -> int:
        """How many of the records are done; Failed where the function failed."""
        if cold or role not in self._warm:
            self._warm[role] = self.dispatcher() if role == "dispatcher" else self.merger()
        try:
            answer = self._warm[role](event_of(records), None)["batchItemFailures"]
        except (Killed, StreamgaugeError) as error:
            self._warm.pop(role, None)
            raise Failed(repr(error)) from error
        numbers = [record.sequence_number for record in records]
        return min((numbers.index(one["itemIdentifier"]) for one in answer), default=len(numbers))

    def give(self, shard: str, many: int, cold: bool = False, skip: int = 0) -> int:
        """Hand over records of the source; how many are done, also in a failure."""
        start = self.at[shard] + skip
        records = self.source.records[shard][start : start + many]
        try:
            done = self.hand("dispatcher", records, cold)
        except Failed:
            return 0
        self.at[shard] = start + done
        return done

    def panes(self) -> MemoryStream:
        """The panes stream, to be read again."""
        held = {shard: self.panes_of(shard) for shard in self.kinesis.ranges}
        return MemoryStream(held, random=self.random, limit=3)

    def tear(self, merger: int) -> bool:
        """Damage the newest object of a merger, where there is an older one."""
        objects = self.store._objects.get(("panes", f"merger-{merger}"), {})
        if sum(not one.endswith(TORN) for one in objects.values()) < 2:
            return False
        objects[max(objects)] += TORN
        return True

    def panes_of(self, shard: str) -> list[Record]:
        return [one.record for one in self.kinesis.committed if one.shard == shard]

    def merge_some(self, cold: bool = False, again: bool = False) -> None:
        """Hand over records of one shard of the panes stream."""
        waiting = [s for s in self.kinesis.ranges if self.read.get(s, 0) < len(self.panes_of(s))]
        if not waiting:
            return
        shard = self.random.choice(waiting)
        start, records = self.read.get(shard, 0), self.panes_of(shard)
        back = max(0, start - 3) if again else start
        some = records[back : start + self.random.randint(1, 6)]
        if cold and self.random.random() < self.tearing:
            self.tear(self.random.randrange(self.spec.delivery.mergers))
        try:
            done = self.hand("merger", some, cold)
        except Failed:
            return
        self.read[shard] = max(start, back + done)

    @property
    def unread(self) -> bool:
        return any(self.read.get(s, 0) < len(self.panes_of(s)) for s in self.kinesis.ranges)

    @property
    def undone(self) -> list[str]:
        """Shards of the source that can be handed over: their ancestors are done."""
        left = [s for s, records in self.source.records.items() if self.at[s] < len(records)]

        def ready(shard: str) -> bool:
            above = self.source.parents.get(shard, ())
            return not set(above) & set(left) and all(map(ready, above))

        return [shard for shard in left if ready(shard)]

    def run(self, cold: float = 0.3, merging: float = 0.5) -> None:
        """Turn by turn until all is read and merged."""
        draw = self.random
        for turn in range(TURNS_MAX):
            if turn == TURNS_MAX // 40:
                self.heal()
            undone, unread = self.undone, self.unread
            if not undone and not unread and not self.kinesis._late:
                return
            if undone and (not unread or draw.random() > merging):
                self.give(draw.choice(undone), draw.randint(1, 9), draw.random() < cold)
            elif unread:
                self.merge_some(draw.random() < cold, draw.random() < 0.2)
            else:
                self.kinesis._late.clear()
        raise AssertionError("it came to no end")

    def heal(self) -> None:
        self.deadly = self.failing = self.tearing = 0.0
        self.kinesis.faults = Faults()

    # What came of it.

    @property
    def told(self) -> list[Alert]:
        """Each alert once; repeats have the same id, and are the same."""
        found = {row.id: row for row in self.sink.rows if isinstance(row, Alert)}
        assert all(msgspec.structs.asdict(found[row.id]) == msgspec.structs.asdict(row)
                   for row in self.sink.rows)  # type: ignore[union-attr]  # fmt: skip
        return list(found.values())

    @property
    def rejected(self) -> list[bytes]:
        rows = {(str(row.at), row.rule): row.data for row in self.rows.rows}  # type: ignore[union-attr]
        return sorted(rows.values())

    def cut_once(self) -> dict[str, list[str]]:
        """The numbers of the records of all chunks, by shard; each chunk was always the same."""
        found: dict[str, list[str]] = {}
        for (shard, number), makings in sorted(self.chunks.items()):
            assert all(one == makings[0] for one in makings), (shard, number)
            found.setdefault(shard, []).extend(r.sequence_number for r in makings[0].records)
        return found

    def said(self, event: str) -> list[dict[str, Any]]:
        return [one for one in self.log if one["event"] == event]
