"""Rounding to the common grid: unbiased, bounded, sums that fit, integers exact."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedloom.algorithms.layout import TensorSpec, accumulator_dtype
from fedloom.algorithms.privacy.integer_grid import RINGS, GridLayout, GridRule, fit_update
from fedloom.errors import UpdateError

FLOATS = ("<f2", "<f4", "<f8")


def rng(seed=3):
    return np.random.default_rng(seed)


def spec(dtype, *shape):
    return TensorSpec(shape, np.dtype(dtype))


@given(
    st.sampled_from(["none", "int8"]), st.sampled_from(FLOATS), st.integers(1, 5000), st.integers(0)
)
def test_the_sum_of_as_many_clients_as_there_may_be_fits_the_ring(codec, dtype, clients, seed):
    grid = GridRule(codec, 2.0, clients).grid_of(np.dtype(dtype))
    values = np.array([2.0, -2.0, 7.0, -7.0, 0.0])
    codes, beyond = grid.round(values, rng(seed))
    assert np.abs(codes).max() == grid.levels
    assert beyond == 2
    bits = 8 * grid.ring.itemsize
    assert int(codes[0]) * clients < 2 ** (bits - 1)


@given(st.sampled_from(["none", "int8"]), st.sampled_from(FLOATS), st.floats(1e-6, 1e6))
def test_a_value_comes_back_within_one_step(codec, dtype, largest):
    grid = GridRule(codec, largest, 10).grid_of(np.dtype(dtype))
    values = rng().uniform(-largest, largest, 200)
    codes, beyond = grid.round(values, rng())
    found = grid.mean(codes.astype(grid.ring), 1)
    assert beyond == 0
    assert np.abs(found - values).max() <= grid.step + largest * 2**-50  # float64 itself


def test_the_rounding_is_unbiased():
    grid = GridRule("int8", 1.0, 5).grid_of(np.dtype(np.float32))
    values = np.repeat([0.1234, -0.5, 0.00001, 0.999], 40_000)
    codes, _ = grid.round(values, rng())
    means = (codes * grid.step).reshape(4, -1).mean(axis=1)
    deviation = grid.step / 2 / np.sqrt(40_000)
    assert np.abs(means - values.reshape(4, -1)[:, 0]).max() < 4.5 * deviation


def test_int8_takes_two_bytes_while_the_sum_fits():
    assert GridRule("int8", 1.0, 258).grid_of(np.dtype("f4")).ring == RINGS[0]
    assert GridRule("int8", 1.0, 259).grid_of(np.dtype("f4")).ring == RINGS[1]
    assert GridRule("none", 1.0, 3).grid_of(np.dtype("f4")).ring == RINGS[1]
    assert GridRule("int8", 1.0, 3).grid_of(np.dtype("f8")).ring == RINGS[2]


@given(st.lists(st.integers(-(2**52), 2**52), min_size=1, max_size=9))
def test_integers_are_summed_exactly(values):
    grid = GridRule("none", 1e-9, len(values)).grid_of(np.dtype(np.int64))
    total = np.zeros(1, grid.ring)
    for value in values:
        total += grid.exact(np.array([float(value)])).astype(grid.ring)
    assert int(total.view(np.int64)[0]) == sum(values)


def test_an_integer_that_does_not_fit_is_refused():
    grid = GridRule("none", 1.0, 3).grid_of(np.dtype(np.int64))
    with pytest.raises(UpdateError, match="expected at most 9007199254740992"):
        grid.exact(np.array([2.0**54]))


def layout_of(rule):
    layout = {
        "b": spec("<f8", 3),
        "a": spec("<f4", 2, 2),
        "count": spec("<i8"),
        "empty": spec("<f4", 0),
        "half": spec("<f2", 5),
        "flag": spec("?", 2),
    }
    return layout, GridLayout(layout, rule)


def deltas_of(layout, seed=1):
    generator = rng(seed)
    return {
        name: np.round(generator.normal(size=each.shape) * 10).astype(accumulator_dtype(each.dtype))
        if each.dtype.kind in "bi"
        else generator.normal(size=each.shape).astype(accumulator_dtype(each.dtype))
        for name, each in layout.items()
    }


def values_of(found, grid, name):
    segment = grid.segments[name]
    codes = found.arrays[segment.grid.ring][segment.start : segment.start + segment.size]
    return segment.grid.mean(codes, 1)


def test_every_tensor_has_its_place_and_the_counts_come_last():
    layout, grid = layout_of(GridRule("int8", 8.0, 10))
    deltas = deltas_of(layout)
    found = fit_update(deltas, grid, None, False, rng())
    assert {ring.str[1:]: size for ring, size in grid.sizes.items()} == {"u2": 9, "u8": 8}
    for name, delta in deltas.items():
        step = grid.segments[name].grid.step if layout[name].dtype.kind == "f" else 0
        assert np.abs(values_of(found, grid, name) - delta.reshape(-1)).max(initial=0) <= step
    assert found.arrays[RINGS[2]][-2:].tolist() == [0, 0]
    assert [grid.offset_bytes(ring) for ring in grid.sizes] == [0, 32]


def test_values_beyond_the_grid_and_shortened_updates_are_counted():
    layout, grid = layout_of(GridRule("none", 0.5, 10))
    deltas = deltas_of(layout)
    large = sum(np.count_nonzero(np.abs(deltas[n]) > 0.5) for n in ("a", "b", "half"))
    found = fit_update(deltas, grid, 100.0, False, rng())
    assert found.arrays[RINGS[2]][-2:].tolist() == [large, 0]
    found = fit_update(deltas, grid, 0.25, False, rng())
    assert found.arrays[RINGS[2]][-2:].tolist() == [0, 1]


@given(st.sampled_from(["none", "int8"]), st.floats(1e-3, 100), st.integers(0, 2**32))
def test_clipping_keeps_the_direction_and_leaves_integers_alone(codec, clip_norm, seed):
    layout, grid = layout_of(GridRule(codec, clip_norm, 10))
    deltas = deltas_of(layout, seed)
    found = fit_update(deltas, grid, clip_norm, False, rng())
    floats = [name for name, each in layout.items() if each.dtype.kind == "f"]
    norm = np.sqrt(sum(np.square(deltas[n].astype(float)).sum() for n in floats))
    scale = min(1.0, clip_norm / norm)
    for name in floats:
        step = grid.segments[name].grid.step
        error = values_of(found, grid, name) - scale * deltas[name].reshape(-1)
        assert np.abs(error).max(initial=0) <= step * (1 + 1e-6)
    assert values_of(found, grid, "count")[0] == deltas["count"]


@given(st.sampled_from(["none", "int8"]), st.integers(1, 3000), st.integers(0, 2**32))
def test_a_bounded_update_is_within_its_norm_however_coarse_the_grid(codec, size, seed):
    layout = {"w": spec("<f4", size)}
    grid = GridLayout(layout, GridRule(codec, 1.0, 10))
    deltas = {"w": rng(seed).normal(size=size).astype(np.float32)}
    found = fit_update(deltas, grid, 1.0, True, rng(seed))
    values = values_of(found, grid, "w")
    assert np.sqrt(np.square(values).sum()) <= 1.0
    if codec == "none" and np.abs(deltas["w"]).max() > 1e-3:
        cosine = values @ deltas["w"] / np.linalg.norm(values) / np.linalg.norm(deltas["w"])
        assert cosine > 0.999


def test_an_update_of_nothing_stays_nothing():
    layout, grid = layout_of(GridRule("none", 1.0, 3))
    deltas = {name: np.zeros_like(delta) for name, delta in deltas_of(layout).items()}
    found = fit_update(deltas, grid, 1.0, True, rng())
    assert not any(array.any() for array in found.arrays.values())
