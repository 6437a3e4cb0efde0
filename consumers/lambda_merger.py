"""The merger of the fan-out mode in Lambda: an event of the panes stream to alerts.

    parts, marks -> what counts is merged -> evaluate -> alerts are safe -> state object -> answer

Set the handler to `streamgauge.consumers.lambda_merger.handler`, on a mapping of the panes stream
from TRIM_HORIZON, with partial answers. Devices are spread over `delivery.mergers` mergers, each
with state objects of its own. A shard of the panes stream has one or more of them; when it is split
or merged they go with their records, and nothing of them is cut.

Records are taken once, in whatever order and however often they come; so any record that failed, or
was given up by the mapping, can be put into the panes stream again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from ..engine.batch import NO_TIME, Alert, Position, Record, Rejected
from ..engine.counts import RuleCounts
from ..engine.errors import FencedError, InputError, StateError, UnavailableError
from ..rules.edges import Edges
from ..rules.plan_fan_out import plan_merger
from ..rules.spec import Spec, load
from .lambda_event import records_of
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
from .pane_commits import Commits
from .pane_wire import Part, Told, unpack
from .panes_again import read_again, read_others


class _Held(NamedTuple):
    """What a sandbox remembers of a merger."""

    objects: Objects
    commits: Commits
    behind: bool  # the newest object cannot be read: the panes stream is to be read again


class MergerFunction:
    """Handles events of the panes stream for one pipeline file."""

    def __init__(
        self,
        spec: Spec,
        edges: Edges | None = None,
        *,
        stream: Callable[[str], Stream] | None = None,
        clock: Clock | None = None,
        log: Callable[..., None] = log_line,
    ) -> None:
        """Make nothing yet; ConfigError where the file asks for what this host cannot do.

        `stream` gives the panes stream by its name.
        """
        self._panes = check_fan_out(spec)
        self._spec, self._name = spec, spec.pipeline.name
        self._mergers = spec.delivery.mergers
        edges = Edges(spec) if edges is None else edges
        self._stream = stream or (lambda name: opened(edges, name))
        self._alerts, self._errors = edges.alerts(), edges.errors()
        self._states, self._limits = edges.states(), edges.thresholds()
        self._clock = clock or Clock()
        self._told = log
        self._warm: dict[int, _Held] = {}

    def __call__(self, event: Any, context: Any) -> Failures:
        """Handle an event; where something failed all of it comes again.

        Raises:
            InputError: it is no event of a Kinesis mapping.
            StateError: no state object can be read, though there are some; or panes are cut for
                another number of mergers.
            OrderError: a shard of the source went on after its end.
        """
        until = self._clock.until(context)
        records = records_of(event)
        told: dict[int, list[Told]] = {}
        others = list[Rejected]()
        for record in records:
            one = self._unpacked(record, others)
            if one is not None and one.pipeline == self._name:
                told.setdefault(one.merger, []).append(one)
        request = getattr(context, "aws_request_id", None)
        done = self._rejected(others, until)
        for merger, some in told.items():
            done = self._merge(merger, some, records, until, request) and done
        return failures([None if done else records[0].sequence_number])

    def _unpacked(self, record: Record, others: list[Rejected]) -> Told | None:
        """What a record says; one that nobody here has written goes to the error stream."""
        try:
            return unpack(record.data)
        except InputError as error:
            at = Position(record.shard_id, record.sequence_number)
            others.append(Rejected(
                stage="panes", reason="not_panes", message=str(error), rule=None, at=at,
                arrival_time=record.arrival, partition_key=record.partition_key, data=record.data,
            ))  # fmt: skip
            return None

    def _rejected(self, rows: list[Rejected], until: Deadline) -> bool:
        if not rows:
            return True
        self._log("not_panes", records=len(rows), first=str(rows[0].at))
        try:
            until.insist(lambda: self._errors.deliver(rows))
        except UnavailableError as error:
            self._log("unavailable", cause=str(error))
            return False
        return True

    def _merge(
        self,
        merger: int,
        told: list[Told],
        records: list[Record],
        until: Deadline,
        request: str | None,
    ) -> bool:
        """Take what one merger is told; whether it is safe."""
        values: dict[str, float] = {"fenced": 0}
        done = False
        try:
            self._merged(merger, told, records, until, values)
            done = True
        except UnavailableError as error:
            self._log("unavailable", merger=merger, cause=str(error))
        except FencedError as error:  # the merger's records are in two shards for a while
            self._log("fenced", merger=merger, cause=str(error))
            values["fenced"] = 1
        values["failed"] = int(not done)
        line = self._clock.embedded(values)
        self._log("merged", merger=merger, told=len(told), request=request, **line)
        return done

    def _merged(
        self,
        merger: int,
        told: list[Told],
        records: list[Record],
        until: Deadline,
        values: dict[str, float],
    ) -> None:
        held = self._warm.pop(merger, None)  # until all is safe, nothing is remembered
        if held is None or not held.objects.current():
            held = self._loaded(merger)
        objects, commits = held.objects, held.commits
        if held.behind:
            self._read_again(merger, commits, records[0], until)
        news = [_take(commits, one) for one in told]
        if any(news) or held.behind:
            commits.seen[records[-1].shard_id] = records[-1].sequence_number
            alerts = self._evaluated(commits, until)
            if alerts:
                until.insist(lambda: self._alerts.deliver(alerts))
            data = commits.save()
            start = self._clock.now()
            objects.save(data)
            values["save"] = round((self._clock.now() - start) * 1000, 3)
            values |= {"state_bytes": len(data), "alerts": len(alerts)}
            self._prune(merger, objects)
        self._warm[merger] = held._replace(behind=False)
        self._tell_what_waits(merger, commits)

    def _evaluated(self, commits: Commits, until: Deadline) -> list[Alert]:
        counts = {rule.name: RuleCounts() for rule in commits.merger.rules}
        return until.insist(lambda: commits.merger.evaluate(counts))

    def _loaded(self, merger: int) -> _Held:
        """The newest state that can be read; an empty one where there is none at all."""
        memory = f"merger-{merger}"
        objects = Objects(self._states, self._name, memory)
        found, cause = objects.generations(), None
        for generation in reversed(found):
            commits = self._made(merger)
            try:
                changed = commits.restore(objects.read(generation))
            except StateError as error:
                self._log("state_unreadable", merger=merger, generation=generation,
                          cause=str(error))  # fmt: skip
                cause = cause or error
                continue
            if changed:
                self._log("rules_start_empty", merger=merger, rules=changed)
            return _Held(objects, commits, generation != found[-1])
        if cause is not None:
            raise unreadable(memory, cause) from cause
        return _Held(objects, self._made(merger), False)

    def _made(self, merger: int) -> Commits:
        made = plan_merger(self._spec, self._limits, now=self._clock.now)
        return Commits(made, merger, self._mergers)

    def _read_again(self, merger: int, commits: Commits, first: Record, until: Deadline) -> None:
        """Read again what an older object does not know; what was told is not told again."""
        stream = self._stream(self._panes)

        def take(record: Record) -> None:
            one = self._unpacked(record, [])  # what is none of ours is in the error stream
            if one is not None and (one.pipeline, one.merger) == (self._name, merger):
                _take(commits, one)

        read_again(stream, commits.seen, first, until, take)
        self._evaluated(commits, until)
        read_others(stream, commits.seen, first, until, take)
        self._log("read_again", merger=merger, shard=first.shard_id)

    def _tell_what_waits(self, merger: int, commits: Commits) -> None:
        """Say what is not complete; else one shard that says nothing looks like silence."""
        for shard, chunk in commits.waiting.items():
            self._log("waiting_for_parts", merger=merger, shard=shard, chunk=chunk)
        back = commits.held_back_by
        if back is not None and commits.merger.times[back] == NO_TIME:
            self._log("held_back", merger=merger, shard=back)

    def _prune(self, merger: int, objects: Objects) -> None:
        try:
            objects.prune()
        except UnavailableError as error:
            self._log("prune_refused", merger=merger, cause=str(error))

    def _log(self, event: str, **fields: object) -> None:
        self._told(event, pipeline=self._name, role="merger", **fields)


def _take(commits: Commits, one: Told) -> bool:
    return commits.part(one) if isinstance(one, Part) else commits.mark(one)


_merger: MergerFunction | None = None


def handler(event: Any, context: Any) -> Failures:
    """The entry of the Lambda runtime; the pipeline file is read at the first event."""
    global _merger
    if _merger is None:
        _merger = MergerFunction(load(pipeline_file()))
    return _merger(event, context)
