"""No compression: the values themselves are the one part."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from fedloom.algorithms.compression.protocol import PartReader, Shape, check_parts, flat, size_of
from fedloom.algorithms.layout import Array, TensorSpec

VALUES = "values"
_FLOATS = tuple(np.dtype(kind) for kind in (np.float16, np.float32, np.float64))


@dataclass(frozen=True)
class Identity:
    """Keeps every bit. Parts: `values`, shape (size,), the dtype of the input."""

    name: ClassVar[str] = "none"
    is_whole: ClassVar[bool] = False

    @property
    def parameters(self) -> Mapping[str, object]:
        """None."""
        return {}

    def encode(self, values: Array, rng: np.random.Generator) -> dict[str, Array]:
        """Copy the values; draws nothing from `rng`."""
        del rng
        return {VALUES: flat(values).copy()}

    def decode(self, parts: PartReader, shape: Shape, start: int, stop: int, out: Array) -> None:
        """Copy a stretch; exact where `out` is at least as wide as the values, else rounded."""
        del shape
        with np.errstate(over="ignore"):
            np.copyto(out[: stop - start], parts.read(VALUES, start, stop), casting="same_kind")

    def check(self, parts_layout: Mapping[str, TensorSpec], shape: Shape) -> None:
        """Accept as many values of float16, float32 or float64."""
        spec = parts_layout.get(VALUES)
        dtype = spec.dtype if spec and spec.dtype in _FLOATS else np.dtype(np.float32)
        check_parts(self.name, parts_layout, {VALUES: TensorSpec((size_of(shape),), dtype)})
