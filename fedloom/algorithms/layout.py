"""The names, shapes and dtypes of a model's tensors, and what an update must match to be used.

Every rule computes in the accumulator dtype of a tensor (`accumulator_dtype`) and comes back to
the tensor's own dtype once, at the end (`optimizers.casting.to_dtype`).
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from fedloom.errors import JobError, UpdateError

Array: TypeAlias = np.ndarray[Any, np.dtype[Any]]

BLOCK_ELEMENTS = 65536
"""Elements of a tensor that are worked on at a time: 256 KiB of float32 stay in the L2 cache."""


@dataclass(frozen=True)
class TensorSpec:
    """Shape and dtype of one tensor; a scalar has shape ()."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @property
    def size(self) -> int:
        """Number of elements; exact however large the shape claims to be."""
        return math.prod(self.shape)

    @property
    def size_bytes(self) -> int:
        """Number of bytes that the elements take."""
        return self.size * self.dtype.itemsize

    def __str__(self) -> str:
        return f"{self.dtype}{list(self.shape)}"


Layout: TypeAlias = Mapping[str, TensorSpec]
"""Specification of each tensor by name, iterated in sorted order of names (see `layout_of`)."""


def layout_of(arrays: Mapping[str, Array]) -> Layout:
    """Give the layout of arrays in memory, sorted by name."""
    return {name: TensorSpec(arrays[name].shape, arrays[name].dtype) for name in sorted(arrays)}


def names_like(names: Iterable[str], patterns: Iterable[str]) -> frozenset[str]:
    """Give those of `names` that one of `patterns` describes as a whole.

    In a pattern * stands for any text and ? for one character; all else, brackets too, for itself.
    """
    translated = [re.escape(each).replace(r"\*", ".*").replace(r"\?", ".") for each in patterns]
    if not translated:
        return frozenset()
    found = re.compile("|".join(translated), re.DOTALL).fullmatch
    return frozenset(name for name in names if found(name))


def accumulator_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Give the dtype in which tensors of `dtype` are summed.

    float16 and float32 are summed in float32; float64, integers and bool in float64 (integers
    beyond 2**53 lose their last digits there).

    Raises:
        JobError: `UnsupportedDtype`, for anything else (complex, text, objects, long double).
    """
    if dtype.kind == "f" and dtype.itemsize <= 4:
        return np.dtype(np.float32)
    if dtype.kind in "biu" or (dtype.kind == "f" and dtype.itemsize == 8):
        return np.dtype(np.float64)
    raise JobError(
        "UnsupportedDtype", f"got a tensor of dtype {dtype}, expected a float, integer or bool"
    )


def flat_blocks(array: Array, block_elements: int = BLOCK_ELEMENTS) -> Iterator[Array]:
    """Yield an array's elements in C order, `block_elements` at a time; views where it can."""
    if array.flags.c_contiguous:
        flat = array.reshape(-1)
        for start in range(0, flat.size, block_elements):
            yield flat[start : start + block_elements]
    else:
        for start in range(0, array.size, block_elements):
            yield array.flat[start : start + block_elements]


def check_finite(name: str, blocks: Iterable[Array]) -> None:
    """Refuse a tensor with NaN or an infinity in it; integers and bool always pass.

    Args:
        name: of the tensor, for the message.
        blocks: the tensor's elements in order, one flat block after the other.

    Raises:
        UpdateError: `NotFinite`, with how many there are and the flat index of the first.
    """
    bad, first, position = 0, -1, 0
    for block in blocks:
        if block.dtype.kind != "f":
            return
        finite = np.isfinite(block)
        if not finite.all():
            if first < 0:
                first = position + int(np.argmin(finite))
            bad += int(block.size - np.count_nonzero(finite))
        position += block.size
    if bad:
        raise UpdateError(
            "NotFinite",
            f"tensor {name!r}: got {bad} of {position} values NaN or infinite, the first at flat "
            f"index {first}, expected only finite values",
        )


def check_layout(model_layout: Layout, update_layout: Layout) -> None:
    """Refuse an update whose tensors are not exactly the model's, before any element is read.

    Raises:
        UpdateError: `MissingTensor`, `UnexpectedTensor`, `ShapeMismatch` or `DtypeMismatch`.
    """
    missing = sorted(model_layout.keys() - update_layout.keys())
    unexpected = sorted(update_layout.keys() - model_layout.keys())
    if missing:
        raise UpdateError(
            "MissingTensor",
            f"tensor {missing[0]!r}: got none, expected {model_layout[missing[0]]} "
            f"({len(missing)} of {len(model_layout)} tensors of the model are missing)",
        )
    if unexpected:
        raise UpdateError(
            "UnexpectedTensor",
            f"tensor {unexpected[0]!r}: got {update_layout[unexpected[0]]}, expected none of that "
            f"name ({len(unexpected)} tensors are not among the model's {len(model_layout)})",
        )
    for name in sorted(model_layout):
        got, expected = update_layout[name], model_layout[name]
        if got.shape != expected.shape:
            raise UpdateError(
                "ShapeMismatch",
                f"tensor {name!r}: got shape {list(got.shape)}, expected {list(expected.shape)}",
            )
        if got.dtype != expected.dtype:
            raise UpdateError(
                "DtypeMismatch",
                f"tensor {name!r}: got dtype {got.dtype}, expected {expected.dtype}",
            )


def check_update(model_layout: Layout, arrays: Mapping[str, Array]) -> None:
    """Refuse arrays that cannot take the place of the model's: the gate before every use.

    Args:
        model_layout: what the global model looks like.
        arrays: a client's new weights (or its delta) by name, any memory order.

    Raises:
        UpdateError: `MissingTensor`, `UnexpectedTensor`, `ShapeMismatch`, `DtypeMismatch` or
            `NotFinite`; the message names the tensor, what was got and what was expected.
    """
    check_layout(model_layout, layout_of(arrays))
    for name in sorted(model_layout):
        check_finite(name, flat_blocks(arrays[name]))
