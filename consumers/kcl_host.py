"""The processor of one shard, made from a pipeline file, and what the KCL host cannot do."""

from __future__ import annotations

from collections.abc import Iterator

from ..engine.errors import ConfigError, Problem
from ..rules.edges import Edges
from ..rules.spec import Spec
from . import hosting
from .kcl import ShardProcessor
from .kcl_log import Reports, log
from .kcl_protocol import Daemon
from .kcl_questions import Answers
from .kinesis_reader import KinesisReader
from .metrics import Metrics


def problems(spec: Spec) -> Iterator[Problem]:
    """What a pipeline file asks for, or lacks, that this host cannot do."""
    yield from hosting.unsupported(spec)
    yield from not_there(spec)
    if spec.source.stream is None:
        yield Problem("source.stream", "expected the name of a stream to read, found none")
    if spec.alerts.sns_topic is None:
        yield Problem(
            "alerts.sns_topic",
            "expected a topic: under the KCL there is no standard output for alerts",
        )


def not_there(spec: Spec) -> Iterator[Problem]:
    """What `run` can do and this host cannot yet."""
    if spec.delivery.mode != "ordered":
        message = 'only "ordered" is supported under the KCL yet'
        yield Problem("delivery.mode", message, "`streamgauge run` has the fan_out mode")
    if spec.archive is not None:
        message = "an archive is not written under the KCL yet"
        yield Problem("archive", message, "`streamgauge run` writes it, and a Lambda function")


def made(spec: Spec, daemon: Daemon, answers: Answers | None = None) -> ShardProcessor:
    """A processor over the sinks and stores that the file names; no client is made yet.

    Questions that `answers` takes are answered between two of its steps.

    Raises:
        ConfigError: the file asks for what this host cannot do.
    """
    found = list(problems(spec))
    if found:
        raise ConfigError(found)
    assert spec.source.stream is not None
    edges, metrics = Edges(spec), Metrics()
    reader = KinesisReader(edges.service("kinesis"), spec.source.stream)
    shared = hosting.host(
        spec, reader, edges=edges, observe=lambda outcome: None, log=log, metrics=metrics
    )
    reports = Reports(metrics)

    def report() -> None:
        reports()
        if answers is not None:
            answers.answer(processor.inspect)

    processor = ShardProcessor(shared, reader, daemon, report=report)
    return processor
