"""Stochastic rounding to a few integers on either side of zero, with a scale per block.

The stochastic rounding of QSGD (Alistarh et al., NeurIPS 2017, arXiv 1610.02132) with the largest
magnitude of a block in place of the norm of the whole tensor.

For a block with scale s = max|x| / levels the code of x is floor(x / s + u) with u uniform in
(0, 1): x / s is rounded up with the probability of its fraction, so the expected code is x / s and
the expected decoded value is x.

- **Resolution.** u is (k + 1/2) / 2**16 with k uniform in 0 .. 65535, so probabilities come in
  steps of 2**-16: the bias is at most 2**-17 s (besides float32's rounding, 2**-24 of the value),
  and 0 where x is a multiple of s. One rounding has a deviation of up to s / 2, so it takes 2**32
  clients for that bias to show.
- **Bound.** |x - decoded| <= s (1 + 2**-16): one step, plus float32's own rounding.
- **float64** goes through float32: it loses 2**-24 of its value to that, which is less than
  s / 2**16 in every block, and magnitudes below float32's smallest (1e-45) become 0.
- **Range.** Magnitudes above levels / (levels + 1) of float32's largest (3.4e38) have no scale.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from fedloom.algorithms.layout import BLOCK_ELEMENTS, Array
from fedloom.errors import UpdateError


@dataclass(frozen=True)
class BlockGrid:
    """The integers -levels .. levels in units of a float32 scale per block.

    Args:
        codec: whose grid it is, for messages.
        block_size: elements that share a scale, >= 1; the last block may be shorter.
        levels: codes on either side of zero, 1 to 127.
    """

    codec: str
    block_size: int
    levels: int

    def blocks(self, size: int) -> int:
        """Give the number of scales of `size` elements."""
        return -(-size // self.block_size)

    def round(
        self, values: Array, scales: Array, rng: np.random.Generator
    ) -> Iterator[tuple[int, Array]]:
        """Fill the scales and yield the codes, chunk by chunk; draws 16 bits per value.

        Args:
            values: shape (size,), any float, may be strided.
            scales: shape (blocks(size),), float32, filled.
            rng: source of the noise.

        Yields:
            Flat index of the first value, always even, and codes as integral float32, which the
            next chunk overwrites.

        Raises:
            UpdateError: `NotFinite`, with the block whose magnitudes have no scale.
        """
        step = self._chunk_elements()
        work = np.empty((2, min(step, values.size)), np.float32)
        for start in range(0, values.size, step):
            stop = min(start + step, values.size)
            first, last = start // self.block_size, self.blocks(stop)
            chunk, scratch = work[:, : stop - start]
            with np.errstate(over="ignore"):  # refused below, with the index
                np.copyto(chunk, values[start:stop], casting="same_kind")
            np.abs(chunk, out=scratch)
            scales[first:last] = self._scales(scratch, start)
            divisors = np.where(scales[first:last] == 0, np.float32(1), scales[first:last])
            self._apply(np.divide, chunk, divisors, 0)
            _add_noise(chunk, scratch, rng)
            yield start, np.floor(chunk, out=chunk)

    def multiply(self, codes: Array, scales: Array, start: int) -> None:
        """Multiply codes by their blocks' scales, in place; a scale of NaN gives NaN.

        Args:
            codes: elements from `start` on, float32 or float64, contiguous.
            scales: of the block that `start` lies in and of those behind it.
            start: flat index of the first code.
        """
        with np.errstate(over="ignore", invalid="ignore"):
            self._apply(np.multiply, codes, scales, start % self.block_size)

    def _chunk_elements(self) -> int:
        """Give what is worked on at a time: whole blocks, and whole pairs of elements."""
        blocks = max(1, BLOCK_ELEMENTS // self.block_size)
        return self.block_size * (blocks + (self.block_size * blocks) % 2)

    def _scales(self, magnitudes: Array, position: int) -> Array:
        """Give each block's peak / levels, so rounded that none / scale is above `levels`."""
        full = magnitudes.size - magnitudes.size % self.block_size
        peaks = np.empty(self.blocks(magnitudes.size), np.float32)
        whole = magnitudes[:full].reshape(-1, self.block_size)
        np.max(whole, axis=1, out=peaks[: full // self.block_size])
        if full < magnitudes.size:
            peaks[-1] = magnitudes[full:].max()
        scales: Array = peaks / np.float32(self.levels)
        too_small = scales.astype(np.float64) * self.levels < peaks
        scales[too_small] = np.nextafter(scales[too_small], np.float32(np.inf))
        self._check(peaks, scales, position, position + magnitudes.size)
        return scales

    def _check(self, peaks: Array, scales: Array, position: int, end: int) -> None:
        largest = np.finfo(np.float32).max / np.float32(self.levels + 1)
        wrong = np.flatnonzero(~(scales <= largest))
        if wrong.size:
            start = position + int(wrong[0]) * self.block_size
            raise UpdateError(
                "NotFinite",
                f"codec {self.codec!r}: got magnitude {peaks[wrong[0]]} among values {start} to "
                f"{min(start + self.block_size, end)}, expected at most "
                f"{float(largest) * self.levels:.2e}",
            )

    def _apply(self, operation: np.ufunc, values: Array, scales: Array, offset: int) -> None:
        """Multiply or divide each element by its block's scale, in place.

        `values` starts `offset` elements into the block of `scales[0]`.
        """
        head = min(self.block_size - offset, values.size) if offset else 0
        full = (values.size - head) // self.block_size
        tail = head + full * self.block_size
        middle = values[head:tail].reshape(full, self.block_size)
        skipped = 1 if head else 0
        if head:
            operation(values[:head], scales[0], out=values[:head])
        operation(middle, scales[skipped : skipped + full, None], out=middle)
        if tail < values.size:
            operation(values[tail:], scales[-1], out=values[tail:])


def _add_noise(chunk: Array, scratch: Array, rng: np.random.Generator) -> None:
    """Add (k + 1/2) / 2**16 to each element; the largest of them is still below one."""
    draws = rng.integers(0, 1 << 16, chunk.size, dtype=np.uint16)
    np.add(chunk, np.multiply(draws, np.float32(2**-16), out=scratch), out=chunk)
    np.add(chunk, np.float32(2**-17), out=chunk)
