"""Stochastic rounding to 8 bits: unbiased, bounded, and its edges."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fedloom.algorithms.compression.int8 import Int8
from fedloom.algorithms.compression.protocol import ArrayParts
from fedloom.algorithms.layout import layout_of
from fedloom.errors import UpdateError

LARGEST = float(np.float32(np.finfo(np.float32).max / 128 * 127))
SLACK = 1 + 2.0**-16

small = settings(derandomize=True, deadline=None, max_examples=150)
float32_values = hnp.arrays(
    np.float32,
    st.integers(0, 40),
    elements=st.floats(-LARGEST, LARGEST, width=32)
    | st.floats(-10, 10, width=32)
    | st.sampled_from([0.0, -0.0, 127.0, -127.0, 1e-45, -1e-45, LARGEST, -LARGEST]),
)


class Noise:
    """A generator that draws the given numbers over and over."""

    def __init__(self, draws: Any) -> None:
        self._draws = np.asarray(draws, np.uint16)

    def integers(self, low: int, high: int, size: int, dtype: type) -> np.ndarray:
        assert (low, high, dtype) == (0, 65536, np.uint16)
        return np.resize(self._draws, size)

    @classmethod
    def of(cls, draws: Any) -> np.random.Generator:
        return cast("np.random.Generator", cls(draws))


def roundtrip(
    values: np.ndarray, rng: np.random.Generator, block_size: int = 256
) -> tuple[np.ndarray, np.ndarray]:
    """Give the decoded values and the scale of each, both in float64."""
    made = Int8(block_size)
    parts = made.encode(values, rng)
    made.check(layout_of(parts), values.size)
    out = np.empty(values.size, np.float64)
    made.decode(ArrayParts(parts), values.size, 0, values.size, out)
    scales = np.repeat(parts["scales"].astype(np.float64), block_size)[: values.size]
    return out, scales


@small
@given(float32_values, st.integers(1, 17), st.integers(0, 2**32))
def test_no_value_moves_by_more_than_its_scale(values, block_size, seed):
    out, scales = roundtrip(values, np.random.default_rng(seed), block_size)
    assert np.all(np.abs(values - out) <= scales * SLACK)


@small
@given(float32_values, st.integers(1, 17), st.sampled_from([0, 65535]))
def test_no_value_moves_by_more_than_its_scale_under_extreme_noise(values, block_size, draw):
    out, scales = roundtrip(values, Noise.of([draw]), block_size)
    assert np.all(np.abs(values - out) <= scales * SLACK)


@small
@given(
    hnp.arrays(np.float64, st.integers(0, 40), elements=st.floats(-1e30, 1e30)),
    st.integers(0, 2**32),
)
def test_float64_is_bounded_too(values, seed):
    out, scales = roundtrip(values, np.random.default_rng(seed), 8)
    assert np.all(np.abs(values - out) <= scales * SLACK + 1e-45)


@small
@given(hnp.arrays(np.float16, st.integers(0, 40), elements=st.floats(-65504, 65504, width=16)))
def test_float16_is_bounded_too(values):
    out, scales = roundtrip(values, np.random.default_rng(0), 8)
    assert np.all(np.abs(values.astype(np.float64) - out) <= scales * SLACK)


def test_float32_output_is_bounded_too_and_finite_at_the_largest_magnitude():
    values = np.array([LARGEST, -LARGEST, LARGEST / 3], np.float32)
    made = Int8(4)
    out = np.empty(3, np.float32)
    parts = made.encode(values, np.random.default_rng(0))
    made.decode(ArrayParts(parts), 3, 0, 3, out)
    assert np.isfinite(out).all()
    difference = np.abs(out.astype(np.float64) - values)
    assert np.all(difference <= float(parts["scales"][0]) * SLACK)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_the_expected_decoded_value_is_the_value(dtype):
    draws = 4000
    values = np.random.default_rng(7).normal(0, 2, 256).astype(dtype)
    out, scales = roundtrip(np.tile(values, draws), np.random.default_rng(8))
    mean = out.reshape(draws, 256).mean(axis=0)
    deviation = scales[0] / 2 / np.sqrt(draws)
    assert np.abs(mean - values.astype(np.float64)).max() < 5 * deviation


@pytest.mark.parametrize("value", [0.3, 3.3, -3.3, 1e-6, -1e-6, 63.999, 126.99999, -126.5])
def test_over_all_noise_the_bias_is_within_its_bound(value):
    values = np.full(65537, value, np.float32)
    values[0] = 127
    out, scales = roundtrip(values, Noise.of(np.roll(np.arange(65536), 1)), 65537)
    assert scales[0] == 1
    bias = out[1:].mean() - float(values[1])
    assert abs(bias) <= 2.0**-17 + 2.0**-24 * abs(value)


def test_multiples_of_the_scale_are_exact_whatever_the_noise():
    values = np.arange(-127, 128, dtype=np.float32) * np.float32(0.25)
    for draw in (0, 1, 32767, 32768, 65535):
        out, _ = roundtrip(values, Noise.of([draw]))
        np.testing.assert_array_equal(out, values)


def test_encoding_what_was_decoded_moves_no_value_by_a_step():
    values = np.random.default_rng(1).normal(size=5000).astype(np.float32)
    once, _ = roundtrip(values, np.random.default_rng(2))
    again, scales = roundtrip(once.astype(np.float32), np.random.default_rng(3))
    assert np.mean(np.abs(again - once) > scales * 2.0**-10) < 1e-3


def test_a_block_of_zeros_has_scale_zero_and_does_not_touch_its_neighbours():
    values = np.ones(24, np.float32)
    values[8:16] = 0
    made = Int8(8)
    parts = made.encode(values, np.random.default_rng(0))
    assert parts["scales"].tolist() == [parts["scales"][0], 0, parts["scales"][0]]
    assert not parts["codes"][8:16].any()
    np.testing.assert_allclose(roundtrip(values, np.random.default_rng(0), 8)[0], values, rtol=1e-6)


def test_nothing_is_encoded_as_nothing():
    parts = Int8().encode(np.empty(0, np.float32), np.random.default_rng(0))
    assert {name: part.size for name, part in parts.items()} == {"codes": 0, "scales": 0}


def test_a_large_outlier_costs_precision_in_its_own_block_only():
    values = np.full(512, 0.01, np.float32)
    values[3] = 1000
    out, _ = roundtrip(values, np.random.default_rng(0))
    assert np.abs(out[256:] - 0.01).max() < 1e-4


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 3.4e38])
@pytest.mark.parametrize("position", [0, 69999])
def test_what_has_no_scale_is_refused_with_its_place(dtype, bad, position):
    values = np.ones(70000, dtype)
    values[position] = bad
    with pytest.raises(UpdateError) as caught:
        Int8().encode(values, np.random.default_rng(0))
    assert caught.value.reason == "NotFinite"
    start = position // 256 * 256
    assert f"among values {start} to {min(start + 256, 70000)}" in caught.value.message


@pytest.mark.parametrize("scale", [np.nan, np.inf, -np.inf, 3e38])
def test_a_scale_that_nobody_encodes_decodes_to_values_that_the_gate_refuses(scale):
    parts = {"codes": np.full(20, -128, np.int8), "scales": np.array([1, scale, 1], np.float32)}
    out = np.empty(20, np.float32)
    Int8(8).decode(ArrayParts(parts), 20, 0, 20, out)
    assert np.flatnonzero(~np.isfinite(out)).tolist() == list(range(8, 16))


def test_a_value_takes_a_byte_and_a_part_of_a_scale():
    parts = Int8().encode(np.ones(256_000, np.float32), np.random.default_rng(0))
    assert sum(part.nbytes for part in parts.values()) == 256_000 + 4 * 1000
