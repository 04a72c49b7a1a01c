"""What the adaptive server optimizers share: FedAdagrad, FedAdam and FedYogi differ in one line.

Reddi, Charles, Zaheer, Garrett, Rush, Konecny, Kumar, McMahan: "Adaptive Federated Optimization",
ICLR 2021, arXiv 2003.00295, algorithm 2. As there, the momentum starts at 0, the second moment at
tau squared, and neither is corrected for the bias of its start, as Adam's are (Kingma, Ba 2015).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from fedloom.algorithms.layout import Array

MOMENTUM = "momentum"
SECOND_MOMENT = "second-moment"


@dataclass(frozen=True)
class Adaptive(ABC):
    """model + learning_rate * momentum / (sqrt(second moment) + tau), element by element.

    With momentum = beta1 * momentum + (1 - beta1) * delta. A step is about as long as
    `learning_rate`, whatever the scale of the updates: that is what makes elements with small
    updates keep pace. A second moment that is too large for the dtype stays at the dtype's largest
    number instead of becoming infinite, which would hold its element fast for ever.

    Args:
        learning_rate: of the server, > 0.
        beta1: decay of the momentum, in [0, 1). At 0 the momentum is the update, and no state is
            kept for it.
        tau: > 0, in the scale of the updates: updates much smaller than tau move the model by
            learning_rate / tau times themselves. It and its square must be normal float32 numbers.
    """

    learning_rate: float
    beta1: float
    tau: float

    @property
    def slots(self) -> Mapping[str, float]:
        """Momentum, where it decays, and second moment; see `protocol.ServerOptimizer.slots`."""
        second_moment = {SECOND_MOMENT: self.tau**2}
        return {MOMENTUM: 0.0, **second_moment} if self.beta1 else second_moment

    def apply(
        self, model: Array, delta: Array, slots: Mapping[str, Array], round_number: int
    ) -> tuple[Array, Mapping[str, Array]]:
        """Give the new model and slots; see `protocol.ServerOptimizer.apply`."""
        del round_number
        largest = np.finfo(delta.dtype).max
        with np.errstate(over="ignore"):
            square = delta * delta
            np.minimum(square, largest, out=square)
            second_moment = self._accumulate(slots[SECOND_MOMENT], square)
            np.minimum(second_moment, largest, out=second_moment)
        after: dict[str, Array] = {SECOND_MOMENT: second_moment}
        momentum = delta
        if self.beta1:
            momentum = slots[MOMENTUM] * self.beta1
            momentum += delta * (1 - self.beta1)
            after[MOMENTUM] = momentum
        divisor = np.sqrt(second_moment)
        divisor += self.tau
        new: Array = np.divide(momentum, divisor, out=divisor)
        new *= self.learning_rate
        new += model
        return new, {name: after[name] for name in self.slots}

    @abstractmethod
    def _accumulate(self, second_moment: Array, square: Array) -> Array:
        """Take the update's square, >= 0, into the second moment: a new array, >= 0.

        `square` is there to be written to.
        """
