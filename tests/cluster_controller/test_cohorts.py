"""Who takes part where nodes are not ready, and when an attempt waits."""

from __future__ import annotations

import pytest

from controller.decide import decide
from controller.observed import Observed
from fedloom.api.defaults import with_defaults
from fedloom.api.reading import read_job

MODEL = {"key": "round-0000/model.safetensors", "digest": "sha256:0", "size_bytes": 1}
FIRST = {"round": 0, "model": MODEL, "state": {}}
NAMES = tuple("abcdef")


def decided(make_job, now=0.0, clients=NAMES, **observed):
    spec = observed.pop("spec", {})
    job = with_defaults(read_job(make_job(clients=clients, **spec)))
    return decide(job, Observed(last=FIRST, metrics=[{}], **observed), now)


def test_clients_without_a_working_node_are_not_drawn(make_job):
    spec = {"participation": {"clientsPerRound": 3}}
    everybody = decided(make_job, spec=spec).start.cohort
    gone = frozenset(everybody[:1])
    cohort = decided(make_job, spec=spec, unready=gone).start.cohort
    assert len(cohort) == 3
    assert not gone & set(cohort)
    assert len(set(everybody) & set(cohort)) == 2  # nobody else is exchanged


def test_where_all_are_ready_the_cohort_is_that_of_the_embedded_run(make_job):
    spec = {"participation": {"clientsPerRound": 3, "seed": 4}}
    assert (
        decided(make_job, spec=spec).start.cohort
        == decided(make_job, spec=spec, unready=frozenset()).start.cohort
    )


def test_with_fewer_nodes_than_the_round_needs_it_waits_and_says_for_whom(make_job):
    decision = decided(make_job, unready=frozenset("b"))  # by default nobody may be missing
    assert decision.start is None
    assert decision.reason == "WaitingForNodes"
    assert "not ready: b" in decision.message


def test_with_enough_nodes_it_starts_without_the_others(make_job):
    spec = {"participation": {"minClients": 4}}
    decision = decided(make_job, spec=spec, unready=frozenset("bc"))
    assert decision.start.cohort == tuple("adef")


def test_nobody_ready_at_all_is_waited_for_too(make_job):
    spec = {"participation": {"minClients": 1}}
    decision = decided(make_job, spec=spec, unready=frozenset(NAMES))
    assert decision.reason == "WaitingForNodes"


def test_under_noise_the_draw_does_not_depend_on_who_is_ready(make_job):
    privacy = {"clipNorm": 1.0, "noiseMultiplier": 1.0}
    spec = {"participation": {"clientsPerRound": 4, "minClients": 1}, "privacy": privacy}
    everybody = decided(make_job, spec=spec).start.cohort
    for gone in NAMES:
        cohort = decided(make_job, spec=spec, unready=frozenset(gone)).start.cohort
        assert cohort == tuple(name for name in everybody if name != gone)


def test_round_zero_needs_no_client(make_job):
    job = with_defaults(read_job(make_job()))
    assert decide(job, Observed(unready=frozenset("ab")), 0.0).start.round == 0


@pytest.mark.parametrize(
    ("failed", "forgiven", "phase"),
    [(1, 0, "Running"), (2, 0, "Failed"), (2, 1, "Running"), (9, 8, "Running"), (9, 7, "Failed")],
)
def test_attempts_that_are_forgiven_do_not_count_but_have_numbers(
    make_job, failed, forgiven, phase
):
    decision = decided(
        make_job,
        spec={"participation": {"retries": 1}},
        failed_attempts=failed,
        forgiven_attempts=forgiven,
        failure=("TooFewClients", "why"),
    )
    assert decision.phase == phase
    if phase == "Running":
        assert decision.start.attempt == failed + 1


def test_after_an_outage_the_next_attempt_waits_its_time(make_job):
    known = {"failed_attempts": 1, "forgiven_attempts": 1, "not_before": 100.0}
    known["failure"] = ("StoreUnavailableError", "no answer")
    decision = decided(make_job, now=99.0, **known)
    assert (decision.start, decision.reason) == (None, "BackingOff")
    assert "no answer" in decision.message
    assert decided(make_job, now=100.0, **known).start.attempt == 2
