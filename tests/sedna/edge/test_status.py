"""What reports do to a job's status, and what they leave alone."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest

from controller.cluster.conditions import Known
from controller.cluster.edges.reports import Reports, WorkerReport
from controller.cluster.job_status import status_of
from controller.cluster.resolve import Resolved
from controller.decide import Decision
from fedloom.api.defaults import with_defaults
from fedloom.api.reading import read_job, read_status
from fedloom.api.status import ClientStatus, JobStatus, to_document

NOW, LATER = "2026-01-01T00:00:00Z", "2026-01-01T00:01:00Z"


@pytest.fixture
def known():
    worker = {"template": {"spec": {"containers": [{"name": "t", "image": "x"}]}}}
    job = {
        "apiVersion": "sedna.io/v1alpha1",
        "kind": "FederatedLearningJob",
        "metadata": {"name": "toy", "namespace": "ns"},
        "spec": {
            "aggregationWorker": {"model": {"name": "m"}, **worker},
            "trainingWorkers": [{"dataset": {"name": name}, **worker} for name in "ab"],
        },
    }
    return Known(1, Resolved(with_defaults(read_job(job))))


def report(client: str, number: int, samples: int = 7, **metrics: str) -> WorkerReport:
    return WorkerReport(client, f"node-{client}", number, "running", "t", samples, metrics)


def training(status: JobStatus):
    return next((each for each in status.conditions if each.type == "Training"), None)


def test_without_reports_there_is_no_such_condition(known):
    assert training(status_of(known, JobStatus(), NOW)) is None
    assert training(status_of(replace(known, reports=(report("a", 0),)), JobStatus(), NOW)) is None


def test_the_highest_round_is_shown_and_of_equals_the_latest(known):
    late = replace(report("b", 2), time="late")
    known = replace(known, reports=(report("a", 2), late, report("a", 1)))
    assert training(status_of(known, JobStatus(), NOW)).message == "Round 2 reaches at late"


def test_a_committed_round_says_it_better_than_a_report(known):
    committed = ClientStatus("a", samples=100, last_round=3, metrics={"loss": "0.1"})
    known = replace(known, clients={"a": committed}, reports=(report("a", 3, 7, loss="9"),))
    assert status_of(known, JobStatus(), NOW).clients[0] == committed
    known = replace(known, reports=(report("a", 4, 7, loss="9"),))
    found = status_of(known, JobStatus(), NOW).clients[0]
    assert (found.samples, found.metrics, found.last_round) == (7, {"loss": "9"}, 3)


def test_what_was_reported_outlives_the_process_that_heard_it(known):
    first = status_of(replace(known, reports=(report("a", 1, 7, loss="9"),)), JobStatus(), NOW)
    before = read_status(to_document(first))
    after = status_of(known, before, LATER)
    assert training(after) == training(first)
    assert after.clients[0].samples == 7
    assert after == first, "nothing is written where nothing changed"


def test_training_ends_with_the_job(known):
    first = status_of(replace(known, reports=(report("a", 2),)), JobStatus(), NOW)
    over = replace(known, decision=Decision("Failed", "TooFewUpdates", "one of two"))
    found = training(status_of(over, first, LATER))
    assert (found.status, found.reason) == ("False", "TooFewUpdates")
    assert found.message.startswith("Round 2 ")
    assert found.last_transition_time == LATER


def test_a_ticket_is_told_once_the_status_says_it():
    reports, job = Reports(), ("ns", "toy")
    one = reports.take(job, "u", report("a", 1))
    two = reports.take(job, "u", report("b", 1))
    assert not reports.wait(job, "u", one, 0)
    reports.told(job, "u", one)
    assert reports.wait(job, "u", one, 0)
    assert not reports.wait(job, "u", two, 0)
    assert reports.of(job, "another") == ((), 0), "a job that was made anew knows nothing of it"
    assert [each.client for each in reports.of(job, "u")[0]] == ["a", "b"]
    reports.forget(job)
    assert reports.of(job, "u") == ((), 0)
    begun = time.monotonic()
    assert not reports.wait(job, "u", two, 10), "nobody will tell"
    assert reports.newest_round(job, "u", ("e", "a")) == 0
    assert time.monotonic() - begun < 5
    assert not reports._jobs, "who asks for a job that has gone leaves nothing behind"
