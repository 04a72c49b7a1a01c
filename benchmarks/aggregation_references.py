"""What each system of `aggregation_case.py` must come to: the rules by their definitions, in float64.

It runs under a peer's Python too: numpy is all that it needs.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

Update = dict[str, np.ndarray]

TRIM = 1
ITERATIONS = 100
PROBE_TENSOR, PROBE_ELEMENTS = "layer-00/kernel", 1000


def byzantine(clients: int) -> int:
    """How many clients multi-krum may give up at most, and no more than two."""
    return min(2, (clients - 3) // 2)


def make_weights(clients: int) -> list[int]:
    return [100 + client for client in range(clients)]


def probe(tensor: np.ndarray) -> np.ndarray:
    return tensor.reshape(-1)[:PROBE_ELEMENTS].copy()


def check(system: str, got: np.ndarray, updates: list[Update]) -> None:
    """Compare with the rule's definition in float64 over what was probed, or over whole updates."""
    stretches = np.stack([probe(update[PROBE_TENSOR]) for update in updates]).astype(np.float64)
    weights = np.array(make_weights(len(updates)), np.float64)
    rule = system.partition(", ")[2]
    if rule == "median":
        expected = np.median(stretches, axis=0)
    elif rule == "trimmed-mean":
        expected = np.sort(stretches, axis=0)[TRIM : len(updates) - TRIM].mean(axis=0)
    elif rule == "clipped to median":
        shares = _clipped_weights(updates, weights) / weights.sum()
        expected = (shares[:, None] * stretches).sum(axis=0)
    elif rule in REWEIGHTED:
        expected = np.average(stretches, axis=0, weights=REWEIGHTED[rule](updates, weights))
    else:
        expected = np.average(stretches, axis=0, weights=weights)
    tolerance = 0.05 if "int8" in system else 1e-5
    if np.abs(got - expected).max() > tolerance:
        raise SystemExit(f"the result is off by {np.abs(got - expected).max()}")


def _clipped_weights(updates: list[Update], weights: np.ndarray) -> np.ndarray:
    """Give what each update is multiplied with in the sum."""
    norms = np.sqrt(np.diagonal(_gram(updates)))
    return weights * np.minimum(1.0, np.median(norms) / norms)


def _krum_weights(updates: list[Update], weights: np.ndarray) -> np.ndarray:
    squares = _squares(updates)
    neighbours = np.sort(squares, axis=1)[:, 1 : len(updates) - byzantine(len(updates)) - 1].sum(
        axis=1
    )
    chosen = np.argsort(neighbours, kind="stable")[: len(updates) - byzantine(len(updates))]
    return np.isin(np.arange(len(updates)), chosen).astype(np.float64)


def _median_weights(updates: list[Update], weights: np.ndarray) -> np.ndarray:
    """Weiszfeld, by distances from the current mean of the updates."""
    squares, own = _squares(updates), weights / weights.sum()
    shares = own
    for _ in range(ITERATIONS):
        away = squares @ shares
        pulls = own / np.sqrt(np.maximum(away - shares @ away / 2, 1e-12))
        shares = pulls / pulls.sum()
    return shares


REWEIGHTED: dict[str, Callable[[list[Update], np.ndarray], np.ndarray]] = {
    "multi-krum": _krum_weights,
    "geometric-median": _median_weights,
}


def _gram(updates: list[Update]) -> np.ndarray:
    gram = np.zeros((len(updates), len(updates)))
    for name in updates[0]:
        rows = np.stack([update[name].reshape(-1) for update in updates])
        for start in range(0, rows.shape[1], 1 << 16):
            part = rows[:, start : start + (1 << 16)].astype(np.float64)
            gram += part @ part.T
    return gram


def _squares(updates: list[Update]) -> np.ndarray:
    gram = _gram(updates)
    norms = np.diagonal(gram)
    return np.maximum(norms[:, None] + norms - 2 * gram, 0.0)
