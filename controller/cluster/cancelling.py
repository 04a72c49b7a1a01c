"""How somebody asks for a job's end, whatever engine runs it, and what becomes of the job."""

from __future__ import annotations

from collections.abc import Mapping

from controller.decide import Decision
from fedloom.api.status import JobStatus

CANCEL = "fedloom.io/cancel"
CANCELLED = Decision("Failed", "Cancelled", f"cancelled by annotation {CANCEL}")


def is_cancelled(annotations: Mapping[str, str]) -> bool:
    """Whether somebody asked for the job's end."""
    return annotations.get(CANCEL) == "true"


def ended_by_itself(status: JobStatus) -> bool:
    """Whether the job had ended before anybody cancelled it."""
    ends = [each for each in status.conditions if each.type in ("Complete", "Failed")]
    return any(each.status == "True" and each.reason != CANCELLED.reason for each in ends)
