"""Increasing positions in a block as a Golomb code of the gaps between them.

The code of Golomb (IEEE Transactions on Information Theory 12, 1966) with powers of two as divisor
(Rice). The gap g >= 0 before a position is written as g >> b in unary (so many 0 bits, then a 1)
and its lower b bits as they are. Where positions are drawn at random with probability p, g is
geometric, and with b near log2(ln 2 / p) that is within 0.03 bits of the entropy per position: 8.1
bits at p = 1 %. The best b is looked for in each block. With b = 0 it is a bitmap, so that it never takes
much more than a bit per element.

Unary parts and lower bits stand apart: then both are read without a loop, by finding the 1 bits of
the one and cutting up the other.

For c positions among n elements it takes less than c (3 + log2(n / c)) bits.
"""

from __future__ import annotations

import math

import numpy as np

from fedloom.algorithms.layout import Array

MOST_LOW_BITS = 15


def bits_bound(count: int, size: int) -> int:
    """Give what no code of `count` positions among `size` elements takes; also of any split of it.

    (The bound is concave in both, so blocks together stay below that of the whole.)
    """
    return math.ceil(count * (3 + math.log2(size / count))) if count else 0


def encode(positions: Array) -> tuple[int, Array]:
    """Give b, and the code: shape (bytes,), uint8.

    Args:
        positions: shape (count,), int64, increasing, >= 0, count >= 1.
    """
    gaps = np.diff(positions, prepend=-1) - 1
    low_bits = _best_low_bits(gaps)
    unary = _unary(gaps >> low_bits)
    fixed = (gaps[:, None] >> np.arange(low_bits)) & 1
    return low_bits, np.concatenate([unary, np.packbits(fixed.astype(bool), bitorder="little")])


def decode(code: Array, count: int, low_bits: int) -> Array | None:
    """Give the positions, shape (count,), int64, increasing, >= 0; None for what is no code.

    Args:
        code: uint8, from `encode` or from anywhere; nothing larger than 8 bytes per bit is allocated.
        count: how many positions it is said to hold, >= 1.
        low_bits: b, 0 to `MOST_LOW_BITS`.
    """
    unary_bytes = code.size - -(-count * low_bits // 8)
    if unary_bytes < 1:
        return None
    ends = np.flatnonzero(np.unpackbits(code[:unary_bytes], bitorder="little"))
    if ends.size != count or ends[-1] >> 3 != unary_bytes - 1:
        return None
    numbers = np.arange(count)
    positions: Array = ((ends - numbers) << low_bits) + numbers
    if low_bits:
        positions += np.cumsum(_fixed(code[unary_bytes:], count, low_bits))
    return positions


def _best_low_bits(gaps: Array) -> int:
    """Give the cheapest b among those around log2 of the mean gap (which keeps the bound)."""
    middle = max(1, int(gaps.sum()) // gaps.size).bit_length() - 1
    candidates = range(max(0, middle - 3), min(middle + 1, MOST_LOW_BITS) + 1)
    return min(candidates, key=lambda bits: bits * gaps.size + int((gaps >> bits).sum()))


def _unary(quotients: Array) -> Array:
    ends = np.cumsum(quotients + 1) - 1
    bits = np.zeros(int(ends[-1]) + 1, bool)
    bits[ends] = True
    return np.packbits(bits, bitorder="little")


def _fixed(code: Array, count: int, low_bits: int) -> Array:
    """Cut bytes into numbers of `low_bits` bits: each lies in three neighbouring bytes."""
    padded = np.zeros(code.size + 2, np.int64)
    padded[: code.size] = code
    words = padded[:-2] | padded[1:-1] << 8 | padded[2:] << 16
    first_bits = np.arange(count) * low_bits
    numbers: Array = (words[first_bits >> 3] >> (first_bits & 7)) & ((1 << low_bits) - 1)
    return numbers
