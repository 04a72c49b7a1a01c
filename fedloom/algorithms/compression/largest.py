"""The k largest magnitudes of a tensor, exactly, in memory that does not grow with it.

The bits of a float32 without its sign, read as an integer, are in the order of the magnitudes. So the
k-th largest is found digit by digit: a histogram of the upper 11 bits says in which bin it is, one of
the next 10 bits of the values in that bin narrows it down, one of the last 10 names it. That is three
passes over the tensor whatever its values, with no copy of it. (`np.partition` copies all of it and
takes several times as long.) The memory that a pass needs is taken once: with that of a chunk anew
for every chunk, half of the time would go into page faults.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from fedloom.algorithms.compression.chunks import float32_chunks, refuse_first_not_finite
from fedloom.algorithms.layout import BLOCK_ELEMENTS, Array

_DIGITS = ((20, 11), (10, 10), (0, 10))  # lowest bit and number of bits of each
_BITS = 31
_INFINITE = 0x7F800000
_SMALL = 1 << 14  # up to here a partition is faster than three histograms


@dataclass(frozen=True)
class Threshold:
    """Chosen are all magnitudes whose bits are above `bits`, and the first `ties` equal to it."""

    bits: int
    ties: int


def kept_count(size: int, fraction: float) -> int:
    """Give how many of `size` values a fraction is: rounded, at least one unless there is none."""
    return min(size, max(1, round(fraction * size)))


def largest(codec: str, values: Array, count: int) -> Iterator[tuple[int, Array, Array]]:
    """Yield the `count` largest magnitudes above 0, block by block; of equal ones the first.

    Args:
        codec: for messages.
        values: shape (size,), any float, may be strided.
        count: 0 to size.

    Yields:
        For each block of `BLOCK_ELEMENTS`: the flat index of its first value; the positions chosen
        in the block, increasing, int64; their values, float32.

    Raises:
        UpdateError: `NotFinite`, with the place of the first such value.
    """
    limit = threshold(codec, values, count)
    ties, least = limit.ties, np.uint32(limit.bits)
    lowest = least if ties else least + np.uint32(1)
    scratch = _scratch(values)
    for start, chunk in float32_chunks(values):
        magnitudes = _magnitudes(chunk, scratch)
        positions = np.flatnonzero(magnitudes >= lowest)
        equal = np.flatnonzero(magnitudes[positions] == least)
        if equal.size > ties:
            positions = np.delete(positions, equal[ties:])
        ties -= min(ties, equal.size)
        yield start, positions, chunk[positions]


def threshold(codec: str, values: Array, count: int) -> Threshold:
    """Give the `count`-th largest magnitude, and how many equal to it are among the largest.

    Zeros never are: what does not change is not sent, and `stc` would give it a magnitude.

    Raises:
        UpdateError: `NotFinite`, with the place of the first such value.
    """
    if not count:
        return Threshold(_INFINITE, 0)
    if values.size <= _SMALL:
        return _by_partition(codec, values, count)
    bits, ties = 0, count
    for shift, width in _DIGITS:
        counts = _histogram(values, bits, shift, width)
        if counts[_INFINITE >> shift :].any():  # in the first digit; the others have no such bin
            refuse_first_not_finite(codec, values)
        digit, above = _rank(counts, ties)
        bits, ties = bits | digit << shift, ties - above
    return Threshold(bits, ties if bits else 0)


def _by_partition(codec: str, values: Array, count: int) -> Threshold:
    _, chunk = next(float32_chunks(values))
    magnitudes = _magnitudes(chunk, _scratch(values))
    ordered = np.partition(magnitudes, chunk.size - count)[chunk.size - count :]
    if ordered.max() >= _INFINITE:
        refuse_first_not_finite(codec, values)
    least = int(ordered[0])
    return Threshold(least, int(np.count_nonzero(ordered == least)) if least else 0)


def _histogram(values: Array, bits: int, shift: int, width: int) -> Array:
    """Count the digit at `shift` of those magnitudes whose bits above it are those of `bits`."""
    counts = np.zeros(1 << width, np.int64)
    scratch, indices = _scratch(values), np.empty(_chunk(values), np.intp)
    for _, chunk in float32_chunks(values):
        offsets = _magnitudes(chunk, scratch)
        if shift + width < _BITS:
            np.subtract(offsets, np.uint32(bits), out=offsets)  # what is below becomes very large
            offsets = offsets[offsets < 1 << (shift + width)]
        digits = indices[: offsets.size]
        np.copyto(digits, np.right_shift(offsets, shift, out=offsets))
        counts += np.bincount(digits, minlength=counts.size)
    return counts


def _rank(counts: Array, rank: int) -> tuple[int, int]:
    """Give the bin that holds the `rank`-th largest (from 1), and how many lie in bins above it."""
    from_the_top = np.cumsum(counts[::-1])
    index = int(np.searchsorted(from_the_top, rank))
    return counts.size - 1 - index, int(from_the_top[index] - counts[::-1][index])


def _magnitudes(chunk: Array, scratch: Array) -> Array:
    """Write the bits of a chunk without their signs to `scratch`."""
    bits = scratch[: chunk.size]
    np.bitwise_and(chunk.view(np.uint32), 0x7FFFFFFF, out=bits)
    return bits


def _scratch(values: Array) -> Array:
    return np.empty(_chunk(values), np.uint32)


def _chunk(values: Array) -> int:
    return min(values.size, BLOCK_ELEMENTS)
