"""Stochastic quantisation to 8 bits with a scale per block: a quarter of float32's bytes.

Codes -127 .. 127 and s = max|x| / 127 per block: unbiased, |x - decoded| <= s (1 + 2**-16). The
rounding, its resolution and its range are those of `block_scales`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from fedloom.algorithms.compression.block_scales import BlockGrid
from fedloom.algorithms.compression.protocol import PartReader, Shape, check_parts, flat, size_of
from fedloom.algorithms.layout import Array, TensorSpec

CODES = "codes"
SCALES = "scales"
_LEVELS = 127


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
    is_whole: ClassVar[bool] = False
    block_size: int = 256

    @property
    def parameters(self) -> Mapping[str, object]:
        """`blockSize`."""
        return {"blockSize": self.block_size}

    def encode(self, values: Array, rng: np.random.Generator) -> dict[str, Array]:
        """Quantise; draws 16 bits per value from `rng`."""
        values = flat(values)
        codes = np.empty(values.size, np.int8)
        scales = np.empty(self._grid.blocks(values.size), np.float32)
        for start, rounded in self._grid.round(values, scales, rng):
            np.copyto(codes[start : start + rounded.size], rounded, casting="unsafe")
        return {CODES: codes, SCALES: scales}

    def decode(self, parts: PartReader, shape: Shape, start: int, stop: int, out: Array) -> None:
        """Multiply each code by its block's scale; a scale of NaN decodes to NaN."""
        del shape
        if start == stop:
            return
        result = out[: stop - start]
        np.copyto(result, parts.read(CODES, start, stop))
        scales = parts.read(SCALES, start // self.block_size, self._grid.blocks(stop))
        self._grid.multiply(result, scales, start)

    def check(self, parts_layout: Mapping[str, TensorSpec], shape: Shape) -> None:
        """Accept a code for each value and a scale for each block of them."""
        size = size_of(shape)
        expected = {
            CODES: TensorSpec((size,), np.dtype(np.int8)),
            SCALES: TensorSpec((self._grid.blocks(size),), np.dtype(np.float32)),
        }
        check_parts(self.name, parts_layout, expected)

    @property
    def _grid(self) -> BlockGrid:
        return BlockGrid(self.name, self.block_size, _LEVELS)
