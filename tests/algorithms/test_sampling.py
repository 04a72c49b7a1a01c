"""Cohorts and seeds: uniform, repeatable, independent of order."""

from __future__ import annotations

from collections import Counter
from itertools import combinations, pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedloom.algorithms.sampling import choose_cohort, derive_seed, poisson_cohort
from fedloom.errors import JobError

NAMES = [f"client-{index}" for index in range(9)]
small = settings(derandomize=True, deadline=None, max_examples=50)
names = st.lists(st.text(min_size=1, max_size=6), min_size=1, max_size=12, unique=True)


@small
@given(names, st.integers(1, 15), st.integers(0, 2**63), st.randoms(use_true_random=False))
def test_a_cohort_does_not_depend_on_the_order_of_the_clients(clients, count, seed, random):
    cohort = choose_cohort(clients, count, seed, 1, 1)
    random.shuffle(clients)
    assert choose_cohort(clients, count, seed, 1, 1) == cohort
    assert list(cohort) == sorted(set(cohort))
    assert set(cohort) <= set(clients)
    assert len(cohort) == min(count, len(clients))


def test_all_clients_are_taken_where_there_are_no_more():
    assert choose_cohort(["c", "a", "b"], 3, 7, 1, 1) == ("a", "b", "c")
    assert choose_cohort(["c", "a", "b"], 99, 7, 1, 1) == ("a", "b", "c")


def test_every_subset_is_equally_likely():
    rounds = 6000
    counts = Counter(choose_cohort("abcde", 2, 42, number, 1) for number in range(rounds))
    assert set(counts) == set(combinations("abcde", 2))
    expected = rounds / 10
    chi_squared = sum((count - expected) ** 2 / expected for count in counts.values())
    assert chi_squared < 27.9  # 9 degrees of freedom: exceeded once in a thousand


def test_round_attempt_and_seed_each_change_the_cohort():
    clients = [f"client-{index}" for index in range(100)]
    cohorts = {
        choose_cohort(clients, 10, *numbers)
        for numbers in [(1, 1, 1), (2, 1, 1), (1, 2, 1), (1, 1, 2), (1, 12, 1), (11, 2, 1)]
    }
    assert len(cohorts) == 6


def test_a_client_that_leaves_displaces_at_most_one_other():
    clients = [f"client-{index}" for index in range(50)]
    before = choose_cohort(clients, 10, 3, 1, 1)
    for gone in clients:
        after = choose_cohort([name for name in clients if name != gone], 10, 3, 1, 1)
        assert len(set(after) - set(before)) == (gone in before)


def test_a_cohort_is_the_same_on_every_machine():
    clients = [f"client-{index}" for index in range(8)]
    assert choose_cohort(clients, 3, 7, 1, 1) == ("client-3", "client-6", "client-7")
    assert derive_seed("job", 7, "round", 1) == 8420409278908562450


@pytest.mark.parametrize("count", [0, -1])
def test_an_empty_cohort_is_refused(count):
    with pytest.raises(JobError, match=f"got a cohort of {count} clients, expected at least 1"):
        choose_cohort(["a"], count, 1, 1, 1)


def test_a_name_that_is_there_twice_is_refused():
    with pytest.raises(JobError, match="got client 'b' twice"):
        choose_cohort(["b", "a", "b"], 1, 1, 1, 1)


@small
@given(st.lists(st.text() | st.integers(), max_size=4), st.lists(st.text() | st.integers()))
def test_seeds_differ_where_any_part_does(one, two):
    assert 0 <= derive_seed(*one) < 2**63
    assert (derive_seed(*one) == derive_seed(*two)) == (one == two)


def test_a_seed_depends_on_the_borders_and_types_of_its_parts():
    parts = [("a", "bc"), ("ab", "c"), ("abc",), ("1",), (1,), ("-1",), (-1,), (), ("",), ("", "")]
    assert len({derive_seed(*each) for each in parts}) == len(parts)


def test_a_larger_cohort_adds_clients_and_takes_none_away():
    cohorts = [set(choose_cohort(NAMES, count, 3, 2, 1)) for count in range(1, len(NAMES) + 1)]
    assert all(small < large for small, large in pairwise(cohorts))


def test_poisson_draws_each_client_by_itself():
    names = [f"client-{index}" for index in range(40)]
    cohorts = [poisson_cohort(names, 10, 7, number, 1) for number in range(1, 2001)]
    sizes = np.array([len(cohort) for cohort in cohorts])
    # Of a binomial of 40 trials at 1/4: mean 10, variance 7.5; a bound of five deviations each.
    assert abs(sizes.mean() - 10) < 5 * np.sqrt(7.5 / 2000)
    assert abs(sizes.var() - 7.5) < 5 * 7.5 * np.sqrt(2 / 2000)
    for name in names[:5]:
        share = np.mean([name in cohort for cohort in cohorts])
        assert abs(share - 0.25) < 5 * np.sqrt(0.25 * 0.75 / 2000)


def test_a_poisson_cohort_does_not_depend_on_the_order_or_on_other_clients():
    chosen = set(poisson_cohort(NAMES, 3, 1, 4, 1))
    assert set(poisson_cohort(NAMES[::-1], 3, 1, 4, 1)) == chosen
    assert poisson_cohort(NAMES, len(NAMES), 1, 4, 1) == tuple(sorted(NAMES))
    assert poisson_cohort(["a"], 1e-9, 1, 4, 1) == ()
    assert poisson_cohort([], 1, 1, 4, 1) == ()


@pytest.mark.parametrize("expected", [0, -1.0, float("nan")])
def test_a_poisson_cohort_of_nobody_on_average_is_refused(expected):
    with pytest.raises(JobError, match="expected more than 0"):
        poisson_cohort(NAMES, expected, 1, 1, 1)
