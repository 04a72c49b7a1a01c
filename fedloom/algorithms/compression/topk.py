"""The largest values as they are, zero for all others: sparsification.

Aji and Heafield, "Sparse communication for distributed gradient descent", EMNLP 2017, arXiv
1704.05021; Stich et al., "Sparsified SGD with memory", NeurIPS 2018, arXiv 1809.07599.

With k = fraction * size (rounded, at least 1), the k values of largest magnitude are sent as float32;
of equal ones those that come first, and zeros never. The tensor is a whole update (`packing`).

- **Bound.** A value is sent exactly (float64: rounded to float32) or becomes 0, and
  |x - decoded|^2 <= (1 - k / size) |x|^2 in the Euclidean norm.
- **Biased**: what is small is never sent, so it needs error feedback (`feedback.ErrorFeedback`).
- **Bytes.** 32 bits and a gap code for each value sent: 40.1 bits at a fraction of 1 %, 0.4 a value.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from fedloom.algorithms.compression.protocol import PartReader, Shape, flat, size_of
from fedloom.algorithms.compression.sparse import CODE, SparseCode
from fedloom.algorithms.layout import Array, TensorSpec

_VALUE = np.dtype("<f4")


@dataclass(frozen=True)
class TopK:
    """The largest values. Parts: `code`, uint8, as `sparse` lays it out, with float32 values.

    Args:
        fraction: which part of an update's values is sent, 0 < fraction <= 1.
    """

    name: ClassVar[str] = "topk"
    is_whole: ClassVar[bool] = True
    fraction: float = 0.01

    @property
    def parameters(self) -> Mapping[str, object]:
        """`fraction`."""
        return {"fraction": self.fraction}

    def encode(self, values: Array, rng: np.random.Generator) -> dict[str, Array]:
        """Keep the largest; draws nothing from `rng`."""
        del rng
        return encode_largest(self.name, self.fraction, values)

    def decode(self, parts: PartReader, shape: Shape, start: int, stop: int, out: Array) -> None:
        """Put the values where they were, zero elsewhere; exact."""
        decode_largest(code_of(self.name, self.fraction, shape), parts, (start, stop), out)

    def check(self, parts_layout: Mapping[str, TensorSpec], shape: Shape) -> None:
        """Accept no more bytes than the fraction of the values takes."""
        code_of(self.name, self.fraction, shape).check(parts_layout)


def code_of(name: str, fraction: float, shape: Shape) -> SparseCode:
    """Give the layout of values as float32, for the codec `name`."""
    return SparseCode(name, size_of(shape), fraction, 0, 8 * _VALUE.itemsize)


def encode_largest(name: str, fraction: float, values: Array) -> dict[str, Array]:
    """Give the part for a fraction of the values, the largest."""
    code = code_of(name, fraction, values.shape)
    return {CODE: code.encode(flat(values), lambda kept: kept.astype(_VALUE).view(np.uint8))}


def decode_largest(
    code: SparseCode, parts: PartReader, stretch: tuple[int, int], out: Array
) -> None:
    """Write a stretch of what `encode_largest` gave to `out`."""
    code.decode(parts, stretch, out, lambda data, count: data.view(_VALUE)[:count])
