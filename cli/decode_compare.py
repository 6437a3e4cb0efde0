"""What `aws-kinesis-agg` makes of Kinesis records, and where it differs from streamgauge."""

from __future__ import annotations

import base64
import subprocess
import sys
from collections.abc import Iterator, Sequence
from itertools import zip_longest
from typing import IO, TYPE_CHECKING, Any, Self

import msgspec

from ..engine.errors import StreamgaugeError
from .decode_reference import MISSING, READY, Given, Told

if TYPE_CHECKING:
    from ..engine.batch import Record

# What a difference comes to, for those who read the stream with the library.
DROPPED = "dropped"  # they never saw the user record, or nothing told them that it was broken
GARBLED = "garbled"  # they got it with another value
PASSED_ON = "passed_on"  # they got the bytes of a broken aggregate as if a device had sent them
_COMPARED = ("aggregated", "partition_key", "explicit_hash_key", "data")


class Library:
    """`aws-kinesis-agg` in a process of its own; a context manager, which ends the process."""

    def __init__(self) -> None:
        """Start it.

        Raises:
            StreamgaugeError: the library is not installed.
        """
        command = [sys.executable, "-W", "ignore", "-m", f"{__package__}.decode_reference"]
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe)
        if (said := self._out.readline()) != READY:
            self.close()
            if said == MISSING:
                raise StreamgaugeError(
                    "aws-kinesis-agg is not installed; to have it: pip install"
                    " 'streamgauge[interop]'"
                )
            raise StreamgaugeError(
                f"aws-kinesis-agg: its process ended, {self._process.returncode}"
            )

    @property
    def _out(self) -> IO[bytes]:
        assert self._process.stdout is not None
        return self._process.stdout

    def __enter__(self) -> Self:
        """The library itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """End the process."""
        self.close()

    def close(self) -> None:
        """End the process; may be called twice."""
        self._process.kill()
        self._process.communicate()

    def open(self, records: Sequence[Record]) -> list[Told]:
        """What the library makes of each record.

        Raises:
            StreamgaugeError: one of them has ended its process.
        """
        assert self._process.stdin is not None
        given = [
            Given(record.sequence_number, record.partition_key, record.arrival, record.data)
            for record in records
        ]
        try:
            self._process.stdin.write(msgspec.json.encode(given) + b"\n")
            self._process.stdin.flush()
            line = self._out.readline()
        except BrokenPipeError:
            line = b""
        if not line.endswith(b"\n"):
            raise StreamgaugeError(
                "aws-kinesis-agg: its process ended on the records from"
                f" {records[0].shard_id}:{records[0].sequence_number} on"
            )
        return msgspec.json.decode(line, type=list[Told])


def differences(record: Record, ours: list[dict[str, Any]], told: Told) -> Iterator[dict[str, Any]]:
    """Each value in which the two readings of one Kinesis record differ.

    Args:
        ours: the lines that `streamgauge decode` prints for it. told: what the library made of it.
    """
    place = {"shard_id": record.shard_id, "sequence_number": record.sequence_number}
    for sub, (mine, other) in enumerate(zip_longest(ours, told.users)):
        at = {**place, "sub_sequence_number": mine["sub_sequence_number"] if mine else sub}
        if mine is None or other is None or "reason" in mine:
            yield {
                "kind": DROPPED if other is None else PASSED_ON,
                **at,
                "field": "record",
                "streamgauge": _outcome(mine),
                "aws-kinesis-agg": told.said or ("nothing" if other is None else "a user record"),
            }
            continue
        for field in _COMPARED:
            mine_value, other_value = _shown(mine[field]), _shown(getattr(other, field))
            if mine_value != other_value:
                yield {
                    "kind": GARBLED,
                    **at,
                    "field": field,
                    "streamgauge": mine_value,
                    "aws-kinesis-agg": other_value,
                }


def _outcome(line: dict[str, Any] | None) -> str:
    if line is None:
        return "nothing"
    return f"rejected: {line['reason']}" if "reason" in line else "a user record"


def _shown(value: Any) -> Any:
    return base64.b64encode(value).decode("ascii") if isinstance(value, bytes) else value
