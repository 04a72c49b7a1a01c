"""What a training script in plain numpy needs: minibatches in a reproducible order, and a way to make
clients out of one labelled data set that differ as real clients do."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

Indices = np.ndarray[Any, np.dtype[np.intp]]
_DRAWS = 1000


def batches(num_examples: int, batch_size: int, seed: int, epochs: int = 1) -> Iterator[Indices]:
    """Yield the minibatches of `epochs` passes over `num_examples` examples as arrays of indices.

    Every pass is shuffled anew and has every index once; its last batch may be smaller. The same
    arguments give the same batches: with `context.seed` they differ per round and client, and are
    the same on a retry. Raises ValueError for a count that is not an integer >= 1 (epochs: >= 0).
    """
    counts = {"num_examples": num_examples, "batch_size": batch_size, "epochs": epochs}
    for name, count in counts.items():
        lowest = 0 if name == "epochs" else 1
        if not isinstance(count, (int, np.integer)) or count < lowest:
            raise ValueError(f"{name}: got {count!r}, expected an integer >= {lowest}")
    return _batches(num_examples, batch_size, np.random.Generator(np.random.PCG64(seed)), epochs)


def _batches(
    num_examples: int, batch_size: int, rng: np.random.Generator, epochs: int
) -> Iterator[Indices]:
    for _ in range(epochs):
        order = rng.permutation(num_examples)
        for start in range(0, num_examples, batch_size):
            yield order[start : start + batch_size]


def dirichlet_split(
    labels: np.ndarray[Any, Any], num_clients: int, alpha: float, seed: int, min_examples: int = 1
) -> list[Indices]:
    """Split examples over clients so that each client sees its own mixture of labels.

    For every label the clients' shares are drawn from a Dirichlet distribution with `alpha` for each
    client (Yurochkin et al. 2019, "Bayesian Nonparametric Federated Learning of Neural Networks",
    arXiv:1905.12022, section 4). Large `alpha` (100): all clients alike; small (0.1): most clients
    have few labels, and much more or less data than others. A draw in which a client has fewer than
    `min_examples` is thrown away.

    Args:
        labels: shape (examples,), any dtype that sorts.
        alpha: > 0.

    Returns:
        Per client the indices of its examples, ascending; every example belongs to exactly one.

    Raises:
        ValueError: arguments out of range, or no draw of a thousand gave everyone enough.
    """
    labels = np.asarray(labels)
    if labels.ndim != 1:
        raise ValueError(f"labels: got shape {labels.shape}, expected (examples,)")
    if num_clients < 1:
        raise ValueError(f"num_clients: got {num_clients}, expected >= 1")
    if not (alpha > 0 and np.isfinite(alpha)):
        raise ValueError(f"alpha: got {alpha}, expected a finite number > 0")
    if num_clients * min_examples > len(labels):
        raise ValueError(
            f"min_examples: got {min_examples} for each of {num_clients} clients, "
            f"but there are only {len(labels)} examples"
        )
    rng = np.random.Generator(np.random.PCG64(seed))
    for _ in range(_DRAWS):
        parts = _draw(labels, num_clients, alpha, rng)
        if min(map(len, parts)) >= min_examples:
            return parts
    raise ValueError(
        f"got no split with {min_examples} examples for every client in {_DRAWS} draws; "
        f"expected a larger alpha (got {alpha}), fewer clients or fewer min_examples"
    )


def _draw(
    labels: np.ndarray[Any, Any], num_clients: int, alpha: float, rng: np.random.Generator
) -> list[Indices]:
    pieces: list[list[Indices]] = [[] for _ in range(num_clients)]
    for label in np.unique(labels):
        indices = rng.permutation(np.flatnonzero(labels == label))
        shares = rng.dirichlet(np.full(num_clients, alpha))
        borders = (np.cumsum(shares)[:-1] * len(indices)).astype(int)
        for part, piece in zip(pieces, np.split(indices, borders), strict=True):
            part.append(piece)
    return [np.sort(np.concatenate(part)) for part in pieces]
