"""The ledger names every message, and tells what is missing and what is too much."""

from __future__ import annotations

import io
import json

import pytest

from streamgauge.producers.fleet import Fleet
from streamgauge.producers.ledger import Digest, Entry, Ledger, difference, identity

GOOD = b'{"device":"t-1","n":7,"ts":1767600000000,"temperature":21.5,"relay":true}'


def written(payloads: list[bytes]) -> list[bytes]:
    file = io.BytesIO()
    ledger = Ledger(file)
    ledger.take(payloads[:1])
    ledger.take(payloads[1:])
    assert ledger.accepted == len(payloads)
    return file.getvalue().splitlines()


def test_a_message_is_known_by_what_it_says() -> None:
    assert identity(GOOD) == Entry("t-1", 7, 1_767_600_000_000, 21.5)
    assert identity(b" " + GOOD) == identity(GOOD)  # bytes may differ where nothing is said by it
    (line,) = written([GOOD])
    assert json.loads(line) == {
        "device": "t-1", "n": 7, "time": 1_767_600_000_000, "value": 21.5,
    }  # fmt: skip


@pytest.mark.parametrize(
    "data",
    [b"", b"\xff", GOOD[:-20], GOOD.replace(b"21.5", b'"21.5"'), GOOD.replace(b"21.5", b"NaN"),
     b"[" + GOOD + b"]", GOOD + GOOD, GOOD.replace(b'"n"', b'"m"'), b"[" * 100_000],
)  # fmt: skip
def test_any_other_is_known_by_its_digest(data: bytes) -> None:
    found = identity(data)
    assert isinstance(found, Digest) and len(found.sha256) == 64
    assert identity(data + b" ") != found


def test_what_is_missing_and_what_is_extra() -> None:
    payloads = [
        data for tick in Fleet(50, 60, seed=1, start=1_767_600_000_000) for data in tick.data
    ]
    lines = written(payloads)
    assert difference(lines, reversed(payloads)) == ({}, {})
    twice = next(data for data in payloads if payloads.count(data) == 2)
    without = list(payloads)
    without.remove(twice)
    found = difference(lines, without)
    assert (found.missing, found.extra) == ({identity(twice): 1}, {})
    found = difference(lines, [*payloads[1:], b"x"])
    assert (found.missing, found.extra) == ({identity(payloads[0]): 1}, {identity(b"x"): 1})


def test_every_message_of_a_fleet_has_a_number_of_its_own() -> None:
    fleet = Fleet(200, 120, seed=4, start=1_767_600_000_000)
    payloads = {data for tick in fleet for data in tick.data}
    entries = [found for found in map(identity, payloads) if isinstance(found, Entry)]
    names = {(entry.device, entry.n) for entry in entries}
    assert len(names) > 10_000 and len(names) == len(entries)


def test_what_is_no_ledger_is_refused() -> None:
    with pytest.raises(ValueError):
        difference([b'{"device":1}'], [])
