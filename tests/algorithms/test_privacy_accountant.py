"""The accountant against published values, against the integral it bounds, and against Opacus."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedloom.algorithms.privacy.accountant import (
    ADD_OR_REMOVE_ONE,
    REPLACE_ONE,
    NoisyRounds,
    epsilon_of_curve,
)
from fedloom.algorithms.privacy.rdp import ORDERS, fixed_size_rdp, gaussian_rdp, poisson_rdp

rates = st.floats(1e-6, 1.0)
noises = st.floats(0.1, 100.0)


def renyi(log_p, log_q, step, order):
    """The divergence of two densities on a grid, in logarithms."""
    terms = order * log_p + (1 - order) * log_q
    top = terms.max()
    return (top + math.log(np.exp(terms - top).sum() * step)) / (order - 1)


def log_normal(x, mean, deviation):
    return -0.5 * ((x - mean) / deviation) ** 2 - math.log(deviation * math.sqrt(2 * math.pi))


def mixture(rate, x, mean, deviation):
    return np.logaddexp(
        np.log1p(-rate) + log_normal(x, 0.0, deviation),
        math.log(rate) + log_normal(x, mean, deviation),
    )


PUBLISHED = {
    # tensorflow/privacy, analysis/compute_dp_sgd_privacy_test.py, Test0 and Test1.
    "tf-privacy-0": (60_000, 150, 1.3, 15, 1e-5, 0.7242234026109595),
    "tf-privacy-1": (100_000, 100, 1.0, 30, 1e-7, 1.4154988495444845),
    # pytorch/opacus, tests/accountants_test.py, test_rdp_accountant (1500 of 37500 is 0.04).
    "opacus": (37_500, 1500, 1.5, 90, 1e-5, 7.32911117143),
}


@pytest.mark.parametrize(
    ("examples", "batch", "noise", "epochs", "delta", "epsilon"), PUBLISHED.values(), ids=PUBLISHED
)
def test_published_values_under_the_same_conversion(examples, batch, noise, epochs, delta, epsilon):
    steps = math.ceil(epochs * examples / batch)
    rounds = NoisyRounds("poisson", batch / examples, noise)
    assert rounds.epsilon(steps, delta) == pytest.approx(epsilon, rel=1e-9)


OLDER = {
    # McMahan, Andrew et al., "A General Approach to Adding Differential Privacy to Iterative
    # Training Procedures" and tensorflow/privacy's tutorials on MNIST: 1.19, 3.01.
    "mnist-1.3-15": (1.3, 15, 1.19, 0.005),
    "mnist-1.1-60": (1.1, 60, 3.01, 0.005),
    # Bu, Dong, Long, Su: "Deep Learning with Gaussian Differential Privacy", Harvard Data Science
    # Review 2020, figure 4: 8.68 at epoch 70; 1.34 at epoch 20 (there over whole orders).
    "mnist-0.7-70": (0.7, 70, 8.68, 0.005),
    "mnist-1.3-20": (1.3, 20, 1.34, 0.012),
}


@pytest.mark.parametrize(("noise", "epochs", "epsilon", "within"), OLDER.values(), ids=OLDER)
def test_published_values_under_the_older_conversion(noise, epochs, epsilon, within):
    # Mironov 2017, proposition 3; ours gives less of an epsilon for the same divergences.
    rate, delta = 256 / 60_000, 1e-5
    steps = int(epochs * 60_000 / 256)
    curve = steps * poisson_rdp(rate, noise)
    older = (curve - math.log(delta) / (ORDERS - 1)).min()
    assert older == pytest.approx(epsilon, abs=within)
    assert NoisyRounds("poisson", rate, noise).epsilon(steps, delta) < older


@pytest.mark.parametrize("noise", [0.3, 0.7, 1.1, 4.0, 30.0])
@pytest.mark.parametrize("rate", [1e-4, 0.01, 0.3, 0.9])
def test_the_sampled_curve_is_the_divergence_of_the_two_densities(rate, noise):
    x, step = np.linspace(-25 * noise, 30 + 25 * noise, 600_001, retstep=True)
    log_p, log_q = mixture(rate, x, 1.0, noise), log_normal(x, 0.0, noise)
    curve = poisson_rdp(rate, noise)
    for order in (1.02, 1.5, 2.0, 3.7, 9.0, 10.9, 20.0):
        index = int(np.argmin(np.abs(ORDERS - order)))
        expected = renyi(log_p, log_q, step, ORDERS[index])
        assert curve[index] == pytest.approx(expected, rel=1e-7, abs=2e-13 / (order - 1))
        assert curve[index] >= renyi(log_q, log_p, step, ORDERS[index]) - 2e-13 / (order - 1)


@pytest.mark.parametrize("noise", [0.5, 1.0, 3.0, 10.0])
@pytest.mark.parametrize("rate", [0.01, 0.1, 0.5, 0.9])
def test_the_fixed_size_curve_bounds_its_worst_case(rate, noise):
    # One client's update is +C in one world and -C in the other, all others' are 0.
    x, step = np.linspace(-40 - 20 * noise, 40 + 20 * noise, 400_001, retstep=True)
    log_p, log_q = mixture(rate, x, 1.0, noise), mixture(rate, x, -1.0, noise)
    curve = fixed_size_rdp(rate, noise)
    for order in (1.1, 1.5, 2.0, 2.5, 3.0, 8.0, 16.0):
        index = int(np.argmin(np.abs(ORDERS - order)))
        assert curve[index] >= renyi(log_p, log_q, step, ORDERS[index]) - 1e-10


def test_whole_orders_and_those_between_them_make_one_convex_curve():
    for rate, noise in ((1e-6, 100.0), (0.01, 1.0), (0.5, 0.4), (0.3, 20.0)):
        cumulants = (ORDERS - 1) * poisson_rdp(rate, noise)
        slopes = np.diff(cumulants) / np.diff(ORDERS)
        assert (np.diff(slopes) >= -1e-6 * np.abs(slopes[1:]) - 1e-18).all()


@pytest.mark.parametrize("curve_of", [poisson_rdp, fixed_size_rdp])
@given(rates, noises)
def test_any_curve_is_finite_positive_and_never_above_the_one_without_sampling(
    curve_of, rate, noise
):
    curve = curve_of(rate, noise)
    whole = gaussian_rdp(noise if curve_of is poisson_rdp else noise / 2)
    assert np.isfinite(curve).all()
    assert (curve > 0).all()
    assert (curve <= whole * (1 + 1e-12)).all()
    assert (np.diff(curve) >= -1e-9 * curve[1:]).all()  # a divergence grows with its order


@pytest.mark.parametrize("sampling", ["poisson", "fixed"])
@given(rates, noises, st.integers(1, 1000), st.floats(1.01, 3.0))
def test_epsilon_grows_with_rate_and_rounds_and_falls_with_noise_and_delta(
    sampling, rate, noise, rounds, factor
):
    def epsilon(rate=rate, noise=noise, rounds=rounds, delta=1e-5):
        return NoisyRounds(sampling, min(rate, 0.999999), noise).epsilon(rounds, delta)

    middle = epsilon() * (1 + 1e-9)
    assert epsilon(rate=rate / factor) <= middle
    assert epsilon(noise=noise * factor) <= middle
    assert epsilon(delta=1e-5 * factor) <= middle
    assert epsilon(rounds=rounds + 1) >= epsilon()


@given(rates, noises, st.integers(1, 500), st.integers(1, 500))
def test_rounds_compose_no_worse_than_apart(rate, noise, first, second):
    rounds = NoisyRounds("poisson", rate, noise)
    together = rounds.epsilon(first + second, 2e-5)
    apart = rounds.epsilon(first, 1e-5) + rounds.epsilon(second, 1e-5)
    assert together <= apart * (1 + 1e-9) + 1e-9


def test_all_clients_in_every_round_are_accounted_for_exactly():
    # Less than Renyi divergences give, and both samplings agree: there is nothing to sample.
    exact = NoisyRounds("fixed", 1.0, 4.0).epsilon(10, 1e-5)
    assert exact == NoisyRounds("poisson", 1.0, 4.0).epsilon(10, 1e-5)
    by_curve = epsilon_of_curve(10 * gaussian_rdp(4.0), 1e-5)
    assert 0.85 * by_curve < exact < by_curve


def test_the_neighbours_are_named():
    assert NoisyRounds("poisson", 0.1, 1.0).adjacency == ADD_OR_REMOVE_ONE
    assert NoisyRounds("fixed", 0.1, 1.0).adjacency == REPLACE_ONE
    assert NoisyRounds("fixed", 1.0, 1.0).adjacency == ADD_OR_REMOVE_ONE


def test_a_fixed_number_of_clients_costs_more_than_poisson_for_its_doubled_sensitivity():
    poisson, fixed = (
        NoisyRounds(each, 0.1, 2.0).epsilon(20, 1e-5) for each in ("poisson", "fixed")
    )
    assert poisson < fixed


def test_no_round_costs_nothing_and_no_noise_everything():
    assert NoisyRounds("poisson", 0.1, 1.0).epsilon(0, 1e-5) == 0.0
    assert NoisyRounds("poisson", 0.1, 0.0).epsilon(1, 1e-5) == math.inf
    assert NoisyRounds("fixed", 1.0, 0.0).epsilon(1, 1e-5) == math.inf


@pytest.mark.parametrize("noise", [1e-6, 1e-3, 0.04, 0.06, 1e6])
@pytest.mark.parametrize("rate", [1e-6, 0.5, 0.999999])
def test_noise_outside_of_all_reason_still_gives_numbers(rate, noise):
    for sampling in ("poisson", "fixed"):
        epsilon = NoisyRounds(sampling, rate, noise).epsilon(100, 1e-5)
        assert 0 <= epsilon < math.inf


def opacus_analysis():
    """Opacus' rdp.py by itself: the package imports torch, this module does not need it."""
    pytest.importorskip("scipy", reason="Opacus' accountant needs scipy")
    try:
        files = importlib.metadata.files("opacus") or []
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("opacus is not installed: it comes with the extra dev")
    path = next(file for file in files if str(file).endswith("accountants/analysis/rdp.py"))
    spec = importlib.util.spec_from_file_location("opacus_rdp", path.locate())
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.filterwarnings("default")  # its divisions by zero are its own
@pytest.mark.parametrize("noise", [0.5, 1.0, 1.5, 5.0, 50.0])
@pytest.mark.parametrize("rate", [0.001, 0.01, 0.1, 0.4])
def test_the_accountant_agrees_with_opacus(rate, noise):
    analysis = opacus_analysis()
    orders = [order for order in ORDERS.tolist() if order >= 1.1 and (order < 5 or order % 8 == 0)]
    theirs = analysis.compute_rdp(q=rate, noise_multiplier=noise, steps=1, orders=orders)
    curve = poisson_rdp(rate, noise)
    mine = [curve[int(np.argmin(np.abs(ORDERS - order)))] for order in orders]
    # Their series leaves off below exp(-30): a difference of about 1e-12 beside A = 1.
    np.testing.assert_allclose(mine, theirs, rtol=1e-9, atol=1e-10)


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize(("rate", "noise", "steps"), [(0.01, 1.0, 1000), (0.2, 3.0, 50)])
def test_epsilon_agrees_with_opacus(rate, noise, steps):
    analysis = opacus_analysis()
    orders = [1 + x / 10.0 for x in range(1, 100)] + list(range(12, 64))  # its default
    theirs, _ = analysis.get_privacy_spent(
        orders=orders,
        rdp=analysis.compute_rdp(q=rate, noise_multiplier=noise, steps=steps, orders=orders),
        delta=1e-5,
    )
    assert NoisyRounds("poisson", rate, noise).epsilon(steps, 1e-5) == pytest.approx(theirs, 1e-6)
