"""The shape of a server optimizer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from fedloom.algorithms.layout import Array


class ServerOptimizer(Protocol):
    """Takes the aggregated update into the global model, one block of one tensor at a time.

    Working element by element, it may be called on blocks of any length, as long as model, delta
    and slots are the same stretch of the same tensor.
    """

    @property
    def slots(self) -> Mapping[str, float]:
        """Name of each state tensor kept per tensor of the model -> the value it is filled with.

        A state tensor has the shape of the model's tensor and its accumulator dtype. The caller
        fills it before the first round and carries it from round to round.
        """
        ...

    def apply(
        self,
        model: Array,
        delta: Array,
        slots: Mapping[str, Array],
        round_number: int,
    ) -> tuple[Array, Mapping[str, Array]]:
        """Give the new model and the new slots; the arguments stay as they are.

        Args:
            model: shape (elements,), accumulator dtype: the global model.
            delta: shape (elements,), accumulator dtype: the aggregated update, to be *added*.
            slots: by name, exactly those of `slots`: shape (elements,), accumulator dtype.
            round_number: from 1.

        Returns:
            New arrays of the same shape and dtype: the model, and each slot by name.
        """
        ...
