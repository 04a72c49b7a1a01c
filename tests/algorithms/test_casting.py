"""From sums back to the model's dtypes."""

from __future__ import annotations

import numpy as np
import pytest

from fedloom.algorithms.optimizers.casting import to_dtype
from fedloom.errors import JobError


def test_integers_are_rounded_to_nearest_and_ties_to_even():
    values = np.array([0.5, 1.5, 2.5, -0.5, -1.5, 2.49, 2.51])
    assert to_dtype(values, np.dtype("int64")).tolist() == [0, 2, 2, 0, -2, 2, 3]


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int32", "int64", "uint64"])
def test_integers_are_clipped_to_the_range_of_their_dtype(dtype):
    limits = np.iinfo(dtype)
    values = np.array([-1e300, -np.inf, 1e300, np.inf, float(limits.max), float(limits.min), 7])
    expected = [limits.min, limits.min, limits.max, limits.max, limits.max, limits.min, 7]
    assert to_dtype(values, np.dtype(dtype)).tolist() == expected


def test_bool_is_an_integer_from_0_to_1():
    values = np.array([-3.0, 0.0, 0.5, 0.51, 1.0, 9.0])
    result = to_dtype(values, np.dtype("bool"))
    assert result.dtype == bool
    assert result.tolist() == [False, False, False, True, True, True]


@pytest.mark.parametrize("dtype", ["int8", "bool"])
def test_nan_is_no_integer(dtype):
    with pytest.raises(JobError) as caught:
        to_dtype(np.array([1.0, np.nan]), np.dtype(dtype))
    assert caught.value.reason == "NotFinite"


def test_float16_overflows_to_infinity_without_a_warning():
    values = np.array([1.0, 1e6, -1e6], np.float32)
    assert to_dtype(values, np.dtype("float16")).tolist() == [1.0, np.inf, -np.inf]


def test_values_of_the_right_dtype_come_back_as_they_are():
    values = np.array([1.0, np.nan], np.float32)
    assert to_dtype(values, np.dtype("float32")) is values


@pytest.mark.parametrize("dtype", ["float16", "int64", "bool"])
@pytest.mark.parametrize("shape", [(), (0,), (2, 3)])
def test_the_shape_is_kept_and_the_input_left_alone(dtype, shape):
    values = np.full(shape, 0.75)
    values.flags.writeable = False
    result = to_dtype(values, np.dtype(dtype))
    assert (result.shape, result.dtype) == (shape, np.dtype(dtype))
