"""The upper half of each float32, stochastically rounded: half the bytes, the whole range.

bfloat16 is float32 with 7 instead of 23 bits of mantissa, so cutting off the lower 16 bits gives
the neighbour towards zero. Before the cut an integer k, uniform in 0 .. 65535, is added to the 32
bits: with m in the lower 16, the magnitude is rounded up with probability m / 2**16 exactly, so the
expected decoded value is x exactly, subnormal numbers included. (Rounding to nearest would be
closer each time, but off in the same direction for all clients that send much the same.)

- **Bound.** |x - decoded| < 2**-7 |x|, or 2**-133 where that is more (subnormal numbers); exact
  where x is a bfloat16 already, whatever the noise.
- **float64** goes through float32 first, rounded to nearest: 2**-24 of its value.
- **Range.** Magnitudes above the largest bfloat16, 3.39e38, could become infinite: encode refuses.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from fedloom.algorithms.compression.protocol import PartReader, Shape, check_parts, flat, size_of
from fedloom.algorithms.layout import BLOCK_ELEMENTS, Array, TensorSpec
from fedloom.errors import UpdateError

BITS = "bits"
_LARGEST = np.array([0x7F7F0000], np.uint32).view(np.float32)[0]


@dataclass(frozen=True)
class BFloat16:
    """16 bits per value. Parts: `bits`, shape (size,), uint16: the upper halves of float32s."""

    name: ClassVar[str] = "bf16"
    is_whole: ClassVar[bool] = False

    @property
    def parameters(self) -> Mapping[str, object]:
        """None."""
        return {}

    def encode(self, values: Array, rng: np.random.Generator) -> dict[str, Array]:
        """Round to the upper halves; draws 16 bits per value from `rng`."""
        values = flat(values)
        bits = np.empty(values.size, np.uint16)
        work = np.empty((2, min(BLOCK_ELEMENTS, values.size)), np.float32)
        for start in range(0, values.size, BLOCK_ELEMENTS):
            stop = min(start + BLOCK_ELEMENTS, values.size)
            chunk, scratch = work[:, : stop - start]
            with np.errstate(over="ignore"):  # refused below, with the index
                np.copyto(chunk, values[start:stop], casting="same_kind")
            _check_range(np.abs(chunk, out=scratch), start)
            draws = rng.integers(0, 1 << 16, chunk.size, dtype=np.uint16)
            whole = chunk.view(np.uint32)
            np.add(whole, draws, out=whole)
            np.right_shift(whole, 16, out=whole)
            np.copyto(bits[start:stop], whole, casting="unsafe")
        return {BITS: bits}

    def decode(self, parts: PartReader, shape: Shape, start: int, stop: int, out: Array) -> None:
        """Put the bits back where they were; exact."""
        del shape
        result = out[: stop - start]
        narrow = result if result.dtype == np.float32 else np.empty(result.size, np.float32)
        whole = narrow.view(np.uint32)
        np.copyto(whole, parts.read(BITS, start, stop))
        np.left_shift(whole, 16, out=whole)
        if narrow is not result:
            with np.errstate(invalid="ignore"):  # a signalling NaN
                np.copyto(result, narrow)

    def check(self, parts_layout: Mapping[str, TensorSpec], shape: Shape) -> None:
        """Accept 16 bits for each value."""
        check_parts(
            self.name, parts_layout, {BITS: TensorSpec((size_of(shape),), np.dtype(np.uint16))}
        )


def _check_range(magnitudes: Array, position: int) -> None:
    """Refuse NaN and whatever might be rounded up to infinity, with its place."""
    if magnitudes.max() <= _LARGEST:
        return
    first = int(np.argmin(magnitudes <= _LARGEST))
    raise UpdateError(
        "NotFinite",
        f"codec 'bf16': got magnitude {magnitudes[first]} at flat index {position + first}, "
        f"expected at most {_LARGEST:.2e}",
    )
