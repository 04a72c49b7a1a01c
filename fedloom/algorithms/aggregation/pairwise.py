"""Sums over the clients in pairs: by their positions in the cohort, so that a tree gives the same bits.

A floating-point sum depends on where its brackets are. Here they follow from the positions alone:
position 0 with 1, 2 with 3, then those two sums, and so on; who is absent is left out of its
bracket. The sum over positions 64 to 127 is then one bracket of the whole sum, whatever else there
is: a group of 2^n neighbours that is summed elsewhere and taken in at its place changes no bit.

At any time one partial sum per level of the tree is kept: 1 + log2(clients) blocks. Multiplications
and additions are separate numpy calls on purpose: no BLAS and no fused operation, so every element
gets the same IEEE 754 operations at whatever position and on whatever machine.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from fedloom.algorithms.aggregation.source import Block, UpdateSource
from fedloom.algorithms.layout import BLOCK_ELEMENTS, Array, Layout, accumulator_dtype

_CACHE_LINE_BYTES = 64
_Read = Callable[[str, int, int, Array], Array]


def pairwise_sums(
    sources: Sequence[UpdateSource],
    scales: Array,
    positions: Sequence[int],
    layout: Layout,
    factor: float = 1.0,
) -> Iterator[Block]:
    """Stream `factor * sum of scales[k] * x[k]`, bracketed by position, block by block.

    Args:
        sources: at least one: updates, or sums of aligned groups of them, never both of the same.
        scales: shape (sources,), float64: rounded once to the accumulator dtype.
        positions: of each source among its like, >= 0, ascending, without repetition.
        layout: of the model; tensors are yielded in sorted order of names.
        factor: what the whole sum is multiplied with, rounded once to the accumulator dtype.

    Returns:
        Blocks as `protocol.Aggregator.aggregate` gives them. Their values may be written to. NaN
        and overflow go through without a warning.
    """
    pairs = _pairs(positions)
    length = min(BLOCK_ELEMENTS, max((spec.size for spec in layout.values()), default=0))
    # Made once: fresh pages for every tensor cost more than the sums of a small one.
    memory = {dtype: _slots(_depth(pairs), length, dtype) for dtype in _dtypes(layout)}
    factors = {dtype: [np.array(scale, dtype) for scale in (*scales, factor)] for dtype in memory}
    reads = [source.read for source in sources]
    for name in sorted(layout):
        dtype = accumulator_dtype(layout[name].dtype)
        *each, whole = factors[dtype]
        steps = list(zip(reads, each, pairs, strict=True))
        size = layout[name].size
        if size == 0:
            yield Block(name, 0, memory[dtype][0][:0])
        for start in range(0, size, BLOCK_ELEMENTS):
            slots = [slot[: size - start] for slot in memory[dtype]]
            with np.errstate(over="ignore", invalid="ignore", under="ignore"):
                _add_up(steps, slots, name, start)
                if factor != 1:
                    np.multiply(slots[0], whole, slots[0])
            yield Block(name, start, slots[0])


def _add_up(
    steps: Sequence[tuple[_Read, Array, int]], slots: list[Array], name: str, start: int
) -> None:
    """Leave the sum in the first slot; the slots are a stack of the brackets that are open."""
    stop = start + slots[0].size
    top = -1
    for read, factor, pairs in steps:
        top += 1
        slot = slots[top]
        np.multiply(read(name, start, stop, slot), factor, slot)
        for _ in range(pairs):
            top -= 1
            np.add(slots[top], slots[top + 1], slots[top])


def _pairs(positions: Sequence[int]) -> list[int]:
    """Give how many brackets close after each source: each adds the two uppermost sums of the stack.

    Between two neighbours p < q the highest bit in which they differ says in which bracket they
    meet: all brackets that are smaller close first.
    """
    pairs: list[int] = []
    open_levels: list[int] = []
    for position, following in pairwise(positions):
        level = (position ^ following).bit_length()
        closed = 0
        while open_levels and open_levels[-1] < level:
            open_levels.pop()
            closed += 1
        open_levels.append(level)
        pairs.append(closed)
    return [*pairs, len(open_levels)]


def _depth(pairs: Sequence[int]) -> int:
    """Give the largest number of sums that are open at the same time."""
    depth = deepest = 0
    for closed in pairs:
        depth += 1
        deepest = max(deepest, depth)
        depth -= closed
    return deepest


def _slots(count: int, length: int, dtype: np.dtype[Any]) -> list[Array]:
    """Make arrays that begin at cache lines: across two of them each vector takes twice as long."""
    line = _CACHE_LINE_BYTES // dtype.itemsize
    stride = -(-length // line) * line
    memory = np.empty(count * stride + line, dtype)
    first = -memory.ctypes.data % _CACHE_LINE_BYTES // dtype.itemsize
    return [memory[first + slot * stride :][:length] for slot in range(count)]


def _dtypes(layout: Layout) -> set[np.dtype[Any]]:
    return {accumulator_dtype(spec.dtype) for spec in layout.values()}
