"""Where a rule reads the updates from: memory, files or a decoder, block by block."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from fedloom.algorithms.layout import (
    BLOCK_ELEMENTS,
    Array,
    Layout,
    accumulator_dtype,
    check_finite,
)


@dataclass(frozen=True, slots=True)
class Block:
    """A stretch of one tensor of a result.

    Attributes:
        name: of the tensor.
        start: flat index of the first element; the block covers [start, start + values.size).
        values: shape (elements,), accumulator dtype. Scratch memory: valid until the next block.
    """

    name: str
    start: int
    values: Array


class UpdateSource(Protocol):
    """One client's update, readable in stretches."""

    def read(self, name: str, start: int, stop: int, scratch: Array) -> Array:
        """Give elements [start, stop) of the flattened delta of tensor `name`.

        Args:
            name: of the tensor.
            start: flat index (C order) of the first element.
            stop: flat index behind the last one; more than `start`.
            scratch: shape (at least stop - start,), accumulator dtype, contiguous: may be filled.

        Returns:
            Shape (stop - start,), accumulator dtype: `scratch[:stop - start]` filled, or a view of
            the source's own memory, which the reader does not write to. Valid until the next read
            with the same scratch.
        """
        ...


class ArraySource:
    """An update whose arrays lie in memory; they are never written to and not copied as a whole.

    Args:
        arrays: delta of each tensor by name, any shape, memory order and supported dtype.
    """

    def __init__(self, arrays: Mapping[str, Array]) -> None:
        self._arrays: dict[str, Array] = {}
        for name, array in arrays.items():
            # Strided arrays keep their shape: `flat` reads them in C order without a full copy.
            view = array.reshape(-1) if array.flags.c_contiguous else array[...]
            view.flags.writeable = False
            self._arrays[name] = view

    def read(self, name: str, start: int, stop: int, scratch: Array) -> Array:
        """Give [start, stop) of the flattened tensor: a view if its dtype is the accumulator's."""
        array = self._arrays[name]
        contiguous = array.flags.c_contiguous
        values: Array = array[start:stop] if contiguous else array.flat[start:stop]
        if values.dtype == scratch.dtype:
            return values
        out = scratch[: stop - start]
        np.copyto(out, values)
        return out


def check_source(source: UpdateSource, layout: Layout) -> None:
    """Read an update once, block by block, and refuse it if any value is not finite.

    The gate for updates that are not in memory as a whole; flat memory.

    Args:
        source: the update, whose layout has been checked.
        layout: of the model.

    Raises:
        UpdateError: `NotFinite`, naming the tensor, how many values and the first index; or what
            the source itself raises for parts that make no sense.
    """
    for name in sorted(layout):
        spec = layout[name]
        scratch = np.empty(min(spec.size, BLOCK_ELEMENTS), accumulator_dtype(spec.dtype))
        blocks = (
            source.read(name, start, min(start + BLOCK_ELEMENTS, spec.size), scratch)
            for start in range(0, spec.size, BLOCK_ELEMENTS)
        )
        check_finite(name, blocks)
