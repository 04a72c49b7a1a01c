"""Stochastic quantisation to 8 bits with a scale per block: a quarter of float32's bytes.

The stochastic rounding of QSGD (Alistarh et al., NeurIPS 2017, arXiv 1610.02132) with 127 levels on
either side and the largest magnitude of a block in place of the norm of the whole tensor.

For a block with scale s = max|x| / 127 the code of x is floor(x / s + u) with u uniform in (0, 1):
x / s is rounded up with the probability of its fraction, so the expected code is x / s and the
expected decoded value is x.

- **Resolution.** u is (k + 1/2) / 2**16 with k uniform in 0 .. 65535, so probabilities come in
  steps of 2**-16: the bias is at most 2**-17 s (besides float32's rounding, 2**-24 of the value),
  and 0 where x is a multiple of s. One rounding has a deviation of up to s / 2, so it takes 2**32
  clients for that bias to show.
- **Bound.** |x - decoded| <= s (1 + 2**-16): one step, plus float32's own rounding.
- **float64** goes through float32: it loses 2**-24 of its value to that, which is less than
  s / 2**16 in every block, and magnitudes below float32's smallest (1e-45) become 0.
- **Range.** Magnitudes above 127/128 of float32's largest (3.4e38) have no scale: encode refuses.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from fedloom.algorithms.compression.protocol import PartReader, check_parts, check_values
from fedloom.algorithms.layout import BLOCK_ELEMENTS, Array, TensorSpec
from fedloom.errors import UpdateError

CODES = "codes"
SCALES = "scales"
_LEVELS = np.float32(127)
_LARGEST_SCALE = np.finfo(np.float32).max / np.float32(128)


@dataclass(frozen=True)
class Int8:
    """8 bits per value and a float32 scale per block.

    Parts: `codes`, shape (size,), int8; `scales`, shape (ceil(size / block_size),), float32, >= 0.
    A block of zeros has scale 0 and decodes to zeros.

    Args:
        block_size: elements that share a scale, >= 1. Smaller follows the values closer and costs
            32 / block_size bits per value; 256 costs 0.125.
    """

    name: ClassVar[str] = "int8"
    block_size: int = 256

    @property
    def parameters(self) -> Mapping[str, object]:
        """`blockSize`."""
        return {"blockSize": self.block_size}

    def encode(self, values: Array, rng: np.random.Generator) -> dict[str, Array]:
        """Quantise; draws 16 bits per value from `rng`."""
        check_values(values)
        codes = np.empty(values.size, np.int8)
        scales = np.empty(_blocks(values.size, self.block_size), np.float32)
        step = self._chunk_elements()
        work = np.empty((2, min(step, values.size)), np.float32)
        for start in range(0, values.size, step):
            stop = min(start + step, values.size)
            first, last = start // self.block_size, _blocks(stop, self.block_size)
            chunk, scratch = work[:, : stop - start]
            with np.errstate(over="ignore"):  # refused below, with the index
                np.copyto(chunk, values[start:stop], casting="same_kind")
            np.abs(chunk, out=scratch)
            scales[first:last] = _scales(scratch, self.block_size, start)
            _scale_by(np.divide, chunk, scales[first:last], self.block_size, 0)
            _add_noise(chunk, scratch, rng)
            np.copyto(codes[start:stop], np.floor(chunk, out=chunk), casting="unsafe")
        return {CODES: codes, SCALES: scales}

    def decode(self, parts: PartReader, size: int, start: int, stop: int, out: Array) -> None:
        """Multiply each code by its block's scale; a scale of NaN decodes to NaN."""
        del size
        if start == stop:
            return
        result = out[: stop - start]
        np.copyto(result, parts.read(CODES, start, stop))
        first, last = start // self.block_size, _blocks(stop, self.block_size)
        scales = parts.read(SCALES, first, last)
        with np.errstate(over="ignore", invalid="ignore"):
            _scale_by(np.multiply, result, scales, self.block_size, start % self.block_size)

    def check(self, parts_layout: Mapping[str, TensorSpec], size: int) -> None:
        """Accept `size` codes and a scale for each block of them."""
        expected = {
            CODES: TensorSpec((size,), np.dtype(np.int8)),
            SCALES: TensorSpec((_blocks(size, self.block_size),), np.dtype(np.float32)),
        }
        check_parts(self.name, parts_layout, expected)

    def _chunk_elements(self) -> int:
        """Give the whole blocks that are worked on at a time, in elements."""
        return self.block_size * max(1, BLOCK_ELEMENTS // self.block_size)


def _blocks(size: int, block_size: int) -> int:
    return -(-size // block_size)


def _scales(magnitudes: Array, block_size: int, position: int) -> Array:
    """Give the largest magnitude of each block / 127, so rounded that none / scale is above 127."""
    full = magnitudes.size - magnitudes.size % block_size
    peaks = np.empty(_blocks(magnitudes.size, block_size), np.float32)
    np.max(magnitudes[:full].reshape(-1, block_size), axis=1, out=peaks[: full // block_size])
    if full < magnitudes.size:
        peaks[-1] = magnitudes[full:].max()
    scales: Array = peaks / _LEVELS
    too_small = scales.astype(np.float64) * 127 < peaks
    scales[too_small] = np.nextafter(scales[too_small], np.float32(np.inf))
    wrong = np.flatnonzero(~(scales <= _LARGEST_SCALE))
    if wrong.size:
        start = position + int(wrong[0]) * block_size
        raise UpdateError(
            "NotFinite",
            f"codec 'int8': got magnitude {peaks[wrong[0]]} among values {start} to "
            f"{min(start + block_size, position + magnitudes.size)}, expected at most 3.37e38",
        )
    return scales


def _add_noise(chunk: Array, scratch: Array, rng: np.random.Generator) -> None:
    """Add (k + 1/2) / 2**16 to each element; 127 plus the largest of them is still below 128."""
    draws = rng.integers(0, 1 << 16, chunk.size, dtype=np.uint16)
    np.add(chunk, np.multiply(draws, np.float32(2**-16), out=scratch), out=chunk)
    np.add(chunk, np.float32(2**-17), out=chunk)


def _scale_by(
    operation: np.ufunc, values: Array, scales: Array, block_size: int, offset: int
) -> None:
    """Multiply or divide each element by its block's scale, in place; by 1 where that divides by 0.

    `values` starts `offset` elements into the block of `scales[0]`.
    """
    if operation is np.divide:
        scales = np.where(scales == 0, np.float32(1), scales)
    head = min(block_size - offset, values.size) if offset else 0
    full = (values.size - head) // block_size
    tail = head + full * block_size
    middle = values[head:tail].reshape(full, block_size)
    skipped = 1 if head else 0
    if head:
        operation(values[:head], scales[0], out=values[:head])
    operation(middle, scales[skipped : skipped + full, None], out=middle)
    if tail < values.size:
        operation(values[tail:], scales[-1], out=values[tail:])
