"""The protocol of engines: a plan goes in, a run is followed until it has ended."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Protocol

from pipelines.plan import Plan


class RunPhase(Enum):
    """Where a run stands."""

    RUNNING = "Running"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"


@dataclass(frozen=True)
class RunStatus:
    """One attempt of one round, as its engine sees it.

    Attributes:
        round, attempt: which run.
        phase: running, succeeded or failed.
        reason, message: of a failure; empty otherwise.
        clients: client -> `Pending`, `Running`, `Succeeded` or `Failed`.
    """

    round: int
    attempt: int
    phase: RunPhase
    reason: str = ""
    message: str = ""
    clients: Mapping[str, str] = field(default_factory=dict)


class Engine(Protocol):
    """Runs plans. One run of a job at a time; a run is known by its round and attempt."""

    def submit(self, plan: Plan) -> None:
        """Start the plan; a second call with the same plan changes nothing."""

    def status(self) -> RunStatus | None:
        """Say how the last submitted run stands; None before the first."""

    def wait(self, timeout_seconds: float) -> None:
        """Return when the status may have changed, or after `timeout_seconds`."""

    def close(self) -> None:
        """Stop what still runs and give everything back."""
