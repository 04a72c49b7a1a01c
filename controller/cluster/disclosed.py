"""What a job's conditions say of its privacy report: the figures in one line, and where all of it is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from fedloom.api import capabilities
from fedloom.api.job import FederatedLearningJob
from fedloom.api.status import PRIVACY_REPORTED, REASON_REPORTED, TRUE, Condition

_MOST_WARNINGS = 4


def disclosed(last: Mapping[str, Any] | None) -> Iterator[Condition]:
    """Give the condition of the last committed round's report; none where it has none."""
    found = None if last is None else last.get("disclosure")
    if found is None:
        return
    warnings = found["warnings"]
    more = f" And {len(warnings) - _MOST_WARNINGS} more." if len(warnings) > _MOST_WARNINGS else ""
    message = (
        f"{found['summary']}. {' '.join(warnings[:_MOST_WARNINGS])}{more} "
        f"Page: {found['page']['uri']} , report: {found['report']['uri']}"
    )
    yield Condition(PRIVACY_REPORTED, TRUE, REASON_REPORTED, message)


def accepted_as(job: FederatedLearningJob | None) -> str:
    """Say what counts of a mistnet job, whose settings may stand in workers' environments; else nothing."""
    algorithm = job.spec.algorithm if job is not None else None
    if job is None or algorithm is None or algorithm.name != capabilities.MISTNET:
        return ""
    effective = {**algorithm.parameters, **job.spec.hyperparameters}
    return "; mistnet with " + ", ".join(f"{name} {value}" for name, value in effective.items())
