"""The rooms of a fleet: small, leaky, each with a heater on a relay.

Only additions, multiplications, divisions and comparisons are used, each of them rounded as IEEE
754 has it: the same seed gives the same bits on every machine, which a cosine would not.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .draws import Draws, Floats, Ints

Bools = NDArray[np.bool_]

DAY_MS = 86_400_000
OUTSIDE_MEAN, OUTSIDE_SWING = 6.0, 5.0  # degrees Celsius, over a day
LEAK_SECONDS = 150.0  # in which a room that is not heated loses most of its warmth
HEATING = 0.32  # degrees a second
SETPOINT, HYSTERESIS = 21.0, 0.5
NOISE = 0.08  # degrees, of a sensor
COLDEST, WARMEST = -550, 1250  # tenths of a degree: what a sensor can read


class Rooms:
    """The temperature of each room and its relay; float64 and bool (rooms,), by `step`."""

    def __init__(self, rooms: int, seed: int) -> None:
        """Begin near the setpoints, heaters on or off by chance."""
        draws = Draws(seed, "rooms")
        self.setpoint: Floats = SETPOINT + draws.integers(-1, 1, rooms).astype(np.float64)
        self.temperature: Floats = self.setpoint + 0.4 * draws.noise(rooms)
        self.relay: Bools = draws.uniform(rooms) < 0.5
        self._noise = Draws(seed, "noise")

    def step(self, time: int, stuck: Bools) -> None:
        """Let a second pass until `time` (int ms); the relays of `stuck` rooms are on."""
        self.relay |= self.temperature < self.setpoint - HYSTERESIS
        self.relay &= self.temperature <= self.setpoint + HYSTERESIS
        self.relay |= stuck
        self.temperature += self.relay * HEATING + (outside(time) - self.temperature) / LEAK_SECONDS

    def read(self) -> Floats:
        """What exact sensors with a little noise read: float64 (rooms,), degrees."""
        return self.temperature + NOISE * self._noise.noise(len(self.temperature))


def tenths(degrees: Floats) -> Ints:
    """Readings as sensors give them: int64 (rows,), tenths of a degree within their range."""
    return np.clip(np.rint(degrees * 10.0), COLDEST, WARMEST).astype(np.int64)


def outside(time: int) -> float:
    """Degrees outside: coldest at midnight UTC, warmest at noon."""
    return OUTSIDE_MEAN - OUTSIDE_SWING * _wave(time % DAY_MS / DAY_MS + 0.25)


def _wave(turns: float) -> float:
    """The sine of so many turns, within 0.002 (Bhaskara's formula): only basic arithmetic."""
    turns %= 1.0
    half = 2.0 * turns % 1.0
    product = half * (1.0 - half)
    height = 16.0 * product / (5.0 - 4.0 * product)
    return height if turns < 0.5 else -height
