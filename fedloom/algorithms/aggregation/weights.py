"""How much each client counts in a mean."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from fedloom.algorithms.layout import Array
from fedloom.errors import JobError

Counts = Sequence[int]


@dataclass(frozen=True)
class Weights:
    """What the updates of a mean are multiplied with, and what their sum is divided by.

    Attributes:
        values: shape (clients,), float64, >= 0; not normalised.
        divisor: None for their sum.
    """

    values: Array
    divisor: float | None = None


def weigh(kind: str, num_examples: Counts, num_steps: Counts) -> Weights:
    """Weigh each client by its `examples` (McMahan et al. 2017), by its `steps`, or `uniform`.

    Args:
        kind: one of the three.
        num_examples, num_steps: of each client, in the order of the clients, >= 0; only that which
            is asked for is looked at.
    """
    return Weights(np.array(_shares(kind, num_examples, num_steps), np.float64))


def weigh_normalized(kind: str, num_examples: Counts, num_steps: Counts) -> Weights:
    """Weigh updates per step: FedNova, for clients that make plain steps of gradient descent.

    Wang, Liu, Liang, Joshi, Poor: "Tackling the Objective Inconsistency Problem in Heterogeneous
    Federated Optimization", NeurIPS 2020, arXiv 2007.07481, section 4:

        d = tau_eff * sum of p[k] * delta[k] / tau[k]    with    tau_eff = sum of p[k] * tau[k]

    Whoever makes more steps gets no more say by that. With p[k] = n[k] / sum(n) it is the sum of
    n[k] / tau[k] * delta[k], divided by sum(n)^2 / sum(n * tau); sums of integers, and so exact in
    any order. Where all make as many steps, it is the mean.

    Args:
        kind: what n is: `examples` or `uniform`.
        num_examples: of each client, >= 0.
        num_steps: of each client, > 0 (tau).

    Raises:
        JobError: `ZeroWeight` where all n are 0.
    """
    shares = _shares(kind, num_examples, num_steps)
    total = sum(shares)
    if total == 0:
        raise JobError(
            "ZeroWeight", f"all {len(shares)} weights are 0, expected at least one above"
        )
    pairs = list(zip(shares, num_steps, strict=True))
    values = np.array([share / steps for share, steps in pairs], np.float64)
    return Weights(values, total * total / sum(share * steps for share, steps in pairs))


def _shares(kind: str, num_examples: Counts, num_steps: Counts) -> list[int]:
    kinds: Mapping[str, Callable[[], list[int]]] = {
        "examples": lambda: list(num_examples),
        "steps": lambda: list(num_steps),
        "uniform": lambda: [1] * len(num_examples),
    }
    if kind not in kinds:
        raise JobError("UnknownWeights", f"got weights {kind!r}, expected one of {sorted(kinds)}")
    return kinds[kind]()
