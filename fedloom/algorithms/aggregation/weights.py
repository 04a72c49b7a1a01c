"""How much each client counts in a mean."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fedloom.algorithms.layout import Array


def example_weights(num_examples: Sequence[int]) -> Array:
    """Weigh each client by the examples it trained on (McMahan et al. 2017, arXiv 1602.05629).

    Args:
        num_examples: of each client, in the order of the clients, >= 0.

    Returns:
        Shape (clients,), float64; not normalised: the rule divides by the total.
    """
    return np.asarray(num_examples, dtype=np.float64)
