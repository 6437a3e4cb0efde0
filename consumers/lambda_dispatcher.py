"""The dispatcher of the fan-out mode in Lambda: an event of the source stream to chunks and marks.

    records -> chunks recorded -> workers, side by side -> outcomes recorded -> marks -> answer

Set the handler to `streamgauge.consumers.lambda_dispatcher.handler`, STREAMGAUGE_WORKER to the
worker's function. The mapping is that of lambda_handler.py: partial answers, a factor of 1.

Whatever dies, and whenever, a chunk stays the interval that it was recorded as. One that failed is
the first that is reported; it comes again with the same records, read from the stream where the
mapping hands over only some of them. One whose batch the mapping gave up counts as empty.

An event does not name parents. At the first record of a shard the list of shards is asked for them:
they are finished then, for the mapping has read them to their end, and every merger is told so
together with all shards that there are. Nothing is evaluated without a shard that may still come.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor, wait
from typing import Any, NamedTuple

from ..engine.aws import CONNECTIONS_MAX, Service, make_client
from ..engine.batch import Position, Record
from ..engine.errors import (
    ConfigError,
    FencedError,
    OrderError,
    Problem,
    StateError,
    StreamgaugeError,
    UnavailableError,
)
from ..producers.kinesis import KinesisWriter
from ..rules.edges import Edges
from ..rules.plan_fan_out import plan_reducer
from ..rules.spec import Spec, load
from . import handed, lambda_chunks
from .lambda_chunks import Cut, Log
from .lambda_event import records_of, source_of
from .lambda_objects import Objects, unreadable
from .lambda_sandbox import (
    Clock,
    Deadline,
    Failures,
    Stream,
    check_fan_out,
    failures,
    opened,
    pipeline_file,
)
from .lambda_sandbox import log as log_line
from .pane_wire import Chunk, chunk_event, put_all, put_for

WORKER = "STREAMGAUGE_WORKER"  # names the worker's function
ANSWER_SECONDS_MAX = 900  # of a worker: what Lambda gives a function at most
READS_MAX = 1000  # of the stream, for the records of one chunk

Invoke = Callable[[dict[str, Any]], dict[str, Any]]


class _Held(NamedTuple):
    """What a sandbox remembers of a shard."""

    objects: Objects
    log: Log


class Dispatcher:
    """Handles events of the source stream for one pipeline file."""

    def __init__(
        self,
        spec: Spec,
        invoke: Invoke,
        edges: Edges | None = None,
        *,
        stream: Callable[[str | None], Stream] | None = None,
        writer: KinesisWriter | None = None,
        threads: Executor | None = None,
        clock: Clock | None = None,
        log: Callable[..., None] = log_line,
    ) -> None:
        """Make nothing yet; ConfigError where the file asks for what this host cannot do.

        Args:
            invoke: gives a worker an event and returns its answer. stream: by an ARN or a name.
            writer: of the panes stream. threads: in which workers are waited for.
        """
        panes = check_fan_out(spec)
        plan_reducer(spec)  # tells problems before anything is recorded
        self._spec, self._invoke = spec, invoke
        self._name, self._mergers = spec.pipeline.name, spec.delivery.mergers
        edges = Edges(spec) if edges is None else edges
        self._stream = stream or (lambda name: opened(edges, name))
        self._source = spec.source.stream
        self._states = edges.states()
        self._writer = writer or KinesisWriter(edges.service("kinesis"), panes)
        self._clock = clock or Clock()
        self._told = log
        self._threads = threads or ThreadPoolExecutor(CONNECTIONS_MAX)
        self._warm: dict[str, _Held] = {}
        self._counts: dict[str, float] = {}

    def __call__(self, event: Any, context: Any) -> Failures:
        """Handle an event; the answer names the first record that is to come again, if any.

        Raises:
            InputError: it is no event of a Kinesis mapping.
            OrderError: the mapping hands records over out of order.
            StreamgaugeError: nobody can go on; the whole batch comes again.
        """
        until = self._clock.until(context)
        self._source = source_of(event) or self._source
        shards: dict[str, list[Record]] = {}
        for record in records_of(event):
            shards.setdefault(record.shard_id, []).append(record)
        request = getattr(context, "aws_request_id", None)
        return failures(self._shard(name, of, until, request) for name, of in shards.items())

    def _shard(
        self, shard: str, records: list[Record], until: Deadline, request: str | None
    ) -> str | None:
        """Work through the records of a shard; the sequence number of the first not done."""
        self._counts, fenced = {}, 0
        try:
            number = self._worked(shard, records, until)
        except UnavailableError as error:
            self._log("unavailable", shard=shard, cause=str(error))
            number = records[0].sequence_number
        except FencedError as error:
            self._log("fenced", shard=shard, cause=str(error), hint=handed.ONE_LANE)
            number, fenced = records[0].sequence_number, 1
        values = self._counts | {"failed": int(number is not None), "fenced": fenced}
        if records[-1].arrival is not None:
            values["iterator_age"] = max(0, int(self._clock.wall() * 1000) - records[-1].arrival)
        line = self._clock.embedded(values)
        self._log("invoked", shard=shard, again_from=number, request=request, **line)
        return number

    def _worked(self, shard: str, records: list[Record], until: Deadline) -> str | None:
        held = self._warm.pop(shard, None)  # until all is safe, nothing is remembered
        if held is None or not held.objects.current():
            held = self._loaded(shard) or self._begun(shard, until)
        objects, log = held
        numbers = [record.sequence_number for record in records]
        known = handed.read(log.noted)
        handed.check_order(shard, numbers, int(log.last or -1), known)
        if (again := log.given_up(numbers)) is not None:
            what = f"record {again} comes again, though later ones were handed over meanwhile"
            raise OrderError(f"shard {shard}: {what}: {handed.ONE_LANE}")
        if log.closed and int(numbers[-1]) > int(log.last or -1):
            what = f"record {numbers[-1]} comes after those of its children"
            raise OrderError(f"shard {shard}: {what}")
        gone = log.give_up(int(numbers[0]))
        for one in gone:
            self._log("given_up", shard=shard, chunk=one.number, first=one.first, last=one.last)
        if log.cut(records) or gone:
            objects.save(log.save())
        opened = log.open(int(numbers[-1]))
        counts = self._reduced(shard, opened, records, until)
        if any(one.outcome is not None for one in opened):
            objects.save(log.save())
            self._counts = counts  # what is recorded is not sent again, nor counted
        self._tell(shard, log, until)
        self._prune(shard, objects)
        self._warm[shard] = _Held(objects, log)
        failed = next((one for one in opened if one.outcome is None), None)
        if failed is None:
            return None
        return failed.first if int(failed.first) > int(numbers[0]) else numbers[0]

    def _loaded(self, shard: str) -> _Held | None:
        """What is stored of a shard; None where nothing is."""
        memory = lambda_chunks.memory(shard)
        objects = Objects(self._states, self._name, memory)
        try:
            data = objects.load()
            log = None if data is None else lambda_chunks.restore(data)
        except StateError as error:
            raise unreadable(memory, error) from error
        if log is None:
            return None
        if log.mergers != self._mergers:
            raise StateError(
                f"{memory}: cut for {log.mergers} mergers; delivery.mergers is {self._mergers} now:"
                " it stays as it is for the life of a state.location"
            )
        return _Held(objects, log)

    def _begun(self, shard: str, until: Deadline) -> _Held:
        """A shard at its first record: which others there are, and which have ended before it."""
        listed = {one.shard_id: one.parents for one in until.insist(self._opened().shards)}
        if shard not in listed:
            raise UnavailableError(f"shard {shard} is not in the list of {self._source}'s shards")
        ended: dict[str, int] = {}
        waiting = list(listed[shard])
        while waiting:
            parent = waiting.pop(0)
            if parent not in ended:
                ended[parent] = self._ended(parent, until)
                waiting += listed.get(parent, ())
        log = Log(self._mergers, shards=sorted(set(listed) - set(ended)), finished=ended)
        return _Held(Objects(self._states, self._name, lambda_chunks.memory(shard)), log)

    def _ended(self, parent: str, until: Deadline) -> int:
        """How many chunks a shard has that is read to its end; all mergers know of them then."""
        held = self._loaded(parent)
        if held is None:
            return 0  # nothing lay in it
        objects, log = held
        if not log.closed:
            for one in log.give_up(None):
                self._log("given_up", shard=parent, chunk=one.number, first=one.first,
                          last=one.last)  # fmt: skip
            objects.save(log.save())  # before it is told; who still works on it is fenced off
            self._tell(parent, log, until)
            log.closed = True
            objects.save(log.save())
            self._log("shard_finished", shard=parent, chunks=log.next)
        return log.next

    def _reduced(
        self, shard: str, cuts: Sequence[Cut], records: list[Record], until: Deadline
    ) -> dict[str, float]:
        """Have workers reduce chunks side by side; the counts of those that were."""
        counts: dict[str, float] = {}
        jobs: dict[Future[dict[str, Any]], Cut] = {}
        for one in cuts:
            of = [record for record in records if one.holds(record)]
            if len(of) != one.records:  # the mapping hands over a part of it
                of = self._read(shard, one, until)
            event = chunk_event(self._name, Chunk(shard, one.number, one.before, self._mergers, of))
            jobs[self._threads.submit(until.insist, _call(self._invoke, event))] = one
        wait(jobs, timeout=until.left())
        for job, one in jobs.items():
            if not job.done():
                job.cancel()
                self._log("chunk_failed", shard=shard, chunk=one.number, cause="no time was left")
                continue
            try:
                answer = job.result()
                one.outcome = _outcome(answer, self._mergers)
            except StreamgaugeError as error:
                self._log("chunk_failed", shard=shard, chunk=one.number, cause=str(error))
                continue
            for name, value in answer["counts"].items():
                counts[name] = counts.get(name, 0) + value
        return counts

    def _read(self, shard: str, one: Cut, until: Deadline) -> list[Record]:
        """The records of a chunk, from the stream."""
        stream = self._opened()
        found: dict[int, Record] = {}
        at = until.insist(lambda: stream.iterator(shard, Position(shard, one.first), True))
        for _ in range(READS_MAX):
            iterator = at
            fetched = until.insist(lambda: stream.read(shard, iterator))  # noqa: B023
            if fetched is None:
                raise UnavailableError(f"the iterator of shard {shard} has expired")
            held = {int(r.sequence_number): r for r in fetched.records if one.holds(r)}
            found.update(held)
            if len(found) == one.records:
                return [found[number] for number in sorted(found)]
            past = any(int(r.sequence_number) > int(one.last) for r in fetched.records)
            if past or fetched.iterator is None:
                break
            at = fetched.iterator
        raise StreamgaugeError(
            f"shard {shard}: chunk {one.number} ({one.first} to {one.last}) has {one.records}"
            f" records, of which the stream still has {len(found)}"
        )

    def _tell(self, shard: str, log: Log, until: Deadline) -> None:
        """Tell every merger which chunks count, up to the first that has no outcome yet."""
        marks = log.marks(self._name, shard)
        put_all(self._writer, [put_for(mark) for mark in marks], until.insist)
        log.told(log.settled)

    def _prune(self, shard: str, objects: Objects) -> None:
        try:
            objects.prune()
        except UnavailableError as error:
            self._log("prune_refused", shard=shard, cause=str(error))

    def _opened(self) -> Stream:
        return self._stream(self._source)

    def _log(self, event: str, **fields: object) -> None:
        self._told(event, pipeline=self._name, role="dispatcher", **fields)


class LambdaWorker:
    """Invokes a worker's function and waits for its answer."""

    def __init__(self, function: str, service: Service | None = None) -> None:
        """Take its name or ARN; no client is made yet."""
        make = lambda: make_client("lambda", read_seconds=ANSWER_SECONDS_MAX)  # noqa: E731
        self._function, self._service = function, service or Service("lambda", make=make)

    def __call__(self, event: dict[str, Any]) -> dict[str, Any]:
        """Hand over an event.

        Raises:
            UnavailableError: the service is busy, or no answer came.
            StreamgaugeError: the function failed; tells what it said.
        """
        from botocore.exceptions import BotoCoreError

        of = f"function {self._function}"
        answer = self._service.call(
            "invoke", of, FunctionName=self._function, InvocationType="RequestResponse",
            Payload=json.dumps(event).encode(),
        )  # fmt: skip
        try:
            body = answer["Payload"].read()
        except (BotoCoreError, OSError) as error:
            raise UnavailableError(f"{of}: {error}") from error
        if answer.get("FunctionError"):
            raise StreamgaugeError(f"{of} failed: {body[:2000].decode('utf-8', 'replace')}")
        try:
            found: dict[str, Any] = json.loads(body)
        except ValueError as error:
            raise StreamgaugeError(f"{of}: no answer of a worker: {body[:200]!r}") from error
        return found


def _call(invoke: Invoke, event: dict[str, Any]) -> Callable[[], dict[str, Any]]:
    return lambda: invoke(event)


def _outcome(answer: Any, mergers: int) -> list[tuple[int, str]]:
    try:
        found = [(int(parts), str(digest)) for parts, digest in answer["parts"]]
        if len(found) == mergers and isinstance(answer["counts"], dict):
            return found
    except (KeyError, TypeError, ValueError):
        pass
    raise StreamgaugeError(f"no answer of a worker of this version: {str(answer)[:200]}")


_dispatcher: Dispatcher | None = None


def handler(event: Any, context: Any) -> Failures:
    """The entry of the Lambda runtime; the pipeline file is read at the first event."""
    global _dispatcher
    if _dispatcher is None:
        spec, function = load(pipeline_file()), os.environ.get(WORKER)
        if not function:
            raise ConfigError([Problem(WORKER, "expected the name of the worker's function")])
        _dispatcher = Dispatcher(spec, LambdaWorker(function))
    return _dispatcher(event, context)
