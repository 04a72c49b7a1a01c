"""`fedloom get`: jobs as rows, or one job with its clients."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from typing import Any

from cli.cluster.cells import bytes_text, columns, seconds_text
from cli.cluster.jobs import (
    age_seconds,
    find_job,
    main_metric,
    rounds_in_all,
    status_of,
    title_of,
    verdict_of,
)
from controller.cluster.kubernetes import Cluster, Document
from controller.cluster.resources import JOBS
from fedloom.api.status import FAILED, FALSE, TRUE, ClientStatus, JobStatus

_HEADS = ("NAME", "PHASE", "ROUND", "CLIENTS", "METRIC", "AGE", "REASON")
_WIDE = ("NODES", "WORKFLOW", "RUN")
_CLIENT_HEADS = ("CLIENT", "NODE", "STATE", "ROUND", "SAMPLES", "TIME", "LOSS", "UP", "DOWN")


def list_jobs(server: Cluster, namespace: str | None, output: str) -> Iterator[str]:
    """Give the lines that show all jobs of a namespace; None for all namespaces."""
    jobs, _ = server.list(JOBS, namespace)
    jobs.sort(key=title_of)
    if output == "json":
        yield _json({"apiVersion": "v1", "kind": "List", "items": [_plain(job) for job in jobs]})
        return
    if not jobs:
        yield f"no jobs in {namespace or 'any namespace'}"
        return
    heads = _HEADS + (_WIDE if output == "wide" else ())
    rows = [_row(job, output == "wide", time.time()) for job in jobs]
    if namespace is None:
        heads = ("NAMESPACE", *heads)
        rows = [(str(j["metadata"]["namespace"]), *row) for j, row in zip(jobs, rows, strict=True)]
    yield from columns([heads, *rows])


def show_job(server: Cluster, namespace: str, name: str, output: str) -> Iterator[str]:
    """Give the lines that show one job, its clients and what is wrong with it."""
    job = find_job(server, namespace, name)
    if output == "json":
        yield _json(_plain(job))
        return
    status = status_of(job)
    heads = _HEADS + (_WIDE if output == "wide" else ())
    yield from columns([heads, _row(job, output == "wide", time.time())])
    if status.clients:
        yield ""
        yield from columns([(*_CLIENT_HEADS, "REASON"), *map(client_row, status.clients)])
    yield from _tail(status)


def client_row(client: ClientStatus) -> Sequence[str]:
    """The cells of a client."""
    return (
        client.name,
        client.node_name or "",
        client.state,
        "" if client.last_round is None else str(client.last_round),
        "" if client.samples is None else str(client.samples),
        seconds_text(client.seconds),
        client.metrics.get("loss", ""),
        bytes_text(client.uplink_bytes),
        bytes_text(client.downlink_bytes),
        client.reason or "",
    )


def _row(job: Document, is_wide: bool, now: float) -> tuple[str, ...]:
    status = status_of(job)
    metric, verdict = main_metric(job, status), verdict_of(status)
    cohort = status.active + status.succeeded + status.failed
    row = (
        str(job["metadata"]["name"]),
        status.phase or "Pending",
        f"{status.current_round or 0}/{rounds_in_all(job)}",
        f"{status.succeeded}/{cohort or len((job.get('spec') or {}).get('trainingWorkers') or ())}",
        " ".join(metric) if metric else "",
        seconds_text(age_seconds(job, now)),
        verdict.reason if verdict else "",
    )
    if not is_wide:
        return row
    nodes = dict.fromkeys(client.node_name for client in status.clients if client.node_name)
    return (
        *row,
        _some(list(nodes)),
        (status.workflow.name if status.workflow else None) or "",
        (status.tracking.run_id if status.tracking else None) or "",
    )


def _tail(status: JobStatus) -> Iterator[str]:
    """What a table does not say: where the model is, and every condition that wants to be read."""
    lines = []
    if status.model is not None:
        lines.append(f"model    {status.model.uri}  {status.model.digest}")
    if status.tracking is not None and status.tracking.url:
        lines.append(f"mlflow   {status.tracking.url}")
    wanted = {"Accepted": FALSE, "ResolvedRefs": FALSE, "TrackingAvailable": FALSE}
    wanted |= {"Suspended": TRUE, "Complete": TRUE, FAILED: TRUE}
    for each in status.conditions:
        if wanted.get(each.type) == each.status:
            lines.append(f"{each.type}={each.status}  {each.reason}: {each.message}")
    if lines:
        yield ""
        yield from lines


def _some(names: list[str]) -> str:
    return ",".join(names[:3]) + (f" +{len(names) - 3}" if len(names) > 3 else "")


def _plain(job: Document) -> Any:
    meta = {key: value for key, value in job["metadata"].items() if key != "managedFields"}
    return {**job, "metadata": meta}


def _json(document: Any) -> str:
    return json.dumps(document, indent=2)
