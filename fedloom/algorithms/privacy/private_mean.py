"""The mean of clipped updates with noise: client-level differential privacy in the central model.

McMahan, Ramage, Talwar, Zhang: "Learning Differentially Private Recurrent Language Models", ICLR
2018, arXiv 1710.06963, with flat clipping and the fixed-denominator estimator:

    result = (sum over clients of x min(1, C / |x|)  +  N(0, (z C)^2)) / denominator
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from fedloom.algorithms.aggregation.norms import update_norms
from fedloom.algorithms.aggregation.source import Block, UpdateSource
from fedloom.algorithms.layout import BLOCK_ELEMENTS, Array, Layout, accumulator_dtype
from fedloom.algorithms.privacy.adaptive_clip import QuantileClip
from fedloom.algorithms.privacy.noise import Entropy, add_gaussian

_MARGIN = 1.0 - 2.0**-40  # rounding of a norm or a product must not lift an update above the bound


@dataclass(frozen=True)
class Release:
    """What a round gives away of its updates.

    Attributes:
        clip_norm: that was used.
        next_clip_norm: for the next round; the same where it does not adapt.
        clipped_fraction: noised part of the cohort whose updates were scaled down, which may lie
            outside [0, 1]; None where nothing was spent on counting them.
        blocks: of the noised mean; to be read once.
    """

    clip_norm: float
    next_clip_norm: float
    clipped_fraction: float | None
    blocks: Iterator[Block]


@dataclass(frozen=True)
class PrivateMean:
    """`Aggregator` whose result is (epsilon, delta) differentially private for each client.

    Every update counts the same; the weights are not looked at. The L2 norm is over all tensors of
    floats together. **Tensors of integers and bools** (counters of steps and the like) would tell
    unnoised what the clients did: they are left out, their update is 0 and the model keeps its own.
    The sum runs in float64 and is rounded to the tensor's precision after the noise, so the
    sensitivity is that of the exact sum up to 1e-12. The denominator does not depend on who
    answered; without any update the result is noise alone.

    Args:
        clip_norm: C > 0, of this round.
        noise_multiplier: z >= 0, of all that a round reveals; 0 adds none and promises nothing.
        denominator: clients of a round, expected, > 0.
        clip_quantile: the next round's clip norm follows this quantile of the norms.
        entropy: where the noise comes from; another one than the system's is for tests alone.
    """

    shows_bad_values: ClassVar[bool] = False
    least_updates: ClassVar[int] = 0
    clip_norm: float
    noise_multiplier: float
    denominator: float
    clip_quantile: float | None = None
    entropy: Entropy = os.urandom

    def aggregate(
        self, sources: Sequence[UpdateSource], weights: Array, layout: Layout
    ) -> Iterator[Block]:
        """Stream the noised mean; see `aggregation.protocol.Aggregator.aggregate`."""
        del weights
        return self.release(sources, layout).blocks

    def release(self, sources: Sequence[UpdateSource], layout: Layout) -> Release:
        """Clip, count, sum and noise: one pass over the updates at the call, one with the blocks.

        Args:
            sources: one per client in the order of their names; none at all is a round too.
            layout: of the model.
        """
        floats = {name: spec for name, spec in layout.items() if spec.dtype.kind == "f"}
        norms = update_norms(sources, floats) if sources and floats else np.zeros(len(sources))
        multiplier, next_norm, clipped = self.noise_multiplier, self.clip_norm, None
        if self.clip_quantile is not None:
            clip = QuantileClip(self.clip_quantile, self.noise_multiplier, self.denominator)
            unclipped = int(np.count_nonzero(norms <= self.clip_norm))
            fraction = clip.noised_fraction(unclipped, len(sources), self.entropy)
            multiplier, clipped = clip.sum_multiplier, 1.0 - fraction
            next_norm = clip.next_norm(self.clip_norm, fraction)
        sums = clipped_sums(sources, norms, self.clip_norm, layout)
        deviation = multiplier * self.clip_norm
        blocks = noised_mean(sums, layout, deviation, self.denominator, self.entropy)
        return Release(self.clip_norm, next_norm, clipped, blocks)


def clipped_sums(
    sources: Sequence[UpdateSource], norms: Array, clip_norm: float, layout: Layout
) -> Iterator[Block]:
    """Stream the sum of the updates, each scaled down to an L2 norm of `clip_norm` at most.

    Args:
        sources: any number of updates, finite.
        norms: shape (clients,), float64, of each; an infinite one counts as an update of 0.
        clip_norm: > 0.
        layout: of the model.

    Returns:
        Blocks as `Aggregator.aggregate` gives them, but always float64; of tensors of integers and
        bools all zeros.
    """
    factors = clip_norm / np.maximum(norms, clip_norm) * _MARGIN
    largest = min(BLOCK_ELEMENTS, max((spec.size for spec in layout.values()), default=0))
    total, scaled, memory = np.empty((3, largest))
    for name in sorted(layout):
        spec = layout[name]
        scratch = memory.view(accumulator_dtype(spec.dtype))
        for start in range(0, max(spec.size, 1), BLOCK_ELEMENTS):
            stop = min(start + BLOCK_ELEMENTS, spec.size)
            values, spare = total[: stop - start], scaled[: stop - start]
            values.fill(0.0)
            if spec.dtype.kind == "f" and stop > start:
                for source, factor in zip(sources, factors, strict=True):
                    np.multiply(source.read(name, start, stop, scratch), factor, out=spare)
                    values += spare
            yield Block(name, start, values)


def noised_mean(
    sums: Iterable[Block],
    layout: Layout,
    deviation: float,
    denominator: float,
    entropy: Entropy = os.urandom,
) -> Iterator[Block]:
    """Add Gaussian noise to a stream of sums and divide by a number that nobody's answer changes.

    Args:
        sums: float64 blocks, overwritten; of tensors of integers and bools all zeros, which stay so.
        layout: of the model.
        deviation: standard deviation of the noise on each value of the sum, >= 0.
        denominator: > 0.
        entropy: where the noise comes from.

    Returns:
        Blocks in the accumulator dtype; what is beyond its range is infinite there.
    """
    for block in sums:
        dtype = layout[block.name].dtype
        if dtype.kind == "f":
            add_gaussian(block.values, deviation, entropy)
            np.divide(block.values, denominator, out=block.values)
        with np.errstate(over="ignore"):
            yield Block(
                block.name, block.start, block.values.astype(accumulator_dtype(dtype), copy=False)
            )
