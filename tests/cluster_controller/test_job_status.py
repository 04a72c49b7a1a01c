"""The status of a job, from what is known of it: a table."""

from __future__ import annotations

from dataclasses import replace

import pytest

from controller.cluster.conditions import ClientRun, Known, TrackingFacts
from controller.cluster.job_status import client_statuses, is_final, status_of
from controller.cluster.resolve import Finding, Resolved
from controller.decide import Decision
from controller.observed import Observed
from fedloom.api.defaults import with_defaults
from fedloom.api.reading import read_job, read_status
from fedloom.api.status import JobStatus, to_document
from pipelines.engine import RunPhase, RunStatus
from pipelines.start import Start

NOW, LATER = "2026-01-01T00:00:00Z", "2026-01-01T01:00:00Z"
MODEL = {"key": "k", "uri": "s3://b/k", "digest": "sha256:1", "size_bytes": 8}
TRAINED = {
    "state": "Succeeded",
    "reason": None,
    "num_examples": 12,
    "seconds": 1.5,
    "uplink_bytes": 100,
    "downlink_bytes": 50,
    "metrics": {"loss": 0.25},
    "node": "edge-1",
}
DROPPED = {
    "state": "Failed",
    "reason": "OOMKilled",
    "num_examples": None,
    "seconds": None,
    "uplink_bytes": None,
    "downlink_bytes": None,
    "metrics": {},
    "node": None,
}


def result(number, **clients):
    return {
        "round": number,
        "rounds": 3,
        "metrics": {"accuracy": 0.9375, "train/loss": 0.25},
        "clients": clients,
        "model": MODEL,
    }


@pytest.fixture
def job(make_job):
    return with_defaults(read_job(make_job(rounds=3)))


@pytest.fixture
def known(job):
    """A job in its second round."""
    last = result(1, a=TRAINED, b=DROPPED)
    run = RunStatus(2, 1, RunPhase.RUNNING, clients={"a": "Running", "b": "Pending"})
    observed = Observed(last=last, uplink_bytes=100, downlink_bytes=50, run=run)
    return Known(
        generation=4,
        resolved=Resolved(job),
        decision=Decision("Running", "RoundRunning", "round 2 is running"),
        observed=observed,
        workflow="toy-38bc8f64-r2-a1",
        run={"a": ClientRun("Running", None, "edge-2"), "b": ClientRun("Pending", "Unschedulable")},
        clients=client_statuses(last, frozenset("ab")),
        tracking=TrackingFacts(is_known=True, experiment_id="1", run_id="r", url="http://m/r"),
    )


def conditions(known, previous=JobStatus(), now=NOW):  # noqa: B008 (a frozen value)
    found = status_of(known, previous, now).conditions
    return {each.type: (each.status, each.reason) for each in found}


def test_a_running_job_says_which_round_runs_where_and_how_the_clients_are(known):
    status = status_of(known, JobStatus(), NOW)
    assert (status.phase, status.current_round, status.aggregation_count) == ("Running", 2, 1)
    assert (status.active, status.succeeded, status.failed) == (2, 0, 0)
    assert status.metrics == {"accuracy": "0.9375", "train/loss": "0.25"}
    assert (status.traffic.uplink_bytes, status.traffic.downlink_bytes) == (100, 50)
    assert (status.model.round, status.model.uri) == (1, "s3://b/k")
    assert (status.workflow.engine, status.workflow.name) == ("argo", "toy-38bc8f64-r2-a1")
    assert status.tracking.url == "http://m/r"
    a, b = status.clients
    assert (a.state, a.node_name, a.last_round, a.samples) == ("Running", "edge-2", 2, 12)
    assert a.metrics == {"loss": "0.25"}
    assert (b.state, b.reason, b.last_round) == ("Pending", "Unschedulable", 2)


def test_its_conditions(known):
    assert conditions(known) == {
        "Accepted": ("True", "Valid"),
        "ResolvedRefs": ("True", "Resolved"),
        "WorkflowSubmitted": ("True", "Submitted"),
        "Progressing": ("True", "RoundRunning"),
        "TrackingAvailable": ("True", "Available"),
        "Suspended": ("False", "NotSuspended"),
    }


def test_between_rounds_the_counts_are_those_of_the_last_one(known):
    observed = replace(known.observed, run=None)
    status = status_of(replace(known, run={}, observed=observed), JobStatus(), NOW)
    assert (status.active, status.succeeded, status.failed) == (0, 1, 1)
    assert [each.state for each in status.clients] == ["Succeeded", "Failed"]
    assert status.clients[1].reason == "OOMKilled"


