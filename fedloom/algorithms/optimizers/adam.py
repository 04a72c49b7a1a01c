"""FedAdam: steps measured against a moving average of the squared updates."""

from __future__ import annotations

from dataclasses import dataclass

from fedloom.algorithms.layout import Array
from fedloom.algorithms.optimizers.adaptive import Adaptive


@dataclass(frozen=True)
class Adam(Adaptive):
    """second moment = beta2 * second moment + (1 - beta2) * delta^2 (arXiv 2003.00295, algorithm 2).

    Without Adam's bias correction, as in the paper: under a constant update the first ten or so
    steps grow to about twice `learning_rate`, then they come back to it.

    Args:
        beta2: decay of the second moment, in [0, 1): about 1 / (1 - beta2) rounds are remembered.
        learning_rate, beta1, tau: see `adaptive.Adaptive`.
    """

    learning_rate: float = 0.01
    beta1: float = 0.9
    tau: float = 1e-3
    beta2: float = 0.99

    def _accumulate(self, second_moment: Array, square: Array) -> Array:
        square *= 1 - self.beta2
        square += second_moment * self.beta2
        return square
