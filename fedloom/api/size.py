"""How large a job may be to be an object of a cluster; on one machine there is no such limit."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from fedloom.errors import Problem

if TYPE_CHECKING:
    from fedloom.api.documents import Documents

MOST_BYTES = 1_408 << 10
"""Of a job's document: etcd takes 1.5 MiB of one object, and the status needs its part of that."""

_OF_THE_SERVER = ("managedFields",)


def size_problems(documents: Documents) -> tuple[Problem, ...]:
    """Find the jobs that no cluster would take; its own answer comes late and names no limit."""
    found = []
    for job in documents.jobs:
        meta = job.metadata
        problem = size_problem(documents.originals[type(job).__name__, meta.namespace, meta.name])
        if problem is not None:
            where = f"{documents.where(job)} {problem.field}".strip()
            found.append(Problem(where, problem.message))
    return tuple(found)


def size_problem(document: Mapping[str, Any]) -> Problem | None:
    """Say that a job's document is too large for a cluster; None where it is not."""
    meta = document.get("metadata") or {}
    kept = {key: value for key, value in document.items() if key != "status"}
    kept["metadata"] = {key: meta[key] for key in meta if key not in _OF_THE_SERVER}
    size = _bytes(kept)
    if size <= MOST_BYTES:
        return None
    spec = document.get("spec")
    workers = spec.get("trainingWorkers") if isinstance(spec, Mapping) else None
    if not isinstance(workers, list) or 2 * _bytes(workers) < size:
        return Problem("", f"got {size} bytes, expected at most {MOST_BYTES}, {_WHY}")
    room = max(0, MOST_BYTES - size + _bytes(workers))
    return Problem(
        "spec.trainingWorkers",
        f"got {len(workers)} workers, which make the job {size} bytes large, expected at most "
        f"{MOST_BYTES} bytes (about {room * len(workers) // _bytes(workers)} workers like these), {_WHY}. "
        "Shorten their templates (envFrom a ConfigMap, files in the image), or make several jobs of it",
    )


_WHY = "what a cluster's etcd holds of one object beside its status"


def _bytes(value: Any) -> int:
    return len(json.dumps(value, separators=(",", ":"), ensure_ascii=False, default=str).encode())
