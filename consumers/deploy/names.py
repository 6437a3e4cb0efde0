"""What a pipeline file names in AWS, and how a template calls it."""

from __future__ import annotations

import re
from typing import NamedTuple

from ...engine.errors import ConfigError, Problem
from ...engine.sinks.archive_objects import NDJSON
from ...rules.edges import BUCKET
from ...rules.plan import Pipeline
from ...rules.plan_fan_out import FAN_OUT, plan_reducer
from ...rules.spec import Spec
from .. import lambda_handler, lambda_sandbox

STREAM, TABLE, TOPIC, PANES = "Stream", "Thresholds", "Alerts", "PanesStream"  # logical ids
FIFO = ".fifo"


class Place(NamedTuple):
    """An S3 location: of which key of the file, in which bucket, below which prefix."""

    section: str
    bucket: str
    prefix: str


class Named(NamedTuple):
    """The names of one pipeline file.

    title: of the pipeline; function: the same, as functions may be called. places: the locations on
    S3. buckets: the logical id of each bucket, in which several locations can lie. forwards: the
    streams that rules forward to, by name or ARN; they are others', and not made here. panes: the
    second stream of the fan-out mode, None in the other one.
    """

    title: str
    function: str
    stream: str
    table: str | None
    topic: str | None
    places: tuple[Place, ...]
    buckets: dict[str, str]
    forwards: tuple[str, ...]
    panes: str | None = None

    def place(self, section: str) -> Place:
        """The location of one section of the file."""
        return next(place for place in self.places if place.section == section)


def check_function(spec: Spec, origin: str) -> None:
    """Refuse what a function cannot do; ConfigError tells all of it."""
    if spec.delivery.mode == FAN_OUT:
        lambda_sandbox.check_fan_out(spec)
        plan_reducer(spec, origin)
        return
    lambda_handler.Handler(spec)
    if spec.archive is not None and spec.archive.format != NDJSON:
        message = "pyarrow is not in the package of a function"
        where = f"{origin}: archive.format"
        raise ConfigError([Problem(where, message, f'format = "{NDJSON}"')])
    Pipeline.plan(spec, origin=origin)


def named(spec: Spec, origin: str) -> Named:
    """The names of a pipeline that is to run in AWS.

    Raises:
        ConfigError: it names no stream, or keeps something in directories, which go with the
            machine that a function or a task happens to run on.
    """
    problems = []
    if spec.source.stream is None:
        problems.append(Problem(f"{origin}: source.stream", "expected the stream that is read"))
    places = []
    locations = {"errors": spec.errors.location, "state": spec.state.location}
    if spec.archive is not None:
        locations["archive"] = spec.archive.location
    for section, location in locations.items():
        if not location.startswith(BUCKET):
            message = f'"{location}" is a directory, which is gone with the machine'
            hint = f"{section}.location = {BUCKET}BUCKET/{section}/"
            problems.append(Problem(f"{origin}: {section}.location", message, hint))
            continue
        bucket, _, prefix = location.removeprefix(BUCKET).partition("/")
        places.append(Place(section, bucket, prefix and prefix.rstrip("/") + "/"))
    if problems:
        raise ConfigError(problems)
    panes = spec.delivery.panes_stream
    different = dict.fromkeys(place.bucket for place in places)
    ids = {
        bucket: "Bucket" if len(different) == 1 else f"{section.capitalize()}Bucket"
        for section, bucket, _ in places
    }
    return Named(
        spec.pipeline.name,
        re.sub(r"[^A-Za-z0-9_-]", "-", spec.pipeline.name),
        _last(str(spec.source.stream)),
        None if spec.thresholds.table is None else _last(spec.thresholds.table),
        None if spec.alerts.sns_topic is None else _last(spec.alerts.sns_topic),
        tuple(places),
        ids,
        tuple(dict.fromkeys(rule.forward for rule in spec.rules if rule.forward is not None)),
        None if panes is None or spec.delivery.mode != FAN_OUT else _last(panes),
    )


def _last(name: str) -> str:
    """The name at the end of an ARN; of a name, itself."""
    return re.split("[:/]", name)[-1]
