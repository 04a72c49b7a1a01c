"""Krum and multi-Krum: the updates that have the closest neighbours.

Blanchard, El Mhamdi, Guerraoui, Stainer: "Machine Learning with Adversaries: Byzantine Tolerant
Gradient Descent", NeurIPS 2017, arXiv 1703.02757, sections 4 and 5.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from fedloom.algorithms.aggregation.distances import squared_distances
from fedloom.algorithms.aggregation.mean import weighted_mean
from fedloom.algorithms.aggregation.protocol import check_enough
from fedloom.algorithms.aggregation.source import Block, UpdateSource
from fedloom.algorithms.layout import Array, Layout
from fedloom.errors import JobError


@dataclass(frozen=True)
class Krum:
    """The mean of the `keep` updates whose K - byzantine - 2 nearest neighbours are the closest.

    The clients' weights are ignored, in the choice and in the mean of the chosen: a number of
    examples is what a client says of itself. Distances are over the tensors of floats (see
    `distances.squared_distances`); integer tensors are those of the chosen updates, averaged in
    float64 and rounded where the model is written. Of updates with equal scores the one that comes
    first in the order of the clients is chosen. Two passes over the updates; time grows with K^2.

    Args:
        byzantine: how many clients may send anything at all, >= 0 (f in the paper).
        keep: how many updates to average (m in the paper): 1 is Krum; 0 stands for all but
            `byzantine`.
    """

    shows_bad_values: ClassVar[bool] = False
    byzantine: int = 1
    keep: int = 1

    @property
    def least_updates(self) -> int:
        """2 * byzantine + 3 for the rule's guarantee, and `keep` beside the byzantine ones."""
        return max(2 * self.byzantine + 3, self.keep + self.byzantine)

    def aggregate(
        self, sources: Sequence[UpdateSource], weights: Array, layout: Layout
    ) -> Iterator[Block]:
        """Stream the mean of the chosen; see `protocol.Aggregator.aggregate`.

        `weights` are not looked at. The first pass over the updates is made at the call.

        Raises:
            JobError: `TooFewForRule` for fewer than `least_updates`; `TooLargeForRule` where so
                many updates are beyond measure that no other is left to choose.
        """
        del weights
        why = f"byzantine {self.byzantine}" + (f" and keep {self.keep}" if self.keep > 1 else "")
        name = "krum" if self.keep == 1 else "multi-krum"
        check_enough(name, len(sources), self.least_updates, f"{why} need as many")
        keep = self.keep or len(sources) - self.byzantine
        scores = krum_scores(squared_distances(sources, layout), self.byzantine)
        chosen = np.sort(np.argsort(scores, kind="stable")[:keep])
        if np.isinf(scores[chosen]).any():
            raise JobError(
                "TooLargeForRule",
                f"{name}: got {int(np.isinf(scores).sum())} of {len(sources)} updates with squared "
                f"distances beyond 1e300, expected at most {len(sources) - keep}",
            )
        return weighted_mean([sources[index] for index in chosen], np.ones(keep), layout)


def krum_scores(squares: Array, byzantine: int) -> Array:
    """Give each update's sum of squared distances to its K - byzantine - 2 nearest neighbours.

    Args:
        squares: shape (K, K), float64, as `squared_distances` gives them.
        byzantine: f, at most K - 3.

    Returns:
        Shape (K,), float64; the same bits for a client at whatever position.
    """
    clients = len(squares)
    neighbours = squares.copy()
    np.fill_diagonal(neighbours, np.inf)  # sorted last: nobody is its own neighbour
    neighbours.sort(axis=1)
    scores: Array = np.add.reduce(neighbours[:, : clients - byzantine - 2], axis=1)
    return scores
