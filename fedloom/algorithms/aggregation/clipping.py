"""Clipping: updates that are too long are scaled down before another rule sees them.

Sun, Kairouz, Suresh, McMahan: "Can You Really Backdoor Federated Learning?", 2019, arXiv
1911.07963, section 4 (norm thresholding). A bad client may still choose the direction of its
update, no longer how far it goes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from fedloom.algorithms.aggregation.norms import update_norms
from fedloom.algorithms.aggregation.protocol import Aggregator
from fedloom.algorithms.aggregation.source import Block, UpdateSource
from fedloom.algorithms.layout import Array, Layout


@dataclass(frozen=True)
class ClipToNorm:
    """The inner rule over updates x * min(1, norm / |x|).

    The L2 norm is over all tensors of floats together, see `norms.update_norms`, and only they are
    scaled. An update whose norm is beyond float64 counts as one of zeros. One more pass over the
    updates, made at the call; no more memory.

    Args:
        inner: any other rule, clipping too.
        norm: > 0.
    """

    inner: Aggregator
    norm: float

    @property
    def shows_bad_values(self) -> bool:
        """As the inner rule: what is not finite stays so when it is scaled."""
        return self.inner.shows_bad_values

    @property
    def least_updates(self) -> int:
        """As the inner rule."""
        return self.inner.least_updates

    def aggregate(
        self, sources: Sequence[UpdateSource], weights: Array, layout: Layout
    ) -> Iterator[Block]:
        """Stream what the inner rule makes of the clipped updates."""
        norms = update_norms(sources, layout)
        return self.inner.aggregate(clipped(sources, norms, self.norm, layout), weights, layout)


@dataclass(frozen=True)
class ClipToQuantile:
    """`ClipToNorm` at a quantile of the norms of the round: 0.5 is their median.

    Between two norms the quantile is interpolated. Clients count the same here, whatever their
    weight: a number of examples is what a client says of itself. Fewer than half of the clients
    cannot lift the median above the norm of some honest client. One client is not clipped.

    Args:
        inner: any other rule.
        quantile: in (0, 1).
    """

    inner: Aggregator
    quantile: float

    @property
    def shows_bad_values(self) -> bool:
        """As the inner rule."""
        return self.inner.shows_bad_values

    @property
    def least_updates(self) -> int:
        """As the inner rule."""
        return self.inner.least_updates

    def aggregate(
        self, sources: Sequence[UpdateSource], weights: Array, layout: Layout
    ) -> Iterator[Block]:
        """Stream what the inner rule makes of the clipped updates."""
        norms = update_norms(sources, layout)
        bound = quantile_norm(norms, self.quantile)
        return self.inner.aggregate(clipped(sources, norms, bound, layout), weights, layout)


def quantile_norm(norms: Array, quantile: float) -> float:
    """Give a quantile of the finite norms, shape (clients,); infinite where there is none."""
    finite = norms[np.isfinite(norms)]
    return float(np.quantile(finite, quantile)) if finite.size else np.inf


def clipped(
    sources: Sequence[UpdateSource], norms: Array, bound: float, layout: Layout
) -> list[UpdateSource]:
    """Give the updates scaled down to the norm `bound`; those within it as they are.

    Args:
        sources: of any number of clients.
        norms: of each, shape (clients,), float64; NaN is left as it is.
        bound: >= 0.
        layout: of the model.
    """
    floats = frozenset(name for name, spec in layout.items() if spec.dtype.kind == "f")
    return [
        ScaledSource(source, bound / norm, floats) if norm > bound else source
        for source, norm in zip(sources, norms.tolist(), strict=True)
    ]


class ScaledSource:
    """An update times a factor, as far as its tensors are among `names`."""

    def __init__(self, source: UpdateSource, factor: float, names: frozenset[str]) -> None:
        self._source = source
        self._factor = factor
        self._names = names

    def read(self, name: str, start: int, stop: int, scratch: Array) -> Array:
        """Give elements [start, stop) of tensor `name`, scaled; see `UpdateSource.read`."""
        values = self._source.read(name, start, stop, scratch)
        if name not in self._names:
            return values
        out = scratch[: stop - start]
        with np.errstate(invalid="ignore", under="ignore"):
            np.multiply(values, values.dtype.type(self._factor), out=out)
        return out
