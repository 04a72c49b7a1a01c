"""The shape of a codec, and of what its parts are read from."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, NoReturn, Protocol, TypeAlias, TypeVar

import numpy as np

from fedloom.algorithms.layout import Array, Layout, TensorSpec
from fedloom.errors import UpdateError

Shape: TypeAlias = tuple[int, ...]
Made = TypeVar("Made")


class PartReader(Protocol):
    """The parts of one encoded tensor, readable in stretches: from a file or from memory."""

    def read(self, part: str, start: int, stop: int) -> Array:
        """Give elements [start, stop) of a part, shape (stop - start,), in the part's dtype.

        The next read of the same part may take the memory again. 0 <= start <= stop <=
        `length(part)`: a codec that finds positions in a part asks `length` before it believes them.
        """
        ...

    def length(self, part: str) -> int:
        """Give the number of elements of a part."""
        ...

    def once(self, key: int, make: Callable[[], Made]) -> Made:
        """Give what `make` makes; the last thing is kept, and given again while `key` is the same.

        For a codec that reads more than a stretch needs: the next stretch often needs it too.
        """
        ...


class Codec(Protocol):
    """Turns a float tensor into parts and any stretch of the parts back into floats.

    A codec may lose accuracy, never elements. It is made for float16, float32 and float64; integers
    and bool are stored as they are by the caller. Elements are counted in C order, whatever the
    order in memory; most codecs look at nothing but that order, `lowrank` at the shape too.
    """

    @property
    def name(self) -> str:
        """The name of the codec in a job, as in `spec.compression.uplink.codec`."""
        ...

    @property
    def is_whole(self) -> bool:
        """Whether it is to see all tensors of an update as one: `packing` lays them out.

        True of a codec that chooses among values, since where they matter most no single tensor
        can say.
        """
        ...

    @property
    def parameters(self) -> Mapping[str, object]:
        """All parameters with their values: `registry.codec(name, parameters)` makes it again."""
        ...

    def encode(self, values: Array, rng: np.random.Generator) -> dict[str, Array]:
        """Give the parts by name: 1-D contiguous arrays that own their memory.

        Args:
            values: any shape, float16, float32 or float64, finite; may be strided (an array of
                several axes that is not C-contiguous is copied); not written to.
            rng: source of the noise, if the codec needs any.

        Raises:
            UpdateError: `NotFinite`, for values that the codec cannot represent.
            TypeError: for an array that is not of these floats.
        """
        ...

    def decode(self, parts: PartReader, shape: Shape, start: int, stop: int, out: Array) -> None:
        """Write elements [start, stop) of the decoded tensor to `out[:stop - start]`.

        Parts come from outside and may hold anything: what is not finite in them comes out not
        finite, silently, and the one gate for that (`layout.check_finite`) refuses it.

        Args:
            parts: whose layout has passed `check`.
            shape: of the whole tensor.
            start: flat index of the first element.
            stop: flat index behind the last one; start <= stop <= the number of elements.
            out: shape (at least stop - start,), float32 or float64, contiguous.

        Raises:
            UpdateError: `MalformedUpdate`, for parts that point outside the tensor or otherwise
                cannot be read as one.
        """
        ...

    def check(self, parts_layout: Mapping[str, TensorSpec], shape: Shape) -> None:
        """Refuse parts that cannot be an encoded tensor of `shape`, before reading any.

        What passes is bounded by the shape: no part is longer than an honest one could be.

        Raises:
            UpdateError: `MalformedUpdate`, for other names, dtypes or lengths.
        """
        ...


class Latest:
    """The one thing that a `PartReader` keeps for its codec."""

    __slots__ = ("_key", "_made")

    def __init__(self) -> None:
        self._key = -1
        self._made: Any = None

    def once(self, key: int, make: Callable[[], Made]) -> Made:
        """Give what `make` makes, or made the last time, if `key` (>= 0) was the same."""
        if key != self._key:
            self._made, self._key = make(), key
        made: Made = self._made
        return made


class ArrayParts(Latest):
    """A `PartReader` over arrays in memory, such as `encode` gives them."""

    def __init__(self, parts: Mapping[str, Array]) -> None:
        super().__init__()
        self._parts = parts

    def read(self, part: str, start: int, stop: int) -> Array:
        """Give a view of elements [start, stop) of a part."""
        return self._parts[part][start:stop]

    def length(self, part: str) -> int:
        """Give the number of elements of a part."""
        return self._parts[part].size


def flat(values: Array) -> Array:
    """Give the elements in C order, shape (size,): a view, or a copy where none is possible.

    Raises:
        TypeError: unless `values` is an array of float16, float32 or float64.
    """
    if values.dtype.kind != "f" or values.dtype.itemsize > 8:
        raise TypeError(
            f"got {values.dtype}{list(values.shape)}, expected an array of float16, float32 "
            "or float64"
        )
    return values.reshape(-1)


def size_of(shape: Shape) -> int:
    """Give the number of elements; exact however large the shape claims to be."""
    return math.prod(shape)


def refuse(codec: str, message: str) -> NoReturn:
    """Raise UpdateError `MalformedUpdate` for parts that are not what `codec` writes."""
    raise UpdateError("MalformedUpdate", f"codec {codec!r}: {message}")


def check_parts(codec: str, got: Layout, expected: Layout) -> None:
    """Raise UpdateError `MalformedUpdate` unless names, dtypes and lengths are as expected."""
    if got.keys() != expected.keys():
        refuse(codec, f"got parts {sorted(got)}, expected {sorted(expected)}")
    for name in sorted(expected):
        if got[name] != expected[name]:
            refuse(codec, f"part {name!r}: got {got[name]}, expected {expected[name]}")
