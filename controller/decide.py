"""decide(job, observed, now) -> Decision: the loop over rounds, as a pure function.

Called again whenever something may have changed, it names the one thing to do next: start an attempt at
the next round, wait, or end the job. It never looks at anything but its arguments.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from controller.observed import Observed
from fedloom.algorithms.sampling import choose_cohort, poisson_cohort
from fedloom.api.clients import clients_of
from fedloom.api.job import FederatedLearningJob, JobSpec
from fedloom.api.outcome import StopCondition
from pipelines.engine import RunPhase
from pipelines.start import Start


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
    if observed.failed_attempts > (job.spec.participation.retries if number > 0 else 0):
        reason, message = observed.failure
        return Decision("Failed", reason, message)
    if job.spec.suspend:
        return Decision("Running", "Suspended", f"suspended before round {number}")
    start = start_of(job, observed, now)
    return Decision("Running", "RoundStarted", f"round {number} starts", start)


def start_of(job: FederatedLearningJob, observed: Observed, now: float) -> Start:
    """Describe the next attempt: its cohort is drawn anew for every attempt, from the job's seed."""
    number, attempt = observed.next_round, observed.failed_attempts + 1
    if number == 0 or observed.last is None:
        return Start(0, attempt, (), now)
    cohort, reserves = _cohort(job, number, attempt)
    return Start(
        round=number,
        attempt=attempt,
        cohort=cohort,
        reserves=reserves,
        started=now,
        model=observed.last["model"],
        states=observed.last["state"],
        accepted=observed.accepted,
    )


def _cohort(
    job: FederatedLearningJob, number: int, attempt: int
) -> tuple[tuple[str, ...], frozenset[str]]:
    """Give the clients of an attempt, and those of them that stand by for others."""
    names = [client.name for client in clients_of(job)]
    participation = job.spec.participation
    count = participation.clients_per_round or len(names)
    if participation.sampling == "poisson":
        return poisson_cohort(names, count, participation.seed, number, attempt), frozenset()
    drawn = (participation.seed, number, attempt)
    cohort = choose_cohort(names, count, *drawn)
    if participation.over_selection == 1:
        return cohort, frozenset()
    more = choose_cohort(names, math.ceil(count * participation.over_selection), *drawn)
    return more, frozenset(more) - frozenset(cohort)


def _end_of(spec: JobSpec, observed: Observed) -> Decision | None:
    if observed.last is None:
        return None
    number, rounds = int(observed.last["round"]), spec.rounds or 1
    if number >= rounds:
        return Decision("Succeeded", "RoundsDone", f"all {rounds} rounds are done")
    if spec.stop_condition is not None and number > 0:
        met = _met(spec.stop_condition, observed.metrics)
        if met:
            return Decision("Succeeded", "StopConditionMet", f"after round {number}: {met}")
    return None


def _met(stop: StopCondition, metrics: Sequence[Mapping[str, float]]) -> str:
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
