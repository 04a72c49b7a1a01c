"""The page says what was promised and what was spent, and why a job ended for it."""

from __future__ import annotations

from fedloom.algorithms.privacy.accountant import NoisyRounds

EPSILON = [NoisyRounds("fixed", 1.0, 2.0).epsilon(number, 1e-5) for number in range(6)]


def spec_of(max_epsilon):
    return {
        "rounds": 5,
        "privacy": {
            "clip_norm": 1.0,
            "clip_quantile": None,
            "noise_multiplier": 2.0,
            "delta": 1e-5,
            "max_epsilon": max_epsilon,
            "local": None,
        },
    }


def promise(number, max_epsilon):
    return {
        "epsilon": EPSILON[number],
        "max_epsilon": max_epsilon,
        "delta": 1e-5,
        "noise_multiplier": 2.0,
        "adjacency": "add-or-remove-one",
        "clip_norm": 1.0,
        "clipped_fraction": None,
    }


def write(folder, rounds, budget, later_budget):
    folder.spec = spec_of(budget)
    folder.write_record()
    folder.write_round(0)
    for number in range(1, rounds + 1):
        metrics = {"privacy/epsilon": EPSILON[number], "privacy/clip_norm": 1.0}
        folder.write_round(number, privacy=promise(number, later_budget), metrics=metrics)


def test_the_page_tells_epsilon_its_budget_and_its_neighbours(folder):
    write(folder, 2, 100.0, 100.0)
    page = folder.report()
    assert f"epsilon {EPSILON[2]:.4g} of 100 at delta 1e-05, add-or-remove-one" in page
    assert "privacy/epsilon" in page
    assert "Not finished" in page


def test_a_spent_budget_is_why_the_job_is_complete(folder):
    write(folder, 2, 0.5 * (EPSILON[2] + EPSILON[3]), 0.5 * (EPSILON[2] + EPSILON[3]))
    page = folder.report()
    assert "Complete" in page
    assert f"another would make it {EPSILON[3]:.4g}" in page


def test_the_last_rounds_budget_counts_and_not_the_first_ones(folder):
    write(folder, 2, EPSILON[1], 100.0)
    page = folder.report()
    assert "Not finished" in page
    assert "of 100 at delta" in page


def test_noise_of_the_clients_is_told_with_what_it_composes_to(folder):
    folder.write_run(1)
    local = {
        "mechanism": "laplace",
        "epsilon": 8.0,
        "epsilon_of": "update",
        "delta": 0.0,
        "values": 6,
        "releases": 3,
        "composed_epsilon": 24.0,
    }
    folder.write_round(1, privacy={"local": local})
    page = folder.report()
    assert "laplace, epsilon 8 per update, 24 for all that a client sent in 3 updates" in page


def test_a_run_without_privacy_says_nothing_of_it_and_a_damaged_one_does_not_break_the_page(folder):
    folder.write_run(1)
    assert "Privacy" not in folder.report()
    folder.spec = {"privacy": {"noise_multiplier": "much", "delta": [], "max_epsilon": -1}}
    folder.write_record()
    for damaged in ({"epsilon": "x", "noise_multiplier": {}}, [], {"local": {"epsilon": 1}}, None):
        folder.write_round(1, privacy=damaged)
        assert "Privacy" not in folder.report()
