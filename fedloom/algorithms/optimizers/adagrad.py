"""FedAdagrad: steps that shrink with all that an element has moved so far."""

from __future__ import annotations

from dataclasses import dataclass

from fedloom.algorithms.layout import Array
from fedloom.algorithms.optimizers.adaptive import Adaptive


@dataclass(frozen=True)
class Adagrad(Adaptive):
    """second moment = second moment + delta^2 (arXiv 2003.00295, algorithm 2).

    The sum never falls, so the steps of an element only become shorter: it settles by itself. As
    in the paper's experiments there is no momentum unless it is asked for. Arguments: see
    `adaptive.Adaptive`.
    """

    learning_rate: float = 0.03
    beta1: float = 0.0
    tau: float = 1e-3

    def _accumulate(self, second_moment: Array, square: Array) -> Array:
        square += second_moment
        return square
