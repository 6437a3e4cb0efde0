"""The child process of `decode --compare`: opens Kinesis records with `aws-kinesis-agg`.

The library is met here and nowhere else: its import puts its own folder in front of sys.path and
modules of common names into sys.modules, and a record can make it raise, or print the payload.

The child says READY or MISSING in a line. Then each line on standard input is a list of `Given`,
and one line on standard output answers it with a list of `Told`, both as JSON.
"""

from __future__ import annotations

import base64
import contextlib
import io
import sys
from collections.abc import Callable, Iterable
from typing import Any

import msgspec

READY, MISSING = b"ready\n", b"missing\n"

Open = Callable[..., Iterable[dict[str, Any]]]  # iter_deaggregate_records


class Given(msgspec.Struct, array_like=True):
    """A Kinesis record."""

    sequence_number: str
    partition_key: str
    arrival: int | None
    data: bytes


class User(msgspec.Struct, array_like=True):
    """A user record as the library gives it; `aggregated`: as it says itself."""

    aggregated: bool
    partition_key: str
    explicit_hash_key: str | None
    data: bytes


class Told(msgspec.Struct, array_like=True):
    """What the library made of one Kinesis record; `said`: what it raised, or printed first."""

    users: list[User]
    said: str


def opened(given: Given, iter_deaggregate: Open) -> Told:
    """Have the library open one record."""
    record = {
        "SequenceNumber": given.sequence_number,
        "PartitionKey": given.partition_key,
        "ApproximateArrivalTimestamp": given.arrival,
        "Data": given.data,
    }
    users: list[User] = []
    said = io.StringIO()
    with contextlib.redirect_stderr(said):
        try:
            for row in iter_deaggregate([record], data_format="Boto3"):
                user = row["kinesis"]
                aggregated = bool(user.get("aggregated"))
                data = base64.b64decode(user["data"]) if aggregated else user["data"]
                hash_key = user.get("explicitHashKey")
                users.append(User(aggregated, user["partitionKey"], hash_key, data))
        except Exception as error:  # whatever a hostile record makes it raise
            return Told(users, f"{type(error).__name__}: {error}")
    return Told(users, said.getvalue().partition("\n")[0])


def main() -> None:
    """Answer until the input ends."""
    out = sys.stdout.buffer
    sys.stdout = sys.stderr  # no print of the library's gets between the answers
    try:
        from aws_kinesis_agg.deaggregator import iter_deaggregate_records
    except ImportError:
        out.write(MISSING)
        out.flush()
        return
    out.write(READY)
    out.flush()
    decode = msgspec.json.Decoder(list[Given]).decode
    for line in sys.stdin.buffer:
        told = [opened(given, iter_deaggregate_records) for given in decode(line)]
        out.write(msgspec.json.encode(told) + b"\n")
        out.flush()


if __name__ == "__main__":
    main()
