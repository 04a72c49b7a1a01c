"""FedAdagrad, FedAdam and FedYogi against algorithm 2 of arXiv 2003.00295, written out."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedloom.algorithms.optimizers.adagrad import Adagrad
from fedloom.algorithms.optimizers.adam import Adam
from fedloom.algorithms.optimizers.adaptive import MOMENTUM, SECOND_MOMENT, Adaptive
from fedloom.algorithms.optimizers.casting import to_dtype
from fedloom.algorithms.optimizers.yogi import Yogi

KINDS = [Adagrad, Adam, Yogi]
small = settings(derandomize=True, deadline=None, max_examples=60)
decays = st.floats(0, 0.999)
seeds = st.integers(0, 2**32 - 1)


def start(optimizer: Adaptive, like: np.ndarray) -> dict[str, np.ndarray]:
    return {name: np.full_like(like, value) for name, value in optimizer.slots.items()}


def run(optimizer: Adaptive, model: np.ndarray, deltas: list[np.ndarray]) -> np.ndarray:
    slots = start(optimizer, model)
    for number, delta in enumerate(deltas, 1):
        model, slots = optimizer.apply(model, delta, slots, number)
    return model


def reference(optimizer: Adaptive, x: np.ndarray, deltas: list[np.ndarray]) -> np.ndarray:
    """The paper's algorithm 2, line by line, in float64."""
    beta2 = getattr(optimizer, "beta2", None)
    m, v = 0.0, optimizer.tau**2
    for d in deltas:
        m = optimizer.beta1 * m + (1 - optimizer.beta1) * d
        if isinstance(optimizer, Adagrad):
            v = v + d**2
        elif isinstance(optimizer, Yogi):
            v = v - (1 - beta2) * d**2 * np.sign(v - d**2)
        else:
            v = beta2 * v + (1 - beta2) * d**2
        x = x + optimizer.learning_rate * m / (np.sqrt(v) + optimizer.tau)
    return x


