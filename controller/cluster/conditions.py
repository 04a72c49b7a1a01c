"""The conditions of a job, from what is known of it. Pure.

Each condition says one thing at one moment; its time changes only when its status does. What is not known
yet has no condition, except the first two: whoever reads them need not tell False from never looked at.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from controller.cluster.beginnings import awaited
from controller.cluster.disclosed import accepted_as, disclosed
from controller.cluster.edges.reports import WorkerReport
from controller.cluster.resolve import Finding, Resolved
from controller.decide import Decision
from controller.observed import Observed
from fedloom.api import status as words
from fedloom.api.compatibility import planned_rounds
from fedloom.api.status import FALSE, TRUE, UNKNOWN, Condition, JobStatus
from pipelines.engine import RunPhase


@dataclass(frozen=True)
class TrackingFacts:
    """What the publish process has said so far.

    Attributes:
        finding: why tracking is not available; None while all is well.
        is_known: whether anything was heard at all.
        versions: registered model versions by round.
    """

    is_known: bool = False
    finding: Finding | None = None
    experiment_id: str | None = None
    run_id: str | None = None
    url: str | None = None
    versions: Mapping[int, str] = field(default_factory=dict)


@dataclass(frozen=True)
class DeliveryFacts:
    """How the final model's way to the job's Models stands.

    Attributes:
        saved: where it is.
        finding: why it is not everywhere; None where it is.
        open: in how many places it is not.
    """

    saved: tuple[str, ...] = ()
    finding: Finding | None = None
    open: int = 0


@dataclass(frozen=True)
class ClientRun:
    """A client in the attempt at hand, as the engine and the pods show it."""

    state: str
    reason: str | None = None
    node: str | None = None
    seconds: float | None = None
    message: str = ""


@dataclass(frozen=True)
class Known:
    """What is known of a job at one moment.

    Attributes:
        generation: of the spec that was looked at.
        resolved: the job and what it refers to.
        decision: what was decided; None where the job cannot be run.
        observed: what that was decided on.
        workflow, engine, url: the newest run, empty before the first; what runs it; its page.
        run: the clients of the attempt at hand.
        clients: what the rounds so far say of each client, by name.
        tracking: None where nothing is tracked.
        delivery: of the final model; None before the end, and where it goes nowhere.
        trouble: something that keeps the controller from going on, and will pass.
        reports: what workers said through their nodes' local controllers, in the order of its coming.
    """

    generation: int
    resolved: Resolved
    decision: Decision | None = None
    observed: Observed | None = None
    workflow: str = ""
    engine: str = "argo"
    url: str = ""
    run: Mapping[str, ClientRun] = field(default_factory=dict)
    clients: Mapping[str, words.ClientStatus] = field(default_factory=dict)
    tracking: TrackingFacts | None = None
    delivery: DeliveryFacts | None = None
    trouble: Finding | None = None
    reports: tuple[WorkerReport, ...] = ()


def conditions_of(known: Known, previous: JobStatus, now: str) -> tuple[Condition, ...]:
    """Give all conditions in their order; `now` and all times are RFC 3339."""
    before = {condition.type: condition for condition in previous.conditions}
    found = {condition.type: condition for condition in _found(known, before)}
    return tuple(
        _timed(found[kind], before.get(kind), known.generation, now)
        for kind in words.CONDITION_TYPES
        if kind in found
    )


def _timed(new: Condition, old: Condition | None, generation: int, now: str) -> Condition:
    is_same = old is not None and old.status == new.status and old.last_transition_time
    time = old.last_transition_time if old is not None and is_same else now
    return Condition(
        type=new.type,
        status=new.status,
        reason=new.reason,
        message=new.message[:_LONGEST_MESSAGE],
        last_transition_time=time,
        observed_generation=generation,
    )


_LONGEST_MESSAGE = 4096
_TOLD = 5


def _found(known: Known, before: Mapping[str, Condition]) -> Iterator[Condition]:
    yield _accepted(known)
    yield _resolved(known)
    yield _suspended(known, before)
    yield from _tracking(known)
    yield from awaited(known.resolved.job, known.observed)
    yield from _training(known, before)
    yield from disclosed(known.observed.last if known.observed is not None else None)
    if known.decision is None:
        yield _stands_still(known)
        if words.WORKFLOW_SUBMITTED in before:
            yield before[words.WORKFLOW_SUBMITTED]
        return
    yield _progressing(known, known.decision)
    yield from _submitted(known, before)
    if known.decision.is_final:
        is_done = known.decision.phase == words.SUCCEEDED
        kind = words.COMPLETE if is_done else words.CONDITION_FAILED
        message = known.decision.message + ("" if is_done else _told_by_pods(known))
        yield Condition(kind, TRUE, known.decision.reason, message)
    yield from _delivered(known)


def _told_by_pods(known: Known) -> str:
    """Why clients failed, of which the server knows no more than that no update came."""
    failed = [
        f"{name}: {run.reason}{f' ({run.message})' if run.message else ''}"
        for name, run in sorted(known.run.items())
        if run.state == words.FAILED and run.reason
    ]
    more = f"; and {len(failed) - _TOLD} more" if len(failed) > _TOLD else ""
    return f". Their pods say: {'; '.join(failed[:_TOLD])}{more}" if failed else ""


def _delivered(known: Known) -> Iterator[Condition]:
    facts = known.delivery
    if facts is None:
        return
    if facts.finding is not None:
        reason, message = facts.finding.reason, facts.finding.message
        yield Condition(words.MODEL_DELIVERED, FALSE, reason, message)
    else:
        message = f"the final model is in {', '.join(facts.saved[:10])}"
        yield Condition(words.MODEL_DELIVERED, TRUE, "Delivered", message)


def _accepted(known: Known) -> Condition:
    invalid = known.resolved.invalid
    if invalid is not None:
        return Condition(words.ACCEPTED, FALSE, invalid.reason, invalid.message)
    return Condition(
        words.ACCEPTED,
        TRUE,
        words.REASON_VALID,
        f"the job is valid{accepted_as(known.resolved.job)}",
    )


def _resolved(known: Known) -> Condition:
    resolved = known.resolved
    if resolved.job is None:
        message = "not looked for: the job is not valid"
        return Condition(words.RESOLVED_REFS, UNKNOWN, words.REASON_INVALID, message)
    if resolved.missing is not None:
        reason, message = resolved.missing.reason, resolved.missing.message
        return Condition(words.RESOLVED_REFS, FALSE, reason, message)
    return Condition(
        words.RESOLVED_REFS, TRUE, words.REASON_RESOLVED, "all that the job names is there"
    )


def _suspended(known: Known, before: Mapping[str, Condition]) -> Condition:
    decision = known.decision
    if decision is not None and decision.is_waiting:
        return Condition(words.SUSPENDED, TRUE, words.REASON_SUSPENDED_BY_USER, decision.message)
    old = before.get(words.SUSPENDED)
    if old is not None and (old.status == TRUE or old.reason == words.REASON_RESUMED):
        return Condition(words.SUSPENDED, FALSE, words.REASON_RESUMED, "the job goes on")
    job = known.resolved.job
    if job is not None and job.spec.suspend and decision is not None and not decision.is_final:
        message = "spec.suspend is true: the job is suspended once the round at hand has ended"
        return Condition(words.SUSPENDED, FALSE, "NotSuspended", message)
    return Condition(words.SUSPENDED, FALSE, "NotSuspended", "spec.suspend is false")


def _tracking(known: Known) -> Iterator[Condition]:
    facts = known.tracking
    if facts is None:
        yield Condition(
            words.TRACKING_AVAILABLE,
            FALSE,
            "NotConfigured",
            "the controller has no MLFLOW_TRACKING_URI: rounds are not tracked",
        )
    elif facts.finding is not None:
        reason, message = facts.finding.reason, facts.finding.message
        yield Condition(words.TRACKING_AVAILABLE, FALSE, reason, message)
    elif facts.is_known:
        message = "rounds are logged in MLflow"
        yield Condition(words.TRACKING_AVAILABLE, TRUE, words.REASON_AVAILABLE, message)


def _training(known: Known, before: Mapping[str, Condition]) -> Iterator[Condition]:
    """Sedna's condition, in Sedna's words: the newest of what workers reported of a round."""
    newest = max(
        (each for each in reversed(known.reports) if each.round > 0),
        key=lambda each: each.round,
        default=None,
    )
    found = before.get(words.TRAINING)
    if newest is not None:
        message = f"Round {newest.round} reaches at {newest.time or 'a time not given'}"
        found = Condition(words.TRAINING, TRUE, words.REASON_DO_TRAINING, message)
    if found is not None and known.decision is not None and known.decision.is_final:
        found = Condition(words.TRAINING, FALSE, known.decision.reason, found.message)
    if found is not None:
        yield found


def _stands_still(known: Known) -> Condition:
    """Nothing was decided: the job cannot be run, or something outside does not answer."""
    finding = known.resolved.invalid or known.resolved.missing or known.trouble
    if finding is None:
        finding = Finding("Starting", "the job is being looked at")
    return Condition(words.PROGRESSING, FALSE, finding.reason, finding.message)


def _progressing(known: Known, decision: Decision) -> Condition:
    if known.trouble is not None and not decision.is_final:
        reason, message = known.trouble.reason, known.trouble.message
        return Condition(words.PROGRESSING, FALSE, reason, message)
    if decision.is_final:
        return Condition(words.PROGRESSING, FALSE, decision.reason, "the job has ended")
    is_running = decision.start is not None or _is_running(known)
    if not is_running:
        return Condition(words.PROGRESSING, FALSE, decision.reason, decision.message)
    number, attempt = _attempt(known, decision)
    job = known.resolved.job
    rounds = planned_rounds(job.spec) if job else 1
    message = f"round {number} of {rounds} is running"
    if attempt == 1:
        return Condition(words.PROGRESSING, TRUE, words.REASON_ROUND_RUNNING, message)
    failure = known.observed.failure if known.observed is not None else ("", "")
    message += f", attempt {attempt}, after {failure[0]}: {failure[1]}"
    return Condition(words.PROGRESSING, TRUE, words.REASON_ROUND_RETRIED, message)


def _submitted(known: Known, before: Mapping[str, Condition]) -> Iterator[Condition]:
    decision = known.decision
    assert decision is not None
    if known.workflow and (decision.start is not None or _is_running(known)):
        number, _ = _attempt(known, decision)
        message = f"workflow {known.workflow} runs round {number}"
        yield Condition(words.WORKFLOW_SUBMITTED, TRUE, words.REASON_SUBMITTED, message)
    elif decision.is_final and words.WORKFLOW_SUBMITTED in before:
        yield before[words.WORKFLOW_SUBMITTED]
    else:
        yield Condition(words.WORKFLOW_SUBMITTED, FALSE, decision.reason, decision.message)


def _is_running(known: Known) -> bool:
    run = known.observed.run if known.observed is not None else None
    return run is not None and run.phase is RunPhase.RUNNING


def _attempt(known: Known, decision: Decision) -> tuple[int, int]:
    if decision.start is not None:
        return decision.start.round, decision.start.attempt
    assert known.observed is not None
    assert known.observed.run is not None
    return known.observed.run.round, known.observed.run.attempt
