"""Stochastic rounding to 16 bits: exactly unbiased, bounded, and its edges."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fedloom.algorithms.compression.bf16 import BFloat16
from fedloom.algorithms.compression.protocol import ArrayParts
from fedloom.algorithms.layout import layout_of
from fedloom.errors import UpdateError

LARGEST = float(np.array([0x7F7F0000], np.uint32).view(np.float32)[0])
SMALLEST_GAP = 2.0**-133

small = settings(derandomize=True, deadline=None, max_examples=150)
float32_values = hnp.arrays(
    np.float32,
    st.integers(0, 40),
    elements=st.floats(-LARGEST, LARGEST, width=32)
    | st.floats(-10, 10, width=32)
    | st.sampled_from([0.0, -0.0, 1e-45, -1e-45, 1.1754944e-38, LARGEST, -LARGEST]),
)


class Noise:
    """A generator that draws the given numbers over and over."""

    def __init__(self, draws: Any) -> None:
        self._draws = np.asarray(draws, np.uint16)

    def integers(self, low: int, high: int, size: int, dtype: type) -> np.ndarray:
        assert (low, high, dtype) == (0, 65536, np.uint16)
        taken, self._draws = self._draws[:size], np.roll(self._draws, -size)
        return np.resize(taken, size)

    @classmethod
    def of(cls, draws: Any) -> np.random.Generator:
        return cast("np.random.Generator", cls(draws))


def roundtrip(values: np.ndarray, rng: np.random.Generator, dtype: type = np.float64) -> np.ndarray:
    made = BFloat16()
    parts = made.encode(values, rng)
    made.check(layout_of(parts), (values.size,))
    out = np.empty(values.size, dtype)
    made.decode(ArrayParts(parts), (values.size,), 0, values.size, out)
    return out


def bound(values: np.ndarray) -> np.ndarray:
    return np.maximum(np.abs(values.astype(np.float64)) * 2.0**-7, SMALLEST_GAP)


@small
@given(float32_values, st.integers(0, 2**32))
def test_no_value_moves_by_more_than_its_bound(values, seed):
    out = roundtrip(values, np.random.default_rng(seed))
    assert np.all(np.abs(values - out) < bound(values))


@small
@given(float32_values, st.sampled_from([0, 65535]))
def test_no_value_moves_by_more_than_its_bound_under_extreme_noise(values, draw):
    out = roundtrip(values, Noise.of([draw]))
    assert np.isfinite(out).all()
    assert np.all(np.abs(values - out) < bound(values))


@small
@given(
    hnp.arrays(np.float64, st.integers(0, 40), elements=st.floats(-1e38, 1e38)),
    st.integers(0, 2**32),
)
def test_float64_is_bounded_too(values, seed):
    out = roundtrip(values, np.random.default_rng(seed))
    assert np.all(np.abs(values - out) <= bound(values) * (1 + 2.0**-16))


@small
@given(hnp.arrays(np.float16, st.integers(0, 40), elements=st.floats(-65504, 65504, width=16)))
def test_float16_is_bounded_too(values):
    out = roundtrip(values, np.random.default_rng(0))
    assert np.all(np.abs(values.astype(np.float64) - out) < bound(values))


@pytest.mark.parametrize(
    "value", [0.3, -0.3, 1.0, 1.9999999, -3.3, 65535.7, 1e-39, -1e-45, 3.3e38, LARGEST]
)
def test_over_all_noise_the_expected_value_is_the_value_exactly(value):
    values = np.full(65536, value, np.float32)
    out = roundtrip(values, Noise.of(np.arange(65536)))
    assert len(set(out.tolist())) <= 2
    lower, upper = out.min(), out.max()
    rounded_up = int(np.count_nonzero(out == upper)) if upper > lower else 0
    assert lower + (upper - lower) * (rounded_up / 65536) == float(values[0])


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_the_mean_of_many_draws_is_the_value(dtype):
    draws = 4000
    values = np.random.default_rng(7).normal(0, 2, 256).astype(dtype)
    out = roundtrip(np.tile(values, draws), np.random.default_rng(8))
    mean = out.reshape(draws, 256).mean(axis=0)
    deviation = bound(values) / 2 / np.sqrt(draws)
    assert np.all(np.abs(mean - values.astype(np.float64)) < 5 * deviation)


@small
@given(float32_values, st.integers(0, 2**32), st.integers(0, 65535))
def test_encoding_what_was_decoded_changes_nothing(values, seed, draw):
    once = roundtrip(values, np.random.default_rng(seed), np.float32)
    assert roundtrip(once, Noise.of([draw]), np.float32).tobytes() == once.tobytes()


def test_every_pattern_of_bits_is_decoded_to_the_upper_half_of_a_float32():
    bits = np.arange(65536).astype(np.uint16)
    expected = (bits.astype(np.uint32) << 16).view(np.float32)
    narrow, wide = np.empty(65536, np.float32), np.empty(65536, np.float64)
    for out in (narrow, wide):
        BFloat16().decode(ArrayParts({"bits": bits}), (65536,), 0, 65536, out)
    assert narrow.tobytes() == expected.tobytes()
    finite = np.isfinite(expected)
    assert np.array_equal(np.isfinite(wide), finite)
    assert np.array_equal(wide[finite], expected[finite])


def test_nothing_is_encoded_as_nothing():
    parts = BFloat16().encode(np.empty(0, np.float32), np.random.default_rng(0))
    assert {name: part.shape for name, part in parts.items()} == {"bits": (0,)}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 3.4e38])
@pytest.mark.parametrize("position", [0, 69999])
def test_what_could_become_infinite_is_refused_with_its_place(dtype, bad, position):
    values = np.ones(70000, dtype)
    values[position] = bad
    with pytest.raises(UpdateError, match=f"at flat index {position}, expected at most") as caught:
        BFloat16().encode(values, np.random.default_rng(0))
    assert caught.value.reason == "NotFinite"


def test_a_value_takes_two_bytes():
    parts = BFloat16().encode(np.ones(1001, np.float32), np.random.default_rng(0))
    assert sum(part.nbytes for part in parts.values()) == 2002
