"""Exact sums: float64 values as integers in two limbs, and results rounded once, half to even.

Every value of a device is written as ``(high * 2**LOW_BITS + low) * unit`` with int64 `high` and
``abs(low) < 2**LOW_BITS``, where `unit` is a power of two chosen for that device. Integer sums are
exact, associative and invertible, and differences of wrapping int64 prefix sums are right modulo
2**64, so a window's sum is the difference of two prefixes and never drifts. A value that does not
fit its device's unit is reported, never rounded; such a device's windows take the slow functions at
the end, which work on Python integers.
"""

from __future__ import annotations

import math

import numpy as np

from .batch import Bools, Floats, Ints

LOW_BITS = 42
LOW_MASK = (1 << LOW_BITS) - 1
HIGH_MAX = 2.0**42  # |value / (unit * 2**LOW_BITS)| below this fits the high limb
SAMPLES_MAX = 1 << 20  # windows below this cannot overflow a limb's sum
_SCALE = 2.0**LOW_BITS
_HEADROOM = 27  # bits of the high limb that a device's first value fills
_POWERS = np.ldexp(1.0, np.arange(64))
_DIGIT_BITS = 24  # of the digits that `deviations` squares
_DIGIT_MASK = (1 << _DIGIT_BITS) - 1
_DIGITS_HIGH_MAX = 1 << 28
_DIGITS_SAMPLES_MAX = 1 << 13
_WHOLE = 1 << 54  # an odd word of at least 55 bits rounds to float64 as the exact value does


def scale_for(magnitude: Floats, tight: bool = False) -> Floats:
    """The high limb's unit for values up to `magnitude` (float64, > 0): a power of two.

    A loose unit leaves 15 binades above and 16 below for later values; a `tight` one leaves none
    above and as many as possible below.
    """
    exponent = np.frexp(magnitude)[1]
    room = 41 if tight else _HEADROOM
    unit: Floats = np.ldexp(1.0, np.clip(exponent - room, -900, 980))
    return unit


def split(value: Floats, unit: Floats) -> tuple[Ints, Ints, Bools]:
    """Both limbs of each value in its device's unit, and which rows fit exactly.

    Args:
        value: float64 (rows,), finite.
        unit: float64 (rows,), the power of two that one step of the high limb stands for.

    Returns:
        high, low: int64 (rows,), zero where the row does not fit; fits: bool (rows,).
    """
    with np.errstate(over="ignore", invalid="ignore"):
        scaled = value / unit
        whole = np.trunc(scaled)
        low = (scaled - whole) * _SCALE  # exact: the fraction of a float64 is one
    fits = (np.abs(scaled) < HIGH_MAX) & (low == np.trunc(low)) & ((scaled != 0.0) | (value == 0.0))
    if not fits.all():
        whole = np.where(fits, whole, 0.0)
        low = np.where(fits, low, 0.0)
    return whole.astype(np.int64), low.astype(np.int64), fits


def rounded(high: Ints, low: Ints, count: Ints | None, unit: Floats) -> tuple[Floats, Bools]:
    """(high, low) / count as float64, rounded once half to even, and which rows are proven so.

    Args:
        high, low: int64 (rows,), sums of limbs. count: int64 (rows,), 0 < count < SAMPLES_MAX, or
            None for 1. unit: float64 (rows,), the unit of the high limb.

    The quotient is brought to 62 bits whose last one is set if anything was cut off ("round to
    odd"); the conversion to float64 then rounds as the exact value would. A row with fewer than 55
    bits and a remainder is not proven.
    """
    high = high + (low >> LOW_BITS)
    low = low & LOW_MASK
    negative = high < 0
    if negative.any():
        borrow = low != 0
        high = np.where(negative, -high - borrow, high)
        low = np.where(negative & borrow, (1 << LOW_BITS) - low, low)
    if count is None:
        rest: Ints | None = None
    else:
        whole = high // count
        rest = ((high - whole * count) << LOW_BITS) + low
        low = rest // count
        rest -= low * count
        high = whole
    shift = np.frexp(high.astype(np.float64))[1].astype(np.int64) - 20
    np.maximum(shift, 0, out=shift)
    word = (high << (LOW_BITS - shift)) | (low >> shift)
    cut = (low & ((1 << shift) - 1)) != 0
    if rest is not None:
        cut |= rest != 0
    proven = ~cut | (word >= _WHOLE)
    word |= cut
    with np.errstate(over="ignore"):
        result = word.astype(np.float64) * _POWERS[shift] * (unit / _SCALE)
    np.negative(result, where=negative, out=result)
    return result, proven


