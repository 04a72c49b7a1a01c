"""From the dtype that sums are made in back to the dtype of the model's tensor."""

from __future__ import annotations

from typing import Any

import numpy as np

from fedloom.algorithms.layout import Array
from fedloom.errors import JobError


def to_dtype(values: Array, dtype: np.dtype[Any]) -> Array:
    """Bring values from the accumulator dtype back to a tensor's own dtype.

    Floats are cast; what float16 cannot hold becomes an infinity, as IEEE 754 says. Integers are
    rounded to nearest, ties to even, and clipped to the range of `dtype`; bool is such an integer
    of range 0 to 1. So an integer buffer, such as the batch counter of a batch normalisation, is
    averaged like everything else and then rounded.

    Args:
        values: any shape, floats, in the accumulator dtype; not written to.
        dtype: dtype of the tensor that the values belong to.

    Returns:
        An array of the same shape and of `dtype`: `values` itself where nothing had to change.

    Raises:
        JobError: `NotFinite`, for NaN where an integer is wanted.
    """
    if dtype.kind == "f":
        with np.errstate(over="ignore"):
            return values.astype(dtype, copy=False)
    if np.isnan(values).any():
        raise JobError("NotFinite", f"got NaN among values for {dtype}, expected numbers")
    rounded = np.rint(values)
    if dtype.kind == "b":
        return rounded > 0
    limits = np.iinfo(dtype)
    # float64 has no 2**63 - 1: everything from 2**63 on is put in place after the cast.
    too_large = rounded >= float(limits.max)
    inside = np.where(too_large, 0.0, np.maximum(rounded, float(limits.min)))
    result: Array = inside.astype(dtype)
    result[too_large] = limits.max
    return result
