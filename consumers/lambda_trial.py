"""The function that `deploy invoke` runs: the packaged handler, without a cloud around it.

Set as the function's handler in place of the real one. What the pipeline file names outside the
process is replaced: limits are the rules' own, alerts go to standard output, rejected records and
state to directories below STREAMGAUGE_TRIAL, nothing is forwarded, and the stream is one shard
without parents. All else is as in Lambda.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import msgspec

from ..engine.aws import Service
from ..rules.edges import Edges
from ..rules.spec import AlertsSpec, ErrorsSpec, Spec, StateSpec, ThresholdsSpec, load
from .kinesis_reader import KinesisReader, ListedShard
from .lambda_event import records_of
from .lambda_handler import Handler
from .lambda_sandbox import Failures, pipeline_file

FOLDER = "STREAMGAUGE_TRIAL"


class OneShard(KinesisReader):
    """The stream that an event is of, which has that shard alone and is never read."""

    def __init__(self, shard: str) -> None:
        """Take the shard's id."""
        super().__init__(Service("kinesis"), "trial")
        self._shard = shard

    def shards(self) -> list[ListedShard]:
        """The shard, without parents."""
        return [ListedShard(self._shard, ())]


def alone(spec: Spec, folder: Path) -> Spec:
    """The same pipeline with all that it names outside the process below a folder."""
    replace = msgspec.structs.replace
    return replace(
        spec,
        rules=tuple(replace(rule, forward=None, forward_key=None) for rule in spec.rules),
        thresholds=ThresholdsSpec(),
        alerts=AlertsSpec(),
        errors=ErrorsSpec(location=str(folder / "errors")),
        state=StateSpec(location=str(folder / "state")),
    )


def handler(event: Any, context: Any) -> Failures:
    """Handle one event as the real handler does, in a sandbox of its own."""
    spec = alone(load(pipeline_file()), Path(os.environ[FOLDER]))
    shard = next((record.shard_id for record in records_of(event)), "")
    return Handler(spec, Edges(spec), stream=lambda _: OneShard(shard))(event, context)
