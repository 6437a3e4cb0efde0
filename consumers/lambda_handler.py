"""The Lambda host: one event of a Kinesis event source mapping to its batchItemFailures.

    records -> push -> every sink has acknowledged -> state object (a delta) -> answer

With an archive, what an invocation read is one object an hour of arrival, in final form: nobody
comes back to roll what is staged. That makes many small objects; `archive compact` merges them.

Set the handler to `streamgauge.consumers.lambda_handler.handler`, and STREAMGAUGE_PIPELINE to the
pipeline file in the package (by default pipeline.toml). The mapping needs ReportBatchItemFailures
and a parallelisation factor of 1: with more, the batches of one shard fence each other.

What a sandbox remembers is used only while nobody has written the next state object. An aggregate
fails or passes whole; records that come again are known by their positions.

The mapping's checkpoint is the record that it hands over first. Where the newest state object
cannot be read, what lies between an older one and that record is read again from the stream, and
told to nobody. An event does not name parents: where a shard has no state yet, the list of shards
is asked for them. The mapping has read a parent to its end before it hands over a child's records.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from ..engine.batch import Record
from ..engine.errors import ConfigError, FencedError, InputError, Problem, UnavailableError
from ..engine.pipeline import Outcome, Pipeline
from ..engine.records import Opened, arrival_ms
from ..engine.sinks.archive_objects import PARQUET
from ..engine.sinks.archive_parquet import installed
from ..engine.sinks.base import Patience
from ..rules import plan
from ..rules.edges import Edges
from ..rules.spec import Spec, load
from .inherit import ancestors, joined
from .listing import Lister
from .recall import FULL_EVERY, oldest_kept, recall, written
from .reread import read_again
from .shard import Reader

PIECE_RECORDS = 1000  # Kinesis records that are pushed between two looks at the deadline
RESERVE_SECONDS = 5.0  # kept for saving, of the time that is left to an invocation
SECONDS_MAX = 60.0  # where the context does not say how much time there is

Failures = dict[str, list[dict[str, str]]]


class Stream(Reader, Lister, Protocol):
    """A stream as this host needs it where it has to look back; `KinesisReader` is one."""


class _Warm(NamedTuple):
    """What a sandbox remembers of a shard.

    generation: of the newest object there is. full: the full ones that are kept. sound: a delta may
    follow. behind: it does not go as far as the checkpoint: the stream is to be read again.
    """

    pipeline: Pipeline
    generation: int
    full: list[int]
    sound: bool
    behind: bool


def log(event: str, **fields: object) -> None:
    """Write one line of JSON to standard output, which the runtime logs; never a payload."""
    stamp = datetime.now(UTC).isoformat(timespec="milliseconds")
    print(json.dumps({"time": stamp, "event": event, **fields}), flush=True)


class Handler:
    """Handles events for one pipeline file, over what it has in memory and what the stores hold."""

    def __init__(
        self,
        spec: Spec,
        edges: Edges | None = None,
        *,
        stream: Callable[[str], Stream] | None = None,
        now: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], object] = time.sleep,
        log: Callable[..., None] = log,
    ) -> None:
        """Make nothing yet; ConfigError where the file asks for what this host cannot do.

        `stream` gives the stream of an ARN, or of the name that the file has.
        """
        problems = [
            Problem(where, "not supported in Lambda yet")
            for where, asked in (
                ("delivery.mode", spec.delivery.mode != "ordered"),
                ("source.out_of_range", spec.source.out_of_range != "evaluate"),
            )
            if asked
        ]
        if spec.archive is not None and spec.archive.format == PARQUET and not installed():
            hint = 'format = "ndjson.gz", or pyarrow in a layer'
            problems.append(Problem("archive.format", "pyarrow is not in the package", hint))
        if problems:
            raise ConfigError(problems)
        self._spec = spec
        self._name = spec.pipeline.name
        edges = Edges(spec) if edges is None else edges
        self._stream = stream or (lambda name: _stream(edges, name))
        self._source = spec.source.stream  # where events do not say it
        self._alerts, self._errors = edges.alerts(), edges.errors()
        self._states, self._limits = edges.states(), edges.thresholds()
        archive = edges.archive()
        self._archive = None if archive is None else archive.final()
        self._now, self._sleep, self._log = now, sleep, log
        self._warm: dict[str, _Warm] = {}

    def __call__(self, event: Any, context: Any) -> Failures:
        """Handle an event; the answer names the first record that is to come again, if any.

        Raises:
            InputError: it is no event of a Kinesis mapping; names what is wrong.
            StreamgaugeError: nobody can go on; the whole batch comes again.
        """
        left = getattr(context, "get_remaining_time_in_millis", None)
        seconds = SECONDS_MAX if left is None else left() / 1000
        until = self._now() + max(0.0, seconds - RESERVE_SECONDS)
        shards: dict[str, list[Record]] = {}
        self._source = source_of(event) or self._source
        for record in records_of(event):
            shards.setdefault(record.shard_id, []).append(record)
        failed = [
            number
            for shard, records in shards.items()
            if (number := self._shard(shard, records, until)) is not None
        ]
        number = min(failed, key=int, default=None)
        return {"batchItemFailures": [] if number is None else [{"itemIdentifier": number}]}

    def _shard(self, shard: str, records: list[Record], until: float) -> str | None:
        """Work through the records of a shard; the sequence number of the first not done."""
        done = 0
        read: list[Opened] = []
        try:
            warm = self._warm[shard] = self._recalled(shard, until)
            if warm.behind:
                self._read_again(shard, warm.pipeline, records[0].sequence_number, until)
                warm = warm._replace(behind=False)
            del self._warm[shard]  # until all is safe, nothing is remembered
            while done < len(records) and (not done or self._now() < until):
                piece = records[done : done + PIECE_RECORDS]
                outcome = self._piece(warm.pipeline, piece, until)
                if outcome is None:
                    break
                read += outcome.read
                done += len(piece)
            if not done:  # and nothing was applied
                self._warm[shard] = warm
                return records[0].sequence_number
            if self._archive is not None and read:
                self._patience(until).insist(partial(self._archive.deliver, read))
            self._warm[shard] = self._saved(shard, warm)
        except UnavailableError as error:
            self._log("unavailable", shard=shard, cause=str(error))
            return records[0].sequence_number
        except FencedError as error:  # another invocation has gone on with this shard
            self._log("fenced", shard=shard, cause=str(error))
            return records[0].sequence_number
        return records[done].sequence_number if done < len(records) else None

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
        return _Warm(recalled.pipeline, newest, recalled.full, recalled.sound, behind)

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

    def _saved(self, shard: str, warm: _Warm) -> _Warm:
        """Write the next state object, a delta, now and then a full one; remove old ones."""
        generation, kept = warm.generation + 1, warm.full
        full = not (warm.sound and kept and generation - kept[-1] < FULL_EVERY)
        data = warm.pipeline.save(full=full, earlier=kept)
        self._states.create(self._name, shard, generation, data)
        if full:
            kept = written(kept, generation)
            self._prune(shard, oldest_kept(kept))
        return _Warm(warm.pipeline, generation, kept, True, False)

    def _prune(self, shard: str, oldest: int | None) -> None:
        if oldest is None:
            return
        try:
            self._states.prune(self._name, shard, oldest)
        except UnavailableError as error:
            self._log("prune_refused", shard=shard, cause=str(error))


def records_of(event: Any) -> list[Record]:
    """The Kinesis records of an event.

    Raises:
        InputError: it is none of a Kinesis event source mapping; names record and key.
    """
    given = event.get("Records") if isinstance(event, Mapping) else None
    if not isinstance(given, list):
        raise InputError("event: expected the Records of a Kinesis event source mapping")
    return [_record(number, one) for number, one in enumerate(given)]


def source_of(event: Any) -> str | None:
    """The ARN of the stream that the records of an event are of; None where they do not say it."""
    try:
        arn = event["Records"][0]["eventSourceARN"]
    except (KeyError, IndexError, TypeError):
        return None
    return arn.partition("/consumer/")[0] if isinstance(arn, str) and arn else None


def _stream(edges: Edges, name: str) -> Stream:
    from .kinesis_reader import KinesisReader

    return KinesisReader(edges.service("kinesis"), name)


def _record(number: int, given: Any) -> Record:
    where = f"event: Records[{number}]"
    try:
        kinesis, identity = given["kinesis"], given["eventID"]
        shard, _, sequence = identity.rpartition(":")
        record = Record(
            shard_id=shard,
            sequence_number=kinesis["sequenceNumber"],
            data=base64.b64decode(kinesis["data"], validate=True),
            partition_key=kinesis.get("partitionKey", ""),
            arrival=arrival_ms(kinesis.get("approximateArrivalTimestamp")),
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{where}: expected a record of a Kinesis stream: {error!r}") from None
    except (binascii.Error, ValueError) as error:
        raise InputError(f"{where}: kinesis.data: expected base64: {error}") from None
    if not shard or sequence != record.sequence_number or not sequence.isdecimal():
        raise InputError(f"{where}: eventID: expected shard:sequence, found {identity!r}")
    return record


_handler: Handler | None = None


def handler(event: Any, context: Any) -> Failures:
    """The entry of the Lambda runtime; the pipeline file is read at the first event."""
    global _handler
    if _handler is None:
        root = Path(os.environ.get("LAMBDA_TASK_ROOT", "."))
        _handler = Handler(load(root / os.environ.get("STREAMGAUGE_PIPELINE", "pipeline.toml")))
    return _handler(event, context)
