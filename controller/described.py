"""A job as its aggregation program described it: what both controllers run from round 1 on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from controller.decide import Decision
from fedloom.api.job import FederatedLearningJob
from fedloom.api.sedna import PROBLEM, described
from fedloom.errors import InvalidJobError

NOT_DESCRIBED = "NotDescribed"


def job_as_described(
    job: FederatedLearningJob, description: Mapping[str, Any] | None
) -> tuple[FederatedLearningJob, Decision | None]:
    """Give the job that is run from now on; and how it ends, where it cannot be run like that.

    `description` is that of round 0's result, None where it has none.
    """
    if description is None:
        return job, None
    try:
        return described(job, description), None
    except InvalidJobError as error:
        said = "what spec.aggregationWorker's program says does not go with the job"
        return job, Decision("Failed", "DescriptionRefused", f"{said}: {error}")


def description_notice(description: Mapping[str, Any]) -> tuple[str, str]:
    """Give reason and message of what a person should know about a description."""
    if PROBLEM in description:
        message = f"{description[PROBLEM]}; the job runs as its document says"
        return (
            NOT_DESCRIBED,
            f"spec.aggregationWorker's program was asked about the job: {message}",
        )
    said = ", ".join(f"{name} {value}" for name, value in sorted(description.items()))
    return "Described", f"spec.aggregationWorker's program says: {said or 'nothing'}"
