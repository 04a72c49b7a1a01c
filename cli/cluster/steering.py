"""`fedloom suspend`, `resume`, `cancel`, `retry`: what is wanted of a job, written into it.

The controller acts on it when it sees it: a suspended job ends the round at hand first.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime

from cli.cluster.jobs import (
    change_job,
    find_job,
    has_ended,
    is_complete,
    status_of,
    title_of,
    verdict_of,
)
from cli.cluster.server import Server
from controller.cluster.cancelling import CANCEL
from controller.cluster.job_run import RETRY
from controller.cluster.nodes import seconds_of
from fedloom.errors import JobError


def suspend(server: Server, namespace: str, name: str) -> str:
    """Let no further round begin; give a line that says so."""
    job = find_job(server, namespace, name)
    _refuse_ended(job, "suspend")
    if job["spec"].get("suspend"):
        return f"{title_of(job)}: suspended already"
    change_job(server, job, {"spec": {"suspend": True}})
    return f"{title_of(job)}: suspended; a round that runs comes to its end"


def resume(server: Server, namespace: str, name: str) -> str:
    """Let a suspended job go on."""
    job = find_job(server, namespace, name)
    _refuse_ended(job, "resume")
    if not job["spec"].get("suspend"):
        return f"{title_of(job)}: it is not suspended"
    change_job(server, job, {"spec": {"suspend": False}})
    return f"{title_of(job)}: resumed"


def cancel(server: Server, namespace: str, name: str) -> str:
    """End a job for good; what it made stays."""
    job = find_job(server, namespace, name)
    _refuse_ended(job, "cancel")
    change_job(server, job, {"metadata": {"annotations": {CANCEL: "true"}}})
    done = status_of(job).aggregation_count or 0
    return f"{title_of(job)}: cancelled; its {done} committed rounds stay"


def retry(server: Server, namespace: str, name: str) -> str:
    """Let a job that failed go on after its last committed round: attempts until now do not count."""
    job = find_job(server, namespace, name)
    status = status_of(job)
    if is_complete(status):
        raise JobError("Complete", f"{title_of(job)}: it is complete, nothing is left to retry")
    if not has_ended(job):
        raise JobError(
            "NotFailed", f"{title_of(job)}: it has not failed, it is {status.phase or 'Pending'}"
        )
    # Times of the cluster's clock, in whole seconds: never before the end that it is to undo.
    asked = max(time.time(), (seconds_of(status.completion_time) or 0.0) + 1.0)
    text = datetime.fromtimestamp(asked, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    change_job(server, job, {"metadata": {"annotations": {RETRY: text, CANCEL: None}}})
    return f"{title_of(job)}: goes on with round {(status.aggregation_count or 0) + 1}"


def _refuse_ended(job: dict[str, object], verb: str) -> None:
    status = status_of(job)
    if has_ended(job):
        verdict = verdict_of(status)
        how = f"{verdict.type} ({verdict.reason})" if verdict else str(status.phase)
        raise JobError("Ended", f"{title_of(job)}: it has ended, {how}: nothing to {verb}")
