"""Runs are asked for together, seldom, and not at all while the backend is away."""

from __future__ import annotations

import pytest

from controller.cluster.answers import EngineUnavailableError
from controller.cluster.kfp_poll import GONE, RunPoll, state_in


class Api:
    """Counts calls; says RUNNING of every run that it was not told of."""

    def __init__(self) -> None:
        self.calls: list[int] = []
        self.error: EngineUnavailableError | None = None
        self.states: dict[str, str | None] = {}

    def get_runs(self, runs, namespace):
        self.calls.append(len(runs))
        if self.error is not None:
            raise self.error
        found = {run: self.states.get(run, "RUNNING") for run in runs}
        return {run: {"run_id": run, "state": state} for run, state in found.items() if state}


@pytest.fixture
def clock():
    return [1_000.0]


@pytest.fixture
def api():
    return Api()


@pytest.fixture
def poll(api, clock):
    return RunPoll(api, lambda: clock[0])


def test_a_hundred_jobs_cost_less_than_a_call_a_second(api, poll, clock):
    runs = [f"run-{number}" for number in range(100)]
    for _ in range(600):  # a minute, every job looked at ten times a second
        clock[0] += 0.1
        for run in runs:
            poll.state_of(run, "")
    assert len(api.calls) <= 60
    assert max(api.calls) == 100


def test_a_run_that_goes_on_for_long_is_asked_for_every_ten_seconds(api, poll, clock):
    for _ in range(1_000):
        clock[0] += 1.0
        poll.state_of("run", "")
    before = len(api.calls)
    for _ in range(100):
        clock[0] += 1.0
        poll.state_of("run", "")
    assert 9 <= len(api.calls) - before <= 11
    assert poll.wait_seconds("run") <= 10


def test_an_end_is_known_and_never_asked_for_again(api, poll, clock):
    api.states["run"] = "SUCCEEDED"
    assert poll.state_of("run", "").state == "SUCCEEDED"
    clock[0] += 1_000
    assert poll.state_of("run", "").has_ended
    assert api.calls == [1]


def test_a_run_that_is_not_listed_is_gone(api, poll):
    api.states["run"] = None
    assert poll.state_of("run", "").state == GONE


def test_a_backend_that_is_away_is_asked_less_and_less_and_then_again(api, poll, clock):
    api.error = EngineUnavailableError("KfpUnreachable", "down")
    for _ in range(3_000):  # five minutes
        clock[0] += 0.1
        with pytest.raises(EngineUnavailableError) as raised:
            poll.state_of("run", "")
        assert raised.value.reason == "KfpUnreachable"
        assert 0 < raised.value.retry_after_seconds <= 60
    assert len(api.calls) <= 10
    api.error = None
    clock[0] += 60
    assert poll.state_of("run", "").state == "RUNNING"


def test_a_failed_request_of_one_job_does_not_shut_the_others_out(api, poll):
    poll.failed(EngineUnavailableError("KfpFailed", "etcd: request is too large"))
    assert poll.state_of("run", "").state == "RUNNING"


def test_a_run_that_was_cancelling_and_then_failed_was_cancelled(api, poll, clock):
    api.states["run"] = "CANCELING"
    assert not poll.state_of("run", "").has_ended
    api.states["run"] = "FAILED"
    clock[0] += 10
    found = poll.state_of("run", "")
    assert found.has_ended
    assert found.is_cancelled


def test_what_a_backend_does_not_say_is_not_made_up():
    found = state_in({"run_id": "x"})
    assert (found.state, found.message, found.failed) == ("PENDING", "", ())
    error = {"code": 13, "message": "no quota"}
    details = {"task_details": [{"display_name": "train-a", "state": "FAILED"}, {}]}
    found = state_in({"state": "FAILED", "error": error, "run_details": details})
    assert (found.message, found.failed) == ("no quota", ("train-a",))
