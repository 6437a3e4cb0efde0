"""The ledger of a run: what a destination has accepted, one line a message, to be held against it.

A message is known by what it says of itself: device, its number n, event time and value. One that
does not say all four is known by the SHA-256 of its bytes. So the ledger of what was sent and the
bytes that are read back are compared by the same function, whatever lies between.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable
from typing import BinaryIO, NamedTuple

import msgspec


class Entry(msgspec.Struct, frozen=True, gc=False):
    """A line of a ledger, of a message that says who it is; `time` is int ms."""

    device: str
    n: int
    time: int
    value: float


class Digest(msgspec.Struct, frozen=True, gc=False):
    """A line of a ledger, of any other message: SHA-256, hexadecimal."""

    sha256: str


class _Payload(msgspec.Struct, gc=False):
    device: str
    n: int
    ts: int
    temperature: float


_decode = msgspec.json.Decoder(_Payload).decode
_encode_lines = msgspec.json.Encoder().encode_lines
_entry = msgspec.json.Decoder(Entry).decode
_digest = msgspec.json.Decoder(Digest).decode


def identity(data: bytes) -> Entry | Digest:
    """What a payload is known by."""
    try:
        found = _decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return Digest(hashlib.sha256(data).hexdigest())
    return Entry(found.device, found.n, found.ts, found.temperature)


class Ledger:
    """Writes a line for each message accepted to an open file; nothing is kept."""

    def __init__(self, file: BinaryIO) -> None:
        """Take the file; whoever opened it closes it."""
        self.accepted = 0
        self._file = file

    def take(self, payloads: list[bytes]) -> None:
        """Note that these were accepted."""
        self.accepted += len(payloads)
        self._file.write(_encode_lines(list(map(identity, payloads))))


class Difference(NamedTuple):
    """How what was read back differs from a ledger, each message as often as it differs."""

    missing: Counter[Entry | Digest]  # accepted, and not there
    extra: Counter[Entry | Digest]  # there, or there more often than accepted


def difference(ledger: Iterable[bytes], payloads: Iterable[bytes]) -> Difference:
    """Hold what was read back against the lines of a ledger; all of both is kept in memory.

    Raises:
        ValueError: a line is none of a ledger.
    """
    accepted = Counter(map(_read, ledger))
    there = Counter(map(identity, payloads))
    return Difference(accepted - there, there - accepted)


def _read(line: bytes) -> Entry | Digest:
    try:
        return _digest(line)
    except msgspec.ValidationError:
        return _entry(line)
