"""Random numbers that are the same everywhere: PCG64's bits, and arithmetic of our own on them.

numpy keeps the bits of PCG64 and the seeding by SeedSequence the same for ever; it does not promise
so for the distributions that `Generator` makes of them. Every name has a stream of its own, so
that a fault that is added or changed moves no other one.
"""

from __future__ import annotations

import zlib

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bits = NDArray[np.uint64]

_STEP = 2.0**-53
_LIMB_MEAN, _LIMB_SPREAD = 131_070.0, 37_837.2  # of four uint16 added up: mean, standard deviation


class Draws:
    """One stream of draws, by the run's seed and a name."""

    def __init__(self, seed: int, name: str) -> None:
        """Open the stream at its beginning; `seed` is 0 or more."""
        words = np.random.SeedSequence((seed, zlib.crc32(name.encode())))
        self._bits = np.random.PCG64(words)

    def bits(self, count: int) -> Bits:
        """64 random bits for each of `count`: uint64 (count,)."""
        drawn: Bits = self._bits.random_raw(count)
        return drawn

    def uniform(self, count: int) -> Floats:
        """float64 (count,) in [0, 1)."""
        return uniform(self.bits(count))

    def between(self, low: float, high: float, count: int) -> Floats:
        """float64 (count,) in [low, high)."""
        return low + self.uniform(count) * (high - low)

    def integers(self, low: int, high: int, count: int) -> Ints:
        """int64 (count,) in low .. high, both ends included."""
        return low + np.floor(self.uniform(count) * (high - low + 1)).astype(np.int64)

    def noise(self, count: int) -> Floats:
        """float64 (count,), near enough to normal, mean 0 and deviation 1; |x| < 3.5."""
        limbs = self.bits(count).view(np.uint16).reshape(count, 4)
        # Added column by column: a sum over an axis of four is slow.
        total = limbs[:, 0].astype(np.int64) + limbs[:, 1]
        total += limbs[:, 2]
        total += limbs[:, 3]
        noise: Floats = (total.astype(np.float64) - _LIMB_MEAN) / _LIMB_SPREAD
        return noise


def uniform(bits: Bits) -> Floats:
    """The upper 53 bits as float64 in [0, 1)."""
    drawn: Floats = (bits >> np.uint64(11)).astype(np.float64) * _STEP
    return drawn
