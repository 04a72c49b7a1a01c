"""One bit per value: its sign, times the mean magnitude of its block.

Scaled signSGD of Karimireddy et al., "Error feedback fixes SignSGD and other gradient compression
schemes", ICML 2019, arXiv 1901.09847; Seide et al., "1-bit stochastic gradient descent", Interspeech
2014. For a block with scale s = mean|x| the decoded value is s for x >= 0 and -s for x < 0.

- **Bound.** |x - decoded|^2 = |x|^2 - n s^2 over the n values of a block, in the Euclidean norm (and
  float32's rounding): what is lost is less than what there was.
- **Biased**, needs error feedback (`feedback.ErrorFeedback`). A value of 0 counts as positive.
- **Range.** All finite float32: the mean is taken in float64.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from fedloom.algorithms.compression.block_scales import BlockGrid
from fedloom.algorithms.compression.chunks import float32_chunks, refuse_first_not_finite
from fedloom.algorithms.compression.protocol import PartReader, Shape, check_parts, flat, size_of
from fedloom.algorithms.layout import BLOCK_ELEMENTS, Array, TensorSpec

SIGNS = "signs"
SCALES = "scales"


@dataclass(frozen=True)
class Sign:
    """A bit per value and a float32 scale per block.

    Parts: `signs`, shape (ceil(size / 8),), uint8: value 8 i in the lowest bit of byte i, 1 for
    negative ones; `scales`, shape (ceil(size / block_size),), float32, >= 0. A block of zeros has
    scale 0 and decodes to zeros.

    Args:
        block_size: elements that share a scale, a multiple of 8. Smaller follows the values closer
            and costs 32 / block_size bits per value.
    """

    name: ClassVar[str] = "sign"
    is_whole: ClassVar[bool] = False
    block_size: int = 4096

    @property
    def parameters(self) -> Mapping[str, object]:
        """`blockSize`."""
        return {"blockSize": self.block_size}

    def encode(self, values: Array, rng: np.random.Generator) -> dict[str, Array]:
        """Keep signs and mean magnitudes; draws nothing from `rng`."""
        del rng
        values = flat(values)
        signs = np.empty(_bytes(values.size), np.uint8)
        scales = np.empty(self._grid.blocks(values.size), np.float32)
        step = self.block_size * max(1, BLOCK_ELEMENTS // self.block_size)
        magnitudes = np.empty(min(step, values.size), np.float32)
        for start, chunk in float32_chunks(values, step):
            stop = start + chunk.size
            signs[start // 8 : _bytes(stop)] = np.packbits(chunk < 0, bitorder="little")
            np.abs(chunk, out=magnitudes[: chunk.size])
            found = self._means(magnitudes[: chunk.size])
            scales[start // self.block_size : self._grid.blocks(stop)] = found
        if not np.isfinite(scales).all():
            refuse_first_not_finite(self.name, values)
        return {SIGNS: signs, SCALES: scales}

    def decode(self, parts: PartReader, shape: Shape, start: int, stop: int, out: Array) -> None:
        """Multiply 1 or -1 by the block's scale; a scale of NaN decodes to NaN."""
        del shape
        if start == stop:
            return
        result = out[: stop - start]
        bits = np.unpackbits(parts.read(SIGNS, start // 8, _bytes(stop)), bitorder="little")
        np.multiply(bits[start % 8 :][: result.size], result.dtype.type(-2), out=result)
        np.add(result, 1, out=result)
        scales = parts.read(SCALES, start // self.block_size, self._grid.blocks(stop))
        self._grid.multiply(result, scales, start)

    def check(self, parts_layout: Mapping[str, TensorSpec], shape: Shape) -> None:
        """Accept a bit for each value and a scale for each block of them."""
        size = size_of(shape)
        expected = {
            SIGNS: TensorSpec((_bytes(size),), np.dtype(np.uint8)),
            SCALES: TensorSpec((self._grid.blocks(size),), np.dtype(np.float32)),
        }
        check_parts(self.name, parts_layout, expected)

    def _means(self, magnitudes: Array) -> Array:
        full = magnitudes.size - magnitudes.size % self.block_size
        whole = magnitudes[:full].reshape(-1, self.block_size).mean(axis=1, dtype=np.float64)
        rest = magnitudes[full:]
        return np.append(whole, rest.mean(dtype=np.float64)) if rest.size else whole

    @property
    def _grid(self) -> BlockGrid:
        return BlockGrid(self.name, self.block_size, 1)


def _bytes(size: int) -> int:
    return -(-size // 8)
