"""The same stretch of every update, one below the other: what the rules by coordinate work on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

from fedloom.algorithms.aggregation.source import UpdateSource
from fedloom.algorithms.layout import BLOCK_ELEMENTS, Array, Layout, accumulator_dtype

STACK_BYTES = 16 * 1024 * 1024
"""Of a stack, whatever the number of clients: with more of them the stretches get shorter."""

_NETWORK_ROWS = 128
_STRIP_ELEMENTS = 8192

Pairs = tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class Stack:
    """A stretch of one tensor in every update.

    Attributes:
        name: of the tensor.
        start: flat index of the first element.
        rows: shape (clients, elements), accumulator dtype. The reader's to write to, until the
            next stack.
    """

    name: str
    start: int
    rows: Array


def stacks(sources: Sequence[UpdateSource], layout: Layout) -> Iterator[Stack]:
    """Read all updates side by side, tensors in sorted order of names, each from start to end.

    Args:
        sources: at least one.
        layout: of the tensors to read; an empty tensor gives one empty stack.

    Returns:
        Stacks of at most `BLOCK_ELEMENTS` elements and `STACK_BYTES` bytes (one element of each
        client at least), all in the same memory.
    """
    largest = max((spec.size for spec in layout.values()), default=0)
    length = min(largest, BLOCK_ELEMENTS, max(1, STACK_BYTES // (8 * len(sources))))
    memory = np.empty(len(sources) * length, np.float64)
    for name in sorted(layout):
        size, dtype = layout[name].size, accumulator_dtype(layout[name].dtype)
        flat = memory.view(dtype)
        for start in range(0, max(size, 1), max(length, 1)):
            elements = min(size - start, length)
            rows = flat[: len(sources) * elements].reshape(len(sources), elements)
            for source, row in zip(sources, rows, strict=True):
                if elements:
                    _fill(row, source.read(name, start, start + elements, row))
            yield Stack(name, start, rows)


def sorted_strips(rows: Array) -> Iterator[tuple[int, list[Array]]]:
    """Sort every column of a stack, a strip of columns at a time.

    Few rows go through Batcher's merge exchange (Knuth, The Art of Computer Programming, volume 3,
    5.2.2, algorithm M): each exchange is one minimum and one maximum over a strip that stays in the
    cache, which is several times faster than sorting columns of a few values one by one.

    Args:
        rows: shape (clients, elements), floats; overwritten.

    Yields:
        The first column of the strip, and `clients` arrays of shape (columns,), smallest first:
        valid until the next strip.
    """
    spare = np.empty(_STRIP_ELEMENTS, rows.dtype)
    exchanges = _merge_exchange(len(rows)) if len(rows) <= _NETWORK_ROWS else None
    for first in range(0, rows.shape[1], _STRIP_ELEMENTS):
        strip = rows[:, first : first + _STRIP_ELEMENTS]
        if exchanges is None:
            yield first, list(np.sort(strip, axis=0))
        else:
            yield first, _exchange(list(strip), spare[: strip.shape[1]], exchanges)


def _fill(row: Array, values: Array) -> None:
    if not np.may_share_memory(row, values):
        np.copyto(row, values)


def _exchange(lines: list[Array], spare: Array, exchanges: Pairs) -> list[Array]:
    for low, high in exchanges:
        np.minimum(lines[low], lines[high], out=spare)
        np.maximum(lines[low], lines[high], out=lines[high])
        lines[low], spare = spare, lines[low]
    return lines


@cache
def _merge_exchange(size: int) -> Pairs:
    """Give the pairs to compare and exchange, in order, that sort `size` values."""
    pairs: list[tuple[int, int]] = []
    top = 1 << max(0, (size - 1).bit_length() - 1)
    step = top
    while step and size > 1:
        reach, offset, distance = top, 0, step
        while True:
            pairs += [(i, i + distance) for i in range(size - distance) if i & step == offset]
            if reach == step:
                break
            distance, reach, offset = reach - step, reach // 2, step
        step //= 2
    return tuple(pairs)
