"""The median of every coordinate.

Yin, Chen, Ramchandran, Bartlett: "Byzantine-Robust Distributed Learning: Towards Optimal
Statistical Rates", ICML 2018, arXiv 1803.01498, option I.
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
class Median:
    """The middle value of each element; of an even number the mean of the two in the middle.

    The clients' weights are ignored: a number of examples is what a client says of itself. Fewer
    than half of the clients cannot move an element beyond the values of the others. Integer tensors
    are treated alike, in float64, and rounded where the model is written. One client is its own
    median, equal updates are theirs. The bits do not depend on the order of the clients, and a zero
    is always +0. Memory: a stack (at most 16 MiB) and two blocks.
    """

    shows_bad_values: ClassVar[bool] = False
    least_updates: ClassVar[int] = 1

    def aggregate(
        self, sources: Sequence[UpdateSource], weights: Array, layout: Layout
    ) -> Iterator[Block]:
        """Stream the median; see `protocol.Aggregator.aggregate`. `weights` are not looked at."""
        del weights
        check_enough("median", len(sources), self.least_updates, "")
        return _stream(sources, layout)


def _stream(sources: Sequence[UpdateSource], layout: Layout) -> Iterator[Block]:
    middle, is_odd = divmod(len(sources), 2)
    for stack in stacks(sources, layout):
        values = np.empty(stack.rows.shape[1], stack.rows.dtype)
        for first, lines in sorted_strips(stack.rows):
            out = values[first : first + lines[0].size]
            if is_odd:
                np.add(lines[middle], 0, out=out)  # -0 becomes +0: a sort does not order the two
            else:
                # Halved before they are added, so that two large values do not overflow.
                np.multiply(lines[middle - 1], 0.5, out=out)
                np.add(out, lines[middle] * lines[middle].dtype.type(0.5), out=out)
                np.add(out, 0, out=out)
        yield Block(stack.name, stack.start, values)