def integers(values: Floats) -> tuple[list[int], int]:
    """Python integers and one exponent e with value == integer * 2**e for each value, exactly."""
    pairs = [value.as_integer_ratio() for value in values.tolist()]
    shift = max((bottom.bit_length() - 1 for _, bottom in pairs), default=0)
    return [top << (shift - bottom.bit_length() + 1) for top, bottom in pairs], -shift


def _ratio(top: int, bottom: int, exponent: int) -> float:
    """top / bottom * 2**exponent rounded once; raises OverflowError beyond float64."""
    if exponent >= 0:
        return (top << exponent) / bottom
    return top / (bottom << -exponent)


def mean(values: Floats) -> float:
    """The mean of float64 (samples,), rounded once."""
    whole, exponent = integers(values)
    return _ratio(sum(whole), len(whole), exponent)


def total(values: Floats) -> float:
    """The sum of float64 (samples,), rounded once; inf or -inf beyond float64."""
    whole, exponent = integers(values)
    exact = sum(whole)
    try:
        return _ratio(exact, 1, exponent)
    except OverflowError:
        return math.inf if exact > 0 else -math.inf


def deviation(values: Floats) -> float:
    """The population standard deviation of float64 (samples,), rounded once."""
    whole, exponent = integers(values)
    return _deviation(len(whole), sum(whole), sum(map(int.__mul__, whole, whole)), exponent)


def deviations(
    high: Ints, low: Ints, unit: Floats, owner: Ints, starts: Ints
) -> tuple[list[float], Bools]:
    """The standard deviation of many windows laid out flat, and which of them could be told.

    Args:
        high, low: int64 (samples,), limbs. unit: float64 (windows,), of the high limb. owner: int64
            (samples,), number of the window. starts: int64 (windows,), its first sample.

    Differences to the window's first sample are cut into three digits of 24 bits, so that sums of
    their products stay in int64.
    """
    count = np.diff(starts, append=len(high))
    high = high - high[starts][owner]
    low = low - low[starts][owner]
    top = high + (low >> LOW_BITS)
    fits = np.abs(top) < _DIGITS_HIGH_MAX
    told = np.logical_and.reduceat(fits, starts) & (count < _DIGITS_SAMPLES_MAX)
    low &= LOW_MASK
    zero = low & _DIGIT_MASK
    one = (low >> _DIGIT_BITS) | ((top & 63) << (LOW_BITS - _DIGIT_BITS))
    two = top >> 6
    sums = [
        np.add.reduceat(column, starts).tolist()
        for column in (
            zero * zero,
            2 * zero * one,
            2 * zero * two + one * one,
            2 * one * two,
            two * two,
            top,
            low,
        )
    ]
    _, exponent = np.frexp(unit)
    result = []
    for n, e, ok, *parts in zip(
        count.tolist(), exponent.tolist(), told.tolist(), *sums, strict=True
    ):
        second = sum(part << (_DIGIT_BITS * place) for place, part in enumerate(parts[:5]))
        first = (parts[5] << LOW_BITS) + parts[6]
        result.append(_deviation(n, first, second, e - 1 - LOW_BITS) if ok else 0.0)
    return result, told


def _deviation(count: int, first: int, second: int, exponent: int) -> float:
    """From sums of integers and of their squares, in units of 2**exponent; rounded once.

    sqrt(count * second - first**2) / count is taken to many bits more than float64 holds, the last
    one set where something was cut off, so that the one rounding at the end is right.
    """
    square = count * second - first * first
    if square == 0:
        return 0.0
    shift = max(0, 2 * (64 + count.bit_length()) - square.bit_length())
    shift += shift & 1
    root = math.isqrt(square << shift)
    odd = 1 if root * root != square << shift else 0
    return _ratio(2 * root + odd, 2 * count, exponent - shift // 2)
