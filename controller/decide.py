"""decide(job, observed, now) -> Decision: the loop over rounds, as a pure function.

Called again whenever something may have changed, it names the one thing to do next: start an attempt at
the next round, wait, or end the job. It never looks at anything but its arguments.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from controller.budget import over_budget
from controller.observed import Observed
from controller.sources import LOOKING, WAITING
from fedloom.algorithms.sampling import choose_cohort, derive_seed, poisson_cohort
from fedloom.api.clients import client_names
from fedloom.api.compatibility import planned_rounds
from fedloom.api.job import FederatedLearningJob, JobSpec
from fedloom.api.outcome import StopCondition
from fedloom.api.transfer import learns_from_others
from pipelines.engine import RunPhase
from pipelines.privacy import has_probe, noisy_rounds
from pipelines.start import Start

_MOST_PROBED = 256
"""More clients would tell a probe nothing new."""


@dataclass(frozen=True)
class Decision:
    """What to do and how the job stands.

    Attributes:
        phase: Pending, Running, Succeeded or Failed.
        reason, message: why it stands so; a CamelCase word and a sentence.
        start: the attempt to start now, if any.
    """

    phase: str
    reason: str
    message: str
    start: Start | None = None

    @property
    def is_final(self) -> bool:
        return self.phase in ("Succeeded", "Failed")

    @property
    def is_waiting(self) -> bool:
        """Nothing will change until somebody changes the job."""
        return self.reason == "Suspended"


def decide(job: FederatedLearningJob, observed: Observed, now: float) -> Decision:
    """Decide on a job with its defaults filled in; `now` in unix seconds."""
    end = _end_of(job.spec, observed)
    if end is not None:
        return end
    number = observed.next_round
    if observed.run is not None and observed.run.phase is RunPhase.RUNNING:
        return Decision("Running", "RoundRunning", f"round {number} is running")
    return _early_end(job.spec, observed) or _next_attempt(job, observed, now)


def _early_end(spec: JobSpec, observed: Observed) -> Decision | None:
    """End the job because its rounds fail, or because another one would cost too much privacy."""
    number = observed.next_round
    counted = observed.failed_attempts - observed.forgiven_attempts
    if counted > (spec.participation.retries if number > 0 else 0):
        reason, message = observed.failure
        return Decision("Failed", reason, message)
    over = over_budget(spec, max(0, number - 1))
    if over and number <= 1:
        return Decision("Failed", "PrivacyBudgetTooSmall", over)
    if over:
        return Decision("Succeeded", "PrivacyBudgetSpent", over)
    return None


def _next_attempt(job: FederatedLearningJob, observed: Observed, now: float) -> Decision:
    """Start the next attempt, or say what it waits for."""
    number = observed.next_round
    if job.spec.suspend:
        message = f"spec.suspend is true: round {number} waits for it to be false"
        return Decision("Running", "Suspended", message)
    if now < observed.not_before:
        reason, message = observed.failure
        return Decision("Running", "BackingOff", f"round {number} waits after {reason}: {message}")
    waiting = _missing_sources(job, observed)
    if waiting is not None:
        return waiting
    start = start_of(job, observed, now)
    missing = _missing_nodes(job, observed, start)
    if missing:
        return Decision("Running", "WaitingForNodes", f"round {number} waits: {missing}")
    return Decision("Running", "RoundStarted", f"round {number} starts", start)


def start_of(job: FederatedLearningJob, observed: Observed, now: float) -> Start:
    """Describe the next attempt: its cohort is drawn anew for every attempt, from the job's seed."""
    number, attempt = observed.next_round, observed.failed_attempts + 1
    if number == 0 or observed.last is None:
        return _first_start(job, observed, Start(0, attempt, (), now))
    cohort, reserves = _cohort(job, number, attempt, observed.unready)
    return Start(
        round=number,
        attempt=attempt,
        cohort=cohort,
        reserves=reserves,
        started=now,
        model=observed.last["model"],
        states=observed.last["state"],
        accepted=observed.accepted,
        first_model=observed.first_model,
        changes=tuple(observed.changes),
        given=observed.given,
        beginning=observed.beginning,
    )


def _first_start(job: FederatedLearningJob, observed: Observed, start: Start) -> Start:
    """Give round 0 what it learns from, and to a probe its clients."""
    sources = observed.sources
    if sources is None:
        return start
    cohort: tuple[str, ...] = ()
    if has_probe(job.spec) and sources.candidates:
        cohort, reserves = _cohort(job, 0, start.attempt, observed.unready)
        cohort = tuple(name for name in cohort if name not in reserves)
        if len(cohort) > _MOST_PROBED:
            cohort = choose_cohort(cohort, _MOST_PROBED, _sampling_seed(job), 0, start.attempt)
    found = (sources.candidates, sources.unusable)
    return replace(start, cohort=cohort, sources=found[0], unusable=found[1])


