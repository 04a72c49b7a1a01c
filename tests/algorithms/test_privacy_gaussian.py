"""The Gaussian mechanism: delta and epsilon by Balle and Wang, against its own definition."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedloom.algorithms.privacy.gaussian import (
    gaussian_delta,
    gaussian_epsilon,
    gaussian_noise_multiplier,
)


def delta_by_integration(epsilon, noise_multiplier):
    """E over x ~ N(1, s^2) of max(0, 1 - exp(epsilon - loss(x))): the definition, on a grid."""
    s = noise_multiplier
    x = np.linspace(1 - 12 * s, 1 + 12 * s, 400_001)
    density = np.exp(-0.5 * ((x - 1) / s) ** 2) / (s * math.sqrt(2 * math.pi))
    loss = (2 * x - 1) / (2 * s * s)
    integrand = density * np.maximum(0.0, -np.expm1(np.minimum(epsilon - loss, 0.0)))
    return float(integrand.sum() * (x[1] - x[0]))


@pytest.mark.parametrize("noise_multiplier", [0.1, 0.5, 1.0, 3.0, 20.0])
@pytest.mark.parametrize("epsilon", [0.0, 0.1, 1.0, 4.0])
def test_delta_is_what_the_definition_says(epsilon, noise_multiplier):
    expected = delta_by_integration(epsilon, noise_multiplier)
    assert gaussian_delta(epsilon, noise_multiplier) == pytest.approx(expected, rel=1e-6, abs=1e-12)


def test_published_values():
    # Balle and Wang's figure 1 and many implementations: sigma 1 at delta 1e-5 is epsilon 4.377.
    assert gaussian_epsilon(1.0, 1e-5) == pytest.approx(4.377178, abs=1e-6)
    assert gaussian_noise_multiplier(1.0, 1e-5) == pytest.approx(3.730632, abs=1e-6)


@given(st.floats(1e-3, 1e4), st.floats(1e-12, 0.4), st.floats(1.001, 2.0))
def test_more_epsilon_or_delta_needs_less_noise(epsilon, delta, factor):
    noise = gaussian_noise_multiplier(epsilon, delta)
    assert gaussian_noise_multiplier(epsilon * factor, delta) <= noise
    assert gaussian_noise_multiplier(epsilon, min(delta * factor, 0.9)) <= noise
    assert gaussian_delta(epsilon, noise) <= delta * (1 + 1e-9)


@given(st.floats(0.05, 50), st.floats(1e-12, 0.1))
def test_epsilon_and_noise_are_inverse_to_each_other(noise, delta):
    epsilon = gaussian_epsilon(noise, delta)
    if epsilon > 1e-6:
        assert gaussian_noise_multiplier(epsilon, delta) == pytest.approx(noise, rel=1e-6)


@pytest.mark.parametrize("epsilon", [0.2, 0.9, 2.0, 8.0, 50.0])
def test_the_calibration_beats_the_classical_formula_where_that_holds(epsilon):
    delta = 1e-5
    classical = math.sqrt(2 * math.log(1.25 / delta)) / epsilon
    noise = gaussian_noise_multiplier(epsilon, delta)
    if epsilon <= 1:
        assert noise < classical
    assert gaussian_delta(epsilon, noise) == pytest.approx(delta, rel=1e-6)


def test_the_classical_formula_is_not_private_for_a_large_epsilon():
    # Which is why it is not used: at epsilon 50 its noise leaves a larger delta than it claims.
    epsilon, delta = 50.0, 1e-5
    classical = math.sqrt(2 * math.log(1.25 / delta)) / epsilon
    assert gaussian_delta(epsilon, classical) > delta


@pytest.mark.parametrize("releases", [1, 2, 9, 100])
def test_releases_are_one_gaussian_of_less_noise(releases):
    together = gaussian_epsilon(3.0, 1e-5, releases)
    assert together == pytest.approx(gaussian_epsilon(3.0 / math.sqrt(releases), 1e-5), rel=1e-9)
    assert together <= releases * gaussian_epsilon(3.0, 1e-5 / releases) * (1 + 1e-9)


def test_the_ends_of_the_scale():
    assert gaussian_epsilon(0.0, 1e-5) == math.inf
    assert gaussian_epsilon(1.0, 1e-5, 0) == 0.0
    assert gaussian_epsilon(1e9, 1e-5) == 0.0
    assert gaussian_epsilon(1e-3, 1e-5) == pytest.approx(0.5e6, rel=0.01)
    assert gaussian_noise_multiplier(1e6, 1e-5) == pytest.approx(7.07e-4, rel=0.01)
