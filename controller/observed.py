"""What is known of one job at one moment: the facts that `decide` decides on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pipelines.engine import RunStatus


@dataclass(frozen=True)
class Observed:
    """One observation of one job.

    Attributes:
        last: result.json of the last committed round; None before round 0.
        metrics: the metrics of each committed round, round 0 first.
        accepted: client -> digest of its last update that a round accepted.
        uplink_bytes, downlink_bytes: over all committed rounds.
        run: the attempt at the next round that the engine knows, if any.
        failed_attempts: attempts at the next round that gave no model.
        failure: reason and message of the last of them.
    """

    last: Mapping[str, Any] | None = None
    metrics: Sequence[Mapping[str, float]] = ()
    accepted: Mapping[str, str] = field(default_factory=dict)
    uplink_bytes: int = 0
    downlink_bytes: int = 0
    run: RunStatus | None = None
    failed_attempts: int = 0
    failure: tuple[str, str] = ("", "")

    @property
    def next_round(self) -> int:
        return 0 if self.last is None else int(self.last["round"]) + 1
