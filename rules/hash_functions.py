"""The functions of IoT SQL that hash: lower-case hexadecimal digits of a hash of the UTF-8 bytes.

md2 is here because hashlib lacks it (RFC 1319, its substitution table drawn from the digits of pi
as the RFC's source does). It takes a byte at a time and cannot be quick: texts beyond
`md2_bytes_max` give Undefined, so that no message holds up a batch.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from functools import cache

from msgspec import UNSET

from .arguments import Function, on_texts, utf8
from .values import Value

md2_bytes_max = 1024
_BLOCK = 16
_ROUNDS = 18
_PI_DIGITS = 1000  # more than the table draws


def md2(data: bytes) -> str:
    """Return the MD2 digest of some bytes (RFC 1319)."""
    table = _substitutions()
    padding = _BLOCK - len(data) % _BLOCK
    padded = data + bytes([padding]) * padding
    checksum = bytearray(_BLOCK)
    last = 0
    for at, byte in enumerate(padded):
        checksum[at % _BLOCK] ^= table[byte ^ last]
        last = checksum[at % _BLOCK]
    state = bytes(_BLOCK)
    whole = padded + checksum
    for at in range(0, len(whole), _BLOCK):
        state = _compressed(state, whole[at : at + _BLOCK], table)
    return state.hex()


def _compressed(state: bytes, block: bytes, table: tuple[int, ...]) -> bytes:
    """One block worked into the state."""
    mixed = [*state, *block, *(a ^ b for a, b in zip(state, block, strict=True))]
    last = 0
    for turn in range(_ROUNDS):
        mixed = [last := byte ^ table[last] for byte in mixed]
        last = (last + turn) % 256
    return bytes(mixed[:_BLOCK])


@cache
def _substitutions() -> tuple[int, ...]:
    """The permutation of 0 to 255 that the digits of pi shuffle."""
    digits = _pi_digits()
    table = list(range(256))
    for n in range(2, 257):
        drawn = _draw(digits, n)
        table[drawn], table[n - 1] = table[n - 1], table[drawn]
    return tuple(table)


def _draw(digits: Iterator[int], n: int) -> int:
    """A number below n from the next digits, none more likely than another."""
    count = 1 if n <= 10 else 2 if n <= 100 else 3
    limit = 10**count // n * n
    while True:
        number = 0
        for _ in range(count):
            number = 10 * number + next(digits)
        if number < limit:
            return number % n


def _pi_digits() -> Iterator[int]:
    """3, 1, 4, 1, 5 and so on, by Machin's formula."""
    unit = 10 ** (_PI_DIGITS + 10)  # ten digits more than are used take up the rounding
    pi = 4 * (4 * _arctangent_of_inverse(5, unit) - _arctangent_of_inverse(239, unit))
    return map(int, str(pi)[:_PI_DIGITS])


def _arctangent_of_inverse(x: int, unit: int) -> int:
    power = total = unit // x
    divisor, sign = 1, 1
    while power:
        power //= x * x
        divisor, sign = divisor + 2, -sign
        total += sign * (power // divisor)
    return total


def _md2(data: bytes) -> Value:
    return UNSET if len(data) > md2_bytes_max else md2(data)


def _hexadecimal(name: str) -> Callable[[bytes], Value]:
    # Not for security: a rule may hash in a process where FIPS forbids MD5 as a signature.
    return lambda data: hashlib.new(name, data, usedforsecurity=False).hexdigest()


def _on_bytes(digest: Callable[[bytes], Value]) -> Function:
    def apply(characters: str) -> Value:
        data = utf8(characters)
        return UNSET if data is None else digest(data)

    return on_texts(1, apply)


FUNCTIONS: Mapping[str, Function] = {
    "md2": _on_bytes(_md2),
    **{
        name: _on_bytes(_hexadecimal(name))
        for name in ("md5", "sha1", "sha224", "sha256", "sha384", "sha512")
    },
}
