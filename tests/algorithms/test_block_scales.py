"""Stochastic rounding to 8 and to 4 bits: unbiased, bounded, and its edges."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fedloom.algorithms.compression.int4 import Int4
from fedloom.algorithms.compression.int8 import Int8
from fedloom.algorithms.compression.protocol import ArrayParts
from fedloom.algorithms.layout import layout_of
from fedloom.errors import UpdateError

Quantiser = type[Int8] | type[Int4]
LEVELS: dict[Quantiser, int] = {Int8: 127, Int4: 7}
# The largest magnitudes that have a scale, for either: 7/8 and 127/128 of float32's largest.
LARGEST = float(np.float32(np.finfo(np.float32).max / 8 * 7))
LARGEST_OF = {Int8: float(np.float32(np.finfo(np.float32).max / 128 * 127)), Int4: LARGEST}
SLACK = 1 + 2.0**-16
both = pytest.mark.parametrize("kind", LEVELS)

small = settings(derandomize=True, deadline=None, max_examples=150)
float32_values = hnp.arrays(
    np.float32,
    st.integers(0, 40),
    elements=st.floats(-LARGEST, LARGEST, width=32)
    | st.floats(-10, 10, width=32)
    | st.sampled_from([0.0, -0.0, 127.0, -127.0, 7.0, 1e-45, -1e-45, LARGEST, -LARGEST]),
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
    kind: Quantiser, values: np.ndarray, rng: np.random.Generator, block_size: int = 256
) -> tuple[np.ndarray, np.ndarray]:
    """Give the decoded values and the scale of each, both in float64."""
    made = kind(block_size)
    parts = made.encode(values, rng)
    made.check(layout_of(parts), (values.size,))
    out = np.empty(values.size, np.float64)
    made.decode(ArrayParts(parts), (values.size,), 0, values.size, out)
    scales = np.repeat(parts["scales"].astype(np.float64), block_size)[: values.size]
    return out, scales


@both
@small
@given(float32_values, st.integers(1, 17), st.integers(0, 2**32))
def test_no_value_moves_by_more_than_its_scale(kind, values, block_size, seed):
    out, scales = roundtrip(kind, values, np.random.default_rng(seed), block_size)
    assert np.all(np.abs(values - out) <= scales * SLACK)


@both
@small
@given(float32_values, st.integers(1, 17), st.sampled_from([0, 65535]))
def test_no_value_moves_by_more_than_its_scale_under_extreme_noise(kind, values, block_size, draw):
    out, scales = roundtrip(kind, values, Noise.of([draw]), block_size)
    assert np.all(np.abs(values - out) <= scales * SLACK)


@both
@small
@given(
    hnp.arrays(np.float64, st.integers(0, 40), elements=st.floats(-1e30, 1e30)),
    st.integers(0, 2**32),
)
def test_float64_is_bounded_too(kind, values, seed):
    out, scales = roundtrip(kind, values, np.random.default_rng(seed), 8)
    assert np.all(np.abs(values - out) <= scales * SLACK + 1e-45)


@both
@small
@given(hnp.arrays(np.float16, st.integers(0, 40), elements=st.floats(-65504, 65504, width=16)))
def test_float16_is_bounded_too(kind, values):
    out, scales = roundtrip(kind, values, np.random.default_rng(0), 8)
    assert np.all(np.abs(values.astype(np.float64) - out) <= scales * SLACK)


@both
def test_float32_output_is_bounded_too_and_finite_at_the_largest_magnitude(kind):
    largest = LARGEST_OF[kind]
    values = np.array([largest, -largest, largest / 3], np.float32)
    made = kind(4)
    out = np.empty(3, np.float32)
    parts = made.encode(values, np.random.default_rng(0))
    made.decode(ArrayParts(parts), (3,), 0, 3, out)
    assert np.isfinite(out).all()
    difference = np.abs(out.astype(np.float64) - values)
    assert np.all(difference <= float(parts["scales"][0]) * SLACK)


@both
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_the_expected_decoded_value_is_the_value(kind, dtype):
    draws = 4000
    values = np.random.default_rng(7).normal(0, 2, 256).astype(dtype)
    out, scales = roundtrip(kind, np.tile(values, draws), np.random.default_rng(8), 256)
    mean = out.reshape(draws, 256).mean(axis=0)
    deviation = scales[0] / 2 / np.sqrt(draws)
    assert np.abs(mean - values.astype(np.float64)).max() < 5 * deviation


@both
@pytest.mark.parametrize("value", [0.3, 3.3, -3.3, 1e-6, -1e-6, 6.9999, 63.999, 126.99999, -126.5])
def test_over_all_noise_the_bias_is_within_its_bound(kind, value):
    value = np.clip(value, -LEVELS[kind] + 0.5, LEVELS[kind] - 1e-5)
    values = np.full(65537, value, np.float32)
    values[0] = LEVELS[kind]
    out, scales = roundtrip(kind, values, Noise.of(np.roll(np.arange(65536), 1)), 65537)
    assert scales[0] == 1
    bias = out[1:].mean() - float(values[1])
    assert abs(bias) <= 2.0**-17 + 2.0**-24 * abs(value)


@both
def test_multiples_of_the_scale_are_exact_whatever_the_noise(kind):
    values = np.arange(-LEVELS[kind], LEVELS[kind] + 1, dtype=np.float32) * np.float32(0.25)
    for draw in (0, 1, 32767, 32768, 65535):
        out, _ = roundtrip(kind, values, Noise.of([draw]))
        np.testing.assert_array_equal(out, values)


@both
def test_encoding_what_was_decoded_moves_no_value_by_a_step(kind):
    values = np.random.default_rng(1).normal(size=5000).astype(np.float32)
    once, _ = roundtrip(kind, values, np.random.default_rng(2))
    again, scales = roundtrip(kind, once.astype(np.float32), np.random.default_rng(3))
    assert np.mean(np.abs(again - once) > scales * 2.0**-10) < 1e-3


@both
def test_a_block_of_zeros_has_scale_zero_and_does_not_touch_its_neighbours(kind):
    values = np.ones(24, np.float32)
    values[8:16] = 0
    made = kind(8)
    parts = made.encode(values, np.random.default_rng(0))
    assert parts["scales"].tolist() == [parts["scales"][0], 0, parts["scales"][0]]
    out, _ = roundtrip(kind, values, np.random.default_rng(0), 8)
    assert not out[8:16].any()
    np.testing.assert_allclose(out, values, rtol=1e-6)


@both
def test_nothing_is_encoded_as_nothing(kind):
    parts = kind().encode(np.empty(0, np.float32), np.random.default_rng(0))
    assert {name: part.size for name, part in parts.items()} == {"codes": 0, "scales": 0}


@both
def test_a_large_outlier_costs_precision_in_its_own_block_only(kind):
    values = np.full(512, 0.01, np.float32)
    values[3] = 1000
    out, _ = roundtrip(kind, values, np.random.default_rng(0))
    assert np.abs(out[256:] - 0.01).max() < 1e-6


@both
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 3.4e38])
@pytest.mark.parametrize("position", [0, 69999])
def test_what_has_no_scale_is_refused_with_its_place(kind, dtype, bad, position):
    values = np.ones(70000, dtype)
    values[position] = bad
    with pytest.raises(UpdateError) as caught:
        kind().encode(values, np.random.default_rng(0))
    assert caught.value.reason == "NotFinite"
    block_size = kind().block_size
    start = position // block_size * block_size
    stop = min(start + block_size, 70000)
    assert f"{kind.name!r}: got magnitude" in caught.value.message
    assert f"among values {start} to {stop}, expected at most" in caught.value.message


@both
@pytest.mark.parametrize("scale", [np.nan, np.inf, -np.inf, 3e38])
def test_a_scale_that_nobody_encodes_decodes_to_values_that_the_gate_refuses(kind, scale):
    lowest = {Int8: np.full(20, -128, np.int8), Int4: np.full(10, 0x88, np.uint8)}[kind]
    parts = {"codes": lowest, "scales": np.array([1, scale, 1], np.float32)}
    out = np.empty(20, np.float32)
    kind(8).decode(ArrayParts(parts), (20,), 0, 20, out)
    assert np.flatnonzero(~np.isfinite(out)).tolist() == list(range(8, 16))


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        (Int8(), 256_000 + 4 * 1000),
        (Int8(32), 256_000 + 4 * 8000),
        (Int4(), 128_000 + 4 * 8000),
        (Int4(256), 128_000 + 4 * 1000),
    ],
    ids=repr,
)
def test_values_take_their_bits_and_a_part_of_a_scale(made, expected):
    parts = made.encode(np.ones(256_000, np.float32), np.random.default_rng(0))
    assert sum(part.nbytes for part in parts.values()) == expected
