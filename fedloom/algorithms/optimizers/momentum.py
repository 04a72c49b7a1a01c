"""Server momentum: FedAvgM.

Hsu, Qi, Brown: "Measuring the Effects of Non-Identical Data Distribution for Federated Visual
Classification", 2019, arXiv 1909.06335, section 4. Their update points against the step (old minus
new), ours along it, hence the plus sign.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import ClassVar

from fedloom.algorithms.layout import Array

VELOCITY = "velocity"


@dataclass(frozen=True)
class Momentum:
    """velocity = momentum * velocity + delta; model + learning_rate * velocity.

    Args:
        learning_rate: of the server, > 0.
        momentum: in [0, 1). 0 is FedAvg; near 1 the velocity tends to 1 / (1 - momentum) times a
            constant update, so a learning rate below 1 goes with it.
    """

    slots: ClassVar[Mapping[str, float]] = MappingProxyType({VELOCITY: 0.0})
    learning_rate: float = 1.0
    momentum: float = 0.9

    def apply(
        self, model: Array, delta: Array, slots: Mapping[str, Array], round_number: int
    ) -> tuple[Array, Mapping[str, Array]]:
        """Give the new model and velocity; see `protocol.ServerOptimizer.apply`."""
        del round_number
        velocity = slots[VELOCITY] * self.momentum + delta
        step = velocity if self.learning_rate == 1 else velocity * self.learning_rate
        return model + step, {VELOCITY: velocity}
