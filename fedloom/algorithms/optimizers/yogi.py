"""FedYogi: FedAdam whose second moment comes down slowly after a large update."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fedloom.algorithms.layout import Array
from fedloom.algorithms.optimizers.adaptive import Adaptive


@dataclass(frozen=True)
class Yogi(Adaptive):
    """second moment = second moment - (1 - beta2) * delta^2 * sign(second moment - delta^2).

    arXiv 2003.00295, algorithm 2. By how much the second moment falls is a matter of the new update
    alone: after a large update small ones bring it down in small steps, where Adam's loses a fixed
    share every round. It stays >= 0, falling only where it is above delta^2 and by no more than
    that.

    Args:
        beta2: in [0, 1); near 1 the second moment changes slowly.
        learning_rate, beta1, tau: see `adaptive.Adaptive`.
    """

    learning_rate: float = 0.01
    beta1: float = 0.9
    tau: float = 1e-3
    beta2: float = 0.99

    def _accumulate(self, second_moment: Array, square: Array) -> Array:
        direction = np.sign(second_moment - square)
        square *= 1 - self.beta2
        square *= direction
        return np.subtract(second_moment, square, out=square)
