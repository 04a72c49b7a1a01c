"""A tensor as float32, a little at a time: what the codecs look at."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NoReturn

import numpy as np

from fedloom.algorithms.layout import BLOCK_ELEMENTS, Array
from fedloom.errors import UpdateError


def float32_chunks(
    values: Array, chunk_elements: int = BLOCK_ELEMENTS
) -> Iterator[tuple[int, Array]]:
    """Yield the flat index of each chunk's first value, and the chunk, contiguous float32.

    A chunk is a view or memory that the next one takes again: not to be written to, not to be kept.
    float64 is rounded to nearest; what is too large for float32 becomes infinite, silently.

    Args:
        values: shape (size,), any float, may be strided.
        chunk_elements: of every chunk but the last.
    """
    is_plain = values.dtype == np.float32 and values.flags.c_contiguous
    scratch = np.empty(0 if is_plain else min(chunk_elements, values.size), np.float32)
    for start in range(0, values.size, chunk_elements):
        chunk = values[start : start + chunk_elements]
        if not is_plain:
            with np.errstate(over="ignore"):
                np.copyto(scratch[: chunk.size], chunk, casting="same_kind")
            chunk = scratch[: chunk.size]
        yield start, chunk


def refuse_first_not_finite(codec: str, values: Array) -> NoReturn:
    """Raise UpdateError `NotFinite` with the place of the first NaN or infinity, as float32.

    Args:
        codec: whose values they are, for the message.
        values: shape (size,), any float, at least one of them not finite as float32.
    """
    for start, chunk in float32_chunks(values):
        finite = np.isfinite(chunk)
        if not finite.all():
            first = start + int(np.argmin(finite))
            raise UpdateError(
                "NotFinite",
                f"codec {codec!r}: got magnitude {abs(values[first])} at flat index {first}, "
                f"expected at most {np.finfo(np.float32).max:.2e}",
            )
    raise AssertionError(f"codec {codec!r}: every value is finite")
