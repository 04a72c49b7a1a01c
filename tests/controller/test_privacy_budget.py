"""The loop ends a job before the round that would spend more privacy than it may."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import pytest

from controller.budget import budget_problems, over_budget, privacy_notice
from controller.decide import decide
from controller.observed import Observed
from fedloom.algorithms.privacy.accountant import NoisyRounds
from fedloom.api.defaults import with_defaults
from fedloom.api.job import FederatedLearningJob
from fedloom.api.reading import read_object
from pipelines.engine import RunPhase, RunStatus
from pipelines.privacy import privacy_settings

NOW = 1000.0


def a_job(workers: int = 10, **privacy: Any) -> FederatedLearningJob:
    template = {"spec": {"containers": [{"name": "t", "command": ["python", "t.py"]}]}}
    document = {
        "apiVersion": "sedna.io/v1alpha1",
        "kind": "FederatedLearningJob",
        "metadata": {"name": "j", "uid": "0d3b0a52-5d9b-4f5c-9a35-6a3c8e1c2b11"},
        "spec": {
            "rounds": 1000,
            "participation": {"retries": 1, "clientsPerRound": 2, "sampling": "poisson"},
            "privacy": {"clipNorm": 1.0, "noiseMultiplier": 2.0, "delta": 1e-5, **privacy},
            "aggregationWorker": {"model": {"name": "m"}, "template": template},
            "trainingWorkers": [
                {"dataset": {"name": f"d{index}"}, "template": template} for index in range(workers)
            ],
        },
    }
    job = read_object(document)
    assert isinstance(job, FederatedLearningJob)
    return with_defaults(job)


def committed(number: int) -> Observed:
    last = {
        "round": number,
        "model": {"key": f"round-{number}", "digest": f"sha256:{number}", "size_bytes": 10},
        "state": {},
    }
    return Observed(last=last, metrics=tuple({} for _ in range(number + 1)))


def epsilon(rounds: int) -> float:
    return NoisyRounds("poisson", 0.2, 2.0).epsilon(rounds, 1e-5)


def test_the_round_that_exactly_spends_the_budget_is_run_and_the_next_is_not():
    job = a_job(maxEpsilon=epsilon(7))
    assert decide(job, committed(6), NOW).start is not None
    decision = decide(job, committed(7), NOW)
    assert (decision.phase, decision.reason) == ("Succeeded", "PrivacyBudgetSpent")
    assert "after round 7" in decision.message


def test_attempts_that_committed_nothing_cost_nothing():
    job = a_job(maxEpsilon=epsilon(7))
    observed = replace(committed(6), failed_attempts=1, failure=("TooFewClients", "1 of 2"))
    assert decide(job, observed, NOW).start is not None


def test_a_running_round_is_waited_for_before_the_job_ends():
    job = a_job(maxEpsilon=epsilon(3))
    running = replace(committed(6), run=RunStatus(7, 1, RunPhase.RUNNING))
    assert decide(job, running, NOW).reason == "RoundRunning"


@pytest.mark.parametrize("observed", [Observed(), committed(0)], ids=["nothing", "first-model"])
def test_a_job_that_cannot_run_a_single_round_fails(observed):
    decision = decide(a_job(maxEpsilon=0.9 * epsilon(1)), observed, NOW)
    assert (decision.phase, decision.reason) == ("Failed", "PrivacyBudgetTooSmall")
    assert f"{epsilon(1):.4g}" in decision.message


def test_the_problem_names_the_field_the_cost_and_what_to_change():
    (problem,) = budget_problems(a_job(maxEpsilon=0.1).spec)
    assert problem.field == "spec.privacy.maxEpsilon"
    for words in ("got 0.1", f"costs {epsilon(1):.4g}", "2 of 10 clients", "noiseMultiplier"):
        assert words in problem.message
    assert not list(budget_problems(a_job(maxEpsilon=100.0).spec))
    assert not list(budget_problems(a_job().spec))


def test_a_job_that_has_done_its_rounds_is_done_whatever_is_left():
    job = a_job(maxEpsilon=epsilon(7))
    job = replace(job, spec=replace(job.spec, rounds=7))
    assert decide(job, committed(7), NOW).reason == "RoundsDone"


def test_without_noise_no_budget_is_kept():
    job = a_job(noiseMultiplier=0.0, delta=None)
    assert over_budget(job.spec, 10**6) == ""
    assert "nothing is promised" in privacy_notice(job.spec)
    settings = privacy_settings(job.spec, 5)
    assert settings is not None
    assert settings["central"]["epsilon"] is None


def test_noise_without_a_delta_is_told_to_be_unaccounted_for():
    job = a_job(delta=None)
    assert "not accounted" in privacy_notice(job.spec)


def test_settings_name_what_was_spent_and_a_denominator_that_nobody_changes():
    settings = privacy_settings(a_job(maxEpsilon=50.0).spec, 5)
    assert settings is not None
    central = settings["central"]
    assert central["epsilon"] == epsilon(5)
    assert central["denominator"] == 2
    assert central["adjacency"] == "add-or-remove-one"


def test_cohorts_under_noise_depend_on_the_uid_that_nobody_writes_down():
    job = a_job()
    other = replace(job, metadata=replace(job.metadata, uid="11111111-2222-4333-8444-555555555555"))
    drawn = [
        [decide(each, committed(number), NOW).start.cohort for number in range(1, 30)]
        for each in (job, other, job)
    ]
    assert drawn[0] == drawn[2] != drawn[1]


def test_a_decision_on_a_job_of_a_thousand_rounds_takes_less_than_a_millisecond():
    job = a_job(maxEpsilon=1e6)
    decide(job, committed(1), NOW)  # the curve of a round is worked out once
    observed = [committed(number) for number in range(900, 999)]
    best = min(_seconds_per_decision(job, observed[i::3]) for i in range(3))
    assert best < 1e-3


def _seconds_per_decision(job, observed):
    started = time.perf_counter()
    for each in observed:
        assert decide(job, each, NOW).start is not None
    return (time.perf_counter() - started) / len(observed)
