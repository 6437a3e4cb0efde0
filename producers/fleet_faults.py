"""What goes wrong with devices for a while, and with single messages."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from .draws import Bits, Draws, Floats, Ints, uniform
from .rooms import Bools
from .scenario import SECOND_MS, Delayed, Faults, Lasting, OldData, Range, WrongClock

ODD = ("duplicate", "reordered", "late", "bad_payload", "faulty_reading", "elsewhere")
HOUR_SECONDS = 3600
_TEMPERATURE = b'"temperature":'


class Span(NamedTuple):
    """From when to when, in ticks, each device has a fault: float64 (devices,); inf for never."""

    begin: Floats
    end: Floats

    @classmethod
    def draw(cls, fault: Lasting | OldData, name: str, devices: int, ticks: int, seed: int) -> Span:
        """Draw who has it, and when; at least one device where the share is above 0."""
        draws = Draws(seed, name)
        begin = draws.between(*fault.begins, devices) * ticks
        lasts: Range = fault.lasts if isinstance(fault, Lasting) else (0.0, 0.0)
        end = begin + draws.between(*lasts, devices) * ticks
        hit = draws.uniform(devices) < fault.share
        one = draws.integers(0, devices - 1, 1)
        hit[one] = fault.share > 0
        never = np.full(devices, np.inf)
        return cls(np.where(hit, begin, never), np.where(hit, end, never))

    def active(self, tick: int) -> Bools:
        """Whether each device has it at a tick."""
        return (self.begin <= tick) & (tick < self.end)

    @property
    def hit(self) -> Ints:
        """The numbers of the devices that have it at some time."""
        return np.flatnonzero(self.begin < np.inf)


class OldReadings(NamedTuple):
    """What a device brings of the time before the run: seconds ago, tenths of a degree; in order.

    after: whether it sends the present reading first.
    """

    ago: list[int]
    tenths: list[int]
    after: bool


def old_readings(
    fault: OldData, devices: Ints, setpoint: Floats, seed: int
) -> dict[int, OldReadings]:
    """What each of these devices brings."""
    draws = Draws(seed, "old readings")
    found = {}
    for device in devices.tolist():
        (hours,) = draws.integers(*fault.hours, 1).tolist()
        (after,) = draws.uniform(1).tolist()
        oldest, count = hours * HOUR_SECONDS, fault.readings
        ago = sorted({max(1, oldest - oldest * step // count) for step in range(count)})[::-1]
        degrees = setpoint[device] + 0.4 * draws.noise(len(ago))
        values = np.rint(degrees * 10.0).astype(np.int64).tolist()
        found[device] = OldReadings(ago, values, after < fault.after)
    return found


def clock_offsets(fault: WrongClock, devices: Ints, count: int, start: int) -> Ints:
    """By how many ms each device's clock is wrong while it is; int64 (count,).

    In turn one is ahead, one behind, one unset: its time begins at 0 with the run.
    """
    offsets = np.zeros(count, np.int64)
    behind = -min(fault.behind_seconds * SECOND_MS, start)
    kinds = (fault.ahead_seconds * SECOND_MS, behind, -start)
    for place, device in enumerate(devices.tolist()):
        offsets[device] = kinds[place % len(kinds)]
    return offsets


class OddDraws:
    """Which single messages of a tick are odd, and how: one draw for each device and tick."""

    def __init__(self, faults: Faults, seed: int) -> None:
        """Take the shares."""
        self._faults = [getattr(faults, name) for name in ODD]
        self._bounds = np.cumsum([fault.share for fault in self._faults])
        self._draws = Draws(seed, "messages")

    def tick(self, devices: int) -> tuple[Bools, Floats, Bits]:
        """Whether the message of each device is odd, and what `which` makes more of."""
        bits = self._draws.bits(devices)
        drawn = uniform(bits)
        return drawn < self._bounds[-1], drawn, bits

    def which(self, drawn: float, bits: int) -> tuple[str, int, int]:
        """The fault's name, by how many ticks it delays, and a number to choose a kind by."""
        place = int(np.searchsorted(self._bounds, drawn, "right"))
        fault, number = self._faults[place], bits & 0x7FF  # the bits that `uniform` leaves
        if not isinstance(fault, Delayed):
            return ODD[place], 0, number
        low, high = fault.seconds
        return ODD[place], low + number % (high - low + 1), number


def _between(before: bytes, after: bytes) -> Callable[[bytes], bytes]:
    return lambda text: text.replace(before, after, 1)


BROKEN: tuple[Callable[[bytes], bytes], ...] = (
    lambda text: text[: len(text) // 2],
    _between(_TEMPERATURE, b'"temperature":NaN,"was":'),
    _between(_TEMPERATURE, b'"temperature":1e999,"was":'),
    _between(_TEMPERATURE, b'"note":"\xb0C","temperature":'),
    _between(_TEMPERATURE, b'"note":"\\ud83d","temperature":'),
    _between(b'"device":', b'"dev":'),
    _between(b'"device":', b'"device":null,"was":'),
    _between(b'"ts":', b'"ts":"soon","was":'),
    _between(b'"ts":', b'"ts":-1,"was":'),
    _between(_TEMPERATURE, b'"temperature":"21.5","was":'),
    lambda text: b"\x00\x01\xff gateway restarted",
    lambda text: b"",
    lambda text: b"[" + text + b"]",
    lambda text: b"\xef\xbb\xbf" + text,
    lambda text: b'{"deep":' + b"[" * 200 + b"]" * 200 + b"," + text[1:],
    lambda text: text + text,
)  # payloads as broken devices send them, each made of a good one; none holds a line end


def misread(text: bytes) -> bytes:
    """A message with the reading of a sensor whose wire is broken."""
    start = text.index(_TEMPERATURE) + len(_TEMPERATURE)
    return text[:start] + b"-127.0" + text[text.index(b",", start) :]
