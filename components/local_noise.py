"""Noise on the edge: what `spec.privacy.local` adds to an update before it is encoded and sent."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from components.update_file import Array
from fedloom.algorithms.privacy.local import LocalMechanism


def mechanism_of(local: Mapping[str, Any]) -> LocalMechanism:
    """Make the mechanism that a task's settings name."""
    return LocalMechanism(local["mechanism"], local["epsilon"], local["clip"], local["delta"])


def add_local_noise(
    deltas: Mapping[str, Array], model: Mapping[str, Array], local: Mapping[str, Any]
) -> dict[str, Array]:
    """Give the update as it may leave the node.

    Every call draws anew and is a release of its own. Of tensors that hold integers or bools in the
    model nothing is sent: their deltas are 0.
    """
    floats = {name: delta for name, delta in deltas.items() if model[name].dtype.kind == "f"}
    noised = mechanism_of(local).apply(floats)
    return {
        name: noised[name] if name in noised else np.zeros_like(delta)
        for name, delta in deltas.items()
    }


def local_promise(local: Mapping[str, Any]) -> dict[str, Any]:
    """Say what one update promises, for reports: `epsilon_of` is what epsilon speaks of."""
    mechanism = mechanism_of(local)
    return {
        "mechanism": mechanism.name,
        "epsilon": mechanism.epsilon,
        "epsilon_of": mechanism.epsilon_of,
        "delta": mechanism.delta,
    }
