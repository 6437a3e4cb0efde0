"""The host on this machine: one process that reads every shard of a stream in turn.

Each shard has a pipeline and a memory of its own. A shard's children start when it is read to its
end. Ctrl-C and SIGTERM are the command's affair: it hands in `stopping`, which is looked at between
two steps; then what was applied is delivered and saved.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterator
from typing import Protocol

from ..engine.batch import Alert
from ..engine.errors import Problem, StreamgaugeError, UnavailableError
from ..engine.limits import ThresholdStore
from ..engine.pipeline import Outcome
from ..engine.sinks.base import Sink
from ..engine.sinks.errors_directory import ErrorDirectory
from ..engine.stores.directory import DirectoryStates
from ..rules.plan import Pipeline
from ..rules.spec import Spec
from .kinesis_reader import ListedShard
from .shard import Backoff, Host, Log, Reader, Shard

LIST_SECONDS = 60.0  # between two looks for shards that another process's reshard has made
SLEEP_SECONDS_MAX = 0.2  # so that a wish to stop is seen soon
DRAIN_SECONDS_MAX = 8.0  # what a stop may take where a sink or the state store is down


class Stream(Reader, Protocol):
    """A stream as this host needs it; `KinesisReader` is one."""

    def shards(self) -> list[ListedShard]:
        """All shards that still hold records."""
        ...


def unsupported(spec: Spec, alerts_given: bool = False) -> Iterator[Problem]:
    """What a pipeline file asks for and this host cannot do yet: it refuses rather than ignores.

    `alerts_given`: the command line says where alerts go, so the file's topic is not asked for.
    """
    if spec.source.stream is None:
        yield Problem("source.stream", "expected the name of a stream to read, found none")
    if spec.source.out_of_range != "evaluate":
        yield Problem("source.out_of_range", 'only "evaluate" is supported here yet')
    if spec.delivery.mode != "ordered":
        yield Problem("delivery.mode", 'only "ordered" is supported here yet')
    for key in ("errors", "state"):
        location = getattr(spec, key).location
        if location.startswith("s3://"):
            hint = f'a directory: {key}.location = "{key}/"'
            yield Problem(f"{key}.location", f"{location}: S3 is not supported here yet", hint)
    if spec.archive is not None:
        yield Problem("archive", "an archive is not written here yet", "remove the table")
    if spec.alerts.sns_topic is not None and not alerts_given:
        hint = "--alerts FILE, or no sns_topic: alerts to stdout"
        yield Problem("alerts.sns_topic", "SNS is not supported here yet", hint)


def host(
    spec: Spec,
    stream: Reader,
    alerts: Sink[Alert],
    *,
    thresholds: ThresholdStore | None = None,
    observe: Callable[[Outcome], None],
    log: Log,
) -> Host:
    """What the shards of one process share, for a pipeline file that `unsupported` lets pass."""
    return Host(
        pipeline=spec.pipeline.name,
        plan=functools.partial(Pipeline.plan, spec, thresholds, one_shard=True),
        reader=stream,
        alerts=alerts,
        errors=ErrorDirectory(spec.errors.location, spec.pipeline.name),
        states=DirectoryStates(spec.state.location),
        save_seconds=spec.state.save_every / 1000,
        observe=observe,
        log=log,
    )


class LocalConsumer:
    """Drives the shards of a stream until it is told to stop, or all are at their tip.

    shards: those started so far, by id. unsaved: after a run, those of which something could not be
    delivered or saved in time; it is done again by the next start. unread: after a run to the end,
    those that could not be started because a parent of theirs never ended.
    """

    def __init__(
        self,
        stream: Stream,
        host: Host,
        *,
        until_end: bool = False,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        """Do nothing yet; `until_end`: stop once every shard is at its tip."""
        self.shards: dict[str, Shard] = {}
        self.unsaved: list[str] = []
        self.unread: list[str] = []
        self._stream = stream
        self._host = host
        self._until_end = until_end
        self._sleep = sleep
        self._listed = False
        self._list_at = host.now()
        self._list_backoff = Backoff(host.now, host.random)

    def run(self, stopping: Callable[[], bool] = lambda: False) -> None:
        """Read, apply, deliver and save until there is nothing to do or `stopping` says so.

        At the end, and also where an error ends it, what was applied is delivered and saved, as far
        as that goes within DRAIN_SECONDS_MAX.

        Raises:
            StreamgaugeError: nobody can go on: the stream is not there, a service was down for too
                long, another owner goes on writing the state.
        """
        try:
            while not stopping() and not self._at_end():
                self._turn()
        except (StreamgaugeError, OSError):
            self._drain()
            raise
        self._drain()

    def _at_end(self) -> bool:
        """Whether a run to the end is there: all shards at their tip, and none to be looked for."""
        if not self._until_end or not self._listed or self._host.now() >= self._list_at:
            return False
        return all(shard.at_tip or shard.finished for shard in self.shards.values())

    def _turn(self) -> None:
        """Do the step that has been due for longest, or sleep until one is."""
        now = self._host.now()
        if now >= self._list_at:
            self._list()
            return
        reading = [
            shard
            for shard in self.shards.values()
            if not shard.finished and not (self._until_end and shard.at_tip)
        ]
        shard = min(reading, key=lambda shard: shard.ready_at, default=None)
        due_at = self._list_at if shard is None else min(shard.ready_at, self._list_at)
        if shard is None or due_at > now:
            self._sleep(min(due_at - now, SLEEP_SECONDS_MAX))
            return
        shard.step()
        if shard.finished:
            self._host.log("shard_finished", shard=shard.shard_id)
            shard.release()
            self._list_at = now  # its children can start

    def _list(self) -> None:
        """Start the shards whose parents are read to their end, or are gone from the stream."""
        host = self._host
        try:
            listed = self._stream.shards()
        except UnavailableError as error:
            pause = self._list_backoff.pause(error)
            self._list_at = host.now() + pause
            host.log("waiting", step="list", seconds=round(pause, 3), cause=str(error))
            return
        self._list_backoff.clear()
        names = {shard.shard_id for shard in listed}
        self.unread = []
        for shard_id, parents in listed:
            if shard_id in self.shards:
                continue
            here = [self.shards.get(parent) for parent in parents if parent in names]
            if all(parent is not None and parent.finished for parent in here):
                self.shards[shard_id] = Shard(shard_id, host, parents)
            else:
                self.unread.append(shard_id)
        self._listed = True
        self._list_at = host.now() + LIST_SECONDS

    def _drain(self) -> None:
        """Deliver and save what was applied; nothing more is read."""
        host = self._host
        until = host.now() + DRAIN_SECONDS_MAX
        pending = list(self.shards.values())
        for shard in pending:
            shard.finish()
        self.unsaved = []
        while pending := [shard for shard in pending if not shard.idle]:
            shard = min(pending, key=lambda shard: shard.ready_at)
            pause = shard.ready_at - host.now()
            try:
                if pause > 0 and host.now() < until:
                    self._sleep(min(pause, SLEEP_SECONDS_MAX))
                    continue
                if host.now() < until:
                    shard.step()
                    continue
                cause = f"not done within {DRAIN_SECONDS_MAX:g} s"
            except (StreamgaugeError, OSError) as error:
                cause = str(error)
            host.log("unsaved", shard=shard.shard_id, cause=cause)
            self.unsaved.append(shard.shard_id)
            pending.remove(shard)
