"""One bit per value: whose sign, whose mean, and what is lost."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fedloom.algorithms.compression.protocol import ArrayParts
from fedloom.algorithms.compression.registry import codec
from fedloom.algorithms.compression.sign import Sign
from fedloom.algorithms.layout import TensorSpec, layout_of
from fedloom.errors import JobError, UpdateError

small = settings(derandomize=True, deadline=None, max_examples=150)
VALUES = hnp.arrays(
    st.sampled_from([np.float32, np.float64]),
    st.integers(0, 60),
    elements=st.floats(-(2.0**60), 2.0**60, width=32) | st.sampled_from([0.0, -0.0, 2.0**-149]),
)


def roundtrip(made: Sign, values: np.ndarray, dtype: type = np.float32) -> np.ndarray:
    parts = made.encode(values, np.random.default_rng(0))
    made.check(layout_of(parts), values.shape)
    out = np.empty(values.size, dtype)
    made.decode(ArrayParts(parts), values.shape, 0, values.size, out)
    return out


@small
@given(VALUES, st.sampled_from([8, 16, 24, 4096]))
def test_each_value_becomes_the_mean_magnitude_of_its_block_with_its_sign(values, block_size):
    starts = range(0, values.size, block_size)
    blocks = [values[start : start + block_size].astype(np.float64) for start in starts]
    expected = [np.where(block < 0, -1, 1) * np.abs(block).mean() for block in blocks]
    out = roundtrip(Sign(block_size), values)
    np.testing.assert_allclose(out, np.concatenate([[], *expected]), rtol=1e-6, atol=1e-45)


@small
@given(VALUES, st.sampled_from([8, 4096]))
def test_encoding_what_was_decoded_changes_nothing(values, block_size):
    once = roundtrip(Sign(block_size), values)
    assert roundtrip(Sign(block_size), once).tolist() == once.tolist()


def test_what_is_lost_is_what_the_formula_says():
    values = np.random.default_rng(1).standard_normal(4096, np.float32)
    lost = np.linalg.norm(roundtrip(Sign(4096), values) - values) ** 2
    expected = np.linalg.norm(values) ** 2 - 4096 * np.abs(values).mean() ** 2
    assert lost == pytest.approx(expected, rel=1e-4)


def test_bits_lie_from_the_lowest_to_the_highest_and_zero_counts_as_positive():
    values = np.array([-1, 1, 0, -0.0, -1, 1, 1, 1, 1, -1], np.float32)
    parts = Sign(8).encode(values, np.random.default_rng(0))
    assert parts["signs"].tolist() == [0b00010001, 0b10]
    assert parts["scales"].tolist() == [0.75, 1]


def test_the_mean_of_the_largest_magnitudes_does_not_overflow():
    values = np.full(5000, np.finfo(np.float32).max)
    values[::2] *= -1
    assert roundtrip(Sign(), values).tolist() == values.tolist()


@pytest.mark.parametrize("size", [1, 7, 8, 9, 65535, 65537, 200_001])
@pytest.mark.parametrize("block_size", [8, 4096, 65536])
def test_a_value_takes_a_bit_and_its_part_of_a_scale(size, block_size):
    parts = Sign(block_size).encode(np.ones(size, np.float32), np.random.default_rng(0))
    assert parts["signs"].nbytes == (size + 7) // 8
    assert parts["scales"].nbytes == 4 * -(-size // block_size)


@pytest.mark.parametrize("scale", [np.nan, np.inf, -np.inf])
def test_a_scale_that_is_not_finite_decodes_to_values_that_the_gate_refuses(scale):
    parts = {"signs": np.zeros(3, np.uint8), "scales": np.array([1, scale, 1], np.float32)}
    out = np.empty(24, np.float32)
    Sign(8).decode(ArrayParts(parts), (24,), 0, 24, out)
    assert np.flatnonzero(~np.isfinite(out)).tolist() == list(range(8, 16))


def test_bits_for_another_number_of_values_are_refused():
    for signs, scales in [(2, 1), (0, 1), (1, 0), (1, 2), (2**60, 1), (1, 2**60)]:
        parts = {
            "signs": TensorSpec((signs,), np.dtype(np.uint8)),
            "scales": TensorSpec((scales,), np.dtype(np.float32)),
        }
        with pytest.raises(UpdateError) as caught:
            Sign().check(parts, (7,))
        assert caught.value.reason == "MalformedUpdate"


def test_a_block_is_a_number_of_whole_bytes():
    with pytest.raises(JobError, match="blockSize: got 12, expected a multiple of 8"):
        codec("sign", {"blockSize": 12})
