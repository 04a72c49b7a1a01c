"""What is known of one job at one moment: the facts that `decide` decides on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from controller.sources import Sources
from pipelines.engine import RunStatus

_MOST_CHANGES = 32


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
        first_model: the `model` of round 0's result; None before it.
        changes: of the last rounds, newest first and without a gap, the change of the model that went
            down to the clients, with its `round`.
        given: client -> the round whose model it was given when a round last accepted its update.
        forgiven_attempts: those of the failed attempts that do not count against the job's retries:
            something outside was unavailable, or somebody asked for another try since.
        not_before: when the next attempt may start at the earliest, in unix seconds.
        unready: clients whose node cannot take work now.
        sources: what a job that learns from others has found of them, before round 0; None where it
            has not looked yet, and for other jobs.
        beginning: `transfer` of round 0's result; None before it, and for other jobs.
    """

    last: Mapping[str, Any] | None = None
    metrics: Sequence[Mapping[str, float]] = ()
    accepted: Mapping[str, str] = field(default_factory=dict)
    uplink_bytes: int = 0
    downlink_bytes: int = 0
    run: RunStatus | None = None
    failed_attempts: int = 0
    failure: tuple[str, str] = ("", "")
    first_model: Mapping[str, Any] | None = None
    changes: Sequence[Mapping[str, Any]] = ()
    given: Mapping[str, int] = field(default_factory=dict)
    forgiven_attempts: int = 0
    not_before: float = 0.0
    unready: frozenset[str] = frozenset()
    sources: Sources | None = None
    beginning: Mapping[str, Any] | None = None

    @property
    def next_round(self) -> int:
        return 0 if self.last is None else int(self.last["round"]) + 1


def changes_after(
    result: Mapping[str, Any], before: Sequence[Mapping[str, Any]]
) -> tuple[Mapping[str, Any], ...]:
    """Give the changes that lead to the clients' model after a round, newest first, from those before it.

    A round that sent the model as it is ends the chain. At most 32, and together less than the
    model: who holds an older one fetches it whole.
    """
    state = result["state"]
    if "model-delta" not in state:
        return ()
    kept: list[Mapping[str, Any]] = []
    size_bytes = 0
    for change in ({**state["model-delta"], "round": result["round"]}, *before)[:_MOST_CHANGES]:
        size_bytes += change["size_bytes"]
        if size_bytes >= state["broadcast"]["size_bytes"]:
            break
        kept.append(change)
    return tuple(kept)
