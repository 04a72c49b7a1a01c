"""Which released images a tail is tried on and not trained on: the last of every edge's.

Images of a release are in the order of names that are as good as random, so the last are no other ones
than the first; the same release has the same ones.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fedloom.artifacts.pooled_releases import PooledReleases
from fedloom.training.split import Array, FeatureSource


class Selected:
    """Some of the images of a source, in this order."""

    def __init__(self, source: FeatureSource, indices: Sequence[int]) -> None:
        self._source = source
        self._indices = indices

    def __len__(self) -> int:
        return len(self._indices)

    def read(self, index: int) -> tuple[Array, Array]:
        """Give the features and the labels of an image."""
        return self._source.read(self._indices[index])


def held_out(pool: PooledReleases, part: float) -> list[int]:
    """Give the indices in the pool of every edge's last images, so large a part of them, rounded.

    At least one image is left for training, whatever the part.
    """
    found: list[int] = []
    end = 0
    for count in pool.counts.values():
        end += count
        found += range(end - min(count - 1, round(part * count)), end)
    return found


def trained_on(pool: PooledReleases, part: float) -> list[int]:
    """Give all other indices."""
    rest = np.setdiff1d(np.arange(len(pool)), held_out(pool, part))
    return [int(index) for index in rest]
