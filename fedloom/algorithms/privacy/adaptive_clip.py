"""The clip norm that follows a quantile of the clients' norms, itself under privacy.

Andrew, Thakkar, McMahan, Ramaswamy: "Differentially Private Learning with Adaptive Clipping",
NeurIPS 2021, arXiv 1905.03871, algorithm 1.
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass

from fedloom.algorithms.privacy.noise import Entropy, standard_normal

LEARNING_RATE = 0.2
"""Of the geometric update (the paper's eta_C): a clip norm far off changes by e in 10 rounds."""


@dataclass(frozen=True)
class QuantileClip:
    """How the clip norm moves, and what the look at the norms costs.

    A client's bit b is 1 where its norm is at most the clip norm. The sum of b - 1/2 changes by at
    most 1/2 when a client comes or goes (by 1 when one is replaced, where the sum of updates
    changes by twice the clip norm: the ratio is the same), so noise of deviation `count_deviation`
    on it beside noise of `sum_multiplier` clip norms on the updates reveals as much together as
    `noise_multiplier` alone: 1 / z^2 = 1 / sum_multiplier^2 + 1 / (2 count_deviation)^2.

    Args:
        quantile: of the norms that the clip norm follows, in (0, 1).
        noise_multiplier: z, of both releases together, >= 0.
        cohort: clients of a round, expected.
    """

    quantile: float
    noise_multiplier: float
    cohort: float

    @property
    def count_deviation(self) -> float:
        """The paper's cohort / 20, at least z: then the count takes a quarter of the budget at most.

        (With fewer than 10 z clients cohort / 20 would take more than all of it.)
        """
        return max(self.cohort / 20.0, self.noise_multiplier) if self.noise_multiplier else 0.0

    @property
    def sum_multiplier(self) -> float:
        """Noise on the sum of the updates in units of the clip norm: a little more than z."""
        if not self.noise_multiplier:
            return 0.0
        ratio = self.noise_multiplier / (2.0 * self.count_deviation)
        return self.noise_multiplier / math.sqrt(1.0 - ratio * ratio)

    def noised_fraction(self, unclipped: int, clients: int, entropy: Entropy = os.urandom) -> float:
        """Give the noised part of the cohort that was not clipped; may lie outside [0, 1].

        Args:
            unclipped: how many norms were at most the clip norm.
            clients: how many updates there were.
            entropy: where the noise comes from.
        """
        noise = float(standard_normal(1, entropy)[0]) * self.count_deviation
        return (unclipped - 0.5 * clients + noise) / self.cohort + 0.5

    def next_norm(self, clip_norm: float, fraction: float) -> float:
        """Give the clip norm of the next round: C exp(-eta (fraction - quantile))."""
        bounded = min(max(fraction, -1.0), 2.0)  # one wild draw moves it by no more than 1.8 times
        return clip_norm * math.exp(-LEARNING_RATE * (bounded - self.quantile))
