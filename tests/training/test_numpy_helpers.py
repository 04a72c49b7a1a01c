"""Minibatches and the Dirichlet split of `fedloom.training.numpy`."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedloom.training.numpy import batches, dirichlet_split

LABELS = np.random.default_rng(0).integers(0, 10, 1000)


@given(
    num_examples=st.integers(1, 60),
    batch_size=st.integers(1, 70),
    epochs=st.integers(0, 3),
    seed=st.integers(0, 2**31 - 1),
)
def test_every_epoch_has_every_example_once(num_examples, batch_size, epochs, seed):
    found = list(batches(num_examples, batch_size, seed, epochs))
    per_epoch = -(-num_examples // batch_size)
    assert len(found) == epochs * per_epoch
    assert all(1 <= len(batch) <= batch_size for batch in found)
    for epoch in range(epochs):
        seen = np.concatenate(found[epoch * per_epoch : (epoch + 1) * per_epoch])
        assert sorted(seen) == list(range(num_examples))


def test_only_the_last_batch_of_an_epoch_is_smaller():
    assert [len(batch) for batch in batches(10, 4, seed=0, epochs=2)] == [4, 4, 2, 4, 4, 2]


def test_the_same_seed_gives_the_same_batches_and_another_seed_others():
    first, again, other = (np.concatenate(list(batches(50, 7, seed))) for seed in (3, 3, 4))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_epochs_are_shuffled_anew():
    first, second = batches(50, 50, seed=3, epochs=2)
    assert (first != second).any()


def test_the_order_is_the_one_of_a_plain_numpy_loop():
    rng = np.random.default_rng(5)
    expected = [rng.permutation(20) for _ in range(2)]
    np.testing.assert_array_equal(np.concatenate(list(batches(20, 6, 5, 2))), np.hstack(expected))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param((0, 4, 1), "num_examples: got 0, expected an integer >= 1", id="no examples"),
        pytest.param((9, 0, 1), "batch_size: got 0, expected an integer >= 1", id="empty batches"),
        pytest.param((9, 4, 1, -1), "epochs: got -1, expected an integer >= 0", id="negative"),
        pytest.param((9, "32", 1), "batch_size: got '32', expected an integer", id="text"),
        pytest.param((9, 4, 1, 0.5), "epochs: got 0.5, expected an integer", id="half an epoch"),
    ],
)
def test_counts_that_make_no_batches_are_refused_at_the_call(arguments, message):
    with pytest.raises(ValueError, match=message):
        batches(*arguments)


@given(
    num_clients=st.integers(1, 8),
    alpha=st.floats(0.3, 100.0),
    seed=st.integers(0, 2**31 - 1),
)
def test_every_example_goes_to_exactly_one_client(num_clients, alpha, seed):
    labels = LABELS[:200]
    parts = dirichlet_split(labels, num_clients, alpha, seed)
    assert len(parts) == num_clients
    assert sorted(np.concatenate(parts)) == list(range(len(labels)))
    assert all((np.diff(part) > 0).all() for part in parts)


def test_every_client_has_the_examples_it_must_have():
    parts = dirichlet_split(LABELS, 10, alpha=0.3, seed=1, min_examples=40)
    assert min(map(len, parts)) >= 40


def test_the_same_seed_gives_the_same_split_and_another_seed_another():
    first, again, other = (dirichlet_split(LABELS, 5, 0.5, seed) for seed in (1, 1, 2))
    for mine, same in zip(first, again, strict=True):
        np.testing.assert_array_equal(mine, same)
    assert [len(part) for part in first] != [len(part) for part in other]


def test_a_smaller_alpha_makes_clients_more_different():
    def strangeness(alpha):
        overall = np.bincount(LABELS) / len(LABELS)
        parts = dirichlet_split(LABELS, 5, alpha, seed=1)
        mixtures = [np.bincount(LABELS[part], minlength=10) / len(part) for part in parts]
        return np.abs(np.array(mixtures) - overall).sum(axis=1).mean()

    assert strangeness(100.0) < strangeness(1.0) < strangeness(0.1)
    assert strangeness(1e6) < 0.05


def test_labels_may_be_words():
    words = np.array(["cat", "dog", "eel"])[LABELS % 3]
    assert sum(map(len, dirichlet_split(words, 4, 0.5, seed=0))) == len(words)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param((LABELS[:, None], 2, 1.0, 0), "labels: got shape", id="two axes"),
        pytest.param((LABELS, 0, 1.0, 0), "num_clients: got 0", id="nobody"),
        pytest.param((LABELS, 2, 0.0, 0), "alpha: got 0.0", id="alpha 0"),
        pytest.param((LABELS, 2, float("nan"), 0), "alpha: got nan", id="alpha nan"),
        pytest.param((LABELS[:5], 3, 1.0, 0, 2), "there are only 5 examples", id="too few"),
        pytest.param((LABELS, 10, 0.01, 0, 95), "got no split with 95 examples", id="hopeless"),
    ],
)
def test_a_split_that_cannot_be_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        dirichlet_split(*arguments)
