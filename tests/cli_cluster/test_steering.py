"""suspend, resume, cancel, retry: one small change of the job each, and only where it makes sense."""

from __future__ import annotations

import pytest

from cli.cluster import steering
from cli.cluster.jobs import find_job, has_ended
from controller.cluster.nodes import seconds_of
from fedloom.errors import JobError


def changes(server):
    return [call[2] for call in server.calls if call[0] == "patch"]


def test_suspend_and_resume_write_the_spec_once(server, make):
    server.put("federatedlearningjobs", make.job(status=make.status(1)))
    assert "suspended" in steering.suspend(server, "team", "digits")
    assert "already" in steering.suspend(server, "team", "digits")
    assert "resumed" in steering.resume(server, "team", "digits")
    assert "not suspended" in steering.resume(server, "team", "digits")
    assert changes(server) == [{"spec": {"suspend": True}}, {"spec": {"suspend": False}}]


def test_cancel_is_an_annotation_and_keeps_the_job(server, make):
    server.put("federatedlearningjobs", make.job(status=make.status(2)))
    assert "2 committed rounds stay" in steering.cancel(server, "team", "@latest")
    assert changes(server) == [{"metadata": {"annotations": {"fedloom.io/cancel": "true"}}}]


@pytest.mark.parametrize("verb", ["suspend", "resume", "cancel"])
def test_a_job_that_has_ended_is_left_alone(server, make, verb):
    server.put("federatedlearningjobs", make.job(status=make.status(3, "Succeeded")))
    with pytest.raises(JobError, match="has ended, Complete"):
        getattr(steering, verb)(server, "team", "digits")
    assert changes(server) == []


def test_retry_is_later_than_the_end_and_takes_a_cancellation_back(server, make):
    late = make.status(1, "Failed") | {"completionTime": "2099-01-01T00:00:00Z"}
    server.put("federatedlearningjobs", make.job(status=late, cancel="true"))
    assert has_ended(find_job(server, "team", "digits"))
    assert "round 2" in steering.retry(server, "team", "digits")
    meta = find_job(server, "team", "digits")["metadata"]
    assert "fedloom.io/cancel" not in meta["annotations"]
    assert seconds_of(meta["annotations"]["fedloom.io/retry-at"]) > seconds_of(
        "2099-01-01T00:00:00Z"
    )


def test_a_job_that_is_to_be_retried_has_not_ended(server, make):
    server.put("federatedlearningjobs", make.job(status=make.status(1, "Failed")))
    steering.retry(server, "team", "digits")
    assert not has_ended(find_job(server, "team", "digits"))
    with pytest.raises(JobError, match="has not failed"):
        steering.retry(server, "team", "digits")


@pytest.mark.parametrize(("phase", "words"), [("Succeeded", "complete"), ("Running", "not failed")])
def test_only_a_failed_job_is_retried(server, make, phase, words):
    server.put("federatedlearningjobs", make.job(status=make.status(1, phase)))
    with pytest.raises(JobError, match=words):
        steering.retry(server, "team", "digits")


def test_a_misspelt_name_is_helped(server, make):
    server.put("federatedlearningjobs", make.job())
    with pytest.raises(JobError, match="did you mean 'digits'"):
        steering.suspend(server, "team", "digit")
    with pytest.raises(JobError, match="there are: none"):
        steering.suspend(server, "other", "@latest")
