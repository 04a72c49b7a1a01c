"""Jobs of a cluster: found by name, and read for what a screen shows of them."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any

from cli.cluster.server import Server
from controller.cluster.job_run import RETRY
from controller.cluster.job_status import is_final
from controller.cluster.kubernetes import Cluster, Document
from controller.cluster.nodes import seconds_of
from controller.cluster.resources import JOBS
from fedloom.api import status as words
from fedloom.api.defaults import rounds_of
from fedloom.api.reading import read_job, read_status
from fedloom.api.status import Condition, JobStatus
from fedloom.errors import InvalidJobError, JobError

LATEST = "@latest"
_MOST_NAMED = 10


def find_job(server: Cluster, namespace: str, name: str) -> Document:
    """Read a job by its name, or the newest of the namespace. Raises JobError where there is none."""
    if name != LATEST:
        found = server.get(JOBS, namespace, name)
        if found is not None:
            return found
    jobs, _ = server.list(JOBS, namespace)
    if name == LATEST and jobs:
        return max(jobs, key=lambda job: str(job["metadata"]["creationTimestamp"]))
    names = sorted(job["metadata"]["name"] for job in jobs)
    meant = difflib.get_close_matches(name, names, 1)
    there = f"did you mean {meant[0]!r}?" if meant else f"there are: {_shown(names)}"
    raise JobError(
        "NotFound", f"got {name!r}, expected a FederatedLearningJob of {namespace!r}; {there}"
    )


def change_job(server: Server, job: Document, change: Mapping[str, Any]) -> Document:
    """Merge a change into a job. Raises JobError where it went meanwhile."""
    meta = job["metadata"]
    changed = server.patch(JOBS, meta["namespace"], meta["name"], change)
    if changed is None:
        raise JobError("NotFound", f"{title_of(job)}: it was deleted just now")
    return changed


def title_of(job: Mapping[str, Any]) -> str:
    """`namespace/name`."""
    return f"{job['metadata']['namespace']}/{job['metadata']['name']}"


def status_of(job: Mapping[str, Any]) -> JobStatus:
    """The status of a job; an empty one where somebody wrote something else there."""
    try:
        return read_status(job.get("status"))
    except InvalidJobError:
        return JobStatus()


def rounds_in_all(job: Mapping[str, Any]) -> int:
    """How many rounds the job is to have."""
    try:
        return rounds_of(read_job({**job, "status": {}}).spec)
    except InvalidJobError:
        return int((job.get("spec") or {}).get("rounds") or 1)


def verdict_of(status: JobStatus) -> Condition | None:
    """The condition that tells most: how the job ended, else what is wrong, else what goes on."""
    by_type = {condition.type: condition for condition in status.conditions}
    for kind in (words.COMPLETE, words.CONDITION_FAILED):
        if kind in by_type and by_type[kind].status == words.TRUE:
            return by_type[kind]
    for kind in (words.ACCEPTED, words.RESOLVED_REFS):
        if kind in by_type and by_type[kind].status == words.FALSE:
            return by_type[kind]
    return by_type.get(words.PROGRESSING)


def is_complete(status: JobStatus) -> bool:
    return any(c.type == words.COMPLETE and c.status == words.TRUE for c in status.conditions)


def has_ended(job: Mapping[str, Any]) -> bool:
    """Whether the job has ended and nobody has asked for another try since."""
    status = status_of(job)
    asked = seconds_of((job["metadata"].get("annotations") or {}).get(RETRY))
    ended = seconds_of(status.completion_time)
    is_reopened = asked is not None and (ended is None or asked > ended)
    return is_final(status) and (is_complete(status) or not is_reopened)


def age_seconds(job: Mapping[str, Any], now: float) -> float:
    """How long ago the job was made."""
    made = seconds_of(job["metadata"].get("creationTimestamp"))
    return 0.0 if made is None else max(0.0, now - made)


def main_metric(job: Mapping[str, Any], status: JobStatus) -> tuple[str, str] | None:
    """Name and value of the metric to show where there is place for one."""
    wanted = ((job.get("spec") or {}).get("stopCondition") or {}).get("metric")
    return words.main_metric(status.metrics, wanted)


def _shown(names: list[str]) -> str:
    if not names:
        return "none"
    more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    return ", ".join(names[:_MOST_NAMED]) + more
