"""What a job's plan says about privacy: the noise of every round, and what the rounds so far cost."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from fedloom.api.job import JobSpec
from fedloom.api.transfer import learns_from_others

if TYPE_CHECKING:
    from fedloom.algorithms.privacy.accountant import NoisyRounds


def noisy_rounds(spec: JobSpec) -> NoisyRounds | None:
    """Say how the rounds of a job with its defaults are noised; None where they are not meant to be."""
    privacy = spec.privacy
    if privacy is None or privacy.noise_multiplier is None:
        return None
    from fedloom.algorithms.privacy.accountant import NoisyRounds  # numpy: not for every job

    rate = min(1.0, expected_clients(spec) / len(spec.training_workers))
    return NoisyRounds(spec.participation.sampling, rate, privacy.noise_multiplier)


def expected_clients(spec: JobSpec) -> int:
    """The clients of a round, on average: what a noised sum is divided by, whoever answers."""
    workers = len(spec.training_workers)
    return min(spec.participation.clients_per_round or workers, workers)


def epsilon_after(spec: JobSpec, rounds: int) -> float | None:
    """What so many committed rounds have revealed; None where nobody asked, infinite without noise."""
    noisy = noisy_rounds(spec)
    if noisy is None or spec.privacy is None or spec.privacy.delta is None:
        return None
    return noisy.epsilon(rounds, spec.privacy.delta, probes=int(has_probe(spec)))


def has_probe(spec: JobSpec) -> bool:
    """Say whether clients are asked for losses before the first round: that spends budget, too."""
    transfer = spec.transfer
    return learns_from_others(transfer) and transfer is not None and transfer.mode == "auto"


def probe_settings(spec: JobSpec) -> dict[str, Any] | None:
    """Give how the losses of a probe are noised, and what they reveal; None where they are not."""
    noisy, transfer = noisy_rounds(spec), spec.transfer
    if noisy is None or transfer is None:
        return None
    epsilon = epsilon_after(spec, 0)
    return {
        "noise_multiplier": noisy.noise_multiplier,
        "bound": transfer.bound,
        "shift": transfer.bound if transfer.goal == "maximize" else 0.0,
        "epsilon": epsilon if epsilon is not None and math.isfinite(epsilon) else None,
    }


def privacy_settings(spec: JobSpec, number: int) -> dict[str, Any] | None:
    """Give the settings of the aggregation of round `number`; None for a job without privacy.

    `central`: of the noise on the sum, with what the rounds through this one reveal. `local`: of the
    noise that the clients add.
    """
    found: dict[str, Any] = {}
    noisy, privacy = noisy_rounds(spec), spec.privacy
    if noisy is not None and privacy is not None:
        epsilon = epsilon_after(spec, number)
        found["central"] = {
            "clip_norm": privacy.clip_norm,
            "clip_quantile": privacy.clip_quantile,
            "noise_multiplier": noisy.noise_multiplier,
            "denominator": expected_clients(spec),
            "epsilon": epsilon if epsilon is not None and math.isfinite(epsilon) else None,
            "max_epsilon": privacy.max_epsilon,
            "delta": privacy.delta,
            "adjacency": noisy.adjacency,
        }
    local = local_settings(spec)
    if local is not None:
        found["local"] = local
    return found or None


def local_settings(spec: JobSpec) -> dict[str, Any] | None:
    """Give the settings of the noise that clients add: `mechanism`, `epsilon`, `clip`, `delta`."""
    local = spec.privacy.local if spec.privacy is not None else None
    if local is None:
        return None
    return {
        "mechanism": local.mechanism,
        "epsilon": local.epsilon,
        "clip": local.clip,
        "delta": local.delta if local.mechanism == "gaussian" else 0.0,
    }