@small
@given(st.sampled_from(KINDS), seeds, st.integers(1, 12), decays, decays, st.floats(-6, 0))
def test_several_rounds_are_those_of_the_paper(kind, seed, rounds, beta1, beta2, exponent):
    only_moving = {} if kind is Adagrad else {"beta2": beta2}
    optimizer = kind(0.05, beta1, 10**exponent, **only_moving)
    rng = np.random.default_rng(seed)
    deltas = list(rng.normal(size=(rounds, 7)) * 10.0 ** rng.integers(-4, 3, size=(rounds, 1)))
    x = rng.normal(size=7)
    expected = reference(optimizer, x, deltas)
    np.testing.assert_allclose(run(optimizer, x, deltas), expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_float32_follows_float64(kind):
    rng = np.random.default_rng(0)
    deltas = list(rng.normal(scale=0.01, size=(20, 500)))
    exact = run(kind(), np.ones(500), deltas)
    single = run(kind(), np.ones(500, np.float32), [d.astype(np.float32) for d in deltas])
    assert single.dtype == np.float32
    np.testing.assert_allclose(single, exact, rtol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_a_float16_tensor_is_stepped_in_float32_and_rounded_once(kind):
    model = np.array([1.0, -2.0, 3e-4], np.float16)
    deltas = [np.array([0.1, -1e-6, 1e-5], np.float32)]
    wide = run(kind(), model.astype(np.float32), deltas)
    rounded = to_dtype(wide, model.dtype)
    assert rounded.dtype == np.float16
    assert np.isfinite(rounded).all()
    np.testing.assert_array_equal(rounded, wide.astype(np.float16))


@pytest.mark.parametrize("beta1", [0.0, 0.9])
@pytest.mark.parametrize("kind", KINDS)
def test_no_update_at_all_leaves_the_model_as_it_is(kind, beta1):
    model = np.random.default_rng(1).normal(size=40).astype(np.float32)
    moved = run(kind(beta1=beta1), model, [np.zeros(40, np.float32)] * 30)
    assert moved.tobytes() == model.tobytes()


@pytest.mark.parametrize("kind", KINDS)
def test_equal_updates_give_equal_steps_along_the_update(kind):
    steps = run(kind(), np.zeros(100, np.float32), [np.full(100, -0.25, np.float32)] * 5)
    assert len(np.unique(steps)) == 1
    assert steps[0] < 0


@small
@given(st.sampled_from(KINDS), seeds, st.floats(-3, 6))
def test_the_scale_of_the_updates_hardly_matters_where_they_are_above_tau(kind, seed, exponent):
    deltas = np.random.default_rng(seed).uniform(0.5, 1, size=(6, 9))
    steps = run(kind(tau=1e-9), np.zeros(9), list(deltas))
    scaled = run(kind(tau=1e-9), np.zeros(9), list(deltas * 10**exponent))
    np.testing.assert_allclose(steps, scaled, rtol=1e-4)


def test_the_first_step_against_a_constant_update_is_what_no_bias_correction_gives():
    for kind in (Adam, Yogi):
        moved, slots = kind(tau=1e-12).apply(
            np.zeros(1), np.ones(1), start(kind(tau=1e-12), np.zeros(1)), 1
        )
        np.testing.assert_allclose(moved, 0.01 * 0.1 / 0.1, rtol=1e-9)
        np.testing.assert_allclose(slots[MOMENTUM], 0.1, rtol=1e-12)


def test_under_a_constant_update_fedadam_reaches_twice_its_rate_and_comes_back():
    positions = [run(Adam(1.0), np.zeros(1), [np.ones(1)] * n)[0] for n in range(600)]
    steps = np.diff(positions)
    assert 2.0 < steps.max() < 2.2
    assert 8 <= steps.argmax() <= 16
    assert abs(steps[-1] - 1) < 0.01


def test_steps_of_fedadagrad_shrink_with_the_root_of_the_round():
    positions = [run(Adagrad(1.0, tau=1e-9), np.zeros(1), [np.ones(1)] * n)[0] for n in range(10)]
    np.testing.assert_allclose(np.diff(positions), 1 / np.sqrt(np.arange(1, 10)), rtol=1e-6)


def test_after_a_large_update_fedyogi_grows_its_steps_back_more_slowly_than_fedadam():
    deltas = [np.array([10.0]), *[np.array([0.1])] * 300]
    moments = {}
    for optimizer in (Adam(), Yogi()):
        slots = start(optimizer, np.zeros(1))
        for delta in deltas:
            _, slots = optimizer.apply(np.zeros(1), delta, slots, 1)
        moments[type(optimizer)] = slots[SECOND_MOMENT][0]
    assert moments[Yogi] > 10 * moments[Adam]


@small
@given(seeds, decays)
def test_the_second_moment_of_fedyogi_never_falls_below_zero(seed, beta2):
    optimizer, rng = Yogi(beta2=beta2), np.random.default_rng(seed)
    slots = start(optimizer, np.zeros(30, np.float32))
    for _ in range(20):
        delta = (rng.normal(size=30) * 10.0 ** rng.integers(-6, 4, size=30)).astype(np.float32)
        _, slots = optimizer.apply(np.zeros(30, np.float32), delta, slots, 1)
        assert (slots[SECOND_MOMENT] >= 0).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("kind", KINDS)
def test_updates_too_large_to_square_keep_model_and_state_finite(kind, dtype):
    optimizer = kind()
    model = np.zeros(2, dtype)
    slots = start(optimizer, model)
    large = np.sqrt(np.finfo(dtype).max) * 1e3
    for sign in (1, -1, 1):
        model, slots = optimizer.apply(model, np.array([sign * large, 0], dtype), slots, 1)
    assert np.isfinite(model).all()
    assert all(np.isfinite(values).all() for values in slots.values())
    assert model[1] == 0


@pytest.mark.parametrize("tau", [1e-12, 1e6])
@pytest.mark.parametrize("kind", KINDS)
def test_the_ends_of_tau_s_range_are_usable_in_float32(kind, tau):
    model = np.ones(3, np.float32)
    deltas = [np.array([0, 1e-20, 1], np.float32)] * 3
    moved = run(kind(tau=tau), model, deltas)
    assert np.isfinite(moved).all()
    assert moved[0] == 1


@pytest.mark.parametrize("kind", KINDS)
def test_an_empty_tensor_stays_empty(kind):
    assert run(kind(), np.zeros(0, np.float32), [np.zeros(0, np.float32)] * 2).shape == (0,)


@pytest.mark.parametrize("kind", KINDS)
def test_no_momentum_means_no_state_for_it(kind):
    assert list(kind(beta1=0.0).slots) == [SECOND_MOMENT]
    assert kind(beta1=0.9, tau=0.5).slots == {MOMENTUM: 0.0, SECOND_MOMENT: 0.25}
