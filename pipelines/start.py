"""What one attempt of a round starts from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Start:
    """What a round starts from.

    Attributes:
        round: from 1; 0 makes the first model.
        attempt: which try, from 1.
        cohort: the clients, sorted by name.
        reserves: those of them that are only needed in the place of others.
        started: unix seconds.
        model: {`key`, `digest`, `size_bytes`} of the last committed model; None for round 0.
        states: name -> {`key`, `digest`, `size_bytes`} of the server's state after the last
            committed round.
        accepted: client -> digest of its last update that a round accepted.
        first_model: {`key`, `digest`, `size_bytes`} of round 0's model; None before it.
        changes: of the last rounds, newest first and without a gap, {`round`, `key`, `digest`,
            `size_bytes`} of the change that led the clients' model from the round before to this one;
            empty where the model was sent as it is.
        given: client -> the round whose model it was given when it last took part with success.
        sources: of round 0 of a job that learns from others: the models to learn from, best first,
            each `name`, `url` or `key`, perhaps `digest` and `credential`, and where it came from.
        unusable: of the same: `name`, `reason` and `message` of each that is not to be had.
        beginning: `transfer` of round 0's result; None before it, and for other jobs.
    """

    round: int
    attempt: int
    cohort: tuple[str, ...]
    started: float
    model: Mapping[str, Any] | None = None
    states: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    accepted: Mapping[str, str] = field(default_factory=dict)
    first_model: Mapping[str, Any] | None = None
    changes: tuple[Mapping[str, Any], ...] = ()
    given: Mapping[str, int] = field(default_factory=dict)
    reserves: frozenset[str] = frozenset()
    sources: tuple[Mapping[str, Any], ...] | None = None
    unusable: tuple[Mapping[str, str], ...] = ()
    beginning: Mapping[str, Any] | None = None


def reference(artifact: Mapping[str, Any]) -> dict[str, Any]:
    """Give {`key`, `digest`} of an artifact, as the inputs of a task name it."""
    return {"key": artifact["key"], "digest": artifact["digest"]}
