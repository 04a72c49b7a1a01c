"""The weighted mean of all updates: FedAvg's rule.

McMahan, Moore, Ramage, Hampson, Aguera y Arcas: "Communication-Efficient Learning of Deep Networks
from Decentralized Data", AISTATS 2017, arXiv 1602.05629, algorithm 1.

Each input byte is read once and the accumulator stays in the cache, which is what makes this about
as fast as `numpy.sum` over the same bytes. Multiplications and additions are separate numpy calls
on purpose: no BLAS and no fused operation, so every element gets the same IEEE 754 operations at
whatever position and on whatever machine.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from fedloom.algorithms.aggregation.source import Block, UpdateSource
from fedloom.algorithms.layout import BLOCK_ELEMENTS, Array, Layout, accumulator_dtype
from fedloom.errors import JobError


def weighted_mean(
    sources: Sequence[UpdateSource], weights: Array, layout: Layout
) -> Iterator[Block]:
    """Stream the weighted mean of the updates, block by block.

    For each element: `acc = w[0] * x[0]; acc += w[1] * x[1]; ...` in the order given, in the
    accumulator dtype, with `w[k] = weights[k] / sum(weights)` computed in float64 (the sum exactly
    rounded) and rounded once. Floating-point sums depend on their order: **sort the clients by
    name** before calling, and the result does not depend on who arrived first.

    Args:
        sources: one per client, whose updates have passed the checks of `layout`.
        weights: shape (clients,), float64, finite, >= 0, not all zero.
        layout: of the model; tensors are yielded in sorted order of names.

    Returns:
        Blocks of at most `BLOCK_ELEMENTS` elements in the accumulator dtype, each tensor from
        start to end; an empty tensor gives one empty block. A block's values are valid until the
        next one is asked for. A value that is not finite in any update is not finite in the mean,
        without a warning: refuse it there or before. Memory: two blocks, and what each source
        needs.

    Raises:
        JobError: `NoUpdates` for no source at all, `InvalidWeights` for weights of another number,
            negative, NaN or infinite ones, `ZeroWeight` where they sum to zero. At the call, not
            at the first block.
    """
    fractions = normalized_weights(weights, len(sources))
    return _stream(sources, fractions, layout)


@dataclass(frozen=True)
class Mean:
    """`weighted_mean` as an `Aggregator`. Weights are used; one client is its own mean."""

    shows_bad_values: ClassVar[bool] = True
    least_updates: ClassVar[int] = 1

    def aggregate(
        self, sources: Sequence[UpdateSource], weights: Array, layout: Layout
    ) -> Iterator[Block]:
        """Stream the weighted mean; see `weighted_mean`."""
        return weighted_mean(sources, weights, layout)


def normalized_weights(weights: Array, clients: int) -> Array:
    """Divide weights by their total, shape (clients,), float64; checked as `weighted_mean` says."""
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
    try:
        total = math.fsum(values)
    except OverflowError as error:
        raise JobError(
            "InvalidWeights", "the weights' sum is beyond float64, expected a finite sum"
        ) from error
    if total == 0:
        raise JobError("ZeroWeight", f"all {clients} weights are 0, expected at least one above")
    fractions: Array = values / total
    return fractions


def _stream(sources: Sequence[UpdateSource], fractions: Array, layout: Layout) -> Iterator[Block]:
    largest = max((spec.size for spec in layout.values()), default=0)
    shape = (2, min(largest, BLOCK_ELEMENTS))
    # Made once: fresh pages for every tensor cost more than the sums of a small one.
    memory = {dtype: (np.empty(shape, dtype), fractions.astype(dtype)) for dtype in _dtypes(layout)}
    for name in sorted(layout):
        (total, scratch), scales = memory[accumulator_dtype(layout[name].dtype)]
        size = layout[name].size
        if size == 0:
            yield Block(name, 0, total[:0])
        for start in range(0, size, BLOCK_ELEMENTS):
            length = min(size - start, BLOCK_ELEMENTS)
            block = Block(name, start, total[:length])
            _fold(sources, scales, block, scratch[:length])
            yield block


def _dtypes(layout: Layout) -> set[np.dtype[Any]]:
    return {accumulator_dtype(spec.dtype) for spec in layout.values()}


def _fold(sources: Sequence[UpdateSource], scales: Array, block: Block, scratch: Array) -> None:
    """Fill the block's values with the sum over the sources; NaN and overflow go through."""
    name, start, total = block.name, block.start, block.values
    stop = start + total.size
    with np.errstate(over="ignore", invalid="ignore"):
        np.multiply(sources[0].read(name, start, stop, total), scales[0], out=total)
        for source, scale in zip(sources[1:], scales[1:], strict=True):
            np.multiply(source.read(name, start, stop, scratch), scale, out=scratch)
            np.add(total, scratch, out=total)
