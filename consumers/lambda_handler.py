"""The Lambda host: one event of a Kinesis event source mapping to its batchItemFailures.

    records -> push -> every sink has acknowledged -> state object (a delta) -> answer

With an archive, what an invocation read is one object an hour of arrival, in final form: nobody
comes back to roll what is staged. That makes many small objects; `archive compact` merges them.

Set the handler to `streamgauge.consumers.lambda_handler.handler`, and STREAMGAUGE_PIPELINE to the
pipeline file in the package (by default pipeline.toml). The mapping needs ReportBatchItemFailures
and a parallelisation factor of 1. With more, the batches of one shard fence each other and pass
records over: that is seen (handed.py), and fails the invocation by name.

What a sandbox remembers is used only while nobody has written the next state object. An aggregate
fails or passes whole; records that come again are known by their positions.

The mapping's checkpoint is the record that it hands over first. Where the newest state object
cannot be read, what lies between an older one and that record is read again from the stream, and
told to nobody. An event does not name parents: where a shard has no state yet, the list of shards
is asked for them. The mapping has read a parent to its end before it hands over a child's records.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

from ..engine.batch import Record
from ..engine.counts import Counts
from ..engine.errors import (
    ConfigError,
    FencedError,
    InputError,
    OrderError,
    Problem,
    UnavailableError,
)
from ..engine.pipeline import Outcome, Pipeline
from ..engine.records import Opened
from ..engine.sinks.archive_objects import PARQUET
from ..engine.sinks.archive_parquet import installed
from ..engine.sinks.base import Patience
from ..rules import plan
from ..rules.edges import Edges
from ..rules.spec import Spec, load
from . import handed, lambda_metrics
from .forwarding import forward
from .inherit import ancestors, joined
from .lambda_event import records_of, source_of
from .lambda_sandbox import (
    RESERVE_SECONDS,
    SECONDS_MAX,
    Failures,
    Stream,
    failures,
    log,
    opened,
    pipeline_file,
)
from .recall import FULL_EVERY, oldest_kept, recall, written
from .reread import read_again

PIECE_RECORDS = 1000  # Kinesis records that are pushed between two looks at the deadline


class _Warm(NamedTuple):
    """What a sandbox remembers of a shard.

    generation: of the newest object there is. full: the full ones that are kept. sound: a delta may
    follow. behind: it does not go as far as the checkpoint: the stream is to be read again. handed:
    what the mapping handed over last, empty where that is not known.
    """

    pipeline: Pipeline
    generation: int
    full: list[int]
    sound: bool
    behind: bool
    handed: tuple[handed.Handed, ...] = ()


class _Done:
    """What an invocation has done with a shard, for its metrics."""

    def __init__(self) -> None:
        self.counts = Counts()
        self.arrival: int | None = None  # of the last record done, ms
        self.values: dict[str, float] = {"failed": 0, "fenced": 0}

    def metrics(self, at: float) -> dict[str, float]:
        """By the names of lambda_metrics.METRICS; `at` is in seconds since 1970."""
        found = lambda_metrics.counted(self.counts) | self.values
        if self.arrival is not None:
            found["iterator_age"] = max(0, int(at * 1000) - self.arrival)
        return found


class Handler:
    """Handles events for one pipeline file, over what it has in memory and what the stores hold."""

    def __init__(
        self,
        spec: Spec,
        edges: Edges | None = None,
        *,
        stream: Callable[[str], Stream] | None = None,
        now: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
        sleep: Callable[[float], object] = time.sleep,
        log: Callable[..., None] = log,
    ) -> None:
        """Make nothing yet; ConfigError where the file asks for what this host cannot do.

        `stream` gives the stream of an ARN, or of the name that the file has. `wall` is seconds
        since 1970, for metrics only.
        """
        problems = []
        if spec.delivery.mode != "ordered":
            hint = "handlers of lambda_dispatcher, lambda_worker and lambda_merger"
            problems.append(Problem("delivery.mode", "this handler has the ordered mode", hint))
        if spec.source.out_of_range != "evaluate":
            problems.append(Problem("source.out_of_range", "not supported in Lambda yet"))
        if spec.archive is not None and spec.archive.format == PARQUET and not installed():
            hint = 'format = "ndjson.gz", or pyarrow in a layer'
            problems.append(Problem("archive.format", "pyarrow is not in the package", hint))
        if problems:
            raise ConfigError(problems)
        self._spec = spec
        self._name = spec.pipeline.name
        edges = Edges(spec) if edges is None else edges
        self._stream = stream or (lambda name: opened(edges, name))
        self._source = spec.source.stream  # where events do not say it
        self._alerts, self._errors = edges.alerts(), edges.errors()
        self._forward = forward(spec, edges)
        self._states, self._limits = edges.states(), edges.thresholds()
        archive = edges.archive()
        self._archive = None if archive is None else archive.final()
        self._now, self._wall, self._sleep, self._told = now, wall, sleep, log
        self._request: str | None = None
        self._warm: dict[str, _Warm] = {}

    def __call__(self, event: Any, context: Any) -> Failures:
        """Handle an event; the answer names the first record that is to come again, if any.

        Raises:
            InputError: it is no event of a Kinesis mapping; names what is wrong.
            OrderError: the mapping hands records over out of order.
            StreamgaugeError: nobody can go on; the whole batch comes again.
        """
        self._request = getattr(context, "aws_request_id", None)
        left = getattr(context, "get_remaining_time_in_millis", None)
        seconds = SECONDS_MAX if left is None else left() / 1000
        until = self._now() + max(0.0, seconds - RESERVE_SECONDS)
        shards: dict[str, list[Record]] = {}
        self._source = source_of(event) or self._source
        for record in records_of(event):
            shards.setdefault(record.shard_id, []).append(record)
        return failures(self._shard(shard, of, until) for shard, of in shards.items())

    def _shard(self, shard: str, records: list[Record], until: float) -> str | None:
        """Work through the records of a shard; the sequence number of the first not done."""
        done = _Done()
        try:
            number = self._worked(shard, records, until, done)
        except UnavailableError as error:
            self._log("unavailable", shard=shard, cause=str(error))
            number, done = records[0].sequence_number, _Done()  # all of it comes again
        except FencedError as error:  # another invocation has gone on with this shard
            self._log("fenced", shard=shard, cause=str(error), hint=handed.ONE_LANE)
            number, done = records[0].sequence_number, _Done()
            done.values["fenced"] = 1
        except OrderError as error:
            self._log("out_of_order", shard=shard, cause=str(error))
            raise
        done.values["failed"] = int(number is not None)
        at = self._wall()
        line = lambda_metrics.embedded(done.metrics(at), at)
        self._log("invoked", shard=shard, again_from=number, **line)
        return number

    def _worked(self, shard: str, records: list[Record], until: float, done: _Done) -> str | None:
        warm = self._warm[shard] = self._recalled(shard, until)
        if warm.behind:
            self._read_again(shard, warm.pipeline, records[0].sequence_number, until)
            warm = warm._replace(behind=False)
        numbers, last = [record.sequence_number for record in records], _last(warm.pipeline, shard)
        handed.check_order(shard, numbers, last, warm.handed)
        del self._warm[shard]  # until all is safe, nothing is remembered
        at, read = 0, list[Opened]()
        while at < len(records) and (not at or self._now() < until):
            piece = records[at : at + PIECE_RECORDS]
            outcome = self._piece(warm.pipeline, piece, until)
            if outcome is None:
                break
            done.counts.add(outcome.counts)
            read += outcome.read
            at += len(piece)
            done.arrival = piece[-1].arrival
        if not at:  # and nothing was applied
            self._warm[shard] = warm
            return numbers[0]
        if self._archive is not None and read:
            self._patience(until).insist(partial(self._archive.deliver, read))
        now_handed = handed.followed(warm.handed, numbers[:at], last)
        self._warm[shard] = self._saved(shard, warm._replace(handed=now_handed), done)
        return numbers[at] if at < len(numbers) else None

    def _piece(self, pipeline: Pipeline, piece: list[Record], until: float) -> Outcome | None:
        """Push and deliver some records; None where they must come again, nothing being applied.

        Raises:
            UnavailableError: they were applied, but a sink has not taken all that came of it.
        """
        patience = self._patience(until)
        try:
            outcome = patience.insist(lambda: pipeline.push(piece))
        except UnavailableError as error:
            self._log("waiting", cause=str(error))
            return None
        if outcome.alerts:
            patience.insist(lambda: self._alerts.deliver(outcome.alerts))
        if outcome.forwarded:
            assert self._forward is not None, "a rule forwards, so there is a sink"
            deliver = self._forward.deliver
            patience.insist(lambda: deliver(outcome.forwarded))
        if outcome.rejected:
            patience.insist(lambda: self._errors.deliver(outcome.rejected))
        return outcome

    def _recalled(self, shard: str, until: float) -> _Warm:
        """What is remembered, if nobody has gone on since; else the newest state that is stored."""
        warm = self._warm.get(shard)
        if warm is not None and not self._states.exists(self._name, shard, warm.generation + 1):
            return warm
        found = self._states.generations(self._name, shard)
        newest = max(found, default=0)
        recalled = recall(self._states, self._name, shard, found, self._plan, self._log)
        if recalled is None:
            return _Warm(self._inherited(shard, until), newest, [], False, bool(found))
        behind = recalled.generation < newest
        known = () if behind else handed.read(recalled.handed)
        return _Warm(recalled.pipeline, newest, recalled.full, recalled.sound, behind, known)

    def _inherited(self, shard: str, until: float) -> Pipeline:
        """The pipeline of the shards that this one was split or merged from; empty without any."""
        stream = self._opened()
        listing = self._patience(until).insist(stream.shards)
        listed = {one.shard_id: one.parents for one in listing}
        if shard not in listed:
            raise UnavailableError(f"shard {shard} is not in the list of {self._source}'s shards")
        found = ancestors(self._states, self._name, shard, listed, self._plan, self._log)
        for parent, (recalled, last) in found.items():
            if not last and parent in listed:
                self._read_again(parent, recalled.pipeline, None, until)
        return joined([recalled.pipeline for recalled, _ in found.values()], self._plan)

    def _read_again(self, shard: str, pipeline: Pipeline, before: str | None, until: float) -> None:
        """Read again what lies before the checkpoint; what is read stays, should time be up."""

        def insist(call: Callable[[], Any]) -> Any:
            if self._now() >= until:
                raise UnavailableError("the time was up before the stream was read again")
            return self._patience(until).insist(call)

        read_again(self._opened(), pipeline, shard, before, insist)
        at = pipeline.positions.get(shard)
        self._log("read_again", shard=shard, position=None if at is None else str(at))

    def _opened(self) -> Stream:
        if self._source is None:
            raise InputError("event: Records[0]: expected an eventSourceARN, or source.stream")
        return self._stream(self._source)

    def _patience(self, until: float) -> Patience:
        """Makes a call, again where it is refused, while there is time; in any case once."""
        left = max(0.0, until - self._now())
        return Patience(seconds_max=left, now=self._now, sleep=self._sleep)

    def _plan(self) -> Pipeline:
        kept = self._archive is not None
        return plan.Pipeline.plan(self._spec, self._limits, one_shard=True, keep_read=kept)

    def _saved(self, shard: str, warm: _Warm, done: _Done) -> _Warm:
        """Write the next state object, a delta, now and then a full one; remove old ones."""
        generation, kept = warm.generation + 1, warm.full
        full = not (warm.sound and kept and generation - kept[-1] < FULL_EVERY)
        noted = handed.noted(warm.handed)
        data = warm.pipeline.save(full=full, earlier=kept, handed=noted)
        start = self._now()
        self._states.create(self._name, shard, generation, data)
        done.values["save"] = round((self._now() - start) * 1000, 3)
        done.values["state_bytes"] = len(data)
        if full:
            kept = written(kept, generation)
            self._prune(shard, oldest_kept(kept))
        return _Warm(warm.pipeline, generation, kept, True, False, warm.handed)

    def _prune(self, shard: str, oldest: int | None) -> None:
        if oldest is None:
            return
        try:
            self._states.prune(self._name, shard, oldest)
        except UnavailableError as error:
            self._log("prune_refused", shard=shard, cause=str(error))

    def _log(self, event: str, **fields: object) -> None:
        self._told(event, pipeline=self._name, request=self._request, **fields)


def _last(pipeline: Pipeline, shard: str) -> int:
    """The sequence number of the last applied position; -1 before the first."""
    at = pipeline.positions.get(shard)
    return -1 if at is None else int(at.sequence_number)


_handler: Handler | None = None


def handler(event: Any, context: Any) -> Failures:
    """The entry of the Lambda runtime; the pipeline file is read at the first event."""
    global _handler
    if _handler is None:
        _handler = Handler(load(pipeline_file()))
    return _handler(event, context)
