"""SCAFFOLD's control variates: what each client's gradient is like, and what all of theirs are.

Algorithm 1 of Karimireddy, Kale, Mohri, Reddi, Stich, Suresh, "SCAFFOLD: Stochastic Controlled
Averaging for Federated Learning" (ICML 2020, arXiv 1910.06378), with option II for the clients'
variates. Control variates have the shapes of the model's float tensors, in the accumulator dtype.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from fedloom.algorithms.drift.correction import Arrays
from fedloom.algorithms.layout import Array, Layout, TensorSpec, accumulator_dtype


def control_layout(layout: Layout) -> Layout:
    """Give the layout of the control variates of a model."""
    return {
        name: TensorSpec(spec.shape, accumulator_dtype(spec.dtype))
        for name, spec in layout.items()
        if spec.dtype.kind == "f"
    }


def first_variates(layout: Layout) -> dict[str, Array]:
    """Give the variates before the first round, of clients and server alike: zeros."""
    return {name: np.zeros(spec.shape, spec.dtype) for name, spec in control_layout(layout).items()}


def drift_offset(common: Arrays, own: Arrays) -> dict[str, Array]:
    """Give what is added to each of a client's gradients: c - c_i."""
    return {name: np.asarray(common[name] - own[name]) for name in common}


def refreshed_variates(
    own: Arrays, common: Arrays, before: Arrays, after: Arrays, path_length: float
) -> dict[str, Array]:
    """Give a client's new variates after training: c_i - c + (x - y) / (K * learning rate).

    That is the mean of the K gradients along the client's way, without their correction, as long as
    its steps were those of plain gradient descent.

    Args:
        own: c_i, at the start of the round.
        common: c, which the round's correction was made with.
        before: x, the weights that the client was given; more tensors than `own` are passed over.
        after: y, its weights after training.
        path_length: K * learning rate, > 0.

    Returns:
        New arrays with the names and dtypes of `own`; not finite where the weights are not.
    """
    fresh = {}
    with np.errstate(over="ignore", invalid="ignore"):
        for name, variate in own.items():
            way = np.subtract(before[name], after[name], dtype=variate.dtype)
            fresh[name] = np.asarray(variate - common[name] + way / path_length)
    return fresh


def advanced_variate(common: Array, mean_change: Array, kept: float, share: float) -> Array:
    """Give the server's variate after a round, block by block: kept * c + share * mean of the changes.

    So c is the mean of all clients' variates, weighted as the model's mean is: then the offsets of
    a round in which all take part cancel out. A client that fails keeps its part in c.

    Args:
        common: shape (elements,): c.
        mean_change: shape (elements,): the weighted mean, over the clients that the round accepted,
            of the changes of their variates.
        kept, share: as `shares_of` gives them; 1 and |S| / N (the paper's) where all weigh the same.
    """
    return (common if kept == 1 else common * kept) + mean_change * share


def shares_of(
    known: Mapping[str, float], accepted: Mapping[str, float], clients: int
) -> tuple[dict[str, float], float, float]:
    """Give what `advanced_variate` needs, and what is known of the clients' weights afterwards.

    Clients that never took part have variates of zero, and count as much as the others on average.

    Args:
        known: client -> its weight, as this function gave it after the last round; empty at first.
        accepted: client -> its weight in this round, of the clients that it accepted; not empty.
        clients: their number in the job.

    Returns:
        The weights that are known now, `kept` and `share`.
    """
    after = {**known, **accepted}
    total = _total(after, clients)
    kept = _total(known, clients) / total if known else 1.0
    return after, kept, sum(accepted.values()) / total


def _total(known: Mapping[str, float], clients: int) -> float:
    weights = [known[client] for client in sorted(known)]
    return sum(weights) * (clients / len(weights))
