"""What a job that learns from others says of its sources: a condition, then what it took. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from controller.observed import Observed
from fedloom.api.job import FederatedLearningJob
from fedloom.api.status import (
    FALSE,
    REASON_SOURCE_FOUND,
    TRUE,
    WAITING_FOR_SOURCE,
    Condition,
    TransferScore,
    TransferStatus,
    UnusableSource,
)
from fedloom.api.transfer import learns_from_others

_MOST_SHOWN = 16
_LONGEST_MESSAGE = 2048


def awaited(job: FederatedLearningJob | None, observed: Observed | None) -> Iterator[Condition]:
    """Give the condition of its sources; nothing for other jobs, or before they were looked for."""
    if job is None or observed is None or not learns_from_others(job.spec.transfer):
        return
    if observed.beginning is not None:
        message = f"the job begins with {observed.beginning['choice']}"
        yield Condition(WAITING_FOR_SOURCE, FALSE, str(observed.beginning["reason"]), message)
    elif observed.sources is None:
        message = "MLflow's registry is asked for what the job can learn from"
        yield Condition(WAITING_FOR_SOURCE, TRUE, "LookingForSources", message)
    elif observed.sources.waiting is not None:
        yield Condition(WAITING_FOR_SOURCE, TRUE, *observed.sources.waiting)
    elif observed.sources.refused is not None:
        yield Condition(WAITING_FOR_SOURCE, FALSE, *observed.sources.refused)
    else:
        found = len(observed.sources.candidates)
        message = f"{found} models to learn from; not usable: {len(observed.sources.unusable)}"
        yield Condition(WAITING_FOR_SOURCE, FALSE, REASON_SOURCE_FOUND, message)


def transfer_status(beginning: Mapping[str, Any] | None) -> TransferStatus | None:
    """Give what the status says of round 0; None for other jobs, and before it."""
    if beginning is None:
        return None
    source = beginning["source"] or {}
    return TransferStatus(
        mode=beginning["mode"],
        choice=beginning["choice"],
        kind=beginning["kind"],
        reason=beginning["reason"],
        message=str(beginning["message"])[:_LONGEST_MESSAGE],
        is_sure=beginning["is_sure"],
        uri=source.get("uri"),
        digest=source.get("digest"),
        job=source.get("job"),
        run_id=source.get("run_id"),
        registered_model=source.get("registered_model"),
        version=source.get("version"),
        epsilon=None if beginning["epsilon"] is None else f"{beginning['epsilon']:.6g}",
        scores=tuple(_score(each) for each in beginning["scores"][:_MOST_SHOWN]),
        unusable=tuple(
            UnusableSource(each["name"], each["reason"], each["message"][:_LONGEST_MESSAGE])
            for each in beginning["unusable"][:_MOST_SHOWN]
        ),
    )


def _score(score: Mapping[str, Any]) -> TransferScore:
    loss, error = (
        None if score[name] is None else f"{score[name]:.6g}" for name in ("loss", "standard_error")
    )
    return TransferScore(score["candidate"], score["kind"], loss, error, score["samples"])
