"""The weighted mean of all updates: FedAvg's rule.

McMahan, Moore, Ramage, Hampson, Aguera y Arcas: "Communication-Efficient Learning of Deep Networks
from Decentralized Data", AISTATS 2017, arXiv 1602.05629, algorithm 1.

Each input byte is read once and the sums stay in the cache, which is what makes this about as fast
as `numpy.sum` over the same bytes; see `pairwise` for the order of the sums.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from fedloom.algorithms.aggregation.pairwise import pairwise_sums
from fedloom.algorithms.aggregation.source import Block, UpdateSource
from fedloom.algorithms.layout import Array, Layout
from fedloom.errors import JobError

HEADROOM = 2.0**-32
"""By which weights are scaled, without a rounding, before anything is multiplied: up to 4e9 examples
in all then no sum is larger than the largest value in it, and the fewer they are, the smaller it is."""

SUMMED = 1 / HEADROOM
"""The weight of a source that is no update but what `group_sums` made of several."""

_LEAST_TOTAL = 2.0**-64  # far above where scaled weights would leave float32's normal numbers


@dataclass(frozen=True)
class Mean:
    """`sum of weights[k] * x[k]` over the sum of the weights. One client is its own mean.

    For each element, in the accumulator dtype: every value times its weight (by `HEADROOM`, in
    float64, then rounded once), the products added in pairs by position, the sum times one over the
    total (rounded once).
    Clients in the order of their names give the same bits whoever arrived first.

    Memory: 1 + log2(clients) blocks, and what each source needs. Weights of another number than the
    sources, negative, NaN or infinite ones are refused as `InvalidWeights`, and so is a total that is
    beyond float64 or above 0 and below 2**-64; weights that are all 0 as `ZeroWeight`.

    Args:
        positions: of the sources in the cohort, ascending; None where nobody is absent.
        divisor: what to divide by, above 0, instead of the sum of the weights.
    """

    shows_bad_values: ClassVar[bool] = True
    least_updates: ClassVar[int] = 1
    positions: tuple[int, ...] | None = None
    divisor: float | None = None

    def aggregate(
        self, sources: Sequence[UpdateSource], weights: Array, layout: Layout
    ) -> Iterator[Block]:
        """Stream the weighted mean; see `protocol.Aggregator.aggregate`."""
        values = checked_weights(weights, len(sources))
        total = total_weight(values) if self.divisor is None else self.divisor
        positions = range(len(sources)) if self.positions is None else self.positions
        if len(sources) == 1 and values[0] == total:
            return pairwise_sums(sources, np.ones(1), positions, layout)
        factor = 1 / (total * HEADROOM)
        return pairwise_sums(sources, values * HEADROOM, positions, layout, factor)


def group_sums(
    sources: Sequence[UpdateSource], weights: Array, positions: Sequence[int], layout: Layout
) -> Iterator[Block]:
    """Stream the weighted sum of a group of a cohort: a part of its mean that is made elsewhere.

    Groups are of 2^n neighbours, aligned: positions 0 to 63, 64 to 127 and so on. Their sums take
    part in sums of groups of groups, and at last in a `Mean` with a divisor, at the groups' own
    positions and with the weight `SUMMED`; then the bits are those of the flat mean. What is made
    of one update alone is that update, and keeps its weight. Weights that are all 0 are fine.

    Args:
        sources, weights: at least one; see `Mean.aggregate`.
        positions: of the sources in the cohort (or in the group), ascending.
        layout: of the model.
    """
    scales = np.ones(1) if len(sources) == 1 else checked_weights(weights, len(sources)) * HEADROOM
    return pairwise_sums(sources, scales, positions, layout)


def weighted_mean(
    sources: Sequence[UpdateSource], weights: Array, layout: Layout
) -> Iterator[Block]:
    """Stream the weighted mean of updates of which none is absent; see `Mean`."""
    return Mean().aggregate(sources, weights, layout)


def normalized_weights(weights: Array, clients: int) -> Array:
    """Divide weights by their total, shape (clients,), float64; checked as `Mean` says."""
    values = checked_weights(weights, clients)
    fractions: Array = values / total_weight(values)
    return fractions


def checked_weights(weights: Array, clients: int) -> Array:
    """Give weights as float64, shape (clients,), each finite and >= 0, or refuse them."""
    if clients == 0:
        raise JobError("NoUpdates", "got no updates to average, expected at least one")
    values = np.asarray(weights, dtype=np.float64)
    if values.shape != (clients,):
        raise JobError(
            "InvalidWeights", f"got weights of shape {values.shape}, expected ({clients},)"
        )
    wrong = np.flatnonzero(~(np.isfinite(values) & (values >= 0)))
    if wrong.size:
        raise JobError(
            "InvalidWeights",
            f"client {wrong[0]}: got weight {values[wrong[0]]}, expected a finite number >= 0",
        )
    return values


def total_weight(values: Array) -> float:
    """Add up weights with one rounding, so that their order does not count; refuse as `Mean` says."""
    try:
        total = math.fsum(values)
    except OverflowError as error:
        raise JobError(
            "InvalidWeights", "the weights' sum is beyond float64, expected a finite sum"
        ) from error
    if total == 0:
        raise JobError(
            "ZeroWeight", f"all {len(values)} weights are 0, expected at least one above"
        )
    if total < _LEAST_TOTAL:
        raise JobError("InvalidWeights", f"got weights of sum {total}, expected 2**-64 or more")
    return total
