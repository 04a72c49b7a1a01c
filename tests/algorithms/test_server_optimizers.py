"""The server's step: averaging, momentum, and what all server optimizers hold to."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedloom.algorithms.optimizers.adagrad import Adagrad
from fedloom.algorithms.optimizers.adam import Adam
from fedloom.algorithms.optimizers.averaging import Averaging
from fedloom.algorithms.optimizers.momentum import VELOCITY, Momentum
from fedloom.algorithms.optimizers.protocol import ServerOptimizer
from fedloom.algorithms.optimizers.registry import (
    SERVER_OPTIMIZERS,
    server_optimizer,
    tensor_optimizer,
)
from fedloom.algorithms.optimizers.yogi import Yogi
from fedloom.errors import JobError

OPTIMIZERS = [
    *(Averaging(), Averaging(0.5), Momentum(), Momentum(0.3, 0.5)),
    *(Adagrad(), Adagrad(beta1=0.9), Adam(), Adam(beta1=0.0), Yogi(), Yogi(beta1=0.0)),
]
small = settings(derandomize=True, deadline=None, max_examples=40)


def run(
    optimizer: ServerOptimizer, model: np.ndarray, deltas: list[np.ndarray]
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Apply one round after the other, from the slots that the optimizer starts with."""
    slots = {name: np.full_like(model, value) for name, value in optimizer.slots.items()}
    for number, delta in enumerate(deltas, 1):
        model, slots = optimizer.apply(model, delta, slots, number)
    return model, dict(slots)


def test_learning_rate_one_is_exactly_model_plus_delta():
    rng = np.random.default_rng(0)
    model, delta = rng.normal(size=(2, 1000)).astype(np.float32)
    new, slots = Averaging().apply(model, delta, {}, 1)
    assert new.tobytes() == (model + delta).tobytes()
    assert slots == {}


def test_the_learning_rate_scales_the_step():
    new, _ = Averaging(0.25).apply(np.array([1.0]), np.array([8.0]), {}, 1)
    assert new.tolist() == [3.0]


@small
@given(
    st.integers(1, 30),
    st.floats(0, 0.99),
    st.floats(0.01, 2),
    st.floats(-100, 100),
)
def test_momentum_follows_its_closed_form_under_a_constant_update(rounds, beta, rate, delta):
    model, slots = run(Momentum(rate, beta), np.array([5.0]), [np.array([delta])] * rounds)
    powers = beta ** np.arange(1, rounds + 1)
    velocity = delta * (1 - powers) / (1 - beta)
    np.testing.assert_allclose(slots[VELOCITY], velocity[-1], rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(model, 5 + rate * velocity.sum(), rtol=1e-9, atol=1e-9)


def test_momentum_is_the_discounted_sum_of_all_updates():
    deltas = list(np.random.default_rng(1).normal(size=(6, 20)))
    _, slots = run(Momentum(1.0, 0.7), np.zeros(20), deltas)
    expected = sum(0.7 ** (5 - age) * delta for age, delta in enumerate(deltas))
    np.testing.assert_allclose(slots[VELOCITY], expected, rtol=1e-12)


def test_momentum_zero_is_averaging():
    deltas = [delta.astype(np.float32) for delta in np.random.default_rng(2).normal(size=(4, 30))]
    model = np.ones(30, np.float32)
    for rate in (1.0, 0.3):
        plain, _ = run(Averaging(rate), model, deltas)
        heavy, _ = run(Momentum(rate, 0.0), model, deltas)
        assert plain.tobytes() == heavy.tobytes()


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=repr)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_dtypes_stay_and_inputs_are_left_alone(optimizer, dtype):
    model, delta = np.ones(9, dtype), np.full(9, 0.1, dtype)
    slots = {name: np.full(9, 2, dtype) for name in optimizer.slots}
    for array in (model, delta, *slots.values()):
        array.flags.writeable = False
    new, after = optimizer.apply(model, delta, slots, 3)
    assert (new.dtype, new.shape) == (dtype, (9,))
    assert list(after) == list(optimizer.slots)
    assert not any(np.shares_memory(old, new) for old in (model, delta) for new in after.values())
    assert all(values.dtype == dtype for values in after.values())


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=repr)
def test_a_tensor_may_be_stepped_in_blocks_of_any_length(optimizer):
    rng = np.random.default_rng(3)
    model = rng.normal(size=101).astype(np.float32)
    deltas = [rng.normal(size=101).astype(np.float32) for _ in range(3)]
    whole, _ = run(optimizer, model, deltas)
    parts = [
        run(optimizer, model[a:b], [delta[a:b] for delta in deltas])[0]
        for a, b in [(0, 1), (1, 64), (64, 101), (101, 101)]
    ]
    assert np.concatenate(parts).tobytes() == whole.tobytes()


def test_the_registry_makes_what_the_job_asks_for():
    assert server_optimizer("fedavg", {}) == Averaging(1.0)
    assert server_optimizer("fedavg", {"serverLearningRate": 0.5}) == Averaging(0.5)
    assert server_optimizer("fedavgm", {}) == Momentum(1.0, 0.9)
    assert server_optimizer("fedavgm", {"serverLearningRate": 2, "momentum": 0}) == Momentum(2, 0)
    assert server_optimizer("fedadagrad", {"beta1": 0.5}) == Adagrad(0.03, 0.5, 1e-3)
    changed = {"serverLearningRate": 1, "beta1": 0.5, "beta2": 0.6, "tau": 0.1}
    assert server_optimizer("fedadam", changed) == Adam(1, 0.5, 0.1, 0.6)
    assert server_optimizer("fedyogi", changed) == Yogi(1, 0.5, 0.1, 0.6)


def test_an_unknown_algorithm_is_refused():
    with pytest.raises(JobError, match=r"'fedsgd', expected one of \['fedadagrad', 'fedadam', "):
        server_optimizer("fedsgd", {})


@pytest.mark.parametrize("name", sorted(SERVER_OPTIMIZERS))
@pytest.mark.parametrize(
    "parameters",
    [
        {"serverLearningRate": 0},
        {"serverLearningRate": -1},
        {"serverLearningRate": float("nan")},
        {"serverLearningRate": "fast"},
        {"serverLearningRate": True},
        {"serverLearningrate": 1},
        {"momentum": 1.0},
        {"momentum": -0.1},
        {"momentum": None},
        {"beta1": 1},
        {"beta2": -0.1},
        {"tau": 0},
        {"tau": 1e-20},
        {"tau": 1e20},
        {"tau": float("inf")},
    ],
    ids=str,
)
def test_parameters_out_of_range_or_unknown_are_refused(name, parameters):
    with pytest.raises(JobError) as caught:
        server_optimizer(name, parameters)
    assert caught.value.reason == "InvalidParameter"
    assert next(iter(parameters)) in caught.value.message


@pytest.mark.parametrize("dtype", ["int64", "uint8", "bool"])
def test_counters_are_averaged_whatever_the_optimizer(dtype):
    for optimizer in OPTIMIZERS:
        assert tensor_optimizer(optimizer, np.dtype(dtype)) == Averaging(1.0)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_floats_are_stepped_by_the_job_s_optimizer(dtype):
    optimizer = Momentum(0.1, 0.9)
    assert tensor_optimizer(optimizer, np.dtype(dtype)) is optimizer
