"""Stochastic quantisation to 4 bits with a scale per block, two values to a byte.

Codes -7 .. 7 and s = max|x| / 7 per block: unbiased, |x - decoded| <= s (1 + 2**-16). The rounding,
its resolution and its range are those of `block_scales`. With so few levels a block's largest value
decides what the others keep, so blocks are short.
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
_LEVELS = 7


@dataclass(frozen=True)
class Int4:
    """4 bits per value and a float32 scale per block.

    Parts: `codes`, shape (ceil(size / 2),), uint8: value 2 i in the lower four bits of byte i and
    value 2 i + 1 in the upper ones, both in two's complement; `scales`, shape
    (ceil(size / block_size),), float32, >= 0. A block of zeros has scale 0 and decodes to zeros. The
    upper half of the last byte of an odd size is 0, and read by nobody.

    Args:
        block_size: elements that share a scale, >= 1. Smaller follows the values closer and costs
            32 / block_size bits per value; 32 costs one.
    """

    name: ClassVar[str] = "int4"
    is_whole: ClassVar[bool] = False
    block_size: int = 32

    @property
    def parameters(self) -> Mapping[str, object]:
        """`blockSize`."""
        return {"blockSize": self.block_size}

    def encode(self, values: Array, rng: np.random.Generator) -> dict[str, Array]:
        """Quantise; draws 16 bits per value from `rng`."""
        values = flat(values)
        packed = np.empty(_bytes(values.size), np.uint8)
        scales = np.empty(self._grid.blocks(values.size), np.float32)
        for start, rounded in self._grid.round(values, scales, rng):
            first = start // 2
            _pack(rounded, packed[first : first + _bytes(rounded.size)])
        return {CODES: packed, SCALES: scales}

    def decode(self, parts: PartReader, shape: Shape, start: int, stop: int, out: Array) -> None:
        """Multiply each code by its block's scale; a scale of NaN decodes to NaN."""
        del shape
        if start == stop:
            return
        result = out[: stop - start]
        codes = _unpack(parts.read(CODES, start // 2, _bytes(stop)))
        np.copyto(result, codes[start % 2 :][: result.size])
        scales = parts.read(SCALES, start // self.block_size, self._grid.blocks(stop))
        self._grid.multiply(result, scales, start)

    def check(self, parts_layout: Mapping[str, TensorSpec], shape: Shape) -> None:
        """Accept a byte for each two values and a scale for each block of them."""
        size = size_of(shape)
        expected = {
            CODES: TensorSpec((_bytes(size),), np.dtype(np.uint8)),
            SCALES: TensorSpec((self._grid.blocks(size),), np.dtype(np.float32)),
        }
        check_parts(self.name, parts_layout, expected)

    @property
    def _grid(self) -> BlockGrid:
        return BlockGrid(self.name, self.block_size, _LEVELS)


def _bytes(size: int) -> int:
    return -(-size // 2)


def _pack(rounded: Array, packed: Array) -> None:
    """Put integral floats from -8 to 7, two to a byte, into `packed`."""
    codes = np.zeros(2 * packed.size, np.int8)
    np.copyto(codes[: rounded.size], rounded, casting="unsafe")
    halves = codes.view(np.uint8)
    np.left_shift(halves[1::2], 4, out=packed)
    np.bitwise_or(packed, halves[0::2] & 15, out=packed)


def _unpack(packed: Array) -> Array:
    """Give both values of each byte, shape (2 * packed.size,), int8."""
    codes = np.empty(2 * packed.size, np.int8)
    halves = codes.view(np.uint8)
    np.left_shift(packed, 4, out=halves[0::2])
    halves[1::2] = packed
    np.right_shift(codes, 4, out=codes)  # of a signed number: the sign comes along
    return codes