def _missing_sources(job: FederatedLearningJob, observed: Observed) -> Decision | None:
    """Say what a job waits for that learns from others, or that it cannot; None where it can begin."""
    if observed.last is not None or not learns_from_others(job.spec.transfer):
        return None
    if observed.sources is None:
        return Decision("Running", LOOKING, "spec.transfer: looking for what to learn from")
    waiting, refused = observed.sources.waiting, observed.sources.refused
    if waiting is not None:
        return Decision("Running", WAITING, waiting[1])
    return None if refused is None else Decision("Failed", *refused)


def _missing_nodes(job: FederatedLearningJob, observed: Observed, start: Start) -> str:
    """Say why too few clients have a node that works; empty where there are enough."""
    if not observed.unready or (start.round == 0 and not (start.sources and has_probe(job.spec))):
        return ""
    everybody, _ = _cohort(job, start.round, start.attempt, frozenset())
    least = min(job.spec.participation.min_clients or 1, len(everybody)) if start.round else 1
    if len(start.cohort) >= least:
        return ""
    names = sorted(observed.unready)
    shown = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
    found = len(start.cohort)
    return f"it needs {least} clients, {found} have a node that is ready; not ready: {shown}"


def _cohort(
    job: FederatedLearningJob, number: int, attempt: int, unready: frozenset[str]
) -> tuple[tuple[str, ...], frozenset[str]]:
    """Give the clients of an attempt, and those of them that stand by for others.

    Clients without a working node are not drawn. Under noise they are drawn and then left out: how
    likely a client takes part must not depend on who else is there, or epsilon would be too small.
    """
    if noisy_rounds(job.spec) is None:
        return _drawn(job, number, attempt, unready)
    cohort, reserves = _drawn(job, number, attempt, frozenset())
    return tuple(name for name in cohort if name not in unready), reserves - unready


def _drawn(
    job: FederatedLearningJob, number: int, attempt: int, left_out: frozenset[str]
) -> tuple[tuple[str, ...], frozenset[str]]:
    names = [name for name in client_names(job) if name not in left_out]
    if not names:
        return (), frozenset()
    participation, seed = job.spec.participation, _sampling_seed(job)
    count = min(participation.clients_per_round or len(names), len(names))
    if participation.sampling == "poisson":
        return poisson_cohort(names, count, seed, number, attempt), frozenset()
    drawn = (seed, number, attempt)
    cohort = choose_cohort(names, count, *drawn)
    if participation.over_selection == 1:
        return cohort, frozenset()
    more = choose_cohort(names, math.ceil(count * participation.over_selection), *drawn)
    return more, frozenset(more) - frozenset(cohort)


def _sampling_seed(job: FederatedLearningJob) -> int:
    """Give what cohorts are drawn from: the job's seed.

    Under noise also its uid, which is random and in no file that a user writes: what epsilon counts
    on is that nobody can work out from the job who took part.
    """
    seed = job.spec.participation.seed
    if noisy_rounds(job.spec) is None:
        return seed
    return derive_seed("cohorts", seed, job.metadata.uid)


def _end_of(spec: JobSpec, observed: Observed) -> Decision | None:
    if observed.last is None:
        return None
    number, rounds = int(observed.last["round"]), planned_rounds(spec)
    if number >= rounds:
        return Decision("Succeeded", "RoundsDone", f"all {rounds} rounds are done")
    if spec.stop_condition is not None and number > 0:
        met = stop_reason(spec.stop_condition, observed.metrics)
        if met:
            return Decision("Succeeded", "StopConditionMet", f"after round {number}: {met}")
    return None


def stop_reason(stop: StopCondition, metrics: Sequence[Mapping[str, float]]) -> str:
    """Say how the stop condition is met; empty where it is not.

    The threshold is met by the last measured value; patience runs out when `patience` measured
    rounds in a row brought no better value than the best before them.
    """
    values = [found[stop.metric] for found in metrics if stop.metric in found]
    if not values:
        return ""
    sign = 1.0 if stop.goal == "maximize" else -1.0
    if stop.threshold is not None and sign * (values[-1] - stop.threshold) >= 0:
        return f"{stop.metric} {values[-1]:g} has reached {stop.threshold:g}"
    if stop.patience is None or len(values) <= stop.patience:
        return ""
    before, recent = values[: -stop.patience], values[-stop.patience :]
    best = max(sign * value for value in before)
    if all(sign * value <= best for value in recent):
        return f"{stop.metric} has not improved on {sign * best:g} for {stop.patience} rounds"
    return ""
