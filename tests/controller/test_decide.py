"""decide is a table: what is known of a job in, what to do next out."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from controller.decide import Decision, decide
from controller.observed import Observed
from fedloom.api.defaults import with_defaults
from fedloom.api.job import FederatedLearningJob
from fedloom.api.reading import read_object
from pipelines.engine import RunPhase, RunStatus

NOW = 1000.0


def a_job(**spec: Any) -> FederatedLearningJob:
    template = {"spec": {"containers": [{"name": "t", "command": ["python", "t.py"]}]}}
    document = {
        "apiVersion": "sedna.io/v1alpha1",
        "kind": "FederatedLearningJob",
        "metadata": {"name": "j"},
        "spec": {
            "rounds": 3,
            "participation": {"retries": 1, "seed": 1},
            "aggregationWorker": {"model": {"name": "m"}, "template": template},
            "trainingWorkers": [
                {"dataset": {"name": name}, "template": template} for name in ("a", "b", "c", "d")
            ],
            **spec,
        },
    }
    job = read_object(document)
    assert isinstance(job, FederatedLearningJob)
    return with_defaults(job)


def committed(number: int, *metrics: dict[str, float]) -> Observed:
    last = {
        "round": number,
        "model": {"key": f"round-{number}", "digest": f"sha256:{number}", "size_bytes": 10},
        "state": {},
    }
    return Observed(last=last, metrics=metrics or tuple({} for _ in range(number + 1)))


def running(round_: int, attempt: int = 1) -> RunStatus:
    return RunStatus(round_, attempt, RunPhase.RUNNING)


def test_a_new_job_begins_with_the_first_model():
    decision = decide(a_job(), Observed(), NOW)
    assert decision.start is not None
    assert (decision.start.round, decision.start.attempt, decision.start.cohort) == (0, 1, ())


def test_a_committed_round_is_followed_by_the_next_from_its_model():
    start = decide(a_job(), committed(1), NOW).start
    assert start is not None
    assert (start.round, start.attempt, start.started) == (2, 1, NOW)
    assert start.model == committed(1).last["model"]
    assert start.cohort == ("a", "b", "c", "d")


def test_a_running_round_is_waited_for():
    decision = decide(a_job(), replace(committed(1), run=running(2)), NOW)
    assert decision == Decision("Running", "RoundRunning", "round 2 is running")


def test_the_last_round_ends_the_job():
    decision = decide(a_job(), committed(3), NOW)
    assert (decision.phase, decision.reason, decision.is_final) == ("Succeeded", "RoundsDone", True)


def test_more_rounds_reopen_a_job_that_had_ended():
    start = decide(a_job(rounds=4), committed(3), NOW).start
    assert start is not None
    assert start.round == 4


@pytest.mark.parametrize(
    ("round_", "failed", "phase"), [(1, 1, "Running"), (1, 2, "Failed"), (0, 1, "Failed")]
)
def test_a_failed_attempt_is_repeated_as_often_as_retries_say(round_, failed, phase):
    observed = committed(round_ - 1) if round_ else Observed()
    observed = replace(observed, failed_attempts=failed, failure=("TooFewClients", "1 of 3"))
    decision = decide(a_job(), observed, NOW)
    assert decision.phase == phase
    if phase == "Failed":
        assert (decision.reason, decision.message) == ("TooFewClients", "1 of 3")
    else:
        assert decision.start is not None
        assert decision.start.attempt == failed + 1


def test_every_attempt_draws_its_own_cohort_and_the_same_one_again():
    job = a_job(participation={"clientsPerRound": 2, "minClients": 1, "retries": 20, "seed": 1})
    cohorts = set()
    for failed in range(12):
        observed = replace(committed(1), failed_attempts=failed)
        first, again = (decide(job, observed, NOW).start for _ in range(2))
        assert first is not None
        assert first == again
        assert len(first.cohort) == 2
        cohorts.add(first.cohort)
    assert len(cohorts) > 3


def test_a_suspended_job_lets_the_running_round_end_and_starts_none():
    job = a_job(suspend=True)
    assert decide(job, replace(committed(1), run=running(2)), NOW).reason == "RoundRunning"
    decision = decide(job, committed(2), NOW)
    assert (decision.reason, decision.start, decision.is_waiting) == ("Suspended", None, True)


STOPS = {
    "threshold-reached": ({"threshold": 0.9}, [0.5, 0.91], True),
    "threshold-equal": ({"threshold": 0.9}, [0.9], True),
    "threshold-not-reached": ({"threshold": 0.9}, [0.5, 0.89], False),
    "threshold-minimize": ({"threshold": 0.2, "goal": "minimize"}, [0.5, 0.1], True),
    "threshold-passed-and-lost": ({"threshold": 0.9}, [0.95, 0.8], False),
    "patience-out": ({"patience": 2}, [0.5, 0.8, 0.8, 0.7], True),
    "patience-new-best": ({"patience": 2}, [0.5, 0.8, 0.7, 0.81], False),
    "patience-too-early": ({"patience": 2}, [0.5, 0.4], False),
    "patience-minimize": ({"patience": 1, "goal": "minimize"}, [0.5, 0.4, 0.4], True),
    "nothing-measured": ({"threshold": 0.9}, [], False),
}


@pytest.mark.parametrize(("stop", "values", "ends"), STOPS.values(), ids=STOPS)
def test_the_stop_condition(stop, values, ends):
    job = a_job(
        rounds=100,
        stopCondition={"metric": "accuracy", **stop},
        evaluation={"dataset": {"name": "test"}},
    )
    measured = [{}, *({"accuracy": value} for value in values), {}]
    observed = committed(len(values) + 1, *measured)
    decision = decide(job, observed, NOW)
    assert decision.is_final is ends
    if ends:
        assert decision.reason == "StopConditionMet"
        assert "accuracy" in decision.message
