"""Sparse ternary compression: the largest values by their signs and one magnitude for all of them.

Sattler et al., "Robust and communication-efficient federated learning from non-i.i.d. data", IEEE
TNNLS 2019, arXiv 1903.02891. With k = fraction * size (rounded, at least 1) and S the k values of
largest magnitude (of equal ones those that come first, zeros never), the decoded value is

    sign(x) mean of |x| over S, for those in S; 0 for the others.

The tensor is a whole update (`packing`): one magnitude for all of it, as in the paper.

- **Bound.** |x - decoded|^2 = |x|^2 - k mean^2 in the Euclidean norm (and float32's rounding): what
  is lost is less than what there was.
- **Biased**, needs error feedback (`feedback.ErrorFeedback`).
- **Bytes.** A gap code (`gaps`) and one bit for each value sent, 4 bytes for all: 9.1 bits at
  a fraction of 1 %, 0.011 bytes a value.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from fedloom.algorithms.compression.protocol import PartReader, Shape, flat, size_of
from fedloom.algorithms.compression.sparse import CODE, SparseCode
from fedloom.algorithms.layout import Array, TensorSpec

_MAGNITUDE = np.dtype("<f4")


@dataclass(frozen=True)
class SparseTernary:
    """Signs of the largest values. Parts: `code`, uint8, as `sparse` lays it out.

    The head is the float32 magnitude; a value is one bit, 1 for negative ones.

    Args:
        fraction: which part of an update's values is sent, 0 < fraction <= 1.
    """

    name: ClassVar[str] = "stc"
    is_whole: ClassVar[bool] = True
    fraction: float = 0.01

    @property
    def parameters(self) -> Mapping[str, object]:
        """`fraction`."""
        return {"fraction": self.fraction}

    def encode(self, values: Array, rng: np.random.Generator) -> dict[str, Array]:
        """Keep the signs of the largest and their mean magnitude; draws nothing from `rng`."""
        del rng
        sums: list[float] = []
        numbers: list[int] = []

        def write(kept: Array) -> Array:
            sums.append(float(np.abs(kept).sum(dtype=np.float64)))
            numbers.append(kept.size)
            return np.packbits(kept < 0, bitorder="little")

        code = self._code(values.shape).encode(flat(values), write)
        if code.size:
            mean = np.array([sum(sums) / max(1, sum(numbers))], _MAGNITUDE)
            code[: _MAGNITUDE.itemsize] = mean.view(np.uint8)
        return {CODE: code}

    def decode(self, parts: PartReader, shape: Shape, start: int, stop: int, out: Array) -> None:
        """Put the magnitude with its signs where they were, zero elsewhere."""
        if start == stop:
            return
        magnitude = parts.read(CODE, 0, _MAGNITUDE.itemsize).view(_MAGNITUDE)[0]

        def read(data: Array, count: int) -> Array:
            is_negative = np.unpackbits(data, count=count, bitorder="little").view(bool)
            values: Array = np.where(is_negative, -magnitude, magnitude)
            return values

        self._code(shape).decode(parts, (start, stop), out, read)

    def check(self, parts_layout: Mapping[str, TensorSpec], shape: Shape) -> None:
        """Accept no more bytes than the fraction of the values takes."""
        self._code(shape).check(parts_layout)

    def _code(self, shape: Shape) -> SparseCode:
        return SparseCode(self.name, size_of(shape), self.fraction, _MAGNITUDE.itemsize, 1)
