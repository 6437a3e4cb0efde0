"""The function that `deploy invoke` runs: the packaged handler, without a cloud around it.

Set as the function's handler in place of the real one. What the pipeline file names outside the
process is replaced: limits are the rules' own, alerts go to standard output, rejected records and
state to directories below STREAMGAUGE_TRIAL, nothing is forwarded, and the stream is one shard
without parents. All else is as in Lambda. In the fan-out mode dispatcher, worker and merger run in
this one process, one after the other.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from ..engine.aws import Service
from ..producers.kinesis import Failed, KinesisWriter, Placed, Put
from ..rules.edges import Edges
from ..rules.plan_fan_out import FAN_OUT
from ..rules.spec import AlertsSpec, ErrorsSpec, Spec, StateSpec, ThresholdsSpec, load
from .kinesis_reader import KinesisReader, ListedShard
from .lambda_dispatcher import Dispatcher
from .lambda_event import records_of
from .lambda_handler import Handler
from .lambda_merger import MergerFunction
from .lambda_sandbox import Failures, pipeline_file
from .lambda_worker import Worker

FOLDER = "STREAMGAUGE_TRIAL"
PANES_SHARD = "shardId-000000000000"


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


class KeptPanes(KinesisWriter):
    """The panes stream, which is kept: event() is what a mapping would make of it."""

    def __init__(self) -> None:
        """Keep nothing yet."""
        super().__init__(Service("kinesis"), "trial-panes")
        self._kept: list[Put] = []

    def put(self, records: Sequence[Put]) -> list[Placed | Failed]:
        """Keep records."""
        self._kept += records
        return [Placed(PANES_SHARD, str(number)) for number in range(len(records))]

    def event(self) -> dict[str, Any]:
        """All of it as an event."""
        return {"Records": [
            {
                "eventID": f"{PANES_SHARD}:{number}",
                "kinesis": {
                    "sequenceNumber": str(number),
                    "partitionKey": put.partition_key,
                    "data": base64.b64encode(put.data).decode("ascii"),
                },
            }
            for number, put in enumerate(self._kept)
        ]}  # fmt: skip


def handler(event: Any, context: Any) -> Failures:
    """Handle one event as the real handlers do, in a sandbox of its own."""
    spec = alone(load(pipeline_file()), Path(os.environ[FOLDER]))
    shard = next((record.shard_id for record in records_of(event)), "")
    edges = Edges(spec)
    if spec.delivery.mode != FAN_OUT:
        return Handler(spec, edges, stream=lambda _: OneShard(shard))(event, context)
    panes = KeptPanes()
    worker = Worker(spec, edges, writer=panes)
    dispatcher = Dispatcher(
        spec,
        lambda given: worker(given, context),
        edges,
        stream=lambda _: OneShard(shard),
        writer=panes,
    )
    answer = dispatcher(event, context)
    merged = MergerFunction(spec, edges)(panes.event(), context)
    return answer if answer["batchItemFailures"] else merged
