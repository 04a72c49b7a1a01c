"""SCAFFOLD's control variates: the algorithm of the paper, a mean that stays one, and no drift."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedloom.algorithms.drift.control_variates import (
    advanced_variate,
    control_layout,
    drift_offset,
    first_variates,
    refreshed_variates,
    shares_of,
)
from fedloom.algorithms.drift.correction import DriftCorrection
from fedloom.algorithms.layout import TensorSpec

RATE = 0.1


class Quadratic:
    """A client whose loss is curvature / 2 * |x - centre|^2, so its gradient is known everywhere."""

    def __init__(self, centre, curvature, steps):
        self.centre, self.curvature, self.steps = centre, curvature, steps

    def gradient(self, x):
        return self.curvature * (x - self.centre)


def clients_of(seed, count):
    rng = np.random.default_rng(seed)
    return [
        Quadratic(rng.normal(size=3), rng.uniform(0.3, 2), int(rng.integers(1, 8)))
        for _ in range(count)
    ]


def paper(clients, present, rounds):
    """Algorithm 1 of the paper, option II, written down directly; `present(round, client)`."""
    x, c, own = np.zeros(3), np.zeros(3), [np.zeros(3) for _ in clients]
    for number in range(rounds):
        models, changes = [], []
        for i, client in enumerate(clients):
            if not present(number, i):
                continue
            y = x.copy()
            for _ in range(client.steps):
                y -= RATE * (client.gradient(y) - own[i] + c)
            fresh = own[i] - c + (x - y) / (client.steps * RATE)
            models.append(y - x)
            changes.append(fresh - own[i])
            own[i] = fresh
        x = x + sum(models) / len(models)
        c = c + len(changes) / len(clients) * sum(changes) / len(changes)
    return x, c, own


def ours(clients, present, rounds, weights=None):
    """The same rounds by the functions of the product."""
    x, common, known = {"x": np.zeros(3)}, {"x": np.zeros(3)}, {}
    own = [{"x": np.zeros(3)} for _ in clients]
    weights = weights or [1] * len(clients)
    for number in range(rounds):
        deltas, changes, accepted = [], [], {}
        for i, client in enumerate(clients):
            if not present(number, i):
                continue
            correction = DriftCorrection(offset=drift_offset(common, own[i]))
            y = {"x": x["x"].copy()}
            for _ in range(client.steps):
                y["x"] -= RATE * correction({"x": client.gradient(y["x"])}, y)["x"]
            fresh = refreshed_variates(own[i], common, x, y, client.steps * RATE)
            deltas.append(y["x"] - x["x"])
            changes.append(fresh["x"] - own[i]["x"])
            accepted[str(i)] = weights[i]
            own[i] = fresh
        shares = list(accepted.values())
        x = {"x": x["x"] + np.average(deltas, axis=0, weights=shares)}
        mean = np.average(changes, axis=0, weights=shares)
        known, kept, share = shares_of(known, accepted, len(clients))
        common = {"x": advanced_variate(common["x"], mean, kept, share)}
    return x["x"], common["x"], [each["x"] for each in own]


def everyone(number, client):
    return True


@given(st.integers(0, 2**31), st.integers(1, 5), st.integers(1, 6), st.integers(0, 2**30 - 1))
def test_it_is_the_algorithm_of_the_paper_also_when_clients_fail(seed, count, rounds, absences):
    def present(number, client):  # the first never fails: a round without updates is none
        return client == 0 or not absences >> (number * 5 + client) & 1

    clients = clients_of(seed, count)
    for got, expected in zip(
        ours(clients, present, rounds), paper(clients, present, rounds), strict=True
    ):
        np.testing.assert_allclose(got, expected, rtol=1e-9, atol=1e-9)


@given(st.integers(0, 2**31), st.lists(st.integers(1, 1000), min_size=2, max_size=5))
def test_the_common_variate_stays_the_weighted_mean_of_the_clients_own(seed, weights):
    absent = (1, len(weights) - 1)

    def present(number, client):  # all have taken part, then one fails for two rounds
        return client != absent[1] or number not in (absent[0], absent[0] + 1)

    _, common, own = ours(clients_of(seed, len(weights)), present, 5, weights)
    np.testing.assert_allclose(
        common, np.average(own, axis=0, weights=weights), rtol=1e-9, atol=1e-9
    )


def test_the_last_client_is_not_taken_for_the_sum_of_all():
    clients = clients_of(3, 4)
    _, common, own = ours(clients, everyone, 1)
    np.testing.assert_allclose(common, np.mean(own, axis=0))
    assert not np.allclose(common, own[-1])
    assert not np.allclose(common, own[-1] / len(clients))


def test_the_fresh_variate_is_the_mean_gradient_along_the_way_without_its_correction():
    rng = np.random.default_rng(0)
    own, common = {"x": rng.normal(size=3)}, {"x": rng.normal(size=3)}
    client, before, gradients = clients_of(1, 1)[0], {"x": rng.normal(size=3)}, []
    after = {"x": before["x"].copy()}
    for _ in range(5):
        gradients.append(client.gradient(after["x"]))
        after["x"] -= RATE * (gradients[-1] + common["x"] - own["x"])
    fresh = refreshed_variates(own, common, before, after, 5 * RATE)
    np.testing.assert_allclose(fresh["x"], np.mean(gradients, axis=0), rtol=1e-12)


def test_clients_that_pull_apart_meet_where_their_common_loss_is_least():
    clients = clients_of(7, 5)
    curvatures = [client.curvature for client in clients]
    best = np.average([client.centre for client in clients], axis=0, weights=curvatures)
    with_variates, _, _ = ours(clients, everyone, 400)
    np.testing.assert_allclose(with_variates, best, atol=1e-6)

    x = np.zeros(3)
    for _ in range(400):  # fedavg
        ends = []
        for client in clients:
            y = x.copy()
            for _ in range(client.steps):
                y -= RATE * client.gradient(y)
            ends.append(y)
        x = np.mean(ends, axis=0)
    assert np.abs(x - best).max() > 0.05


@pytest.mark.parametrize(
    ("known", "accepted", "expected"),
    [
        ({}, {"a": 2, "b": 2}, (1.0, 0.5)),  # |S| / N
        ({"a": 2, "b": 2}, {"b": 2}, (1.0, 0.25)),
        ({}, {"a": 1, "b": 3}, (1.0, 0.5)),
        ({"a": 1, "b": 3}, {"c": 8, "d": 4}, (0.5, 0.75)),
    ],
)
def test_clients_that_never_came_count_as_much_as_the_others_on_average(known, accepted, expected):
    after, *shares = shares_of(known, accepted, clients=4)
    assert tuple(shares) == expected
    assert after == {**known, **accepted}


def test_variates_are_of_float_tensors_in_the_dtype_of_sums():
    layout = {
        "half": TensorSpec((2,), np.dtype(np.float16)),
        "double": TensorSpec((), np.dtype(np.float64)),
        "steps": TensorSpec((), np.dtype(np.int64)),
        "none": TensorSpec((0, 3), np.dtype(np.float32)),
    }
    zeros = first_variates(layout)
    assert {name: str(spec) for name, spec in control_layout(layout).items()} == {
        "half": "float32[2]",
        "double": "float64[]",
        "none": "float32[0, 3]",
    }
    before = {name: np.ones(spec.shape, spec.dtype) for name, spec in layout.items()}
    fresh = refreshed_variates(zeros, zeros, before, before, 0.5)
    offset = drift_offset(zeros, fresh)
    for name, zero in zeros.items():
        assert (fresh[name].dtype, fresh[name].shape) == (zero.dtype, zero.shape)
        assert (offset[name].dtype, offset[name].shape) == (zero.dtype, zero.shape)


def test_weights_that_are_lost_are_seen_in_the_variate_and_warn_nobody():
    zeros = {"x": np.zeros(2, np.float32)}
    broken = {"x": np.array([np.inf, np.nan], np.float32)}
    assert not np.isfinite(refreshed_variates(zeros, zeros, zeros, broken, 1.0)["x"]).any()
