"""The privacy budget of a job: what its rounds reveal, and whether one more still fits."""

from __future__ import annotations

from collections.abc import Iterator

from fedloom.api.capabilities import MISTNET
from fedloom.api.job import JobSpec
from fedloom.errors import Problem
from pipelines.privacy import (
    epsilon_after,
    expected_clients,
    has_probe,
    local_settings,
    noisy_rounds,
)

_WEAK_EPSILON = 4.0


def over_budget(spec: JobSpec, committed: int) -> str:
    """Say why no round may follow so many committed ones; empty where one may.

    Attempts that committed nothing have released nothing: only committed rounds count.
    """
    budget = spec.privacy.max_epsilon if spec.privacy is not None else None
    if budget is None:
        return ""
    following = epsilon_after(spec, committed + 1)
    if following is None or following <= budget:
        return ""
    if committed == 0:
        return f"one round costs epsilon {following:.4g}, spec.privacy.maxEpsilon is {budget:g}"
    spent = epsilon_after(spec, committed) or 0.0
    return (
        f"epsilon is {spent:.4g} after round {committed}; another would make it {following:.4g}, "
        f"more than {budget:g}"
    )


def budget_problems(spec: JobSpec) -> Iterator[Problem]:
    """Find that not even one round fits into the budget."""
    privacy, noisy = spec.privacy, noisy_rounds(spec)
    if privacy is None or noisy is None or not over_budget(spec, 0):
        return
    message = (
        f"got {privacy.max_epsilon:g}, but one round costs {epsilon_after(spec, 1):.4g} "
        f"(noiseMultiplier {noisy.noise_multiplier:g}, {expected_clients(spec)} of "
        f"{len(spec.training_workers)} clients, delta {privacy.delta:g}): raise it, or "
        "spec.privacy.noiseMultiplier"
    )
    yield Problem("spec.privacy.maxEpsilon", message)


def privacy_notice(spec: JobSpec) -> str:
    """Say in a sentence or two what a job promises; empty for one without privacy."""
    return " ".join(filter(None, (_central(spec), _local(spec), _released(spec))))


def _central(spec: JobSpec) -> str:
    noisy = noisy_rounds(spec)
    if noisy is None or spec.privacy is None:
        return ""
    if noisy.noise_multiplier == 0:
        return "updates are clipped, but noiseMultiplier is 0: nothing is promised."
    if spec.privacy.delta is None:
        return "noise is added, but not accounted for: spec.privacy.delta is missing."
    rounds = spec.rounds or 1
    one, all_ = (epsilon_after(spec, number) or 0.0 for number in (1, rounds))
    return (
        f"epsilon {one:.3g} after one round, {all_:.3g} after {rounds}, at delta "
        f"{spec.privacy.delta:g} ({noisy.adjacency}). It covers the models; metrics and numbers of "
        f"examples that clients report are not noised.{_probed(spec)}"
    )


def _probed(spec: JobSpec) -> str:
    if not has_probe(spec):
        return ""
    alone = epsilon_after(spec, 0) or 0.0
    return f" The probe of spec.transfer, before round 1, costs {alone:.3g} of it."


def _released(spec: JobSpec) -> str:
    """Of mistnet: what is promised of one bit, and that it is no promise for an image."""
    if spec.algorithm is None or spec.algorithm.name != MISTNET:
        return ""
    from fedloom.training.split_environment import mechanism_of  # of no concern to other jobs

    mechanism = mechanism_of(spec.algorithm.parameters)
    in_clear = "Labels and numbers of images are in the clear."
    if mechanism.is_noiseless and spec.algorithm.parameters.get("privacy") == "none":
        return f"bits of features leave edges as they are: NO privacy. {in_clear}"
    if mechanism.is_noiseless:
        asked = f"epsilon {mechanism.asked:g} ({mechanism.convention})"
        return (
            f"{asked} per bit is no privacy at all: every released bit is the true one. {in_clear}"
        )
    weak = "" if mechanism.epsilon < _WEAK_EPSILON else ": practically no privacy"
    return (
        f"released bits of features are randomised, {mechanism}{weak}. For an image as a whole it is "
        f"that times the number of its bits, which promises nothing. {in_clear}"
    )


def _local(spec: JobSpec) -> str:
    local = local_settings(spec)
    if local is None:
        return ""
    of = "value" if local["mechanism"] == "randomized-response" else "update"
    return (
        f"every {of} that leaves a client is noised by itself: {local['mechanism']}, epsilon "
        f"{local['epsilon']:g} per {of}."
    )
