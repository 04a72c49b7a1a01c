"""How long the updates are, without holding any of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fedloom.algorithms.aggregation.source import UpdateSource
from fedloom.algorithms.layout import BLOCK_ELEMENTS, Array, Layout, accumulator_dtype


def update_norms(sources: Sequence[UpdateSource], layout: Layout) -> Array:
    """Give the L2 norm of every update over its tensors of floats together, in one pass over each.

    Squares are summed in float64. Tensors of integers and bools do not count: a counter of steps is
    far larger than any weight. Equal updates have equal norms, bit for bit, at whatever position.

    Args:
        sources: any number of updates, all values finite.
        layout: of the model.

    Returns:
        Shape (clients,), float64, >= 0; 0 for a model without floats, infinite where the sum of the
        squares is beyond float64 (only float64 models can have that). Memory: three blocks.
    """
    squares = np.zeros(len(sources))
    wide: Array = np.empty(BLOCK_ELEMENTS)
    with np.errstate(over="ignore"):
        for name in sorted(layout):
            spec = layout[name]
            if spec.dtype.kind != "f":
                continue
            scratch = np.empty(min(spec.size, BLOCK_ELEMENTS), accumulator_dtype(spec.dtype))
            for start in range(0, spec.size, BLOCK_ELEMENTS):
                stop = min(start + BLOCK_ELEMENTS, spec.size)
                values = wide[: stop - start]
                for client, source in enumerate(sources):
                    np.copyto(values, source.read(name, start, stop, scratch))
                    np.multiply(values, values, out=values)
                    squares[client] += np.add.reduce(values)
    norms: Array = np.sqrt(squares)
    return norms
