"""What is taken over from other jobs: nothing that is not surely better than training from scratch."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedloom.algorithms.transfer.answers import Probe, gather
from fedloom.algorithms.transfer.decision import LEAST_SAMPLES, choose, difference
from fedloom.algorithms.transfer.student import upper_tail

KINDS = {"scratch": "scratch", "a": "full", "b": "full"}
LOSSES = st.floats(0, 20)
TABLES = st.integers(2, 8).flatmap(
    lambda clients: st.tuples(
        st.lists(st.integers(1, 400), min_size=clients, max_size=clients),
        st.lists(st.tuples(LOSSES, LOSSES, LOSSES), min_size=clients, max_size=clients),
    )
)


def probes_of(counts, rows, names=("scratch", "a", "b")):
    return {
        name: {
            f"c{k}": Probe(row[column], n)
            for k, (n, row) in enumerate(zip(counts, rows, strict=True))
        }
        for column, name in enumerate(names)
    }


def related(clients=5, samples=4, loss=1.0, spread=0.1):
    """Candidate a is better than scratch by about 1.3 at every client, b is worse."""
    rows = [(2.3, loss + spread * (-1) ** k, 3.0) for k in range(clients)]
    return probes_of([samples] * clients, rows)


def test_the_better_one_is_taken_and_the_figures_say_why():
    choice = choose(related(), KINDS)
    assert (choice.candidate, choice.kind, choice.is_sure) == ("a", "full", True)
    assert choice.reason == "BestLoss"
    assert choice.message.startswith("a has loss 1.02, 1.28 (+- 0.049) below scratch")
    assert choice.message.endswith("over 20 samples of 5 clients")
    assert [score.candidate for score in choice.scores] == ["a", "scratch", "b"]


def test_the_error_is_that_of_the_formula():
    counts, rows = [3, 5, 12], [(2.0, 1.0, 9.0), (2.5, 1.0, 9.0), (2.2, 2.0, 9.0)]
    shares = np.array(counts) / 20
    leads = np.array([1.0, 1.5, 0.2])
    mean = shares @ leads
    clients = 1 / (shares**2).sum()
    assert 2 < clients < 2.3
    error = np.sqrt(clients / (clients - 1) * ((shares * (leads - mean)) ** 2).sum())
    answers = gather(probes_of(counts, rows), KINDS)
    assert difference(answers, "scratch", "a") == pytest.approx((mean, error))
    assert difference(answers, "scratch", "a", noise=0.3)[1] == pytest.approx(
        math.hypot(error, 0.3, 0.3)
    )


@given(st.integers(2, 9), st.lists(LOSSES, min_size=9, max_size=9))
def test_clients_of_one_size_give_the_error_of_a_mean(clients, leads):
    leads = leads[:clients]
    answers = gather(probes_of([7] * clients, [(20.0, 20.0 - d, 0.0) for d in leads]), KINDS)
    mean, error = difference(answers, "scratch", "a")
    assert mean == pytest.approx(np.mean(leads), abs=1e-9)
    assert error == pytest.approx(np.std(leads, ddof=1) / math.sqrt(clients), abs=1e-9)


def test_students_tail_is_that_of_the_tables():
    table = [(6.314, 1), (2.920, 2), (2.353, 3), (2.132, 4), (1.943, 6), (1.812, 10), (1.697, 30)]
    for value, degrees in table:
        assert upper_tail(value, degrees) == pytest.approx(0.05, abs=1e-4)
    assert upper_tail(1.645, 100_000) == pytest.approx(0.05, abs=1e-4)
    assert upper_tail(2.821, 9) == pytest.approx(0.01, abs=1e-5)
    assert (upper_tail(math.inf, 3), upper_tail(-math.inf, 3)) == (0.0, 1.0)


@pytest.mark.parametrize("degrees", [0.3, 1, 1.78, 2, 4.5, 31, 400])
def test_students_tail_is_the_integral_of_its_density(degrees):
    norm = math.exp(math.lgamma((degrees + 1) / 2) - math.lgamma(degrees / 2))
    grid = np.linspace(0, 2.5, 200_001)
    density = norm / math.sqrt(degrees * math.pi) * (1 + grid**2 / degrees) ** (-(degrees + 1) / 2)
    assert upper_tail(2.5, degrees) == pytest.approx(0.5 - np.trapezoid(density, grid), abs=1e-9)


@given(st.floats(-1e200, 1e200), st.floats(0.01, 60_000))
def test_students_tail_is_a_tail(value, degrees):
    assert 0 <= upper_tail(value, degrees) <= 1
    assert upper_tail(value, degrees) + upper_tail(-value, degrees) == pytest.approx(1)


@given(TABLES, st.randoms(use_true_random=False))
def test_who_answers_first_makes_no_difference(table, shuffle: random.Random):
    probes = probes_of(*table)
    candidates = list(probes)
    shuffle.shuffle(candidates)
    shuffled = {}
    for candidate in candidates:
        clients = list(probes[candidate])
        shuffle.shuffle(clients)
        shuffled[candidate] = {client: probes[candidate][client] for client in clients}
    kinds = {name: KINDS[name] for name in candidates}
    assert choose(shuffled, kinds) == choose(probes, KINDS)


@given(TABLES, st.sampled_from([0.125, 0.5, 4.0]))
def test_the_unit_of_the_loss_makes_no_difference(table, unit):
    counts, rows = table
    scaled = [tuple(loss * unit for loss in row) for row in rows]
    plain, other = choose(probes_of(counts, rows), KINDS), choose(probes_of(counts, scaled), KINDS)
    assert (plain.candidate, plain.reason) == (other.candidate, other.reason)
    assert [score.candidate for score in plain.scores] == [s.candidate for s in other.scores]


@given(TABLES)
def test_ten_times_the_samples_make_no_difference_to_who_is_best(table):
    counts, rows = table
    tenfold = [10 * n for n in counts]
    enough = choose(probes_of(tenfold, rows), KINDS)
    before = choose(probes_of(counts, rows), KINDS, least_samples=1)
    assert (enough.candidate, enough.reason) == (before.candidate, before.reason)


@given(TABLES)
def test_nothing_is_taken_that_has_not_a_lower_loss_than_scratch(table):
    choice = choose(probes_of(*table), KINDS)
    by_name = {score.candidate: score.loss for score in choice.scores}
    assert by_name[choice.candidate] <= by_name["scratch"]
    assert (choice.reason == "BestLoss") == (choice.candidate != "scratch")
    if choice.candidate == "scratch":
        assert choice.is_sure == (choice.reason == "NothingBetter")


@given(TABLES, st.floats(0.01, 100))
def test_noise_never_makes_a_choice_surer(table, noise):
    quiet = choose(probes_of(*table), KINDS)
    noisy = choose(probes_of(*table), KINDS, noise=noise)
    if quiet.candidate == "scratch":
        assert noisy.candidate == "scratch"
    lost = choose(probes_of(*table), KINDS, noise=1e6)
    assert lost.candidate == "scratch"


def test_equal_candidates_are_taken_by_name_and_what_equals_scratch_is_not_taken():
    twins = probes_of([9] * 4, [(2.3, 1.0, 1.0)] * 4)
    assert choose(twins, KINDS).candidate == "a"
    same = choose(probes_of([9] * 4, [(2.3, 2.3, 2.3)] * 4), KINDS)
    assert (same.candidate, same.reason, same.is_sure) == ("scratch", "NothingBetter", True)


def test_a_lead_that_may_be_chance_is_not_taken_and_says_so():
    rows = [(2.3, 0.5, 9.0), (2.3, 3.5, 9.0), (2.3, 0.9, 9.0)]
    choice = choose(probes_of([20] * 3, rows), KINDS)
    assert (choice.candidate, choice.reason, choice.is_sure) == ("scratch", "NotSure", False)
    assert "a has loss 1.633" in choice.message
    assert choice.message.endswith("which may be chance: from scratch")


def test_a_surer_second_is_taken_where_the_best_may_be_chance():
    rows = [(2.3, 0.1, 1.8), (2.3, 3.5, 1.9), (2.3, 0.1, 1.85)]
    assert choose(probes_of([20] * 3, rows), KINDS).candidate == "b"


@pytest.mark.parametrize("clients", [2, 3, 9])
def test_too_few_samples_are_never_sure(clients):
    rows = [(2.3, 0.1, 9.0)] * clients
    few = [1] * (clients - 1) + [LEAST_SAMPLES - clients]
    choice = choose(probes_of(few, rows), KINDS)
    assert (choice.candidate, choice.reason, choice.is_sure) == ("scratch", "TooFewSamples", False)
    assert f"got {LEAST_SAMPLES - 1} probed samples of {clients} clients" in choice.message
    few[-1] += 1
    assert choose(probes_of(few, rows), KINDS).candidate == "a"


def test_one_client_tells_no_error_and_is_not_sure():
    choice = choose(probes_of([500], [(2.3, 0.1, 9.0)]), KINDS)
    assert (choice.candidate, choice.reason, choice.is_sure) == ("scratch", "NotSure", False)
    assert "one client alone tells no error" in choice.message
    assert math.isnan(choice.scores[0].standard_error)
    worse = choose(probes_of([500], [(2.3, 3.0, 9.0)]), KINDS)
    assert (worse.candidate, worse.is_sure) == ("scratch", False)


@pytest.mark.parametrize("probes", [{}, {"scratch": {}, "a": {}, "b": {}}], ids=["none", "empty"])
def test_without_answers_it_is_scratch(probes):
    choice = choose(probes, KINDS)
    assert (choice.candidate, choice.kind, choice.reason) == ("scratch", "scratch", "TooFewSamples")
    assert not choice.is_sure


def test_scratch_alone_is_scratch():
    choice = choose(probes_of([9] * 3, [(2.3,)] * 3, ("scratch",)), {"scratch": "scratch"})
    assert (choice.candidate, choice.is_sure) == ("scratch", True)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf], ids=str)
def test_a_client_with_no_finite_loss_is_left_out_by_name(bad):
    probes = related()
    probes["a"]["c3"] = Probe(bad, 4)
    choice = choose(probes, KINDS)
    without = {name: {c: p for c, p in said.items() if c != "c3"} for name, said in probes.items()}
    expected = choose(without, KINDS)
    assert choice.left_out == ("c3",)
    assert "without 1 clients of no usable loss (c3)" in choice.message
    assert (choice.candidate, choice.scores) == (expected.candidate, expected.scores)


@pytest.mark.parametrize(
    "said", [None, Probe(0.5, 3), Probe(0.5, 0), Probe(0.5, -4)], ids=["none", "3", "0", "-4"]
)
def test_a_client_that_measured_something_else_is_left_out_by_name(said):
    probes = related()
    if said is None:
        del probes["b"]["c1"]
    else:
        probes["b"]["c1"] = said
    choice = choose(probes, KINDS)
    assert (choice.candidate, choice.left_out) == ("a", ("c1",))
    assert choice.scores[0].samples == 16


def test_a_broken_candidate_is_refused_and_costs_no_client():
    probes = related()
    probes["b"] = {client: Probe(math.nan, 4) for client in probes["b"]}
    choice = choose(probes, KINDS)
    assert (choice.candidate, choice.refused, choice.left_out) == ("a", ("b",), ())
    assert "without 1 candidates of no usable loss (b)" in choice.message
    del probes["b"]
    assert choose(probes, KINDS).refused == ("b",)


def test_without_a_figure_of_scratch_it_is_scratch():
    probes = related()
    probes["scratch"] = {client: Probe(math.nan, 4) for client in probes["scratch"]}
    choice = choose(probes, KINDS)
    assert (choice.candidate, choice.is_sure, choice.refused) == ("scratch", False, ("scratch",))


def test_fifty_thousand_clients_are_no_burden():
    """A list that is searched for every client took 40 seconds."""
    clients = 50_000
    choice = choose(probes_of([3] * clients, [(2.3, 1.0, 9.0)] * clients), KINDS)
    assert (choice.candidate, choice.scores[0].samples) == ("a", 3 * clients)


BODIES = {"scratch": "scratch", "scratch#body": "scratch", "a": "full", "a#body": "body"}


def bodies(full, body, control=2.0):
    names = ("scratch", "a", "a#body", "scratch#body")
    rows = [(2.3, full + 0.01 * k, body + 0.01 * k, control + 0.002 * k) for k in range(5)]
    return probes_of([8] * 5, rows, names)


@pytest.mark.parametrize(
    ("full", "body", "chosen"),
    [(1.0, 0.5, "a"), (4.0, 1.5, "a#body"), (4.0, 2.1, "scratch"), (4.0, 5.0, "scratch")],
    ids=["full first", "body next", "body of no use", "nothing"],
)
def test_bodies_are_looked_at_where_nothing_whole_is_better(full, body, chosen):
    """2.1 is below scratch's 2.3, but not below what a body from scratch reaches with a trained head."""
    choice = choose(bodies(full, body), BODIES)
    assert (choice.candidate, choice.is_sure) == (chosen, True)
    assert choice.kind == BODIES[chosen]
    assert ("below a body from scratch" in choice.message) == (chosen == "a#body")


def test_bodies_are_compared_with_scratch_where_it_was_measured_alone():
    probes = bodies(4.0, 2.1)
    del probes["scratch#body"]
    kinds = {name: kind for name, kind in BODIES.items() if name != "scratch#body"}
    assert choose(probes, kinds).candidate == "a#body"
