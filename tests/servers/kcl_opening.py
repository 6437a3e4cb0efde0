"""A Java program that has the KCL's jars open aggregates, and what it said."""

from __future__ import annotations

import base64
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from servers import need

TOP = 1 << 128
SOURCE = Path(__file__).parent / "Deaggregate.java"


class Written(NamedTuple):
    """A Kinesis record, and the range that its shard had when it was written."""

    first: int
    last: int
    sequence_number: str
    partition_key: str
    data: bytes


class Read(NamedTuple):
    """A user record as the KCL hands it on."""

    partition_key: str
    explicit_hash_key: int | None
    data: bytes


def compiled(folder: Path, jars: str) -> None:
    """Compile the program against the KCL's jars, into a folder."""
    subprocess.run(
        [need("javac"), "-cp", jars, "-d", folder, SOURCE], check=True, stdin=subprocess.DEVNULL
    )


def command(classes: str) -> list[str]:
    """The command that runs it, with a class path that has it and the KCL."""
    return [need("java"), "-Xmx256m", "-cp", classes, "Deaggregate"]


def deaggregated(kcl: list[str], written: Sequence[Written]) -> list[list[Read]]:
    """What the KCL hands on of each Kinesis record."""
    lines = "".join(
        f"{record.first} {record.last} {record.sequence_number}"
        f" {encoded(record.partition_key.encode())} {encoded(record.data)}\n"
        for record in written
    )
    done = subprocess.run(
        kcl, input=lines.encode(), stdout=subprocess.PIPE, check=True, timeout=120
    )
    found: list[list[Read]] = []
    users: list[Read] = []
    for line in done.stdout.decode().splitlines():
        if line == ".":
            found.append(users)
            users = []
            continue
        sequence, sub, hash_key, key, data = line.split(" ")
        assert (sequence, int(sub)) == (written[len(found)].sequence_number, len(users))
        explicit = None if hash_key == "-" else int(hash_key)
        users.append(Read(base64.b64decode(key).decode(), explicit, base64.b64decode(data)))
    assert len(found) == len(written)
    return found


def encoded(data: bytes) -> str:
    return base64.b64encode(data).decode()
