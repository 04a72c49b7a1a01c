"""A model cut into stretches that can be aggregated apart, for rules that work element by element."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from fedloom.algorithms.aggregation.source import UpdateSource
from fedloom.algorithms.layout import BLOCK_ELEMENTS, Array, Layout, TensorSpec


@dataclass(frozen=True)
class Stretch:
    """A piece of a model that is cut in order of names, at borders of blocks.

    Attributes:
        layout: of the piece: of each tensor that has a part in it that part, of shape (elements,).
        starts: name -> flat index in the whole tensor at which its part begins.
    """

    layout: Layout
    starts: Mapping[str, int]


def stretches(layout: Layout, count: int) -> list[Stretch]:
    """Cut a model into `count` stretches of about as many elements; some are empty in small models.

    Args:
        layout: of the model.
        count: >= 1.
    """
    total = max(1, sum(spec.size for spec in layout.values()))
    sizes: list[dict[str, int]] = [{} for _ in range(count)]
    starts: list[dict[str, int]] = [{} for _ in range(count)]
    before = 0
    for name in sorted(layout):
        size = layout[name].size
        for start in range(0, max(size, 1), BLOCK_ELEMENTS):
            length = min(size - start, BLOCK_ELEMENTS)
            place = min(count - 1, (before + length // 2) * count // total)
            starts[place].setdefault(name, start)
            sizes[place][name] = sizes[place].get(name, 0) + length
            before += length
    return [
        Stretch(
            {name: TensorSpec((size,), layout[name].dtype) for name, size in own.items()}, begin
        )
        for own, begin in zip(sizes, starts, strict=True)
    ]


class StretchSource:
    """A stretch of an update, as the update of a model that is no more than the stretch."""

    def __init__(self, source: UpdateSource, starts: Mapping[str, int]) -> None:
        self._source = source
        self._starts = starts

    def read(self, name: str, start: int, stop: int, scratch: Array) -> Array:
        """Give elements [start, stop) of the part of tensor `name`; see `UpdateSource.read`."""
        first = self._starts[name]
        return self._source.read(name, first + start, first + stop, scratch)
