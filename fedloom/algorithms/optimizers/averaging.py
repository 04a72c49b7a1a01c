"""No optimizer, or rather gradient descent along the mean update: FedAvg's server half."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import ClassVar

from fedloom.algorithms.layout import Array


@dataclass(frozen=True)
class Averaging:
    """model + learning_rate * delta (McMahan et al. 2017, arXiv 1602.05629).

    Args:
        learning_rate: of the server, > 0. At exactly 1 the new model is `model + delta`, the mean
            of the clients' models, without a multiplication.
    """

    slots: ClassVar[Mapping[str, float]] = MappingProxyType({})
    learning_rate: float = 1.0

    def apply(
        self, model: Array, delta: Array, slots: Mapping[str, Array], round_number: int
    ) -> tuple[Array, Mapping[str, Array]]:
        """Give the new model and no slots; see `protocol.ServerOptimizer.apply`."""
        del slots, round_number
        if self.learning_rate == 1:
            return model + delta, {}
        return model + delta * self.learning_rate, {}
