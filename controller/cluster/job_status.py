"""The status of a job, from what is known of it. Pure: the same knowledge gives the same status."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from controller.cluster.beginnings import transfer_status
from controller.cluster.conditions import ClientRun, Known, conditions_of
from controller.cluster.edges.reports import WorkerReport
from fedloom.api import status as words
from fedloom.api.clients import clients_of
from fedloom.api.status import (
    MOST_CLIENTS_SHOWN,
    ClientStatus,
    JobStatus,
    ModelStatus,
    TrackingStatus,
    Traffic,
    WorkflowStatus,
)
from pipelines.engine import RunPhase


def status_of(known: Known, previous: JobStatus, now: str) -> JobStatus:
    """Give the whole status; `previous` gives only times, and what an ended job had."""
    conditions = conditions_of(known, previous, now)
    status = JobStatus(
        phase=_phase(known, previous),
        conditions=conditions,
        start_time=previous.start_time or now,
        observed_generation=known.generation,
        clients=tuple(_clients(known, previous)),
        workflow=_workflow(known),
        transfer=previous.transfer,
        tracking=_tracking(known),
    )
    status = _counted(status, known)
    if known.observed is not None:
        status = _measured(status, known)
    if known.decision is not None and known.decision.is_final:
        status = replace(status, completion_time=previous.completion_time or now)
    return status


def is_final(status: JobStatus) -> bool:
    """Whether a status says that the job has ended."""
    return any(
        condition.type in (words.COMPLETE, words.CONDITION_FAILED)
        and condition.status == words.TRUE
        for condition in status.conditions
    )


def client_statuses(result: Mapping[str, Any], names: frozenset[str]) -> dict[str, ClientStatus]:
    """What a committed round says of these clients."""
    return {
        name: ClientStatus(
            name=name,
            node_name=client.get("node"),
            samples=client["num_examples"],
            state=client["state"],
            reason=client["reason"],
            last_round=result["round"],
            seconds=client["seconds"],
            uplink_bytes=client["uplink_bytes"] or 0,
            downlink_bytes=client["downlink_bytes"] or 0,
            metrics=texts(client["metrics"]),
        )
        for name, client in result["clients"].items()
        if name in names
    }


def shown_clients(known: Known) -> tuple[str, ...]:
    """The clients that a status shows: the first of the job's."""
    if known.resolved.job is None:
        return ()
    return tuple(client.name for client in clients_of(known.resolved.job)[:MOST_CLIENTS_SHOWN])


def texts(metrics: Mapping[str, float]) -> dict[str, str]:
    """Metrics as Kubernetes has them: numbers as text."""
    return {name: f"{value:.6g}" for name, value in sorted(metrics.items())}


def _workflow(known: Known) -> WorkflowStatus | None:
    if not known.workflow:
        return None
    return WorkflowStatus(known.engine, known.workflow, known.url or None)


def _phase(known: Known, previous: JobStatus) -> str:
    if known.decision is not None:
        return known.decision.phase
    has_begun = known.observed is not None and known.observed.last is not None
    return words.RUNNING if has_begun or previous.phase == words.RUNNING else words.PENDING


def _clients(known: Known, previous: JobStatus) -> Iterator[ClientStatus]:
    number = _round_at_hand(known)
    before = {client.name: client for client in previous.clients}
    reports = {report.client: report for report in known.reports}
    for name in shown_clients(known):
        found = known.clients.get(name)
        if found is None:  # no round says anything of it yet: what was reported stays
            old = before.get(name, ClientStatus(name))
            found = ClientStatus(name, samples=old.samples, metrics=old.metrics)
        if name in reports:
            found = _reported(found, reports[name])
        run = known.run.get(name)
        yield found if run is None else _at_work(found, run, number)


def _reported(found: ClientStatus, report: WorkerReport) -> ClientStatus:
    """A client with what it said itself, as long as no committed round says it better."""
    if report.round <= (found.last_round or 0):
        return found
    return replace(
        found,
        samples=found.samples if report.samples is None else report.samples,
        metrics=report.metrics or found.metrics,
    )


def _at_work(found: ClientStatus, run: ClientRun, number: int) -> ClientStatus:
    """A client of the attempt at hand; what it measured is still its last round's."""
    return replace(
        found,
        state=run.state,
        reason=run.reason,
        node_name=run.node or found.node_name,
        seconds=run.seconds if run.seconds is not None else found.seconds,
        last_round=number or found.last_round,
    )


def _counted(status: JobStatus, known: Known) -> JobStatus:
    """Count the clients of the round at hand, else of the last one."""
    if known.run:
        states = [run.state for run in known.run.values()]
    elif known.observed is not None and known.observed.last is not None:
        states = [client["state"] for client in known.observed.last["clients"].values()]
    else:
        return status
    return replace(
        status,
        active=sum(state in (words.PENDING, words.RUNNING) for state in states),
        succeeded=states.count(words.SUCCEEDED),
        failed=states.count(words.FAILED),
    )


def _measured(status: JobStatus, known: Known) -> JobStatus:
    observed = known.observed
    assert observed is not None
    done = 0 if observed.last is None else int(observed.last["round"])
    is_over = known.decision is not None and known.decision.is_final
    status = replace(
        status,
        current_round=max(1, done if is_over else observed.next_round),
        aggregation_count=done,
        traffic=Traffic(observed.uplink_bytes, observed.downlink_bytes),
        transfer=transfer_status(observed.beginning) or status.transfer,
    )
    if observed.last is None:
        return status
    metrics = texts(observed.last["metrics"])
    return replace(
        status, metrics=metrics, metric=_metric(known, metrics), model=_model(known, observed.last)
    )


def _metric(known: Known, metrics: Mapping[str, str]) -> str | None:
    job = known.resolved.job
    stop = job.spec.stop_condition if job is not None else None
    found = words.main_metric(metrics, stop.metric if stop is not None else None)
    return " ".join(found) if found else None


def _model(known: Known, last: Mapping[str, Any]) -> ModelStatus:
    job, versions = known.resolved.job, known.tracking.versions if known.tracking else {}
    newest = max(versions, default=None)
    return ModelStatus(
        uri=last["model"]["uri"],
        round=last["round"],
        digest=last["model"]["digest"],
        registered_model=job.spec.output.registered_model if job else None,
        version=versions[newest] if newest is not None else None,
        saved=known.delivery.saved[:1_000] if known.delivery is not None else (),
    )


def _tracking(known: Known) -> TrackingStatus | None:
    facts = known.tracking
    if facts is None or facts.run_id is None:
        return None
    return TrackingStatus(facts.experiment_id, facts.run_id, facts.url)


def _round_at_hand(known: Known) -> int:
    run = known.observed.run if known.observed is not None else None
    if known.decision is not None and known.decision.start is not None:
        return known.decision.start.round
    return run.round if run is not None and run.phase is RunPhase.RUNNING else 0
