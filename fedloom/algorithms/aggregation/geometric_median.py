"""The geometric median: the point whose distances to all updates have the smallest sum.

Pillutla, Kakade, Harchaoui: "Robust Aggregation for Federated Learning" (RFA), IEEE Transactions on
Signal Processing 2022, arXiv 1912.13445: the smoothed Weiszfeld algorithm.

Every iterate is a weighted mean v = sum a[k] x[k] with weights of sum 1, so its distances follow
from those between the updates, |v - x[j]|^2 = (D a)[j] - (a D a) / 2, and an iteration touches K x K
numbers where the paper's needs a pass over all updates.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from fedloom.algorithms.aggregation.distances import squared_distances
from fedloom.algorithms.aggregation.mean import normalized_weights, weighted_mean
from fedloom.algorithms.aggregation.source import Block, UpdateSource
from fedloom.algorithms.layout import Array, Layout
from fedloom.errors import JobError


@dataclass(frozen=True)
class GeometricMedian:
    """The weighted mean in which far updates weigh less: weight / max(smoothing, distance).

    The clients' weights are used: a client counts by its examples, as in the mean, and bad updates
    do harm only where they make half of the total weight. Distances are over the tensors of floats
    (see `distances.squared_distances`); integer tensors are averaged with the same weights in
    float64 and rounded where the model is written. One client is its own median, equal updates are
    theirs. Two passes over the updates; time grows with K^2.

    Args:
        iterations: at most; fewer where the weights stop changing. Each takes the influence of
            distant outliers down by about their share over the others' share.
        smoothing: the distance below which an update is no closer, > 0, in units of the update's
            Euclidean norm (nu in the paper).
    """

    shows_bad_values: ClassVar[bool] = False
    least_updates: ClassVar[int] = 1
    iterations: int = 100
    smoothing: float = 1e-6

    def aggregate(
        self, sources: Sequence[UpdateSource], weights: Array, layout: Layout
    ) -> Iterator[Block]:
        """Stream the geometric median; see `protocol.Aggregator.aggregate`.

        The first pass over the updates is made at the call.

        Raises:
            JobError: as `mean.weighted_mean`; `TooLargeForRule` where only updates beyond measure
                have a weight.
        """
        fractions = normalized_weights(weights, len(sources))
        squares = squared_distances(sources, layout)
        return weighted_mean(sources, self.weigh(squares, fractions), layout)

    def weigh(self, squares: Array, weights: Array) -> Array:
        """Give the weights of the mean that is the geometric median: shape (K,), of sum 1.

        Args:
            squares: shape (K, K), float64, as `squared_distances` gives them; an update at an
                infinite distance gets weight 0.
            weights: shape (K,), float64, of sum 1.
        """
        is_near = np.isfinite(squares.diagonal())
        own = weights[is_near]
        if not own.any():
            raise JobError(
                "TooLargeForRule",
                "geometric-median: got squared norms beyond 1e300 in every update of a weight "
                "above 0, expected one at least",
            )
        near = _weiszfeld(squares[np.ix_(is_near, is_near)], own / own.sum(), self)
        result: Array = np.zeros(len(weights))
        result[is_near] = near
        return result


def _weiszfeld(squares: Array, own: Array, rule: GeometricMedian) -> Array:
    shares = own
    for _ in range(rule.iterations):
        # Sums and products apart, no BLAS: the same bits on every machine.
        away = np.add.reduce(squares * shares, axis=1)
        distances = np.sqrt(np.maximum(away - np.add.reduce(away * shares) / 2, 0.0))
        pulls = own / np.maximum(distances, rule.smoothing)
        before, shares = shares, pulls / pulls.sum()
        if np.array_equal(before, shares):
            break
    return shares
