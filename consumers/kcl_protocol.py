"""The MultiLang protocol of the KCL: lines of JSON between its Java daemon and one process a shard.

    daemon  {"action": "processRecords", "records": [...], "millisBehindLatest": 0}
    we          {"action": "checkpoint", "sequenceNumber": "49...", "subSequenceNumber": 7}
    daemon      {"action": "checkpoint", ..., "error": null}
    we      {"action": "status", "responseFor": "processRecords"}

Read by ourselves, not by `amazon_kclpy`: its loop tells the daemon that a batch went well whatever
the processor raised. Here an exception leaves, no status is sent, and the daemon, which takes the
end of its child for a failure, hands the same records out again. Source of the format:
awslabs/amazon-kinesis-client, `software.amazon.kinesis.multilang.messages`, version 3.1.3.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Sequence
from typing import Any, BinaryIO, Protocol

import msgspec

from ..engine.batch import Position, Record
from ..engine.errors import InputError, StreamgaugeError, UnavailableError

RETRIED = ("ThrottlingException", "KinesisClientLibDependencyException")
LOST = "ShutdownException"  # another worker has the lease, or is about to get it
LINE_BYTES_MAX = 256 << 20  # the KCL hands out what one GetRecords gave: 10 MiB, opened
EXCERPT_CHARACTERS = 200


class LeaseLostError(StreamgaugeError):
    """A checkpoint was refused: the lease of the shard is another worker's."""


class Processor(Protocol):
    """What is done with the shard of this process; an exception of any of these ends it.

    shard_id: that of `start`, empty before.
    """

    shard_id: str

    def start(self, shard_id: str, checkpoint: Position | None) -> None:
        """Begin; all up to the checkpoint was done before, None: nothing was."""
        ...

    def process(self, records: Sequence[Record], behind: int) -> None:
        """Take user records, none where nothing came; `behind` is in ms."""
        ...

    def end(self) -> None:
        """The shard was read to its end: note that before this returns."""
        ...

    def hand_over(self) -> None:
        """The shard goes to another worker: it is the last chance to save."""
        ...

    def lose(self) -> None:
        """Another worker has the shard: write nothing more."""
        ...


class Daemon:
    """The daemon as a processor sees it: it takes checkpoints."""

    def __init__(self, told: BinaryIO, tell: BinaryIO) -> None:
        """Take the two ends: what the daemon writes, and what it reads."""
        self._told = told
        self._tell = tell

    def checkpoint(self, position: Position | None) -> None:
        """Have a position noted; None: the end of the shard, which makes its children start.

        Raises:
            UnavailableError: the table of leases is busy or down; call again.
            LeaseLostError: the lease is another's.
            StreamgaugeError: it was refused for good, or the daemon has gone.
        """
        number = None if position is None else position.sequence_number
        sub = None if position is None else position.sub_sequence_number
        self._say({"action": "checkpoint", "sequenceNumber": number, "subSequenceNumber": sub})
        answer = self._next()
        if answer is None:
            raise StreamgaugeError("the daemon has gone before it answered a checkpoint")
        if answer.get("action") != "checkpoint":
            found = str(answer.get("action"))[:EXCERPT_CHARACTERS]
            raise InputError(f"daemon: expected the answer to a checkpoint, found {found!r}")
        error = answer.get("error")
        if error is None:
            return
        what = f"checkpoint at {'the end' if position is None else position}: {error}"
        if error in RETRIED:
            raise UnavailableError(what)
        raise LeaseLostError(what) if error == LOST else StreamgaugeError(what)

    def serve(self, processor: Processor) -> None:
        """Do what the daemon says, until it says no more."""
        while (message := self._next()) is not None:
            action = message.get("action")
            _do(processor, message)
            self._say({"action": "status", "responseFor": action})

    def _next(self) -> dict[str, Any] | None:
        while line := self._told.readline(LINE_BYTES_MAX):
            if not line.strip():
                continue
            try:
                found = msgspec.json.decode(line)
            except msgspec.DecodeError as error:
                raise InputError(f"daemon: expected a line of JSON: {error}") from None
            if not isinstance(found, dict):
                raise InputError(f"daemon: expected an object, found {type(found).__name__}")
            return found
        return None

    def _say(self, message: dict[str, Any]) -> None:
        self._tell.write(b"\n" + json.dumps(message).encode() + b"\n")
        self._tell.flush()


def _do(processor: Processor, message: dict[str, Any]) -> None:
    """Call what a message asks for."""
    action = message.get("action")
    if action == "initialize":
        shard_id = _text(message, "shardId")
        processor.start(shard_id, _checkpoint(shard_id, message))
    elif action == "processRecords":
        records = message.get("records")
        if not isinstance(records, list):
            raise InputError("daemon: processRecords: records: expected a list")
        processor.process(
            records_of(processor.shard_id, records), message.get("millisBehindLatest") or 0
        )
    elif action == "shardEnded":
        processor.end()
    elif action == "shutdownRequested":
        processor.hand_over()
    elif action == "leaseLost":
        processor.lose()
    elif action == "shutdown":  # of KCL 1, which no jar of ours sends
        processor.end() if message.get("reason") == "TERMINATE" else processor.lose()
    else:
        raise InputError(f"daemon: unknown action {str(action)[:EXCERPT_CHARACTERS]!r}")


def _text(message: dict[str, Any], key: str) -> str:
    value = message.get(key)
    if not isinstance(value, str):
        raise InputError(f"daemon: {key}: expected text, found {type(value).__name__}")
    return value


def _checkpoint(shard_id: str, message: dict[str, Any]) -> Position | None:
    """The position that `initialize` names; None for TRIM_HORIZON and the like."""
    sequence, sub = message.get("sequenceNumber"), message.get("subSequenceNumber")
    if not isinstance(sequence, str) or not sequence.isdecimal():
        return None
    return Position(shard_id, sequence, sub if type(sub) is int else 0)


def records_of(shard_id: str, given: Sequence[Any]) -> list[Record]:
    """The user records of one message, in order.

    Raises:
        InputError: one is none; names its number and key.
    """
    return [_record(shard_id, number, one) for number, one in enumerate(given)]


def _record(shard_id: str, number: int, given: Any) -> Record:
    where = f"daemon: records[{number}]"
    try:
        sequence, sub = given["sequenceNumber"], given.get("subSequenceNumber") or 0
        arrival = given.get("approximateArrivalTimestamp")
        data = base64.b64decode(given["data"] or "", validate=True)
        key = given.get("partitionKey") or ""
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{where}: expected a user record: {error!r}") from None
    except (binascii.Error, ValueError) as error:
        raise InputError(f"{where}: data: expected base64: {error}") from None
    if not isinstance(sequence, str) or not sequence.isdecimal():
        raise InputError(f"{where}: sequenceNumber: expected digits, found {sequence!r}")
    if type(sub) is not int or not (arrival is None or type(arrival) is int):
        raise InputError(f"{where}: expected whole numbers")
    return Record(shard_id, sequence, data, key, arrival, sub)
