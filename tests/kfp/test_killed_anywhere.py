"""A controller that dies between any two calls leaves no round without a run and none with two."""

from __future__ import annotations

import pytest

from fedloom.artifacts import layout

_LOOKS = 60


def _until_complete(bench, killed) -> str:
    """Go on, with a new process wherever one has died, until the job is done; give the call it died at."""
    died = ""
    for _ in range(_LOOKS):
        try:
            bench.try_look()
        except killed:
            died = bench.death.was
            bench.now += 5.0  # as long as another takes to notice
            bench.restart()
            continue
        for run in list(bench.server.runs.values()):
            if run["state"] == "PENDING":
                number = int(run["display_name"].split()[3])
                if not bench.job_store.exists(layout.result_key(number)):
                    bench.commit(number)
                bench.server.set_state(run["run_id"], "SUCCEEDED")
        conditions = bench.job.get("status", {}).get("conditions", ())
        if any(each["type"] == "Complete" and each["status"] == "True" for each in conditions):
            return died
    pytest.fail(f"not complete, killed at {died}: {bench.status}")


def _calls_of_a_whole_job(make_bench, killed) -> int:
    bench = make_bench()
    bench.apply_job(rounds=1)
    _until_complete(bench, killed)
    return bench.death.count


@pytest.mark.parametrize("is_after", [False, True], ids=["before", "after"])
def test_killed_at_any_call_no_second_run_is_made(make_bench, server, kill, is_after):
    most = _calls_of_a_whole_job(make_bench, kill)
    assert most > 20
    died = []
    for at in range(1, most + 1):
        server.runs.clear()
        server.experiments.clear()
        bench = make_bench()
        bench.death.arm(at, is_after=is_after)
        bench.apply_job(rounds=1)
        died.append(_until_complete(bench, kill))
        assert bench.titles() == ["toy / round 000", "toy / round 001"], (at, died[-1])
        bench.look()
        assert bench.secrets() == [], (at, died[-1])
    assert {"create configmaps", "create secrets", "POST /runs"} <= set(died)


def test_a_run_whose_answer_was_lost_is_found_and_not_made_again(bench, cut):
    bench.apply_job()

    def lose(verb, path):
        if (verb, path) == ("POST", "/runs"):
            raise cut

    bench.server.after = lose
    bench.try_look()
    bench.server.after = lambda verb, path: None
    assert bench.titles() == ["toy / round 000"]
    assert bench.condition("Progressing") == ("False", "KfpUnreachable")
    bench.now += 5.0
    bench.look()
    assert bench.titles() == ["toy / round 000"]
    assert bench.condition("Progressing") == ("True", "RoundRunning")


def test_a_run_that_was_asked_for_and_comes_late_is_waited_for(bench, cut):
    bench.apply_job()
    late = []

    def hold_up(verb, path):
        if (verb, path) == ("POST", "/runs"):
            late.append(path)
            raise cut

    bench.server.before = hold_up
    bench.try_look()
    bench.server.before = lambda verb, path: None
    bench.restart()
    bench.now += 10.0
    bench.try_look()
    assert late == ["/runs"]
    assert bench.titles() == []
    assert bench.condition("Progressing") == ("False", "KfpAnswerLost")
    bench.now += 40.0  # longer than any answer takes
    bench.look()
    assert bench.titles() == ["toy / round 000"]


def test_of_two_runs_of_one_attempt_the_second_is_terminated(bench, cut):
    bench.apply_job()
    bodies = []

    def lose(verb, path):
        if (verb, path) == ("POST", "/runs"):
            raise cut

    bench.server.after = lose
    bench.try_look()
    (first,) = bench.server.runs.values()
    second = {**first, "run_id": "ffffffff", "created_at": "2100-01-01T00:00:00Z"}
    second["state_history"] = []
    bench.server.runs["ffffffff"] = second
    bench.server.after = lambda verb, path: None
    bench.now += 5.0
    bench.look()
    assert not bodies
    assert second["state"] == "CANCELING"
    assert first["state"] == "PENDING"
