"""Layouts, and the gate that every update passes."""

from __future__ import annotations

import numpy as np
import pytest

from fedloom.algorithms import layout
from fedloom.algorithms.aggregation.source import ArraySource, check_source
from fedloom.errors import JobError, UpdateError

MODEL = {
    "weight": np.zeros((3, 4), np.float32),
    "bias": np.zeros((), np.float16),
    "seen": np.zeros((2,), np.int64),
    "none": np.zeros((0, 5), np.float64),
}
LAYOUT = layout.layout_of(MODEL)


def refusal(arrays: dict[str, np.ndarray]) -> UpdateError:
    with pytest.raises(UpdateError) as caught:
        layout.check_update(LAYOUT, arrays)
    return caught.value


def test_a_layout_is_sorted_by_name():
    assert list(LAYOUT) == ["bias", "none", "seen", "weight"]
    assert LAYOUT["weight"] == layout.TensorSpec((3, 4), np.dtype("float32"))


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [
        ("float16", "float32"),
        ("float32", "float32"),
        ("float64", "float64"),
        ("int8", "float64"),
        ("int64", "float64"),
        ("uint64", "float64"),
        ("bool", "float64"),
    ],
)
def test_sums_are_made_in_the_accumulator_dtype(dtype, expected):
    assert layout.accumulator_dtype(np.dtype(dtype)) == np.dtype(expected)


@pytest.mark.parametrize("dtype", ["complex64", "U3", "O", "M8[s]", "g"])
def test_a_dtype_that_cannot_be_averaged_is_refused(dtype):
    with pytest.raises(JobError) as caught:
        layout.accumulator_dtype(np.dtype(dtype))
    assert caught.value.reason == "UnsupportedDtype"


def test_a_shape_may_claim_more_elements_than_an_int64_holds():
    assert layout.TensorSpec((2**40, 2**40), np.dtype("int8")).size == 2**80
    assert layout.TensorSpec((2**40, 2**40), np.dtype("float32")).size_bytes == 2**82


def test_an_update_like_the_model_passes():
    layout.check_update(LAYOUT, dict(reversed(MODEL.items())))


def test_a_missing_tensor_is_named():
    error = refusal({name: array for name, array in MODEL.items() if name != "bias"})
    assert error.reason == "MissingTensor"
    assert error.message == (
        "tensor 'bias': got none, expected float16[] (1 of 4 tensors of the model are missing)"
    )


def test_an_unexpected_tensor_is_named():
    error = refusal({**MODEL, "extra": np.zeros(2)})
    assert error.reason == "UnexpectedTensor"
    assert "'extra': got float64[2], expected none" in error.message


def test_another_shape_is_refused_even_with_as_many_elements():
    error = refusal({**MODEL, "weight": np.zeros((4, 3), np.float32)})
    assert error.reason == "ShapeMismatch"
    assert error.message == "tensor 'weight': got shape [4, 3], expected [3, 4]"


def test_another_dtype_is_refused():
    error = refusal({**MODEL, "weight": np.zeros((3, 4))})
    assert error.reason == "DtypeMismatch"
    assert error.message == "tensor 'weight': got dtype float64, expected float32"


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("order", ["C", "F"])
def test_values_that_are_not_finite_are_counted_and_located(value, order):
    weight = np.zeros((3, 4), np.float32, order=order)
    weight[1, 2] = weight[2, 3] = value
    error = refusal({**MODEL, "weight": weight})
    assert error.reason == "NotFinite"
    assert error.message == (
        "tensor 'weight': got 2 of 12 values NaN or infinite, the first at flat index 6, "
        "expected only finite values"
    )


def test_a_scalar_that_is_not_finite_is_refused():
    assert refusal({**MODEL, "bias": np.array(np.nan, np.float16)}).reason == "NotFinite"


@pytest.mark.parametrize("position", [0, layout.BLOCK_ELEMENTS - 1, layout.BLOCK_ELEMENTS, 150000])
def test_the_first_index_counts_through_the_blocks(position):
    values = np.zeros(150001, np.float32)
    values[position] = np.nan
    with pytest.raises(UpdateError, match=f"1 of 150001 .* flat index {position},"):
        layout.check_update(layout.layout_of({"w": values}), {"w": values})
    with pytest.raises(UpdateError, match=f"1 of 150001 .* flat index {position},"):
        check_source(ArraySource({"w": values}), layout.layout_of({"w": values}))


def test_a_finite_update_of_any_dtype_passes_when_it_is_read_in_blocks():
    check_source(ArraySource(MODEL), LAYOUT)
