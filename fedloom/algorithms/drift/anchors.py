"""Pulls to several anchors at once are one pull: to their weighted mean, as strong as all together."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from fedloom.algorithms.drift.correction import Arrays
from fedloom.algorithms.layout import Array, accumulator_dtype


def float_tensors(arrays: Arrays) -> dict[str, Array]:
    """Give the float tensors, in the accumulator dtype; without a copy where that is their own."""
    return {
        name: array.astype(accumulator_dtype(array.dtype), copy=False)
        for name, array in arrays.items()
        if array.dtype.kind == "f"
    }


def combined_pull(pulls: Iterable[tuple[float, Arrays]]) -> tuple[float, dict[str, Array]]:
    """Give the strength and the anchor of one pull that is the sum of `pulls`.

    The sum over k of mu_k * (w - a_k) is mu * (w - a) with mu the sum of the mu_k and a the mean of
    the a_k weighted by mu_k. Anchors that agree in a value give that value, to the last bit.

    Args:
        pulls: strength (>= 0) and anchor of each; those of strength 0 are passed over. All anchors
            have the same tensors.

    Returns:
        The strength, and the float tensors of the anchor in the accumulator dtype: views of a
        single anchor, not to be changed; (0.0, {}) for no pull at all.
    """
    strength, anchor = 0.0, dict[str, Array]()
    for mu, tensors in pulls:
        if mu <= 0:
            continue
        strength += mu
        others = float_tensors(tensors)
        if not anchor:
            anchor = others
            continue
        share = mu / strength
        anchor = {
            name: np.asarray(mean + share * (others[name] - mean)) for name, mean in anchor.items()
        }
    return strength, anchor
