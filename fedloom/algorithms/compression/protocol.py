"""The shape of a codec, and of what its parts are read from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import numpy as np

from fedloom.algorithms.layout import Array, Layout, TensorSpec
from fedloom.errors import UpdateError


class PartReader(Protocol):
    """The parts of one encoded tensor, readable in stretches: from a file or from memory."""

    def read(self, part: str, start: int, stop: int) -> Array:
        """Give elements [start, stop) of a part, shape (stop - start,), in the part's dtype."""
        ...


class Codec(Protocol):
    """Turns a flat float tensor into parts and any stretch of the parts back into floats.

    A codec may lose accuracy, never elements: `size` elements in, `size` elements out. It is made
    for float16, float32 and float64; integers and bool are stored as they are by the caller.
    """

    @property
    def name(self) -> str:
        """The name of the codec in a job, as in `spec.compression.uplink.codec`."""
        ...

    @property
    def parameters(self) -> Mapping[str, object]:
        """All parameters with their values: `registry.codec(name, parameters)` makes it again."""
        ...

    def encode(self, values: Array, rng: np.random.Generator) -> dict[str, Array]:
        """Give the parts by name: 1-D contiguous arrays that own their memory.

        Args:
            values: shape (size,), float16, float32 or float64, finite; may be strided; not
                written to.
            rng: source of the noise, if the codec needs any.

        Raises:
            UpdateError: `NotFinite`, for values that the codec cannot represent.
            TypeError: for an array that is not 1-D or not of floats.
        """
        ...

    def decode(self, parts: PartReader, size: int, start: int, stop: int, out: Array) -> None:
        """Write elements [start, stop) of the decoded tensor to `out[:stop - start]`.

        Parts come from outside and may hold anything: what is not finite in them comes out not
        finite, silently, and the one gate for that (`layout.check_finite`) refuses it.

        Args:
            parts: whose layout has passed `check`.
            size: number of elements of the whole tensor.
            start: flat index of the first element.
            stop: flat index behind the last one; start <= stop <= size.
            out: shape (at least stop - start,), float32 or float64, contiguous.

        Raises:
            UpdateError: `MalformedUpdate`, for parts that point outside the tensor or otherwise
                cannot be read as one.
        """
        ...

    def check(self, parts_layout: Mapping[str, TensorSpec], size: int) -> None:
        """Refuse parts that are not an encoded tensor of `size` elements, before reading any.

        Raises:
            UpdateError: `MalformedUpdate`, for other names, dtypes or lengths.
        """
        ...


class ArrayParts:
    """A `PartReader` over arrays in memory, such as `encode` gives them."""

    def __init__(self, parts: Mapping[str, Array]) -> None:
        self._parts = parts

    def read(self, part: str, start: int, stop: int) -> Array:
        """Give a view of elements [start, stop) of a part."""
        return self._parts[part][start:stop]


def check_values(values: Array) -> None:
    """Raise TypeError unless `values` is a 1-D array of float16, float32 or float64."""
    if values.ndim != 1 or values.dtype.kind != "f" or values.dtype.itemsize > 8:
        raise TypeError(
            f"got {values.dtype}{list(values.shape)}, expected a 1-D array of float16, float32 "
            "or float64"
        )


def check_parts(codec: str, got: Layout, expected: Layout) -> None:
    """Raise UpdateError `MalformedUpdate` unless names, dtypes and lengths are as expected."""
    if got.keys() != expected.keys():
        raise UpdateError(
            "MalformedUpdate",
            f"codec {codec!r}: got parts {sorted(got)}, expected {sorted(expected)}",
        )
    for name in sorted(expected):
        if got[name] != expected[name]:
            raise UpdateError(
                "MalformedUpdate",
                f"codec {codec!r}, part {name!r}: got {got[name]}, expected {expected[name]}",
            )
