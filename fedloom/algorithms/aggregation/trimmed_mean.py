"""The mean of every coordinate without its largest and smallest values.

Yin, Chen, Ramchandran, Bartlett: "Byzantine-Robust Distributed Learning: Towards Optimal
Statistical Rates", ICML 2018, arXiv 1803.01498, option II.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from fedloom.algorithms.aggregation.protocol import check_enough
from fedloom.algorithms.aggregation.source import Block, UpdateSource
from fedloom.algorithms.aggregation.stacking import sorted_strips, stacks
from fedloom.algorithms.layout import Array, Layout


@dataclass(frozen=True)
class TrimmedMean:
    """The mean of what is left of each element after `trim` values at each end are dropped.

    The clients' weights are ignored: a number of examples is what a client says of itself. Up to
    `trim` clients cannot move an element beyond the values of the others. Integer tensors are
    treated alike, in float64, and rounded where the model is written. The sum runs in float64 from
    the smallest value kept to the largest, so the bits do not depend on the order of the clients.
    Memory: a stack (at most 16 MiB) and three blocks.

    Args:
        trim: how many values to drop at each end, >= 0; 0 is the unweighted mean.
    """

    shows_bad_values: ClassVar[bool] = False
    trim: int = 1

    @property
    def least_updates(self) -> int:
        """One value must be left: 2 * trim + 1."""
        return 2 * self.trim + 1

    def aggregate(
        self, sources: Sequence[UpdateSource], weights: Array, layout: Layout
    ) -> Iterator[Block]:
        """Stream the trimmed mean; see `protocol.Aggregator.aggregate`.

        `weights` are not looked at. Raises JobError `TooFewForRule` where trimming leaves nothing.
        """
        del weights
        why = f"trim {self.trim} drops {2 * self.trim} values of each element"
        check_enough("trimmed-mean", len(sources), self.least_updates, why)
        return _stream(sources, layout, self.trim)


def _stream(sources: Sequence[UpdateSource], layout: Layout, trim: int) -> Iterator[Block]:
    kept = slice(trim, len(sources) - trim)
    for stack in stacks(sources, layout):
        values = np.empty(stack.rows.shape[1], stack.rows.dtype)
        for first, lines in sorted_strips(stack.rows):
            total = np.zeros(lines[0].size)  # from +0, so that no -0 comes out
            with np.errstate(over="ignore", invalid="ignore"):
                for line in lines[kept]:
                    np.add(total, line, out=total)
                np.divide(total, len(lines) - 2 * trim, out=total)
            np.copyto(values[first : first + total.size], total, casting="same_kind")
        yield Block(stack.name, stack.start, values)
