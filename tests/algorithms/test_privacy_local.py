"""Local noise: the right scale, unbiased, and no more epsilon than it says, counted."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedloom.algorithms.privacy.gaussian import gaussian_delta, gaussian_epsilon
from fedloom.algorithms.privacy.local import (
    LocalMechanism,
    add_laplace,
    l1_norm,
    l2_norm,
    randomize_response,
    response_tilt,
)
from fedloom.errors import JobError

NAMES = ("gaussian", "laplace", "randomized-response")


def mechanism(name, epsilon, clip=1.0):
    return LocalMechanism(name, epsilon, clip, 1e-5 if name == "gaussian" else 0.0)


def zeros(size=400_000):
    return {"w": np.zeros(size, np.float32)}


@pytest.mark.parametrize("epsilon", [0.5, 3.0, 20.0])
def test_gaussian_noise_has_a_standard_deviation_that_gives_the_epsilon(epsilon):
    clip = 0.7
    noise = mechanism("gaussian", epsilon, clip).apply(zeros())["w"]
    assert abs(noise.mean()) < 6 * noise.std() / math.sqrt(noise.size)
    # Any two updates are up to 2 clip apart: what was measured gives this epsilon for that.
    assert gaussian_delta(epsilon, noise.std() / (2 * clip)) == pytest.approx(1e-5, rel=0.2)


def test_the_variance_is_never_taken_for_the_standard_deviation():
    # A published implementation passes 2 ln(1.25 / delta) s^2 / epsilon^2, a variance, as a scale.
    epsilon, clip = 0.5, 1.0
    classical = math.sqrt(2 * math.log(1.25 / 1e-5)) * 2 * clip / epsilon
    noise = mechanism("gaussian", epsilon, clip).apply(zeros())["w"]
    assert 0.5 * classical < noise.std() < classical
    assert noise.std() < 0.2 * classical**2


@pytest.mark.parametrize("epsilon", [0.5, 3.0, 20.0])
def test_laplace_noise_has_the_scale_of_twice_the_clip_over_epsilon(epsilon):
    noise = mechanism("laplace", epsilon, 0.7).apply(zeros())["w"]
    assert np.abs(noise).mean() == pytest.approx(2 * 0.7 / epsilon, rel=0.01)
    assert noise.var() == pytest.approx(2 * (2 * 0.7 / epsilon) ** 2, rel=0.03)


@pytest.mark.parametrize(
    ("name", "norm"), [("gaussian", l2_norm), ("laplace", l1_norm)], ids=["L2", "L1"]
)
def test_an_update_is_scaled_down_as_a_whole_before_the_noise(name, norm):
    update = {"a": np.array([30.0, -40.0]), "b": np.full(3, 20.0)}
    noised = mechanism(name, 1e6, clip=2.0).apply(update)  # next to no noise
    factor = 2.0 / norm(update)
    for key, value in update.items():
        np.testing.assert_allclose(noised[key], value * factor, atol=0.02)
    small = {"a": np.array([0.1, 0.1])}
    np.testing.assert_allclose(mechanism(name, 1e6).apply(small)["a"], 0.1, atol=0.02)


@given(st.floats(0.1, 8.0), st.floats(-3.0, 3.0))
def test_a_randomized_response_is_unbiased_about_the_clipped_value(epsilon, value):
    values = np.full(200_000, value)
    randomize_response(values, 2.0, epsilon)
    large = 2.0 / response_tilt(epsilon)
    assert set(np.unique(values)) <= {-large, large}
    error = 5 * large / math.sqrt(values.size)
    assert abs(values.mean() - np.clip(value, -2, 2)) < error


@pytest.mark.parametrize("epsilon", [0.5, 1.0, 2.0])
def test_the_empirical_epsilon_of_a_response_by_counting_is_the_promised_one(epsilon):
    answers = {}
    for value in (-1.0, 1.0):
        values = np.full(2_000_000, value)
        randomize_response(values, 1.0, epsilon)
        answers[value] = (values > 0).mean()
    for answer in (answers, {value: 1 - share for value, share in answers.items()}):
        measured = abs(math.log(answer[1.0] / answer[-1.0]))
        assert measured == pytest.approx(epsilon, abs=0.02)
    # Values in between tell less.
    values = np.full(2_000_000, 0.2)
    randomize_response(values, 1.0, epsilon)
    assert abs(math.log((values > 0).mean() / answers[-1.0])) < epsilon


@pytest.mark.parametrize("epsilon", [0.5, 2.0])
def test_the_empirical_epsilon_of_laplace_by_counting_is_the_promised_one(epsilon):
    draws = []
    for value in (-1.0, 1.0):  # the two updates of one value that are the furthest apart
        draws.append(np.full(1_000_000, value))
        add_laplace(draws[-1], 2.0 / epsilon)
    for edge in (-1.0, 1.0):  # above the one and below the other, the ratio is at its most
        below = [(values < edge).mean() for values in draws]
        shares = below if edge < 0 else [1 - share for share in below]
        assert abs(math.log(shares[0] / shares[1])) == pytest.approx(epsilon, abs=0.03)
    between = [(values < 0.0).mean() for values in draws]
    assert abs(math.log(between[0] / between[1])) < epsilon


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("epsilon", [1e-3, 1.0, 30.0, 700.0, 1e6])
def test_any_epsilon_gives_finite_numbers_of_the_same_shapes_and_dtypes(name, epsilon):
    update = {
        "w": np.ones((3, 2), np.float32),
        "wide": np.array(-2.0),
        "half": np.ones(2, np.float16) / 4,
        "empty": np.zeros((0, 4), np.float32),
    }
    before = {key: value.copy() for key, value in update.items()}
    out = mechanism(name, epsilon, clip=0.01).apply(update)
    for key, value in update.items():
        np.testing.assert_array_equal(value, before[key])
        assert (out[key].shape, out[key].dtype) == (value.shape, value.dtype)
        assert np.isfinite(out[key]).all()


@pytest.mark.parametrize("name", NAMES)
def test_every_call_is_a_new_draw(name):
    update = {"w": np.zeros(100)}
    first, again = (mechanism(name, 1.0).apply(update)["w"] for _ in range(2))
    assert (first != again).any()


@pytest.mark.parametrize("name", NAMES)
def test_the_result_does_not_depend_on_how_the_mapping_was_built_or_laid_out(name):
    a, b = np.arange(6.0).reshape(2, 3), np.arange(4.0)

    def applied(update):
        return mechanism(name, 1.0).apply(update, np.random.default_rng(1).bytes)

    first, other = applied({"a": a, "b": b}), applied({"b": b, "a": np.asfortranarray(a)})
    for key in ("a", "b"):
        np.testing.assert_array_equal(first[key], other[key])


def test_the_composed_epsilon_is_told_as_it_is():
    assert mechanism("laplace", 2.0).composed_epsilon(10, 1000) == 20.0
    assert mechanism("randomized-response", 0.5).composed_epsilon(10, 1000) == 5000.0
    gaussian = mechanism("gaussian", 2.0)
    assert gaussian.composed_epsilon(1, 1000) == pytest.approx(2.0, rel=1e-6)
    ten = gaussian.composed_epsilon(10, 1000)
    assert 2.0 < ten < 20.0
    assert ten == pytest.approx(gaussian_epsilon(gaussian.noise_multiplier / math.sqrt(10), 1e-5))
    assert [mechanism(name, 2.0).composed_epsilon(0, 1000) for name in NAMES] == [0, 0, 0]


@pytest.mark.parametrize(
    ("values", "field"),
    [
        (("exponential", 1.0, 1.0, 0.0), "mechanism"),
        (("laplace", 0.0, 1.0, 0.0), "epsilon"),
        (("laplace", math.inf, 1.0, 0.0), "epsilon"),
        (("laplace", math.nan, 1.0, 0.0), "epsilon"),
        (("laplace", 1.0, -1.0, 0.0), "clip"),
        (("gaussian", 1.0, 1.0, 0.0), "delta"),
        (("gaussian", 1.0, 1.0, 1.0), "delta"),
    ],
)
def test_parameters_that_make_no_sense_are_refused(values, field):
    with pytest.raises(JobError, match=field) as error:
        LocalMechanism(*values)
    assert error.value.reason == "InvalidParameter"