def waiting(known, reason, message="so it is"):
    observed = replace(known.observed, run=None)
    return replace(known, decision=Decision("Running", reason, message), observed=observed, run={})


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        pytest.param(
            lambda k: Known(1, Resolved(None, invalid=Finding("Invalid", "spec.rounds: got 0"))),
            {
                "Accepted": ("False", "Invalid"),
                "ResolvedRefs": ("Unknown", "Invalid"),
                "Progressing": ("False", "Invalid"),
            },
            id="invalid",
        ),
        pytest.param(
            lambda k: Known(1, replace(k.resolved, missing=Finding("DatasetNotFound", "a"))),
            {
                "Accepted": ("True", "Valid"),
                "ResolvedRefs": ("False", "DatasetNotFound"),
                "Progressing": ("False", "DatasetNotFound"),
            },
            id="missing",
        ),
        pytest.param(
            lambda k: waiting(k, "Suspended"),
            {
                "Suspended": ("True", "SuspendedByUser"),
                "Progressing": ("False", "Suspended"),
                "WorkflowSubmitted": ("False", "Suspended"),
            },
            id="suspended",
        ),
        pytest.param(
            lambda k: waiting(k, "WaitingForNodes"),
            {"Progressing": ("False", "WaitingForNodes"), "Suspended": ("False", "NotSuspended")},
            id="nodes",
        ),
        pytest.param(
            lambda k: replace(k, trouble=Finding("StoreUnavailable", "no answer")),
            {"Progressing": ("False", "StoreUnavailable"), "Accepted": ("True", "Valid")},
            id="store away",
        ),
        pytest.param(
            lambda k: replace(
                waiting(k, "x"), decision=Decision("Succeeded", "RoundsDone", "all 3 are done")
            ),
            {"Complete": ("True", "RoundsDone"), "Progressing": ("False", "RoundsDone")},
            id="complete",
        ),
        pytest.param(
            lambda k: replace(
                waiting(k, "x"), decision=Decision("Failed", "TooFewClients", "1 of 2")
            ),
            {"Failed": ("True", "TooFewClients"), "Progressing": ("False", "TooFewClients")},
            id="failed",
        ),
        pytest.param(
            lambda k: replace(k, tracking=None),
            {"TrackingAvailable": ("False", "NotConfigured")},
            id="no tracking",
        ),
        pytest.param(
            lambda k: replace(
                k, tracking=TrackingFacts(is_known=True, finding=Finding("Unavailable", "down"))
            ),
            {"TrackingAvailable": ("False", "Unavailable")},
            id="tracking away",
        ),
        pytest.param(
            lambda k: replace(k, tracking=TrackingFacts()),
            {"TrackingAvailable": None},
            id="tracking not heard of",
        ),
    ],
)
def test_conditions_of_other_states(known, change, expected):
    found = conditions(change(known))
    assert {kind: found.get(kind) for kind in expected} == expected


def test_a_second_attempt_says_why_there_is_one(known):
    start = Start(2, 2, ("a", "b"), 0.0)
    observed = replace(known.observed, run=None, failure=("TooFewClients", "1 of 2"))
    decision = Decision("Running", "RoundStarted", "", start)
    status = status_of(replace(known, decision=decision, observed=observed), JobStatus(), NOW)
    progressing = next(each for each in status.conditions if each.type == "Progressing")
    assert (progressing.status, progressing.reason) == ("True", "RoundRetried")
    assert "attempt 2, after TooFewClients: 1 of 2" in progressing.message


def test_the_end_has_a_time_and_ends_once(known):
    done = replace(waiting(known, "x"), decision=Decision("Succeeded", "RoundsDone", "all"))
    first = status_of(done, JobStatus(start_time=NOW), NOW)
    assert (first.phase, first.completion_time, first.current_round) == ("Succeeded", NOW, 1)
    assert is_final(first)
    assert status_of(done, first, LATER) == first


def test_nothing_changes_where_nothing_changed(known):
    first = status_of(known, JobStatus(), NOW)
    assert status_of(known, first, LATER) == first
    assert status_of(known, read_status(to_document(first)), LATER) == first


def test_a_conditions_time_changes_with_its_status_only(known):
    first = status_of(known, JobStatus(), NOW)
    other = status_of(waiting(known, "Suspended"), first, LATER)
    times = {each.type: each.last_transition_time for each in other.conditions}
    assert times["Suspended"] == times["Progressing"] == times["WorkflowSubmitted"] == LATER
    assert times["Accepted"] == times["ResolvedRefs"] == times["TrackingAvailable"] == NOW


def test_a_resumed_job_says_so(known):
    suspended = status_of(waiting(known, "Suspended"), JobStatus(), NOW)
    found = conditions(known, suspended, LATER)
    assert found["Suspended"] == ("False", "Resumed")


def test_a_failed_job_that_is_tried_again_is_not_failed_any_more(known):
    failed = replace(waiting(known, "x"), decision=Decision("Failed", "TooFewClients", ""))
    before = status_of(failed, JobStatus(), NOW)
    again = status_of(known, before, LATER)
    assert not is_final(again)
    assert again.completion_time is None


def test_before_anything_is_known_a_job_is_pending(job):
    status = status_of(Known(1, Resolved(job, missing=Finding("X", ""))), JobStatus(), NOW)
    assert (status.phase, status.start_time) == ("Pending", NOW)
    assert [each.name for each in status.clients] == ["a", "b"]


def test_of_many_clients_a_hundred_are_shown(make_job):
    clients = tuple(f"c{number}" for number in range(250))
    job = with_defaults(read_job(make_job(clients=clients)))
    status = status_of(Known(1, Resolved(job)), JobStatus(), NOW)
    assert len(status.clients) == 100
    assert len(str(to_document(status))) < 20_000


def test_a_model_version_is_told_when_mlflow_has_it(known):
    tracking = TrackingFacts(is_known=True, versions={1: "3", 2: "4"})
    assert status_of(replace(known, tracking=tracking), JobStatus(), NOW).model.version == "4"


def test_every_condition_is_about_the_generation_that_was_looked_at(known):
    status = status_of(known, JobStatus(), NOW)
    assert {each.observed_generation for each in status.conditions} == {4}
    assert status.observed_generation == 4
