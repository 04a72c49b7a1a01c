"""The noise is what it says: its moments, its distribution, its source, its grid."""

from __future__ import annotations

import math

import numpy as np
import pytest

from fedloom.algorithms.privacy.noise import (
    add_gaussian,
    laplace,
    snap,
    standard_normal,
    uniform,
)

DRAWS = 1_000_000


def numbered_bytes(seed):
    """An entropy source that repeats itself, for tests alone."""
    return np.random.default_rng(seed).bytes


def kolmogorov_smirnov(values, distribution):
    """The largest distance between the empirical distribution and the claimed one."""
    ordered = np.sort(values)
    claimed = distribution(ordered)
    steps = np.arange(len(ordered) + 1) / len(ordered)
    return max(np.abs(claimed - steps[1:]).max(), np.abs(claimed - steps[:-1]).max())


def normal_distribution(x):
    return np.array([0.5 * math.erfc(-each / math.sqrt(2)) for each in x])


def laplace_distribution(x):
    return np.where(x < 0, 0.5 * np.exp(np.minimum(x, 0)), 1 - 0.5 * np.exp(-np.maximum(x, 0)))


def test_normal_numbers_have_mean_0_variance_1_and_the_fourth_moment_of_a_normal():
    x = standard_normal(DRAWS)
    assert abs(x.mean()) < 0.006  # 6 standard errors
    assert abs(x.var() - 1) < 0.01
    assert abs((x**4).mean() - 3) < 0.06
    assert abs((x**3).mean()) < 0.025


def test_laplace_numbers_have_variance_2():
    x = laplace(DRAWS)
    assert abs(x.mean()) < 0.01
    assert abs(x.var() - 2) < 0.03


def test_uniform_numbers_lie_in_the_unit_interval_and_fill_it():
    x = uniform(DRAWS)
    assert x.min() >= 0
    assert x.max() < 1
    assert abs(x.mean() - 0.5) < 0.002
    assert kolmogorov_smirnov(x[:100_000], lambda values: values) < 0.0073


@pytest.mark.parametrize(
    ("draw", "distribution"),
    [(standard_normal, normal_distribution), (laplace, laplace_distribution)],
    ids=["normal", "laplace"],
)
def test_the_distribution_is_the_claimed_one_by_kolmogorov_and_smirnov(draw, distribution):
    # Passed by the claimed distribution with a chance of 1 - 5e-5: the bound is 2.3 / sqrt(n).
    assert kolmogorov_smirnov(draw(100_000), distribution) < 0.0073


def test_neighbours_in_a_draw_are_uncorrelated_whatever_their_place_in_a_block():
    x = standard_normal(400_000)
    for distance in (1, 32768, 65536):  # pairs of Box-Muller lie half a block apart
        assert abs((x[:-distance] * x[distance:]).mean()) < 0.01
        assert abs((x[:-distance] ** 2 * x[distance:] ** 2).mean() - 1) < 0.03


@pytest.mark.parametrize("size", [0, 1, 2, 65535, 65536, 65537])
def test_any_number_of_draws_is_given(size):
    assert standard_normal(size).shape == laplace(size).shape == uniform(size).shape == (size,)


def test_two_draws_differ_and_only_an_injected_source_repeats():
    assert (standard_normal(100) != standard_normal(100)).all()
    first, again = (standard_normal(100, numbered_bytes(1)) for _ in range(2))
    np.testing.assert_array_equal(first, again)


@pytest.mark.parametrize("byte", [b"\x00", b"\xff"])
def test_the_most_extreme_bits_give_finite_numbers(byte):
    def extreme(size):
        return byte * size

    assert np.isfinite(standard_normal(3, extreme)).all()
    assert np.isfinite(laplace(3, extreme)).all()
    assert uniform(3, extreme).max() < 1
    assert abs(standard_normal(1, lambda size: b"\x00" * size)[0]) > 9.4  # the end of the tail


def test_noise_is_added_with_a_standard_deviation_and_none_without():
    values = np.full(200_000, 5.0)
    add_gaussian(values, 0.25)
    assert abs(values.mean() - 5) < 0.003
    assert abs(values.std() / 0.25 - 1) < 0.01
    still = np.array([1.1, 2.2])
    add_gaussian(still, 0.0)
    np.testing.assert_array_equal(still, [1.1, 2.2])


@pytest.mark.parametrize("deviation", [1e-30, 3e-5, 1.0, 7.0, 1e12])
def test_noised_values_lie_on_a_grid_far_below_the_noise(deviation):
    values = np.linspace(-1, 1, 1000) * deviation
    add_gaussian(values, deviation)
    grid = 2.0 ** (math.floor(math.log2(deviation)) - 20)
    assert deviation / 2**21 <= grid <= deviation / 2**20
    np.testing.assert_array_equal(values / grid, np.rint(values / grid))


def test_values_beyond_the_grid_are_left_as_they_are():
    values = np.array([1e300, -1e300, 3.0])
    snap(values, 1e-300)
    np.testing.assert_array_equal(values, [1e300, -1e300, 3.0])
