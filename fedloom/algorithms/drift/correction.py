"""The one term by which every drift method changes a gradient: an offset and a pull to an anchor."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np

from fedloom.algorithms.layout import Array
from fedloom.errors import UpdateError

Arrays: TypeAlias = Mapping[str, Array]


@dataclass(frozen=True, eq=False)
class DriftCorrection:
    """g + offset + mu * (w - anchor), for every float tensor.

    FedProx (Li et al. 2020, arXiv 1812.06127) and L2-SP (Li, Grandvalet, Davoine 2018, arXiv
    1802.01483) are a pull: the gradient of mu / 2 * |w - anchor|^2. SCAFFOLD (Karimireddy et al.
    2020, arXiv 1910.06378) is an offset: the clients' common control variate minus the client's own.

    Attributes:
        mu: strength of the pull, >= 0.
        anchor: the weights to stay near, all float tensors by name; not looked at where mu is 0.
        offset: what is added as it is, by name; empty for none.
        untouched: names of tensors whose gradients pass as they are: the client's own (FedBN).
        frozen: names of tensors that are not trained: their gradients become zeros.

    Anchors and offsets come in the accumulator dtype (float32; float64 for float64 tensors).
    """

    mu: float = 0.0
    anchor: Arrays = field(default_factory=dict)
    offset: Arrays = field(default_factory=dict)
    untouched: frozenset[str] = frozenset()
    frozen: frozenset[str] = frozenset()

    @property
    def must_be_applied(self) -> bool:
        """Whether a script that ignores it trains something else: frozen tensors can be put back."""
        return bool(self.mu) or bool(self.offset)

    def __call__(self, gradients: Arrays, weights: Arrays) -> dict[str, Array]:
        """Give the corrected gradients: the same names, shapes and dtypes.

        Gradients are changed in place where they can be. Tensors without a gradient are left out by
        the caller: `gradients` may be any part of the model's names. Integers pass as they are.

        Args:
            gradients: by name, any memory order.
            weights: at which they were taken, at least of these names; looked at where mu is not 0.

        Raises:
            UpdateError: `UnexpectedTensor`, `MissingTensor` or `ShapeMismatch`, for a gradient that
                is none of the model's: what is left alone by mistake would drift unseen.
        """
        return {
            name: self._corrected(name, np.asarray(gradient), weights)
            for name, gradient in gradients.items()
        }

    def _corrected(self, name: str, gradient: Array, weights: Arrays) -> Array:
        if name in self.frozen:
            return np.zeros_like(gradient)
        if gradient.dtype.kind != "f" or name in self.untouched:
            return gradient
        out = gradient if gradient.flags.writeable else gradient.copy()
        if self.offset:
            offset = _fitting(name, "gradient", gradient, self.offset)
            np.add(out, offset, out=out, casting="same_kind")
        if self.mu:
            anchor = _fitting(name, "gradient", gradient, self.anchor)
            if name not in weights:
                raise UpdateError(
                    "MissingTensor", f"tensor {name!r}: got its gradient, but not its weights"
                )
            weight = np.asarray(weights[name])
            _fitting(name, "weight", weight, self.anchor)
            pull = np.subtract(weight, anchor)
            pull *= self.mu
            np.add(out, pull, out=out, casting="same_kind")
        return out


def _fitting(name: str, what: str, got: Array, known: Arrays) -> Array:
    """Give the tensor `name` of `known`; numpy would stretch one of another shape without a word."""
    expected = known.get(name)
    if expected is None:
        some = ", ".join(map(repr, sorted(known)[:3]))
        raise UpdateError(
            "UnexpectedTensor",
            f"got a {what} named {name!r}, expected names of the model's tensors ({some}, ...)",
        )
    if got.shape != expected.shape:
        raise UpdateError(
            "ShapeMismatch",
            f"{what} of tensor {name!r}: got shape {list(got.shape)}, "
            f"expected {list(expected.shape)}",
        )
    return expected
