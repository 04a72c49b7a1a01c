"""How far the updates are from each other, without holding any of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fedloom.algorithms.aggregation.source import UpdateSource
from fedloom.algorithms.aggregation.stacking import stacks
from fedloom.algorithms.layout import Array, Layout

_STRIP_BYTES = 1024 * 1024
_STRIP_ELEMENTS = 4096
_LARGEST_SQUARE = 1e300


def squared_distances(sources: Sequence[UpdateSource], layout: Layout) -> Array:
    """Give the squared Euclidean distance between any two updates, in one pass over them.

    From the Gram matrix: |x - y|^2 = x.x - 2 x.y + y.y, cut off below 0, with an absolute error of
    about 1e-15 times the larger squared norm. Equal updates have distance 0 exactly. No BLAS, so the
    bits depend neither on the machine nor on the number of threads, and exchanging two clients
    exchanges their rows and columns, bit for bit.

    Only tensors of floats count: a counter of steps in a model is far larger than any weight, and
    honest clients differ in it. In a model without any such tensor all tensors count.

    Args:
        sources: at least one, all values finite.
        layout: of the model.

    Returns:
        Shape (clients, clients), float64, symmetric, the diagonal 0. An update whose squared norm is
        beyond 1e300 (only float64 models can have one) is at an infinite distance from every update,
        itself included. Memory: a stack (at most 16 MiB), two strips, a few matrices.
    """
    floats = {name: spec for name, spec in layout.items() if spec.dtype.kind == "f"}
    gram = _gram(sources, floats or layout)
    norms = gram.diagonal()
    is_far = ~(norms <= _LARGEST_SQUARE)
    with np.errstate(over="ignore", invalid="ignore"):
        squares: Array = np.maximum(norms[:, None] + norms[None, :] - 2 * gram, 0.0)
    squares[is_far, :] = np.inf
    squares[:, is_far] = np.inf
    return squares


def _gram(sources: Sequence[UpdateSource], layout: Layout) -> Array:
    """Give the scalar product of any two updates, accumulated stretch by stretch in float64."""
    clients = len(sources)
    length = max(1, min(_STRIP_ELEMENTS, _STRIP_BYTES // (8 * clients)))
    memory, products = np.empty((2, clients * length))
    gram = np.zeros((clients, clients))
    with np.errstate(over="ignore", invalid="ignore"):
        for stack in stacks(sources, layout):
            for start in range(0, stack.rows.shape[1], length):
                part = stack.rows[:, start : start + length]
                strip = memory[: part.size].reshape(part.shape)
                np.copyto(strip, part)
                scratch = products[: part.size].reshape(part.shape)
                for client in range(clients):
                    below = scratch[client:]
                    np.multiply(strip[client:], strip[client], out=below)
                    gram[client:, client] += np.add.reduce(below, axis=1)
    return np.tril(gram) + np.tril(gram, -1).T
