"""How much a client counts: by its examples, its steps, as any other, or per step (FedNova)."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedloom.algorithms.aggregation.mean import Mean
from fedloom.algorithms.aggregation.source import ArraySource
from fedloom.algorithms.aggregation.weights import weigh, weigh_normalized
from fedloom.algorithms.layout import layout_of
from fedloom.errors import JobError

COUNTS = st.lists(st.tuples(st.integers(1, 10**5), st.integers(1, 500)), min_size=1, max_size=9)


def mean_of(rows, weights):
    updates = [{"w": row} for row in rows]
    sources = [ArraySource(update) for update in updates]
    rule = Mean(divisor=weights.divisor)
    (block,) = rule.aggregate(sources, weights.values, layout_of(updates[0]))
    return block.values.copy()


def test_a_client_counts_by_what_the_job_says():
    assert weigh("examples", [3, 0, 2**40], []).values.tolist() == [3, 0, 2**40]
    assert weigh("steps", [1, 1], [5, 6]).values.tolist() == [5, 6]
    assert weigh("uniform", [3, 0], [None, None]).values.tolist() == [1, 1]
    with pytest.raises(JobError, match="expected one of"):
        weigh("loss", [1], [1])


@given(COUNTS, st.sampled_from(["examples", "uniform"]), st.integers(0, 99))
def test_fednova_is_the_formula_of_its_paper(counts, kind, seed):
    examples, steps = zip(*counts, strict=True)
    rows = np.random.default_rng(seed).normal(size=(len(counts), 7))
    p = np.array(examples if kind == "examples" else [1] * len(counts), np.float64)
    p, tau = p / p.sum(), np.array(steps)
    expected = (p * tau).sum() * ((p / tau)[:, None] * rows).sum(axis=0)
    got = mean_of(rows, weigh_normalized(kind, examples, steps))
    np.testing.assert_allclose(got, expected, rtol=1e-12, atol=1e-12)


@given(st.lists(st.integers(1, 10**5), min_size=1, max_size=9), st.integers(1, 99))
def test_fednova_of_clients_that_make_as_many_steps_is_the_mean(examples, steps):
    rows = np.random.default_rng(steps).normal(size=(len(examples), 7))
    got = mean_of(rows, weigh_normalized("examples", examples, [steps] * len(examples)))
    expected = mean_of(rows, weigh("examples", examples, []))
    np.testing.assert_allclose(got, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("make", [weigh, weigh_normalized], ids=["plain", "fednova"])
def test_one_client_is_its_own_result(make):
    row = np.random.default_rng(0).normal(size=50).astype(np.float32)
    assert mean_of([row], make("examples", [17], [13])).tobytes() == row.tobytes()


def test_fednova_gives_no_more_say_to_who_makes_more_steps():
    """Both pull as far per step: the direction is between them, whatever the steps."""
    rows = np.array([[100.0, 0.0], [0.0, 1.0]])
    got = mean_of(rows, weigh_normalized("uniform", [1, 1], [100, 1]))
    assert got[0] == pytest.approx(got[1])
    assert got.sum() == pytest.approx(50.5)  # as far as the mean goes


def test_fednova_of_clients_without_examples_is_refused():
    with pytest.raises(JobError) as caught:
        weigh_normalized("examples", [0, 0], [1, 1])
    assert caught.value.reason == "ZeroWeight"
